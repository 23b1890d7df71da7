//! Numbers that differ in meaning differ in type.

use std::fmt;

/// A core of this node and the shard it owns: 0 to 255. Means nothing outside this process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardId(pub u16);

/// The unit of streams, version vectors, digests and snapshots: 64 slots, 256 of them, fixed for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Partition(pub u8);

/// How many partitions there are, on every node.
pub const PARTITIONS: usize = 256;

/// CRC16 bucket of a key: 0 to 16383, as in Redis Cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(pub u16);

/// How many slots there are.
pub const SLOTS: usize = 16384;

/// How many slots one partition holds.
pub const SLOTS_PER_PARTITION: usize = SLOTS / PARTITIONS;

/// A database number as SELECT takes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Db(pub u16);

/// A node's identity, stored beside its data; a lost data directory is a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// Reads the usual 36-character form, in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0u8; 16];
        let mut digits = text.bytes().enumerate().filter(|&(at, b)| !(b == b'-' && matches!(at, 8 | 13 | 18 | 23)));
        if text.len() != 36 {
            return None;
        }
        for byte in &mut bytes {
            let high = (digits.next()?.1 as char).to_digit(16)?;
            let low = (digits.next()?.1 as char).to_digit(16)?;
            *byte = (high * 16 + low) as u8;
        }
        digits.next().is_none().then_some(Self(bytes))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                out.write_str("-")?;
            }
            write!(out, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// One client or link socket of one core. Never reused within a run, so a late completion cannot hit a stranger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_text_round_trips() {
        let uuid = Uuid([0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(uuid.to_string(), "12345678-9abc-def0-0102-030405060708");
        assert_eq!(Uuid::parse(&uuid.to_string().to_uppercase()), Some(uuid));
        assert_eq!(Uuid::parse("12345678-9abc-def0-0102-03040506070"), None);
    }
}
