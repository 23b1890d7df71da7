//! The sessions of one core, found by the slot number in their connection's id.

use crate::base::ids::ConnId;

use super::session::Session;

/// The low bits of a [`ConnId`] that are a dense, reused slot number.
const SLOT_MASK: u64 = (1 << 20) - 1;

/// See the file's head.
#[derive(Default)]
pub struct Sessions {
    slots: Vec<Option<Box<Session>>>,
    count: usize,
}

impl Sessions {
    /// Adds a session.
    pub fn insert(&mut self, session: Box<Session>) {
        let slot = slot_of(session.conn);
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        self.count += usize::from(self.slots[slot].is_none());
        self.slots[slot] = Some(session);
    }

    /// The session of a connection.
    #[inline]
    pub fn get(&self, conn: ConnId) -> Option<&Session> {
        self.slots.get(slot_of(conn))?.as_deref().filter(|session| session.conn == conn)
    }

    /// The session of a connection.
    #[inline]
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut Session> {
        self.slots.get_mut(slot_of(conn))?.as_deref_mut().filter(|session| session.conn == conn)
    }

    /// Takes a session out while its commands run; give it back with [`Sessions::put`].
    #[inline]
    pub fn take(&mut self, conn: ConnId) -> Option<Box<Session>> {
        self.slots.get_mut(slot_of(conn))?.take_if(|session| session.conn == conn)
    }

    /// Gives back what [`Sessions::take`] took.
    #[inline]
    pub fn put(&mut self, session: Box<Session>) {
        let slot = slot_of(session.conn);
        self.slots[slot] = Some(session);
    }

    /// Removes a session.
    pub fn remove(&mut self, conn: ConnId) -> Option<Box<Session>> {
        let session = self.take(conn)?;
        self.count -= 1;
        Some(session)
    }

    /// Forgets a session that was taken out and is not given back.
    pub fn forget(&mut self) {
        self.count -= 1;
    }

    /// How many slots there are, used or not.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The session in a slot.
    pub fn at_mut(&mut self, slot: usize) -> Option<&mut Session> {
        self.slots.get_mut(slot)?.as_deref_mut()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All of them, but for one that is taken out.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.slots.iter().filter_map(|slot| slot.as_deref())
    }

    /// All of them, but for one that is taken out.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.slots.iter_mut().filter_map(|slot| slot.as_deref_mut())
    }
}

fn slot_of(conn: ConnId) -> usize {
    (conn.0 & SLOT_MASK) as usize
}
