//! What a completion belongs to, packed into the 64 bits that io_uring carries along.

use crate::base::ids::ConnId;

/// The kind of operation, in the top four bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Op {
    /// Multishot accept; the number is the listener's.
    Accept = 1,
    /// Multishot receive of a connection.
    Receive = 2,
    /// A send that must end while it is submitted, and completes only when it failed or was cut short.
    SendNow = 3,
    /// A send that waits for room in the socket.
    SendWait = 4,
    /// A connect; the number is the dial's.
    Connect = 5,
    /// Another core rang.
    Bell = 6,
    /// Ringing another core failed.
    BellFailed = 7,
    /// A thread without a ring (signals, resolver) wrote to our wake descriptor.
    Wake = 8,
    /// Cancel or close: nobody waits for it.
    Forgotten = 9,
}

/// An operation and what it was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Token {
    pub(crate) op: Op,
    pub(crate) number: u64,
}

const NUMBER_BITS: u32 = 60;

impl Token {
    pub(crate) fn new(op: Op, number: u64) -> Self {
        debug_assert!(number >> NUMBER_BITS == 0, "number {number:#x} does not fit beside the kind");
        Self { op, number }
    }

    pub(crate) fn conn(op: Op, conn: ConnId) -> Self {
        Self::new(op, conn.0)
    }

    /// As the kernel carries it.
    pub(crate) fn pack(self) -> u64 {
        (self.op as u64) << NUMBER_BITS | self.number
    }

    /// Reads it back. Only values made by [`Token::pack`] ever enter our rings.
    pub(crate) fn unpack(packed: u64) -> Self {
        let op = match packed >> NUMBER_BITS {
            1 => Op::Accept,
            2 => Op::Receive,
            3 => Op::SendNow,
            4 => Op::SendWait,
            5 => Op::Connect,
            6 => Op::Bell,
            7 => Op::BellFailed,
            8 => Op::Wake,
            9 => Op::Forgotten,
            kind => panic!("completion of unknown kind {kind}: {packed:#x}"),
        };
        Self { op, number: packed & ((1 << NUMBER_BITS) - 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_survives_the_kernel() {
        for op in [Op::Accept, Op::Receive, Op::SendNow, Op::SendWait, Op::Connect, Op::Bell, Op::Wake, Op::Forgotten] {
            let token = Token::new(op, (1 << NUMBER_BITS) - 7);
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
