//! One core's loop: completions, other cores' batches, timers, outputs, batches for others, wait. Again.
//!
//! It waits directly on the socket ring. glommio's reactor is only visited while there is work in it (files): every
//! [`VISIT_US`] under traffic, and for the whole wait when there is no traffic. A visit costs about ten system calls.
//! It is always a suspension by timer: a pump that yields is runnable at once, and an executor with a runnable task
//! does not go to its reactor (measured: 650 operations per second).
//!
//! The core is called from one place at a time and never across an await.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;

use super::bell::{Bell, Wire};
use super::clock;
use super::config_file;
use super::dial::{Dials, Wish};
use super::disk::Disk;
use super::logging;
use super::mailbox::Mailbox;
use super::marks::{self, Mark};
use super::measure::Gauge;
use super::mesh::Mesh;
use super::net::Net;
use super::process;
use super::ring::{Completion, SocketRing};
use super::start::Node;
use super::token::Op;
use crate::base::ids::ShardId;
use crate::base::time::Now;
use crate::worker::port::{Action, Core};

/// Periodic work at least this often.
const TICK_US: u64 = 100_000;

/// How long glommio may have to wait for a visit while it has work.
const VISIT_US: u64 = 500;

/// How long leaving may take once all cores are done: last replies to slow readers are given up then.
const LEAVE_US: u64 = 500_000;

/// A core and its surroundings.
pub(crate) struct Pump<C: Core> {
    core: C,
    net: Net,
    mesh: Mesh<C::Batch>,
    dials: Dials,
    disk: Disk,
    bell: Rc<Bell>,
    /// From the socket ring to the bell; made when glommio is first slept in.
    wire: Option<Wire>,
    last_visit_us: u64,
    /// The last wait brought something.
    has_traffic: bool,
    node: Arc<Node>,
    mailbox: Arc<Mailbox>,
    now: Now,
    last_tick_us: u64,
    gauge: Gauge,
    /// Some ring of the mesh is full: sockets are not read.
    is_held: bool,
    /// Another thread left something in the mailbox.
    is_called: bool,
    /// The core has work left for the next round, whatever happens.
    is_busy: bool,
    /// The earliest time something of the runtime's own is due.
    next_timer_us: u64,
    phase: Phase,
    completions: Vec<Completion>,
    actions: Vec<Action>,
}

/// How far the core is on its way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Serving,
    /// Asked to shut down; it said it has something to finish.
    Finishing,
    /// It has asked for `Exit`; others may still need its answers.
    Done,
    /// All cores are done. Until this time outputs are flushed.
    Leaving(u64),
}

/// What a pump is made of.
pub(crate) struct Parts<C: Core> {
    pub(crate) core: C,
    pub(crate) net: Net,
    pub(crate) mesh: Mesh<C::Batch>,
    pub(crate) dials: Dials,
    pub(crate) node: Arc<Node>,
    pub(crate) mailbox: Arc<Mailbox>,
}

impl<C: Core> Pump<C> {
    pub(crate) fn new(parts: Parts<C>) -> Self {
        let Parts { core, mut net, mesh, dials, node, mailbox } = parts;
        net.ring.watch(mailbox.eventfd());
        let bell = Rc::new(Bell::default());
        Self {
            core,
            net,
            mesh,
            dials,
            disk: Disk::new(Rc::clone(&bell)),
            bell,
            wire: None,
            last_visit_us: 0,
            has_traffic: false,
            node,
            mailbox,
            now: clock::now(),
            last_tick_us: 0,
            gauge: Gauge::new(),
            is_held: false,
            is_called: true,
            is_busy: false,
            next_timer_us: 0,
            phase: Phase::Serving,
            completions: Vec::with_capacity(1024),
            actions: Vec::new(),
        }
    }

    /// Serves until the node stops. The answer's ring is still a target of doorbells.
    pub(crate) async fn run(mut self) -> Net {
        // Unwinding would free buffers that the kernel may still write to, and leave the node without a shard.
        let _guard = AbortOnPanic;
        loop {
            self.round();
            if self.has_left() {
                break;
            }
            self.wait().await;
        }
        self.close().await;
        self.net
    }

    fn round(&mut self) {
        self.now = clock::now();
        self.complete();
        self.deliver();
        self.keep_time();
        self.net.flush(&mut self.core);
        self.send_batches();
        self.act();
        self.net.rearm_starved();
        self.net.ring.buffers.publish();
    }

