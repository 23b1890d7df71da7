//! The sockets of one core: completions in, calls to the [`Core`] out; outputs in, sends out.
//!
//! Costs of a request on a warm connection: its bytes are parsed in the kernel's receive buffer (no copy), the reply
//! leaves from the core's own output buffer (no copy but the kernel's), nothing is allocated, and all sends of a
//! round share one enter with the wait that follows. Errors of one socket end that socket, never the core.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use super::conns::{Closing, Conn, Conns, Receiving};
use super::listen::Listener;
use super::marks::{self, Mark};
use super::output::Send;
use super::ring::{Completion, SocketRing};
use super::token::{Op, Token};
use crate::base::ids::ConnId;
use crate::base::time::Now;
use crate::worker::port::Core;

/// How long a listener rests after a failed accept (no descriptors left, for example).
const ACCEPT_REST_US: u64 = 100_000;

/// How long a peer may take to read the last bytes of a connection that we close after them.
const LINGER_US: u64 = 10_000_000;

/// Sockets of one core and the ring they live on.
pub(crate) struct Net {
    pub(crate) ring: SocketRing,
    conns: Conns,
    listeners: Vec<Listener>,
    /// Receive completions kept while the mesh is full; their buffers are not given back, so the kernel stops too.
    held: VecDeque<Completion>,
    /// Connections whose `send_now` is not settled.
    unsettled: Vec<ConnId>,
    /// The last round could not settle them: the kernel had not taken or told everything.
    is_settling_late: bool,
    /// Connections to arm again once buffers have been given back.
    out_of_buffers: Vec<ConnId>,
    dirty: Vec<ConnId>,
    /// Connections closing after their last bytes, and until when they may take.
    lingering: VecDeque<(u64, ConnId)>,
}

impl Net {
    pub(crate) fn new(listeners: Vec<Listener>, receive_buffers: u16) -> io::Result<Self> {
        Ok(Self {
            ring: SocketRing::new(receive_buffers)?,
            conns: Conns::default(),
            listeners,
            held: VecDeque::new(),
            unsettled: Vec::new(),
            is_settling_late: false,
            out_of_buffers: Vec::new(),
            dirty: Vec::new(),
            lingering: VecDeque::new(),
        })
    }

    // ---- listeners

    /// Arms every listener that is not, unless it rests. Answers when a resting one wants to be armed.
    pub(crate) fn arm_listeners(&mut self, now: Now) -> u64 {
        let mut next = u64::MAX;
        for (number, listener) in self.listeners.iter_mut().enumerate().filter(|(_, listener)| !listener.is_armed) {
            if listener.retry_at_us > now.mono_us {
                next = next.min(listener.retry_at_us);
                continue;
            }
            listener.is_armed = true;
            self.ring.accept(listener.socket.as_fd(), number as u64);
        }
        next
    }

    /// Stops listening; connections stay.
    pub(crate) fn close_listeners(&mut self) {
        for listener in self.listeners.drain(..) {
            // Cancelled before the descriptor goes: the ring finds the accept by it.
            self.ring.cancel_all_of(listener.socket.as_raw_fd());
            self.ring.enter();
            listener.remove_path();
        }
    }

    /// A connection arrived, or accepting failed.
    pub(crate) fn accepted<C: Core>(&mut self, core: &mut C, done: Completion, now: Now) {
        let Some(listener) = self.listeners.get_mut(done.token.number as usize) else {
            // Accepted in the moment of closing the listeners.
            if done.result >= 0 {
                self.ring.close(done.result);
            }
            return;
        };
        if !done.stays_armed() {
            listener.is_armed = false;
        }
        if done.result >= 0 {
            let peer = listener.endpoint(done.result);
            let conn = self.adopt(done.result);
            core.accepted(conn, &peer, now);
            return;
        }
        match -done.result {
            // The peer left again before we came to it: nothing is wrong.
            libc::ECONNABORTED | libc::EINTR | libc::EAGAIN | libc::EPROTO => {}
            error => {
                listener.retry_at_us = now.mono_us + ACCEPT_REST_US;
                tracing::warn!("accept failed, pausing it for 100 ms: {}", io::Error::from_raw_os_error(error));
            }
        }
    }

    /// Takes over a connected socket and starts receiving. The core must be told at once.
    pub(crate) fn adopt(&mut self, fd: RawFd) -> ConnId {
        let ring = &mut self.ring;
        let id = self.conns.insert(|place| Conn::new(fd, ring.keep(place, fd)));
        self.arm(id);
        id
    }

    // ---- receiving

    /// Shows the core what the completions from `from` on will bring, as many as it wants to see at once. Answers how
    /// far it has seen, which is beyond `from`.
    pub(crate) fn foresee<C: Core>(&self, core: &mut C, completions: &[Completion], from: usize) -> usize {
        let mut end = from;
        for done in &completions[from..] {
            end += 1;
            if let (Op::Receive, Some(buffer)) = (done.token.op, done.buffer())
                && done.result > 0
                && !core.foresee(ConnId(done.token.number), self.ring.buffers.filled(buffer, done.result as usize))
            {
                break;
            }
        }
        core.foreseen();
        end
    }

