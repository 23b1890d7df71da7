//! The event loop: time, who does what when, and one core's round as `runtime::pump` makes it.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use tutti::base::ids::{ConnId, Uuid};
use tutti::base::rng::Rng;
use tutti::base::time::Now;
use tutti::worker::port::{Action, Core as _, DialId, Endpoint, FileEvent, FileId};

use crate::client::Client;
use crate::clock::Clock;
use crate::coverage::Coverage;
use crate::disk::Disk;
use crate::ledger::Ledger;
use crate::net::{End, Net};
use crate::node::{Node, PORT};
use crate::plan::{Limits, Plan};
use crate::trace::{Hash, Trace};

/// Periodic work of a core, as in the pump.
const TICK_US: u64 = 100_000;

/// What one receive brings at most, bytes.
pub const RECEIVE_BYTES: usize = 16 * 1024;

/// What happens at a time.
pub enum Event {
    /// A step of the plan.
    Step(usize),
    /// A core's pump goes round.
    Round { node: usize, life: u32, core: usize },
    /// Bytes that `side` had sent may arrive.
    Arrive { conn: usize, side: usize },
    /// `side` learns that the connection is gone.
    HangUp { conn: usize, side: usize },
    /// A dial ends.
    Dialed { node: usize, life: u32, core: usize, dial: DialId, to: Option<usize> },
    /// A step on a file ends.
    File { node: usize, life: u32, core: usize, file: FileId, event: FileEvent },
    /// A stopped node is continued.
    Continue { node: usize, life: u32 },
}

/// What a core finds at its next round.
pub enum Input {
    Accepted(ConnId, Endpoint),
    Data(ConnId, Vec<u8>),
    Sent(ConnId, usize),
    Closed(ConnId, bool),
    Dialed(DialId, Result<(ConnId, Endpoint), String>),
    File(FileId, FileEvent),
}

/// Events in the order of their times; equal times in the order they were pushed.
#[derive(Default)]
pub struct Queue {
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    slots: Vec<Option<Event>>,
    free: Vec<usize>,
    count: u64,
}

impl Queue {
    pub fn push(&mut self, at_us: u64, event: Event) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(event);
        self.count += 1;
        self.heap.push(Reverse((at_us, self.count, slot)));
    }

    fn pop(&mut self, until_us: u64) -> Option<(u64, Event)> {
        let Reverse((at_us, _, slot)) = *self.heap.peek()?;
        if at_us > until_us {
            return None;
        }
        self.heap.pop();
        self.free.push(slot);
        self.slots[slot].take().map(|event| (at_us, event))
    }
}

/// See the file's head.
pub struct World {
    pub plan: Plan,
    pub now_us: u64,
    pub queue: Queue,
    pub rng: Rng,
    pub nodes: Vec<Node>,
    pub net: Net,
    pub clients: Vec<Client>,
    pub ledger: Ledger,
    pub coverage: Coverage,
    pub hash: Hash,
    pub trace: Trace,
    pub limits: Limits,
    /// Nodes that some member did not count on, for a while at least: see `absences`.
    pub uncounted: BTreeSet<Uuid>,
    /// Everything has been looked at and is the same everywhere.
    pub is_at_rest: bool,
    /// The first promise that was seen broken.
    pub broken: Option<String>,
    pub rounds: u64,
}

impl World {
    pub fn new(plan: Plan, trace: Trace) -> Self {
        let count = plan.nodes.len();
        let nodes = plan.nodes.iter().enumerate().map(|(at, node)| Node {
            clock: Clock::new(node.skew_ms, node.drift_ppm),
            disk: Disk::new(plan.limits.disk_step_us),
            cores: node.cores,
            life: 0,
            process: None,
            masters: plan.edges.iter().filter(|edge| edge.0 == at).map(|edge| edge.1).collect(),
            is_removed: false,
            is_silent: false,
            is_unheard: false,
            lost: Vec::new(),
        });
        let nodes: Vec<Node> = nodes.collect();
        let limits = plan.limits.clone();
        let mut world = Self {
            now_us: 0,
            queue: Queue::default(),
            rng: Rng::new(plan.seed ^ 0x5eed_7a11),
            net: Net::new(count, limits.delay_us, limits.pipe_bytes, limits.is_choppy),
            // Behind the clients one operator for each node.
            clients: plan.clients.iter().copied().chain(0..count).map(Client::new).collect(),
            ledger: Ledger::default(),
            coverage: Coverage::default(),
            hash: Hash::default(),
            trace,
            limits,
            uncounted: BTreeSet::new(),
            is_at_rest: false,
            broken: None,
            rounds: 0,
            nodes,
            plan,
        };
        world.coverage.add("fault: two names for one master", world.plan.twice.len() as u64);
        for at in 0..count {
            if !world.plan.nodes[at].joins_late {
                world.start(at);
            }
        }
        for step in 0..world.plan.steps.len() {
            world.queue.push(world.plan.steps[step].at_us, Event::Step(step));
        }
        world
    }

