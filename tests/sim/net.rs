//! The network: TCP connections as two pipes each, with delay, bandwidth and bounded buffers; partitions hold what is
//! under way, resets cut it anywhere.

use std::collections::VecDeque;

use tutti::base::ids::ConnId;
use tutti::base::rng::Rng;

use crate::world::{Event, Input, World};

/// Who holds one end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// A core of one life of a node.
    Core {
        node: usize,
        life: u32,
        core: usize,
        id: ConnId,
    },
    Client(usize),
}

/// One TCP connection. `pipes[side]` carries what `ends[side]` sends.
pub struct Conn {
    pub ends: [End; 2],
    pub open: [bool; 2],
    pub pipes: [Pipe; 2],
}

/// One direction.
#[derive(Default)]
pub struct Pipe {
    /// Handed over by the sender, not taken by its kernel yet.
    out: Vec<u8>,
    /// Under way, with the time of arrival.
    flight: VecDeque<(u64, Vec<u8>)>,
    in_flight: usize,
    last_us: u64,
    /// The receiver does not read.
    pub is_paused: bool,
    /// The sender has closed: after the last byte the receiver hears of it.
    fin: bool,
    told_fin: bool,
}

/// How the links between nodes are.
pub struct Net {
    pub conns: Vec<Conn>,
    /// Nothing passes from one node to another.
    pub blocked: Vec<Vec<bool>>,
    /// Delay from one node to another, microseconds: least and most.
    pub delay_us: Vec<Vec<(u64, u64)>>,
    /// Microseconds a KiB takes on the line.
    pub us_per_kib: Vec<Vec<u64>>,
    /// What kernels buffer in one direction, bytes.
    pub pipe_bytes: usize,
    /// Bytes arrive in small pieces.
    pub is_choppy: bool,
}

impl Net {
    pub fn new(nodes: usize, delay_us: (u64, u64), pipe_bytes: usize, is_choppy: bool) -> Self {
        Self {
            conns: Vec::new(),
            blocked: vec![vec![false; nodes]; nodes],
            delay_us: vec![vec![delay_us; nodes]; nodes],
            us_per_kib: vec![vec![10; nodes]; nodes],
            pipe_bytes,
            is_choppy,
        }
    }
}

impl World {
    /// A new connection; nothing is said about it to anybody.
    pub fn connect(&mut self, ends: [End; 2]) -> usize {
        let pipes = [Pipe::default(), Pipe::default()];
        self.net.conns.push(Conn { ends, open: [true, true], pipes });
        self.net.conns.len() - 1
    }

    /// One end sends.
    pub fn send(&mut self, conn: usize, side: usize, bytes: &[u8]) {
        if self.net.conns[conn].open[side] {
            self.net.conns[conn].pipes[side].out.extend_from_slice(bytes);
            self.push(conn, side);
        }
    }

    // Moves what fits from a sender's buffer onto the line.
    fn push(&mut self, at: usize, side: usize) {
        let now_us = self.now_us;
        let route = self.route(at, side);
        let (delay, per_kib) = match route {
            Some((from, to)) => (self.net.delay_us[from][to], self.net.us_per_kib[from][to]),
            None => ((20, 400), 10),
        };
        let Net { conns, pipe_bytes, is_choppy, .. } = &mut self.net;
        let conn = &mut conns[at];
        let pipe = &mut conn.pipes[side];
        let mut taken = 0;
        while !pipe.out.is_empty() && pipe.in_flight < *pipe_bytes {
            let room = (*pipe_bytes - pipe.in_flight).min(pipe.out.len());
            let piece = match *is_choppy {
                true => room.min(1 + self.rng.below(300) as usize),
                false => room,
            };
            let bytes: Vec<u8> = pipe.out.drain(..piece).collect();
            let line_us = piece as u64 * per_kib / 1024;
            let arrival_us = (now_us + delay.0 + self.rng.below(delay.1 - delay.0 + 1)).max(pipe.last_us) + line_us;
            pipe.last_us = arrival_us;
            pipe.in_flight += piece;
            taken += piece;
            pipe.flight.push_back((arrival_us, bytes));
            self.queue.push(arrival_us, Event::Arrive { conn: at, side });
        }
        if let End::Core { node, life, core, id } = conn.ends[side]
            && taken > 0
        {
            self.input(node, life, core, Input::Sent(id, taken));
        }
        if self.net.conns[at].pipes[side].fin && self.net.conns[at].pipes[side].out.is_empty() {
            let due_us = self.net.conns[at].pipes[side].last_us.max(now_us + delay.0);
            self.queue.push(due_us, Event::Arrive { conn: at, side });
        }
    }

    // The nodes a direction goes between; `None`: one end is a client.
    fn route(&self, conn: usize, side: usize) -> Option<(usize, usize)> {
        match (self.net.conns[conn].ends[side], self.net.conns[conn].ends[1 - side]) {
            (End::Core { node: from, .. }, End::Core { node: to, .. }) => Some((from, to)),
            _ => None,
        }
    }

