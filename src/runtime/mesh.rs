//! The cross-core mesh: one bounded SPSC ring of batches per ordered pair of cores, and the rule who must be woken.
//!
//! It knows nothing of sockets: a [`Doorbell`] wakes a parked core (`MSG_RING` in the server, an eventfd or nothing
//! in tests). Promises: batches from one core to another arrive once and in order; receiving never waits for room to
//! send; a core that is asleep is woken when a batch reaches it or when room appears where it found none.
//!
//! Cost of a hop: one push and one pop of a `Batch` by move, one fence a side, a doorbell only when the target sleeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::base::ids::ShardId;

/// Wakes a core that said it was parked. May be called from any core's own thread, about any other core.
pub trait Doorbell {
    /// Makes `target` leave its wait soon. Cheap, never blocks; may be deferred to the end of the caller's round.
    fn ring(&mut self, target: ShardId);
}

impl<F: FnMut(ShardId)> Doorbell for F {
    fn ring(&mut self, target: ShardId) {
        self(target);
    }
}

/// How many batches one ring holds. A batch is all that one tick found for a core, so this is that many ticks of lag
/// before a sender stops reading its sockets.
pub const RING_BATCHES: usize = 256;

/// One core's end of the mesh.
pub struct Mesh<B> {
    me: usize,
    /// Indexed by target; none for ourselves.
    outgoing: Vec<Option<Producer<B>>>,
    /// Indexed by source; none for ourselves.
    incoming: Vec<Option<Consumer<B>>>,
    shared: Arc<Vec<CoreFlags>>,
    /// Targets whose ring was full when we last looked.
    full: Vec<usize>,
}

/// What other cores read about one core. Its own cache lines: neighbours' flags must not bounce it.
#[repr(align(128))]
struct CoreFlags {
    /// The core sleeps, or is about to after one more look at its rings. Whoever gives it work takes this flag
    /// and rings.
    parked: AtomicBool,
    /// Indexed by target: the core found its ring to that target full and sleeps with work kept back.
    wants_room: Vec<AtomicBool>,
}

/// Builds the mesh of a node; element `i` goes to core `i`'s thread.
pub fn build<B>(cores: usize, ring_batches: usize) -> Vec<Mesh<B>> {
    let flags = || CoreFlags {
        parked: AtomicBool::new(false),
        wants_room: (0..cores).map(|_| AtomicBool::new(false)).collect(),
    };
    let shared = Arc::new((0..cores).map(|_| flags()).collect::<Vec<_>>());
    let mut ends: Vec<Mesh<B>> = (0..cores)
        .map(|me| Mesh {
            me,
            outgoing: (0..cores).map(|_| None).collect(),
            incoming: (0..cores).map(|_| None).collect(),
            shared: Arc::clone(&shared),
            full: Vec::with_capacity(cores),
        })
        .collect();
    for from in 0..cores {
        for to in (0..cores).filter(|&to| to != from) {
            let (producer, consumer) = RingBuffer::new(ring_batches);
            ends[from].outgoing[to] = Some(producer);
            ends[to].incoming[from] = Some(consumer);
        }
    }
    ends
}

impl<B> Mesh<B> {
    /// The other cores, in order.
    fn others(&self) -> impl Iterator<Item = usize> + use<B> {
        let me = self.me;
        (0..self.outgoing.len()).filter(move |&other| other != me)
    }