    /// Runs until a time, or until a promise is broken.
    pub fn run_until(&mut self, until_us: u64) {
        while self.broken.is_none()
            && let Some((at_us, event)) = self.queue.pop(until_us)
        {
            // A step that waits for something lets time pass.
            self.now_us = self.now_us.max(at_us);
            self.happen(event);
        }
        if self.broken.is_none() {
            self.now_us = self.now_us.max(until_us);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Step(step) => self.step(step),
            Event::Round { node, life, core } => {
                if self.nodes[node].is_alive(life) && self.core(node, core).next_us == self.now_us {
                    self.core(node, core).next_us = u64::MAX;
                    self.round(node, core);
                }
            }
            Event::Arrive { conn, side } => self.arrive(conn, side),
            Event::HangUp { conn, side } => self.hang_up_now(conn, side),
            Event::Dialed { node, life, core, dial, to } => self.dialed(node, life, core, dial, to),
            Event::File { node, life, core, file, event } => self.input(node, life, core, Input::File(file, event)),
            Event::Continue { node, life } => self.go_on(node, life),
        }
    }

    pub fn core(&mut self, node: usize, core: usize) -> &mut crate::node::Core {
        &mut self.nodes[node].process.as_mut().expect("it runs").cores[core]
    }

    /// The first broken promise ends the run.
    pub fn breaks(&mut self, what: impl FnOnce() -> String) {
        if self.broken.is_none() {
            self.broken = Some(what());
        }
    }

    /// Something for a core's next round, if that life still runs.
    pub fn input(&mut self, node: usize, life: u32, core: usize, input: Input) {
        if self.nodes[node].is_alive(life) {
            self.core(node, core).inputs.push_back(input);
            let due_us = self.now_us + self.rng.below(40);
            self.wake(node, core, due_us);
        }
    }

    /// A core goes round at the latest then.
    pub fn wake(&mut self, node: usize, core: usize, due_us: u64) {
        let life = self.nodes[node].life;
        let process = self.nodes[node].process.as_mut().expect("it runs");
        if process.is_stopped || process.cores[core].next_us <= due_us {
            return;
        }
        process.cores[core].next_us = due_us;
        self.queue.push(due_us, Event::Round { node, life, core });
    }

    pub fn now_of(&self, node: usize) -> Now {
        let node = &self.nodes[node];
        let started_us = node.process.as_ref().map_or(0, |process| process.started_us);
        Now { wall_ms: node.clock.wall_ms(self.now_us), mono_us: self.now_us - started_us + 1000 }
    }

    // What `runtime::pump::round` does.
    fn round(&mut self, node: usize, at: usize) {
        self.rounds += 1;
        let now = self.now_of(node);
        let core = self.core(node, at);
        core.mesh.unpark();
        core.latest_ms = core.latest_ms.max(now.wall_ms);
        self.take_inputs(node, at, now);
        let mut bells = Vec::new();
        let mut brought = Vec::new();
        let core = self.core(node, at);
        core.mesh.deliver(|from, batch| brought.push((from, batch)), &mut |target: tutti::base::ids::ShardId| {
            bells.push(target);
        });
        for (from, batch) in brought {
            self.hash.add(&[4, self.now_us, node as u64, at as u64, u64::from(from.0), batch.arena.len() as u64]);
            self.hash.add_bytes(&batch.arena);
            self.core(node, at).worker.receive(from, batch, now);
            self.tap(node, at);
        }
        let core = self.core(node, at);
        if now.mono_us >= core.last_tick_us + TICK_US || now.mono_us >= core.worker.wake_at_us() {
            core.last_tick_us = now.mono_us;
            core.worker.tick(now);
            self.tap(node, at);
            self.check_core(node, at);
        }
        let mut is_busy = self.core(node, at).worker.background(now);
        self.tap(node, at);
        self.flush(node, at);
        let core = self.core(node, at);
        let was_held = core.is_held;
        let worker = &mut core.worker;
        core.is_held = core.mesh.send(|to| worker.take_batch(to), &mut |target: tutti::base::ids::ShardId| {
            bells.push(target);
        });
        if core.is_held && !was_held {
            self.coverage.hit("mesh ring full");
        }
        is_busy |= self.act(node, at);
        for bell in bells {
            let due_us = self.now_us + 1 + self.rng.below(30);
            if self.nodes[node].process.is_some() {
                self.wake(node, usize::from(bell.0), due_us);
            }
        }
        self.look(node);
        if self.nodes[node].process.is_some() {
            self.sleep(node, at, is_busy, now);
        }
    }