    /// Something may have arrived that `side` had sent.
    pub fn arrive(&mut self, at: usize, side: usize) {
        if self.route(at, side).is_some_and(|(from, to)| self.net.blocked[from][to]) {
            return;
        }
        let receiver = self.net.conns[at].ends[1 - side];
        if let End::Core { node, life, .. } = receiver
            && self.nodes[node].is_silent(life)
        {
            return;
        }
        let pipe = &mut self.net.conns[at].pipes[side];
        if pipe.is_paused {
            return;
        }
        let mut bytes = Vec::new();
        while pipe.flight.front().is_some_and(|(due_us, _)| *due_us <= self.now_us) {
            if let Some((_, piece)) = pipe.flight.pop_front() {
                bytes.extend_from_slice(&piece);
            }
        }
        pipe.in_flight -= bytes.len();
        let ended = pipe.fin && pipe.out.is_empty() && pipe.flight.is_empty() && !pipe.told_fin;
        pipe.told_fin |= ended;
        if !bytes.is_empty() {
            self.push(at, side);
            if self.net.conns[at].open[1 - side] {
                self.deliver(at, receiver, bytes);
            } else if let End::Core { node, life, .. } = receiver
                && !self.nodes[node].is_alive(life)
            {
                // Another life of the node, or none: its kernel knows nothing of this connection.
                self.hang_up(at, side, false);
            }
        }
        if ended && self.net.conns[at].open[1 - side] {
            self.hang_up(at, 1 - side, true);
        }
    }

    fn deliver(&mut self, conn: usize, to: End, bytes: Vec<u8>) {
        self.hash.add(&[1, self.now_us, conn as u64]);
        self.hash.add_bytes(&bytes);
        match to {
            End::Core { node, life, core, id } => {
                if self.nodes[node].is_alive(life) {
                    self.input(node, life, core, Input::Data(id, bytes));
                } else {
                    // Nobody is there any more: the kernel says so.
                    let side = usize::from(self.net.conns[conn].ends[1] != to);
                    self.hang_up(conn, side, false);
                }
            }
            End::Client(client) => self.client_hears(client, conn, &bytes),
        }
    }

    // Tells an end that the other has closed (`half`) or that the connection is gone.
    fn hang_up(&mut self, at: usize, side: usize, half: bool) {
        let end = self.net.conns[at].ends[side];
        if !self.net.conns[at].open[side] {
            return;
        }
        if !half {
            self.net.conns[at].open[side] = false;
        }
        match end {
            End::Core { node, life, core, id } => {
                if self.nodes[node].is_alive(life) {
                    self.input(node, life, core, Input::Closed(id, half));
                }
            }
            End::Client(client) => {
                self.net.conns[at].open[side] = false;
                self.client_lost(client, at);
            }
        }
    }

    /// An end closes; `flush`: what it has sent before still goes out.
    pub fn close(&mut self, at: usize, side: usize, flush: bool) {
        let conn = &mut self.net.conns[at];
        if !conn.open[side] {
            return;
        }
        conn.open[side] = false;
        if !flush {
            conn.pipes[side].out.clear();
        }
        conn.pipes[side].fin = true;
        let back = &mut conn.pipes[1 - side];
        back.out.clear();
        back.flight.clear();
        back.in_flight = 0;
        self.push(at, side);
    }

    /// A middlebox forgets a connection: what is under way ends anywhere, and both ends hear of it, not at once.
    pub fn reset(&mut self, at: usize) {
        for side in [0, 1] {
            self.cut(at, side);
            let due_us = self.now_us + 1 + self.rng.below(20_000);
            self.queue.push(due_us, Event::HangUp { conn: at, side });
        }
    }

    /// The far end's kernel has gone: what is under way ends anywhere; `side` hears of it later, if at all.
    pub fn orphan(&mut self, at: usize, gone: usize, is_told: bool) {
        self.net.conns[at].open[gone] = false;
        self.cut(at, gone);
        let back = &mut self.net.conns[at].pipes[1 - gone];
        (back.in_flight, back.out) = (0, Vec::new());
        back.flight.clear();
        if is_told {
            let due_us = self.now_us + 100 + self.rng.below(50_000);
            self.queue.push(due_us, Event::HangUp { conn: at, side: 1 - gone });
        }
    }

    fn cut(&mut self, at: usize, side: usize) {
        let pipe = &mut self.net.conns[at].pipes[side];
        pipe.out.clear();
        pipe.fin = false;
        let keep = self.rng.below(pipe.in_flight as u64 + 1) as usize;
        if keep < pipe.in_flight {
            self.coverage.hit("cut: bytes under way are lost");
        }
        let mut left = keep;
        for (_, bytes) in &mut pipe.flight {
            bytes.truncate(left);
            left -= bytes.len();
        }
        pipe.flight.retain(|(_, bytes)| !bytes.is_empty());
        pipe.in_flight = keep;
    }

    /// The end of [`World::reset`] and [`World::orphan`]: after it nothing more arrives.
    pub fn hang_up_now(&mut self, at: usize, side: usize) {
        self.arrive(at, 1 - side);
        self.hang_up(at, side, false);
    }

    /// Lets everything pass again from one node to another.
    pub fn unblock(&mut self, from: usize, to: usize) {
        self.net.blocked[from][to] = false;
        self.flow_again(|world, conn, side| world.route(conn, side) == Some((from, to)));
    }

    /// Looks again at pipes that were not read from.
    pub fn flow_again(&mut self, wanted: impl Fn(&Self, usize, usize) -> bool) {
        for conn in 0..self.net.conns.len() {
            for side in [0, 1] {
                let pipe = &self.net.conns[conn].pipes[side];
                if (!pipe.flight.is_empty() || pipe.fin && !pipe.told_fin) && wanted(self, conn, side) {
                    let due_us = self.now_us + 1 + self.rng.below(2000);
                    self.queue.push(due_us, Event::Arrive { conn, side });
                }
            }
        }
    }
}

/// Between `least` and `most`.
pub fn between(rng: &mut Rng, (least, most): (u64, u64)) -> u64 {
    least + rng.below(most - least + 1)
}