    /// What the kernel finished.
    fn complete(&mut self) {
        let Self { core, net, now, .. } = self;
        if !self.is_held {
            net.release_held(core, *now);
        }
        net.ring.drain(&mut self.completions);
        self.has_traffic = !self.completions.is_empty();
        let mut foreseen = 0;
        for at in 0..self.completions.len() {
            if at == foreseen {
                foreseen = net.foresee(core, &self.completions, at);
            }
            let done = self.completions[at];
            match done.token.op {
                Op::Receive => net.received(core, done, self.is_held, *now),
                Op::SendNow | Op::SendWait => net.send_ended(core, done, *now),
                Op::Accept => net.accepted(core, done, *now),
                Op::Connect => self.dials.connected(core, net, done, *now),
                Op::Wake => {
                    self.is_called = true;
                    if !done.stays_armed() {
                        net.ring.watch(self.mailbox.eventfd());
                    }
                }
                // The kernel was short of memory, and its core may sleep; one that has left needs no bell.
                Op::BellFailed if -done.result == libc::ENOMEM => {
                    ring_bell(&self.node, &mut net.ring, ShardId(done.token.number as u16));
                }
                // Bells only end the wait.
                Op::Bell | Op::BellFailed | Op::Forgotten => {}
            }
        }
        self.completions.clear();
        net.settle(core, *now);
    }

    /// What other cores sent.
    fn deliver(&mut self) {
        let Self { core, net, mesh, now, node, .. } = self;
        let mut bell = |target: ShardId| ring_bell(node, &mut net.ring, target);
        let delivered = mesh.deliver(|from, batch| core.receive(from, batch, *now), &mut bell);
        if delivered > 0 {
            self.has_traffic = true;
        }
    }

    /// Timers, background work and what other threads left for us.
    fn keep_time(&mut self) {
        let Self { core, net, now, .. } = self;
        if now.mono_us >= self.last_tick_us + TICK_US || now.mono_us >= core.wake_at_us() {
            self.last_tick_us = now.mono_us;
            core.measured(&self.gauge.read());
            core.tick(*now);
            self.next_timer_us = 0;
        }
        if self.is_called {
            self.dials.collect_resolved(core, net, *now);
            for result in self.mailbox.take_rewritten() {
                core.config_rewritten(result, *now);
            }
            self.next_timer_us = 0;
        }
        if now.mono_us >= self.next_timer_us {
            self.next_timer_us = self.dials.expire(core, net, *now).min(net.end_lingering(*now));
            if matches!(self.phase, Phase::Serving | Phase::Finishing) {
                self.next_timer_us = self.next_timer_us.min(net.arm_listeners(*now));
            }
        }
        self.disk.collect(core, *now);
        self.is_busy = core.background(*now);
        if std::mem::take(&mut self.is_called) {
            self.follow_the_node();
        }
    }

    fn follow_the_node(&mut self) {
        if self.phase == Phase::Serving && self.mailbox.is_asked_to_stop() {
            self.phase = Phase::Finishing;
            if !self.core.shutdown(self.now) {
                self.exit(0);
            }
        }
        // Not "else": the last core to be done tells itself to leave.
        if self.phase == Phase::Done && self.mailbox.is_told_to_leave() {
            self.phase = Phase::Leaving(self.now.mono_us + LEAVE_US);
        }
    }

    fn send_batches(&mut self) {
        let Self { core, net, mesh, node, .. } = self;
        let mut bell = |target: ShardId| ring_bell(node, &mut net.ring, target);
        self.is_held = mesh.send(|to| core.take_batch(to), &mut bell);
    }

    /// What the core asks of the world.
    fn act(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        self.core.take_actions(&mut actions);
        // Actions may call the core (a dial that fails at once): look at it again before sleeping.
        self.is_busy |= !actions.is_empty();
        for action in actions.drain(..) {
            let Self { core, net, now, .. } = self;
            match action {
                Action::Close(conn) => net.close(conn),
                Action::CloseAfterFlush(conn) => net.close_after_flush(core, conn, *now),
                Action::PauseReading(conn) => net.pause(conn),
                Action::ResumeReading(conn) => net.resume(conn),
                Action::Dial { dial, host, port, timeout_ms } => {
                    self.dials.begin(core, net, Wish { dial, host, port, timeout_ms }, *now);
                }
                Action::File { file, step } => self.disk.begin(file, step),
                Action::Reconfigured(config) => {
                    logging::set_level(config.loglevel);
                    process::raise_file_limit(config.maxclients as usize, self.node.cores());
                }
                Action::RewriteConfig(config) => config_file::rewrite_beside(config, Arc::clone(&self.mailbox)),
                Action::Ready => self.node.say_ready(),
                Action::Exit(code) => self.exit(code),
            }
            self.next_timer_us = 0;
        }
        self.actions = actions;
    }