    fn sleep(&mut self, node: usize, at: usize, is_busy: bool, now: Now) {
        let soon_us = self.now_us + 5 + self.rng.below(40);
        let core = self.core(node, at);
        let has_inputs = !core.inputs.is_empty() && !core.is_held;
        if is_busy || has_inputs || !core.mesh.park() {
            return self.wake(node, at, soon_us);
        }
        let due_us = (core.last_tick_us + TICK_US).min(core.worker.wake_at_us()).max(now.mono_us + 1);
        let due_us = self.now_us + (due_us - now.mono_us);
        self.wake(node, at, due_us);
    }

    fn take_inputs(&mut self, node: usize, at: usize, now: Now) {
        let mut kept = std::collections::VecDeque::new();
        let is_held = self.core(node, at).is_held;
        let inputs = std::mem::take(&mut self.core(node, at).inputs);
        for input in inputs {
            let core = self.core(node, at);
            let worker = &mut core.worker;
            match input {
                // While a ring is full sockets are not read.
                Input::Data(..) | Input::Closed(..) if is_held => kept.push_back(input),
                Input::Accepted(conn, endpoint) => worker.accepted(conn, &endpoint, now),
                Input::Data(conn, bytes) => {
                    // The kernel hands over a buffer at a time.
                    for piece in bytes.chunks(RECEIVE_BYTES) {
                        let core = self.core(node, at);
                        if core.conns.contains_key(&conn) {
                            core.worker.data(conn, piece, now);
                        }
                        self.tap(node, at);
                    }
                }
                Input::Sent(conn, bytes) => worker.sent(conn, bytes, now),
                Input::Closed(conn, half) => {
                    if core.conns.contains_key(&conn) {
                        worker.closed(conn, half, now);
                        if !half {
                            core.conns.remove(&conn);
                        }
                    }
                }
                Input::Dialed(dial, result) => worker.dialed(dial, result, now),
                Input::File(file, event) => worker.file_event(file, event, now),
            }
            self.tap(node, at);
        }
        let core = self.core(node, at);
        kept.append(&mut core.inputs);
        core.inputs = kept;
    }

    // Outputs to the network.
    fn flush(&mut self, node: usize, at: usize) {
        let mut dirty = Vec::new();
        let mut bytes = Vec::new();
        self.core(node, at).worker.take_dirty(&mut dirty);
        for conn in dirty {
            let core = self.core(node, at);
            bytes.clear();
            core.worker.take_output(conn, &mut bytes);
            if let Some(&(conn, side)) = core.conns.get(&conn) {
                self.send(conn, side, &bytes);
            }
        }
    }

    // What the core asks of the world. True: it may have more to do at once.
    fn act(&mut self, node: usize, at: usize) -> bool {
        let mut actions = Vec::new();
        self.core(node, at).worker.take_actions(&mut actions);
        let life = self.nodes[node].life;
        let any = !actions.is_empty();
        for action in actions {
            match action {
                Action::Close(conn) | Action::CloseAfterFlush(conn) => {
                    let flush = matches!(action, Action::CloseAfterFlush(_));
                    if flush {
                        let mut bytes = Vec::new();
                        self.core(node, at).worker.take_output(conn, &mut bytes);
                        if let Some(&(conn, side)) = self.core(node, at).conns.get(&conn) {
                            self.send(conn, side, &bytes);
                        }
                    }
                    if let Some((conn, side)) = self.core(node, at).conns.remove(&conn) {
                        self.close(conn, side, flush);
                    }
                }
                Action::PauseReading(conn) | Action::ResumeReading(conn) => {
                    if let Some(&(conn, side)) = self.core(node, at).conns.get(&conn) {
                        let is_paused = matches!(action, Action::PauseReading(_));
                        self.net.conns[conn].pipes[1 - side].is_paused = is_paused;
                        self.coverage.hit(if is_paused { "reading paused" } else { "reading resumed" });
                        if !is_paused {
                            self.flow_again(|_, at, from| at == conn && from == 1 - side);
                        }
                    }
                }
                Action::Dial { dial, host, timeout_ms, .. } => self.dial(node, at, dial, &host, timeout_ms),
                Action::File { file, step } => {
                    let event = self.nodes[node].disk.step(at, file, step);
                    let step_us = self.nodes[node].disk.step_us;
                    let due_us = self.now_us + 20 + self.rng.below(2 * step_us + 1);
                    self.queue.push(due_us, Event::File { node, life, core: at, file, event });
                }
                Action::Reconfigured(_) | Action::RewriteConfig(_) | Action::Ready => {}
                Action::Exit(_) => self.exits(node),
            }
            if self.nodes[node].process.is_none() {
                return false;
            }
        }
        any
    }

