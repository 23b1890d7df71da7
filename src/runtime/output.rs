//! One connection's bytes on their way out: what the kernel has been lent, how much it has taken, what follows.
//!
//! Soundness rests here: while a send is in flight (`is_idle` is false) nothing in this file moves, grows, changes
//! or frees the lent buffer, and the fields are private. A `Vec`'s heap block does not move with its owner, so the
//! connection table may grow meanwhile.

/// Buffers above this are given back to the allocator when empty, so that one large reply does not pin its size for
/// the life of the connection.
const KEPT_CAPACITY: usize = 64 * 1024;

/// A send up to this size is tried at once and says nothing when it succeeds, so the core hears of it only with the
/// next event. A larger one always completes: whoever waits for `sent` to produce more is never left waiting.
const SEND_NOW_BYTES: usize = 16 * 1024;

/// One operation carries at most this much, so that progress shows and one reader cannot hold the core for long.
const SEND_WAIT_BYTES: usize = 1024 * 1024;

/// Output of one connection.
#[derive(Default)]
pub(crate) struct Output {
    /// What is being sent.
    current: Vec<u8>,
    /// How much of `current` the kernel has taken.
    taken: usize,
    /// Length of the operation in flight.
    lent: usize,
    state: State,
    /// What goes out after `current` when the core has already forgotten the connection.
    last: Vec<u8>,
    /// The core gained output while a send was in flight.
    pub(crate) more: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Idle,
    Now,
    Wait,
}

/// The operation to submit for the bytes that are due.
#[derive(Clone, Copy)]
pub(crate) enum Send {
    /// Nothing is due.
    Nothing,
    /// With `send_now`.
    Now(*const u8, usize),
    /// With `send_wait`.
    Wait(*const u8, usize),
}

impl Output {
    /// No send is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Nothing is in flight and nothing is left to send (as far as is known here).
    pub(crate) fn is_done(&self) -> bool {
        self.is_idle() && self.taken == self.current.len() && self.last.is_empty()
    }

    /// A `send_now` has been submitted and not been settled.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.state == State::Now
    }

    /// Fills the next buffer; only when idle and the last one is sent. `fill` swaps it for the core's.
    pub(crate) fn refill(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        assert!(self.is_idle() && self.taken == self.current.len(), "output replaced while being sent");
        self.taken = 0;
        if self.current.capacity() > KEPT_CAPACITY {
            self.current = Vec::new()
        } else {
            self.current.clear()
        }
        fill(&mut self.current);
    }

    /// Adds bytes that go out last; the lent buffer is not touched.
    pub(crate) fn append_last(&mut self, bytes: Vec<u8>) {
        if self.last.is_empty() { self.last = bytes } else { self.last.extend_from_slice(&bytes) }
    }

    /// The next operation to submit, which the caller must submit: the bytes count as lent from here on.
    pub(crate) fn lend(&mut self, may_try_now: bool) -> Send {
        assert!(self.is_idle(), "one send per connection at a time");
        if self.taken == self.current.len() && !self.last.is_empty() {
            self.current = std::mem::take(&mut self.last);
            self.taken = 0;
        }
        let rest = &self.current[self.taken..];
        if rest.is_empty() {
            return Send::Nothing;
        }
        if may_try_now && rest.len() <= SEND_NOW_BYTES {
            self.state = State::Now;
            self.lent = rest.len();
            Send::Now(rest.as_ptr(), self.lent)
        } else {
            self.state = State::Wait;
            self.lent = rest.len().min(SEND_WAIT_BYTES);
            Send::Wait(rest.as_ptr(), self.lent)
        }
    }

    /// The send in flight ended after `bytes`; nothing is lent any more.
    pub(crate) fn ended(&mut self, bytes: usize) {
        assert!(bytes <= self.lent, "the kernel took {bytes} of {} bytes", self.lent);
        self.taken += bytes;
        self.lent = 0;
        self.state = State::Idle;
    }

    /// The `send_now` in flight succeeded without a word. Answers how much it sent.
    pub(crate) fn settle(&mut self) -> usize {
        let bytes = self.lent;
        self.ended(bytes);
        bytes
    }

    /// Forgets what has not been lent.
    pub(crate) fn abandon(&mut self) {
        self.last = Vec::new();
        self.more = false;
        if self.is_idle() {
            self.taken = self.current.len();
        }
    }
}