    /// Bytes, the end of the stream, or the end of a multishot receive. While `hold` is set it is only kept.
    pub(crate) fn received<C: Core>(&mut self, core: &mut C, done: Completion, hold: bool, now: Now) {
        if hold {
            marks::hit(Mark::Held);
            self.held.push_back(done);
        } else {
            self.take_received(core, done, now);
        }
    }

    /// Handles what was kept while the mesh was full.
    pub(crate) fn release_held<C: Core>(&mut self, core: &mut C, now: Now) {
        while let Some(done) = self.held.pop_front() {
            self.take_received(core, done, now);
        }
    }

    fn take_received<C: Core>(&mut self, core: &mut C, done: Completion, now: Now) {
        let id = ConnId(done.token.number);
        // Receives are in flight only for connections that keep their slot.
        let Some(conn) = self.conns.get(id) else { unreachable!("receive completed for a freed connection") };
        if let Some(buffer) = done.buffer() {
            if done.result > 0 && conn.is_open() {
                core.data(id, self.ring.buffers.filled(buffer, done.result as usize), now);
            }
            self.ring.buffers.give_back(buffer);
        }
        if done.stays_armed() {
            return;
        }
        conn.receiving = Receiving::Off;
        if !conn.is_open() {
            return self.finish_closing(id);
        }
        match done.result {
            0 => {
                conn.at_end = true;
                core.closed(id, true, now);
            }
            bytes if bytes > 0 => self.arm(id),
            error => match -error {
                libc::ENOBUFS => {
                    marks::hit(Mark::OutOfBuffers);
                    self.out_of_buffers.push(id);
                }
                // Cancelled by a pause that may have been taken back since.
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => self.arm(id),
                _ => self.lost(core, id, now),
            },
        }
    }

    /// Starts receiving if the connection wants it and nothing stands against it.
    fn arm(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        if conn.receiving == Receiving::Off && conn.wants_input && !conn.at_end && conn.is_open() {
            conn.receiving = Receiving::Armed;
            let socket = conn.socket;
            self.ring.receive(socket, Token::conn(Op::Receive, id));
        }
    }

    /// Stops deliveries. What the kernel had completed before it heard is still delivered.
    pub(crate) fn pause(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        conn.wants_input = false;
        if conn.receiving == Receiving::Armed {
            conn.receiving = Receiving::Ending;
            self.ring.cancel(Token::conn(Op::Receive, id));
        }
    }

    /// Starts deliveries again; if the old receive is still ending, its last completion does it.
    pub(crate) fn resume(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        conn.wants_input = true;
        self.arm(id);
    }

    /// Arms the connections that found no buffer. Called when this round's buffers are back.
    pub(crate) fn rearm_starved(&mut self) {
        // While completions are held their buffers are out: arming now would fail again at once.
        if self.held.is_empty() && !self.out_of_buffers.is_empty() {
            self.ring.buffers.starved();
            for id in std::mem::take(&mut self.out_of_buffers) {
                self.arm(id);
            }
        }
    }

    // ---- sending

    /// A send failed, was cut short, or (after waiting) ended.
    pub(crate) fn send_ended<C: Core>(&mut self, core: &mut C, done: Completion, now: Now) {
        let id = ConnId(done.token.number);
        let Some(conn) = self.conns.get(id) else { unreachable!("send completed for a freed connection") };
        let bytes = done.result.max(0) as usize;
        if done.token.op == Op::SendNow {
            marks::hit(if bytes > 0 { Mark::ShortSend } else { Mark::NoRoom });
        }
        conn.output.ended(bytes);
        if conn.closing == Closing::Now {
            return self.finish_closing(id);
        }
        if bytes > 0 && conn.is_open() {
            core.sent(id, bytes, now);
        }
        match -done.result {
            // Cut short or no room: the kernel waits for the socket. Ended in full: perhaps there is more.
            error if error <= 0 => self.send_rest(id),
            libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM => self.send_rest(id),
            _ => self.lost(core, id, now),
        }
    }

    /// After an enter that submitted everything, and its completions: the sends that said nothing are complete.
    pub(crate) fn settle<C: Core>(&mut self, core: &mut C, now: Now) {
        if self.unsettled.is_empty() {
            return;
        }
        // A completion may still be on the kernel's side of a full queue.
        self.is_settling_late = self.ring.has_unsubmitted() || self.ring.has_overflown();
        if self.is_settling_late {
            return;
        }
        // The lists go round: once they are long enough, a round allocates nothing.
        let mut settled = std::mem::take(&mut self.unsettled);
        for id in settled.drain(..) {
            let Some(conn) = self.conns.get(id) else { continue };
            if !conn.output.is_unsettled() {
                continue;
            }
            let bytes = conn.output.settle();
            if conn.is_open() {
                core.sent(id, bytes, now);
            }
            self.send_rest(id);
        }
        settled.append(&mut self.unsettled);
        self.unsettled = settled;
    }