    pub fn exits(&mut self, node: usize) {
        let process = self.nodes[node].process.as_mut().expect("it runs");
        process.exited += 1;
        if process.exited == process.cores.len() {
            self.gone(node);
        }
    }

    fn dial(&mut self, node: usize, core: usize, dial: DialId, host: &str, timeout_ms: u64) {
        let life = self.nodes[node].life;
        let target: Option<usize> = host.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok();
        let target = target.filter(|&target| target < self.nodes.len());
        let reached = |target: &usize| {
            !self.net.blocked[node][*target]
                && !self.net.blocked[*target][node]
                && !self.nodes[*target].is_silent
                && !self.nodes[*target].process.as_ref().is_some_and(|process| process.is_stopped)
        };
        let silent = target.is_some_and(|target| !reached(&target));
        let (to, wait_us) = match target.filter(reached) {
            Some(target) => (Some(target), 2 * self.net.delay_us[node][target].1 + self.rng.below(500)),
            None if silent => (None, timeout_ms * 1000),
            None => (None, 1000),
        };
        self.queue.push(self.now_us + wait_us, Event::Dialed { node, life, core, dial, to });
    }

    fn dialed(&mut self, node: usize, life: u32, core: usize, dial: DialId, to: Option<usize>) {
        if !self.nodes[node].is_alive(life) {
            return;
        }
        let Some(to) = to.filter(|&to| self.nodes[to].process.is_some()) else {
            self.coverage.hit("dial failed");
            return self.input(node, life, core, Input::Dialed(dial, Err("connection refused".into())));
        };
        let id = self.new_conn(node, core);
        let ours = End::Core { node, life, core, id };
        let (theirs, their_core, their_id) = self.accepting(to);
        let conn = self.connect([ours, theirs]);
        self.core(node, core).conns.insert(id, (conn, 0));
        self.core(to, their_core).conns.insert(their_id, (conn, 1));
        let to_life = self.nodes[to].life;
        self.input(to, to_life, their_core, Input::Accepted(their_id, endpoint(format!("n{node}:{}", 40_000 + conn))));
        self.input(node, life, core, Input::Dialed(dial, Ok((id, endpoint(format!("n{to}:{PORT}"))))));
    }

    /// A core of a node that the kernel gives a new connection to.
    pub fn accepting(&mut self, node: usize) -> (End, usize, ConnId) {
        let core = self.rng.below(self.nodes[node].cores as u64) as usize;
        let id = self.new_conn(node, core);
        (End::Core { node, life: self.nodes[node].life, core, id }, core, id)
    }

    fn new_conn(&mut self, node: usize, core: usize) -> ConnId {
        let core = self.core(node, core);
        core.next_conn += 1;
        ConnId((core.next_conn << 20) | core.next_conn)
    }

    /// SIGCONT.
    pub fn go_on(&mut self, node: usize, life: u32) {
        if !self.nodes[node].is_alive(life) {
            return;
        }
        self.nodes[node].is_silent = false;
        let process = self.nodes[node].process.as_mut().expect("it is alive");
        process.is_stopped = false;
        for core in &mut process.cores {
            core.next_us = u64::MAX;
        }
        for core in 0..self.nodes[node].cores {
            let due_us = self.now_us + self.rng.below(200);
            self.wake(node, core, due_us);
        }
        self.flow_again(|world, conn, side| matches!(world.net.conns[conn].ends[1 - side], End::Core { node: to, .. } if to == node));
    }
}

pub fn endpoint(remote: String) -> Endpoint {
    Endpoint { remote, local: "local:6379".into(), is_local: true, fd: 3 }
}