    /// Sends one batch to every core that `take` has one for and whose ring has room, ringing those that sleep.
    /// Answers true when some ring was full: the caller keeps what it has and stops reading sockets until a later
    /// call answers false.
    pub fn send(&mut self, mut take: impl FnMut(ShardId) -> Option<B>, bell: &mut impl Doorbell) -> bool {
        let mut pushed = 0u64;
        self.full.clear();
        for to in self.others() {
            let Some(ring) = &mut self.outgoing[to] else { continue };
            if !has_room(ring, &self.shared[self.me].wants_room[to]) {
                self.full.push(to);
                continue;
            }
            let Some(batch) = take(ShardId(to as u16)) else { continue };
            // Only we fill this ring, so the room just seen is still there.
            assert!(ring.push(batch).is_ok(), "mesh ring {} -> {to} lost its room", self.me);
            pushed |= 1 << (to % 64);
        }
        if pushed != 0 {
            // Publish the batches before looking at the flags; `park` sets its flag before looking at the rings.
            // So either we see the flag, or the parking core sees the batch.
            fence(Ordering::SeqCst);
            for to in self.others().filter(|to| pushed & (1 << (to % 64)) != 0) {
                self.wake(to, bell);
            }
        }
        !self.full.is_empty()
    }

    /// Hands every batch that had arrived when the call began to `receive`, source by source, and wakes sources that
    /// slept for want of room. Never waits. Answers how many there were.
    pub fn deliver(&mut self, mut receive: impl FnMut(ShardId, B), bell: &mut impl Doorbell) -> usize {
        let mut delivered = 0;
        for from in self.others() {
            let Some(ring) = &mut self.incoming[from] else { continue };
            // Bounded by what is there now: a fast source must not keep us from our own sockets.
            let waiting = ring.slots();
            for _ in 0..waiting {
                let Ok(batch) = ring.pop() else { break };
                receive(ShardId(from as u16), batch);
            }
            delivered += waiting;
            if waiting > 0 {
                self.room_made(from, bell);
            }
        }
        delivered
    }

    /// Announces that this core is about to sleep. False: there is work after all, do not sleep. True: sleep, bounded
    /// only by timers; call [`Mesh::unpark`] afterwards.
    pub fn park(&mut self) -> bool {
        if self.outgoing.len() == 1 {
            return true;
        }
        self.shared[self.me].parked.store(true, Ordering::Relaxed);
        // Pairs with the fences in `send` and `room_made`.
        fence(Ordering::SeqCst);
        let arrived = self.incoming.iter_mut().flatten().any(|ring| !ring.is_empty());
        let room = self.full.iter().any(|&to| self.outgoing[to].as_ref().is_some_and(|ring| !ring.is_full()));
        if arrived || room {
            self.unpark();
            return false;
        }
        true
    }

    /// Ends what [`Mesh::park`] began: nobody needs to ring any more.
    pub fn unpark(&mut self) {
        if self.outgoing.len() > 1 {
            self.shared[self.me].parked.store(false, Ordering::Relaxed);
        }
    }

    /// After popping from `from`'s ring: if it sleeps because that ring was full, wake it.
    fn room_made(&self, from: usize, bell: &mut impl Doorbell) {
        fence(Ordering::SeqCst);
        let wants_room = &self.shared[from].wants_room[self.me];
        if wants_room.load(Ordering::Relaxed) && wants_room.swap(false, Ordering::Relaxed) {
            self.wake(from, bell);
        }
    }

    /// Rings `core` if it is parked and nobody has rung since.
    fn wake(&self, core: usize, bell: &mut impl Doorbell) {
        let parked = &self.shared[core].parked;
        // The plain load first: a running core's flag stays shared in everyone's cache.
        if parked.load(Ordering::Relaxed) && parked.swap(false, Ordering::Relaxed) {
            bell.ring(ShardId(core as u16));
        }
    }
}

/// Whether a batch fits. When not, leaves word for the receiver, and looks again in case it popped in between.
fn has_room<B>(ring: &Producer<B>, wants_room: &AtomicBool) -> bool {
    if !ring.is_full() {
        return true;
    }
    wants_room.store(true, Ordering::Relaxed);
    // Pairs with the fence in `room_made`: it sees our flag or we see its room.
    fence(Ordering::SeqCst);
    !ring.is_full()
}

#[cfg(test)]
#[path = "mesh_tests.rs"]
mod tests;