    /// Fetches the outputs of all connections that gained some and submits their sends.
    pub(crate) fn flush<C: Core>(&mut self, core: &mut C) {
        core.take_dirty(&mut self.dirty);
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            let Some(conn) = self.conns.get(id).filter(|conn| conn.is_open()) else { continue };
            if !conn.output.is_idle() {
                conn.output.more = true;
                continue;
            }
            conn.output.more = false;
            conn.output.refill(|empty| core.take_output(id, empty));
            self.send(id, true);
        }
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    /// Goes on after a send: the rest of the buffer, last bytes, or what the core has gained meanwhile.
    fn send_rest(&mut self, id: ConnId) {
        self.send(id, false);
        let Some(conn) = self.conns.get(id) else { return };
        if conn.output.is_idle() {
            if conn.closing == Closing::AfterFlush && conn.output.is_done() {
                self.begin_close(id);
            } else if conn.output.more {
                self.dirty.push(id);
            }
        }
    }

    fn send(&mut self, id: ConnId, may_try_now: bool) {
        let Some(conn) = self.conns.get(id) else { return };
        let socket = conn.socket;
        match conn.output.lend(may_try_now) {
            Send::Nothing => {}
            Send::Now(bytes, len) => {
                // SAFETY: `Output` keeps the lent bytes unchanged until `ended` or `settle`, which are only called
                // for this operation's completion or silence; `Conns` keeps the connection until then.
                unsafe { self.ring.send_now(socket, bytes, len, Token::conn(Op::SendNow, id)) };
                self.unsettled.push(id);
            }
            // SAFETY: as above; the completion always comes.
            Send::Wait(bytes, len) => unsafe {
                self.ring.send_wait(socket, bytes, len, Token::conn(Op::SendWait, id));
            },
        }
    }

    /// Something waits for the next round: sleeping now would delay it. `hold` as in [`Net::received`].
    pub(crate) fn has_unfinished_round(&self, hold: bool) -> bool {
        self.is_settling_late || !self.dirty.is_empty() || (!hold && !self.held.is_empty())
    }

    // ---- closing

    /// The connection broke: the core hears it once, then it is gone.
    fn lost<C: Core>(&mut self, core: &mut C, id: ConnId, now: Now) {
        if self.conns.get(id).is_some_and(|conn| conn.is_open()) {
            core.closed(id, false, now);
        }
        self.begin_close(id);
    }

    /// Closes at once; unsent output is dropped.
    pub(crate) fn close(&mut self, id: ConnId) {
        self.begin_close(id);
    }

    /// Sends what the core has for it, then closes. The core may forget the connection now.
    pub(crate) fn close_after_flush<C: Core>(&mut self, core: &mut C, id: ConnId, now: Now) {
        let Some(conn) = self.conns.get(id).filter(|conn| conn.is_open()) else { return };
        let mut last = Vec::new();
        core.take_output(id, &mut last);
        conn.output.append_last(last);
        conn.closing = Closing::AfterFlush;
        self.lingering.push_back((now.mono_us + LINGER_US, id));
        if conn.output.is_idle() {
            self.send_rest(id);
        }
    }

    /// Gives up on peers that do not read their last bytes. Answers when to look again.
    pub(crate) fn end_lingering(&mut self, now: Now) -> u64 {
        while let Some(&(until_us, id)) = self.lingering.front() {
            if until_us > now.mono_us && self.conns.get(id).is_some() {
                return until_us;
            }
            self.lingering.pop_front();
            self.begin_close(id);
        }
        u64::MAX
    }

    fn begin_close(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        if conn.closing != Closing::Now {
            conn.closing = Closing::Now;
            conn.output.abandon();
            if conn.is_in_flight() {
                let fd = conn.fd;
                self.ring.cancel_all_of(fd);
            }
        }
        self.finish_closing(id);
    }

    /// Frees the connection if it is closing and nothing names it any more.
    fn finish_closing(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        if conn.closing == Closing::Now && !conn.is_in_flight() {
            let conn = self.conns.remove(id);
            self.ring.close_kept(conn.socket, conn.fd);
        }
    }

    // ---- the end

    /// Some connection still has output that the kernel has not taken.
    pub(crate) fn is_sending(&mut self) -> bool {
        let ids = self.conns.ids();
        ids.into_iter().any(|id| self.conns.get(id).is_some_and(|conn| !conn.output.is_done()))
    }

    /// Closes everything. Call and drain until [`Net::is_empty`].
    pub(crate) fn close_everything(&mut self) {
        self.close_listeners();
        for done in std::mem::take(&mut self.held) {
            // The buffers die with the ring; what matters is that the receives have ended.
            if let (false, Some(conn)) = (done.stays_armed(), self.conns.get(ConnId(done.token.number))) {
                conn.receiving = Receiving::Off;
            }
        }
        for id in self.conns.ids() {
            self.begin_close(id);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.conns.len() == 0
    }
}
