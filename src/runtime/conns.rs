//! The connections of one core: which slot a completion belongs to, and what is in flight for it.
//!
//! A [`ConnId`] is a slot number (low 20 bits, dense and reused, good for indexing) and the slot's generation above
//! it, so an id is never used twice and a late completion never reaches a stranger. A connection leaves its slot
//! only when no operation that names it is in flight: its buffers outlive the kernel's use of them.

use std::os::fd::RawFd;

use super::files::Socket;
use super::output::Output;
use crate::base::ids::ConnId;

const SLOT_BITS: u32 = 20;
const GENERATION_BITS: u32 = 40;

/// One socket of this core.
pub(crate) struct Conn {
    pub(crate) fd: RawFd,
    /// As operations name it.
    pub(crate) socket: Socket,
    pub(crate) receiving: Receiving,
    /// The core wants bytes (it has not paused us).
    pub(crate) wants_input: bool,
    /// The peer has closed its sending side.
    pub(crate) at_end: bool,
    pub(crate) output: Output,
    pub(crate) closing: Closing,
}

/// The multishot receive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Receiving {
    Off,
    Armed,
    /// Told to end; its last completion is still to come.
    Ending,
}

/// How far a connection is on its way out. Beyond `No` the core has forgotten it and is not called about it again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Closing {
    No,
    AfterFlush,
    Now,
}

impl Conn {
    pub(crate) fn new(fd: RawFd, socket: Socket) -> Self {
        Self {
            fd,
            socket,
            receiving: Receiving::Off,
            wants_input: true,
            at_end: false,
            output: Output::default(),
            closing: Closing::No,
        }
    }

    /// The core knows this connection and may be called about it.
    pub(crate) fn is_open(&self) -> bool {
        self.closing == Closing::No
    }

    /// Some operation that names this connection has yet to end.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.receiving != Receiving::Off || !self.output.is_idle()
    }
}

/// All connections of a core.
#[derive(Default)]
pub(crate) struct Conns {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    generation: u64,
    conn: Option<Conn>,
}

impl Conns {
    /// Gives a slot to the connection that `make` makes for the slot of this number.
    pub(crate) fn insert(&mut self, make: impl FnOnce(usize) -> Conn) -> ConnId {
        let slot = self.free.pop().unwrap_or_else(|| {
            assert!(self.slots.len() < 1 << SLOT_BITS, "more than {} connections on one core", 1 << SLOT_BITS);
            self.slots.push(Slot { generation: 0, conn: None });
            self.slots.len() as u32 - 1
        });
        let entry = &mut self.slots[slot as usize];
        entry.generation = (entry.generation + 1) & ((1 << GENERATION_BITS) - 1);
        entry.conn = Some(make(slot as usize));
        ConnId(entry.generation << SLOT_BITS | u64::from(slot))
    }

    pub(crate) fn get(&mut self, id: ConnId) -> Option<&mut Conn> {
        let slot = self.slots.get_mut(slot_of(id))?;
        if slot.generation == id.0 >> SLOT_BITS { slot.conn.as_mut() } else { None }
    }

    /// Frees the slot of a connection that has nothing in flight.
    pub(crate) fn remove(&mut self, id: ConnId) -> Conn {
        let slot = &mut self.slots[slot_of(id)];
        assert_eq!(slot.generation, id.0 >> SLOT_BITS, "removing a connection that is gone");
        let conn = slot.conn.take().expect("removing a connection twice");
        assert!(!conn.is_in_flight(), "the kernel still uses connection {id:?}");
        self.free.push(slot_of(id) as u32);
        conn
    }

    pub(crate) fn ids(&self) -> Vec<ConnId> {
        let occupied = |(slot, entry): (usize, &Slot)| {
            entry.conn.as_ref().map(|_| ConnId(entry.generation << SLOT_BITS | slot as u64))
        };
        self.slots.iter().enumerate().filter_map(occupied).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

fn slot_of(id: ConnId) -> usize {
    (id.0 & ((1 << SLOT_BITS) - 1)) as usize
}

#[cfg(test)]
mod tests {
    use io_uring::types::Fd;

    use super::*;

    #[test]
    fn reused_slot_has_a_new_id_and_the_old_id_finds_nothing() {
        let mut conns = Conns::default();
        let first = conns.insert(|_| Conn::new(-1, Socket::Plain(Fd(-1))));
        conns.remove(first);
        let second = conns.insert(|_| Conn::new(-1, Socket::Plain(Fd(-1))));
        assert_eq!(slot_of(first), slot_of(second));
        assert_ne!(first, second);
        assert!(conns.get(first).is_none());
        assert!(conns.get(second).is_some());
        assert_eq!(conns.len(), 1);
    }
}