    /// This core is done. It goes on answering others until all are.
    fn exit(&mut self, code: i32) {
        if matches!(self.phase, Phase::Serving | Phase::Finishing) {
            self.phase = Phase::Done;
            self.net.close_listeners();
            self.node.core_is_done(code);
        }
    }

    fn has_left(&mut self) -> bool {
        match self.phase {
            Phase::Leaving(until_us) => self.now.mono_us >= until_us || !self.net.is_sending(),
            _ => false,
        }
    }

    /// Submits everything and sleeps until something happens or is due.
    async fn wait(&mut self) {
        let due_us = (self.last_tick_us + TICK_US).min(self.core.wake_at_us()).min(self.next_timer_us);
        let mut sleep_us = due_us.saturating_sub(self.now.mono_us);
        if let Phase::Leaving(until_us) = self.phase {
            sleep_us = sleep_us.min(until_us.saturating_sub(self.now.mono_us));
        }
        let may_sleep =
            !self.is_busy && sleep_us > 0 && !self.net.has_unfinished_round(self.is_held) && self.mesh.park();
        match (self.disk.is_busy(), may_sleep) {
            (true, _) => self.wait_with_glommio(if may_sleep { sleep_us } else { 0 }).await,
            (false, true) => self.net.ring.wait(sleep_us),
            (false, false) => self.net.ring.enter(),
        }
        if may_sleep {
            self.mesh.unpark();
        }
    }

    /// The same while glommio has work: its reactor is visited in time, and slept in when there is no traffic.
    async fn wait_with_glommio(&mut self, sleep_us: u64) {
        if sleep_us > 0 && !self.has_traffic {
            return self.sleep_in_glommio(sleep_us).await;
        }
        self.net.ring.wait(sleep_us.min(VISIT_US));
        if clock::now().mono_us >= self.last_visit_us + VISIT_US {
            self.sleep_in_glommio(0).await;
        }
    }

    /// Visits glommio's reactor and stays there until something happens or is due.
    async fn sleep_in_glommio(&mut self, sleep_us: u64) {
        marks::hit(Mark::SleptInGlommio);
        if self.wire.is_none() {
            self.wire = self.connect_wire();
        }
        // First the wish for signals, then a look: what completes in between is seen or signals.
        self.net.ring.signal_completions(true);
        self.net.ring.enter();
        let stays = !self.net.ring.has_completions() && !self.disk.has_events();
        // Without a wire only time wakes us: keep it short.
        let limit_us = if self.wire.is_some() { sleep_us } else { sleep_us.min(VISIT_US) };
        self.bell.sleep(if stays { limit_us } else { 0 }).await;
        self.net.ring.signal_completions(false);
        self.net.ring.enter();
        self.last_visit_us = clock::now().mono_us;
    }

    fn connect_wire(&mut self) -> Option<Wire> {
        let wire = Wire::connect(Rc::clone(&self.bell));
        let wire = wire.and_then(|wire| self.net.ring.register_eventfd(wire.eventfd().as_fd()).map(|()| wire));
        wire.inspect_err(|error| tracing::warn!("no eventfd for the socket ring, disk work will be slower: {error}"))
            .ok()
    }

    /// Ends everything that names our memory.
    async fn close(&mut self) {
        self.disk.abandon_all();
        self.dials.abandon_all(&mut self.net);
        self.net.close_everything();
        let give_up_us = clock::now().mono_us + LEAVE_US;
        while !(self.net.is_empty() && self.dials.is_empty()) {
            let now = clock::now();
            assert!(now.mono_us < give_up_us, "the kernel does not end our socket operations");
            self.net.ring.wait(10_000);
            self.net.ring.drain(&mut self.completions);
            for done in self.completions.drain(..) {
                match done.token.op {
                    Op::Receive => self.net.received(&mut self.core, done, false, now),
                    Op::SendNow | Op::SendWait => self.net.send_ended(&mut self.core, done, now),
                    Op::Connect => self.dials.connected(&mut self.core, &mut self.net, done, now),
                    Op::Accept => self.net.accepted(&mut self.core, done, now),
                    _ => {}
                }
            }
            self.net.settle(&mut self.core, now);
        }
        self.net.ring.cancel_everything();
        self.net.ring.enter();
        while !self.disk.is_empty() && clock::now().mono_us < give_up_us {
            self.bell.sleep(10_000).await;
        }
        if let Some(wire) = self.wire.take() {
            wire.cut().await;
        }
    }
}

fn ring_bell(node: &Node, ring: &mut SocketRing, target: ShardId) {
    ring.ring_bell(target, node.ring_of(target));
}

/// Ends the process when a core panics.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}
