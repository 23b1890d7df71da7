//! Everything one core decides, without I/O: one shard, the clients and links connected here, and what it owes and
//! is owed by the other cores.
//!
//! Reading order: this file (the worker and its calls from the world), `dispatch` (a command's way), `plan` (several
//! owners), `tx` (several owners at once), `home` (commands that run where the client is), `loading`, `saving`,
//! `session`, `locks`, `batch`, `control`, `queues`.

pub mod batch;
pub mod control;
mod dispatch;
mod foresight;
pub mod home;
mod loading;
pub mod locks;
mod peers;
mod plan;
pub mod port;
pub mod queues;
pub mod saving;
pub mod session;
pub mod sessions;
mod tx;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;

use crate::base::ids::{ConnId, Db, ShardId};
use crate::base::time::Now;
use crate::command::Limits;
use crate::command::spec::Spec;
use crate::config::Config;
use crate::merge::realm::Realm;
use crate::resp::parse::Argv;
use crate::shard::{Shard, ShardSettings};
use batch::{Batch, Call, Message, Ticket, TxId};
use control::{Answer, Ask, CommandStats, CoreStats, Gathering, Tell};
use foresight::Foresight;
use locks::Locks;
use port::{Action, Core, DialId, Endpoint, FileEvent, FileId};
use session::{Blocked, Kind, Session};
use sessions::Sessions;

/// What the cores of a node know alike from the start.
pub struct Node {
    /// The origin dictionary and hash seed.
    pub realm: Arc<Realm>,
    /// 40 hex digits, new at every start (INFO `run_id`).
    pub run_id: String,
    /// When the process started.
    pub started: Now,
    /// The process id, for INFO.
    pub pid: u32,
    /// The configuration file, for INFO and CONFIG REWRITE.
    pub config_file: Option<String>,
    /// The path of the program.
    pub executable: String,
    /// Clients of all cores, for `maxclients`.
    pub clients: AtomicUsize,
    /// Cores that have not yet loaded the snapshot the node starts with.
    pub loading: AtomicUsize,
}

/// See the file's head.
pub struct Worker {
    /// Which core.
    pub id: ShardId,
    /// The keys of this core.
    pub shard: Shard,
    /// What all cores know alike.
    pub node: Arc<Node>,
    /// The configuration in force.
    pub config: Arc<Config>,
    /// Counters.
    pub stats: CoreStats,
    /// The clients connected here.
    pub sessions: Sessions,
    /// Counters per command, by its place in the table.
    pub command_stats: Vec<CommandStats>,
    limits: Limits,
    scratch: Vec<u8>,
    /// Arguments of the command that runs now, between commands an empty list with room.
    argv: Argv,
    /// The row of the command that ran last, unless finding it takes more than its name.
    last_row: Option<(usize, &'static Spec)>,
    foresight: Foresight,
    next_client: u64,
    dirty: Vec<ConnId>,
    actions: Vec<Action>,
    outboxes: Vec<Batch>,
    /// What this core sends itself while it is busy.
    inbox: Vec<Message>,
    tickets: HashMap<Ticket, Owed, ahash::RandomState>,
    next_ticket: u64,
    locks: Locks<Waiter>,
    txs: HashMap<u64, tx::Tx, ahash::RandomState>,
    next_tx: u64,
    pause: Option<(u64, bool)>,
    paused: Vec<ConnId>,
    work: usize,
    memory: MemoryUse,
    peers: peers::Peers,
    later: home::later::Later,
    waits: home::wait::Waits,
    observed: home::observe::Observed,
    rewriting: Vec<(ConnId, u64)>,
    /// Which change of the configuration is in force.
    config_count: u64,
    stopwatch: fn() -> u64,
    saving: saving::Saving,
    loading: Option<loading::Loading>,
}

/// What the runtime last said of memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryUse {
    /// Bytes allocated by all cores.
    pub used: usize,
    /// The largest value seen.
    pub peak: usize,
    /// Resident set size.
    pub rss: usize,
    /// Used when the node had just started.
    pub startup: usize,
    /// All of it.
    pub measured: port::Measured,
}

/// What a ticket stands for.
enum Owed {
    /// A place in a client's order of replies.
    Place { conn: ConnId, place: u64 },
    /// A part of a split command.
    Part { tx: u64, part: usize },
    /// An answer to something asked of all cores, for a client's place.
    Gathering { conn: ConnId, place: u64, gathering: Box<Gathering> },
}

/// What waits for locked keys.
enum Waiter {
    /// A transaction wants them all.
    Tx(TxId),
    /// A client of this core.
    Local { conn: ConnId, place: u64, db: Db, version: crate::resp::write::Version, command: Vec<u8> },
    /// A client of another core.
    Remote { from: ShardId, call: Call, command: Vec<u8> },
}

/// What a worker is made with.
pub struct WorkerSettings {
    /// Its shard.
    pub shard: ShardSettings,
    /// What all cores know alike.
    pub node: Arc<Node>,
    /// The configuration to begin with.
    pub config: Arc<Config>,
}

impl Worker {
    /// A core without clients.
    pub fn new(settings: &WorkerSettings) -> Self {
        let cores = usize::from(settings.shard.map.count());
        let hasher = || ahash::RandomState::with_seeds(1, 2, 3, 4);
        let (first, end) = settings.shard.map.range(settings.shard.id);
        let own = settings.node.realm.origins.own();
        let mut worker = Self {
            id: settings.shard.id,
            shard: Shard::new(Arc::clone(&settings.node.realm), &settings.shard),
            node: Arc::clone(&settings.node),
            config: Arc::clone(&settings.config),
            stats: CoreStats::default(),
            sessions: Sessions::default(),
            command_stats: vec![CommandStats::default(); crate::command::table::all().count()],
            limits: Limits::default(),
            scratch: Vec::new(),
            argv: Argv::new(),
            last_row: None,
            foresight: Foresight::default(),
            next_client: 0,
            dirty: Vec::new(),
            actions: Vec::new(),
            outboxes: (0..cores).map(|_| Batch::default()).collect(),
            inbox: Vec::new(),
            tickets: HashMap::with_hasher(hasher()),
            next_ticket: 0,
            locks: Locks::default(),
            txs: HashMap::with_hasher(hasher()),
            next_tx: 0,
            pause: None,
            paused: Vec::new(),
            work: 0,
            memory: MemoryUse::default(),
            peers: peers::Peers::new(own, cores, first, end),
            later: home::later::Later::default(),
            waits: home::wait::Waits::default(),
            observed: home::observe::Observed::default(),
            rewriting: Vec::new(),
            config_count: 0,
            stopwatch: || 0,
            saving: saving::Saving::new(settings.node.started, cores),
            loading: None,
        };
        worker.configure(Arc::clone(&settings.config));
        worker
    }

    /// The number of cores of this node.
    pub fn cores(&self) -> usize {
        self.outboxes.len()
    }

    /// Gives the core a clock for how long commands take, microseconds. It decides nothing; without one all take no
    /// time.
    pub fn set_stopwatch(&mut self, stopwatch: fn() -> u64) {
        self.stopwatch = stopwatch;
    }

    /// What the runtime measured last.
    pub fn memory(&self) -> MemoryUse {
        self.memory
    }

    /// Takes a configuration into force on this core.
    pub fn configure(&mut self, config: Arc<Config>) {
        self.limits = Limits {
            string_bytes_max: config.proto_max_bulk_len as usize,
            hash_listpack_entries_max: config.hash_max_listpack_entries as usize,
            hash_listpack_value_bytes_max: config.hash_max_listpack_value as usize,
        };
        self.shard.set_drift_ms_max(config.max_clock_drift);
        self.last_row = None;
        let is_other_limit = self.config.client_query_buffer_limit != config.client_query_buffer_limit;
        self.config = config;
        if is_other_limit {
            self.ask_again_for_refused();
        }
        self.reconcile_peers();
    }

    fn next_client_id(&mut self) -> u64 {
        self.next_client += 1;
        self.next_client * self.cores() as u64 + u64::from(self.id.0)
    }

    /// Asks something of the world.
    pub fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Sends a message to a core, this one included.
    pub fn send(&mut self, to: ShardId, message: Message) {
        if to == self.id {
            self.inbox.push(message);
        } else {
            self.outboxes[usize::from(to.0)].messages.push(message);
        }
    }

    /// Tells every core, this one included.
    pub fn tell_all(&mut self, tell: &Tell) {
        for to in 0..self.cores() {
            self.send(ShardId(to as u16), Message::Tell(tell.clone()));
        }
    }

    /// Asks every core, this one included; the answers are joined into the client's place when all are there.
    fn ask_all(&mut self, conn: ConnId, place: u64, ask: &Ask, then: control::Then) {
        let ticket = self.ticket();
        let gathering = Gathering { left: self.cores(), answers: Vec::with_capacity(self.cores()), then };
        self.tickets.insert(ticket, Owed::Gathering { conn, place, gathering: Box::new(gathering) });
        for to in 0..self.cores() {
            self.send(ShardId(to as u16), Message::Ask { ticket, ask: ask.clone() });
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// Marks a session as having new output.
    fn dirty(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn)
            && !session.is_dirty
        {
            session.is_dirty = true;
            self.dirty.push(conn);
        }
    }

    /// Completes a place in a client's order of replies, and lets its input run on if it waited for that.
    fn complete(&mut self, conn: ConnId, place: u64, reply: &[u8], now: Now) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.complete(place, reply);
        self.dirty(conn);
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.half_closed && !session.closing && session.pending.is_empty() {
            session.closing = true;
            self.act(Action::CloseAfterFlush(conn));
            return;
        }
        let free = match session.blocked {
            Some(Blocked::Reply | Blocked::Drain) => session.pending.is_empty(),
            Some(Blocked::Paused) | None => false,
        };
        if free {
            self.unblock(conn, now);
        }
    }

    /// Runs what a session has kept, and reads its socket again.
    fn unblock(&mut self, conn: ConnId, now: Now) {
        let Some(mut session) = self.sessions.take(conn) else { return };
        session.blocked = None;
        self.run_input(session, &[], now);
    }

    fn drain_inbox(&mut self, now: Now) {
        while !self.inbox.is_empty() || self.waits.is_stale() {
            for message in std::mem::take(&mut self.inbox) {
                self.message(self.id, message, now);
            }
            self.serve_waits(now);
        }
    }

    fn message(&mut self, from: ShardId, message: Message, now: Now) {
        match message {
            Message::Lock { tx, claim } => self.lock(tx, claim, now),
            Message::Granted { tx } => self.granted(tx, now),
            Message::RunPart { tx, ticket, db, version, command } => {
                self.run_part(from, tx, ticket, db, version, &command, now);
            }
            Message::Gather { tx } => self.gather(from, tx, now),
            Message::Gathered { tx, states } => self.gathered(tx, states, now),
            Message::Effects { tx, records } => self.effects(from, tx, &records, now),
            Message::Applied { tx } => self.applied(tx, now),
            Message::Ask { ticket, ask: Ask::Verify(ask) } => self.begin_verify(from, ticket, &ask, now),
            Message::Ask { ticket, ask } => {
                let answer = self.answer(ask, now);
                self.send(from, Message::Answer { ticket, answer });
            }
            Message::Answer { ticket, answer } => self.answered(from, ticket, answer, now),
            Message::Tell(tell) => self.told(tell, now),
            Message::Peer(message) => self.peer_message(from, *message, now),
            Message::Save(message) => self.save_message(from, *message, now),
        }
    }

    fn answer(&mut self, ask: Ask, now: Now) -> Answer {
        match ask {
            Ask::Run { db, version, command } => {
                let mut out = Vec::new();
                self.run_bytes(db, version, &command, &mut out, now);
                Answer::Found { reply: out, keys: self.shard.keys.len(db) }
            }
            Ask::Figures => Answer::Figures(Box::new(self.figures(now))),
            Ask::Written => Answer::Written(self.ask_for_acknowledgements()),
            Ask::Clients(filter) => Answer::Lines(self.client_lines(&filter, now)),
            Ask::Slowlog(ask) => self.answer_slowlog(ask),
            Ask::Configure(change) => Answer::Configured(self.change_config(&change)),
            Ask::Tell(tell) => {
                self.told(tell, now);
                Answer::Count(0)
            }
            Ask::Kill(filter) => Answer::Count(self.kill(&filter, now)),
            Ask::Damage(db, key, damage) => {
                let key = self.shard.key(&key);
                Answer::Count(usize::from(self.shard.keys.damage(db, &key, damage)))
            }
            Ask::SlotDigests(on) => {
                self.shard.keys.switch_digests(on);
                Answer::Count(0)
            }
            Ask::Verify(_) => Answer::Count(0),
        }
    }

    fn answered(&mut self, from: ShardId, ticket: Ticket, answer: Answer, now: Now) {
        let Some(Owed::Gathering { gathering, .. }) = self.tickets.get_mut(&ticket) else { return };
        gathering.answers.push((from, answer));
        gathering.left -= 1;
        if gathering.left > 0 {
            return;
        }
        if let Some(Owed::Gathering { conn, place, mut gathering }) = self.tickets.remove(&ticket) {
            gathering.answers.sort_by_key(|(from, _)| *from);
            if let Some(reply) = self.finish_gathering(conn, place, *gathering, now) {
                self.complete(conn, place, &reply, now);
            }
        }
    }

    fn told(&mut self, tell: Tell, now: Now) {
        match tell {
            Tell::Adopt { count, config } => self.adopt(count, config),
            Tell::Pause { until_us, writes_only } => {
                self.pause = (until_us > now.mono_us).then_some((until_us, writes_only));
                if self.pause.is_none() {
                    self.end_pause(now);
                }
            }
            Tell::ResetStats => {
                self.stats = CoreStats::default();
                self.shard.stats = crate::shard::Stats { dirty: self.shard.stats.dirty, ..Default::default() };
                self.command_stats.fill(CommandStats::default());
                self.observed.reset();
            }
        }
    }

    // A session that has just become a feed may have blocks behind its command.
    fn after_link_command(&mut self, conn: ConnId, now: Now) {
        let Some(session) = self.sessions.get(conn).filter(|session| session.kind != Kind::Client) else { return };
        if !session.input.is_empty()
            && let Some(mut session) = self.sessions.take(conn)
        {
            let input = std::mem::take(&mut session.input);
            self.peer_data(session, &input, now);
        }
    }

    fn end_pause(&mut self, now: Now) {
        self.pause = None;
        for conn in std::mem::take(&mut self.paused) {
            if self.sessions.get(conn).is_some_and(|session| session.blocked == Some(Blocked::Paused)) {
                self.unblock(conn, now);
            }
        }
    }
}

impl Core for Worker {
    type Batch = Batch;

    fn accepted(&mut self, conn: ConnId, peer: &Endpoint, now: Now) {
        self.stats.connections += 1;
        let id = self.next_client_id();
        self.node.clients.fetch_add(1, Ordering::Relaxed);
        let authenticated = !self.config.requirepass.is_set();
        let mut session = Box::new(Session::new(conn, id, peer.clone(), authenticated, now));
        session.is_counted = true;
        self.sessions.insert(session);
        if let Some(reason) = self.refuses(peer) {
            if let Some(session) = self.sessions.get_mut(conn) {
                session.closing = true;
                session.output.extend_from_slice(reason);
            }
            self.dirty(conn);
            self.act(Action::CloseAfterFlush(conn));
        }
    }

    fn dialed(&mut self, dial: DialId, result: Result<(ConnId, Endpoint), String>, now: Now) {
        self.peer_dialed(dial, result, now);
        self.drain_inbox(now);
    }

    fn foresee(&mut self, conn: ConnId, bytes: &[u8]) -> bool {
        if let Some(session) = self.sessions.get(conn)
            && session.kind == Kind::Client
            && session.input.is_empty()
            && session.blocked.is_none()
        {
            self.note_keys(session.db, bytes);
        }
        !self.foresight.is_full()
    }

    fn foreseen(&mut self) {
        self.fetch_noted();
    }

    fn data(&mut self, conn: ConnId, bytes: &[u8], now: Now) {
        self.stats.net_in += bytes.len() as u64;
        let Some(mut session) = self.sessions.take(conn) else { return };
        session.bytes_in += bytes.len() as u64;
        session.last_input = now;
        match session.kind {
            Kind::Client => {
                self.run_input(session, bytes, now);
                self.after_link_command(conn, now);
            }
            Kind::Link(_) | Kind::Feed(_) => self.peer_data(session, bytes, now),
        }
        self.drain_inbox(now);
    }

    fn sent(&mut self, conn: ConnId, bytes: usize, _now: Now) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.unsent = session.unsent.saturating_sub(bytes);
        }
    }

    fn closed(&mut self, conn: ConnId, half: bool, now: Now) {
        if self.sessions.get(conn).is_some_and(|session| session.kind != Kind::Client) {
            if half {
                self.act(Action::Close(conn));
            }
            self.peer_closed(conn, "the other end closed the connection", now);
            self.forget(conn);
            self.drain_inbox(now);
            return;
        }
        if half {
            if let Some(session) = self.sessions.get_mut(conn) {
                // Replies that are still pending have nobody to wait for them but a half-closed reader.
                if session.pending.is_empty() {
                    session.closing = true;
                    self.act(Action::CloseAfterFlush(conn));
                } else {
                    session.input.clear();
                    session.half_closed = true;
                }
            }
            return;
        }
        self.forget(conn);
    }

    fn receive(&mut self, from: ShardId, batch: Batch, now: Now) {
        let mut ran = 0;
        while ran < batch.calls.len() {
            let end = self.fetch_calls(&batch, ran);
            for call in &batch.calls[ran..end] {
                let command = &batch.arena[call.start as usize..(call.start + call.len) as usize];
                self.run_call(from, call, command, now);
            }
            ran = end;
        }
        // Replies let kept input run, which may lie where an earlier batch lay.
        self.foresight.forget();
        for done in &batch.dones {
            let reply = &batch.arena[done.start as usize..(done.start + done.len) as usize];
            self.done(done.ticket, reply, now);
        }
        for message in batch.messages {
            self.message(from, message, now);
        }
        self.drain_inbox(now);
    }

    fn tick(&mut self, now: Now) {
        if self.pause.is_some_and(|(until_us, _)| now.mono_us >= until_us) {
            self.end_pause(now);
        }
        self.run_later(now);
        self.serve_waits(now);
        self.check_clients(now);
        // Half of the data must neither be saved nor be shown to other nodes: they would take what is missing for
        // deleted.
        if !self.is_loading() {
            self.shard.promise(now);
            self.tick_peers(now);
            self.tick_saving(now);
        }
        self.drain_inbox(now);
    }

    fn background(&mut self, now: Now) -> bool {
        if self.loading.is_some() {
            return self.load_slice(now);
        }
        let busy = self.shard.background(now, &mut self.work) | self.whole_slice(now) | self.verify_slice(now);
        self.save_slice(now) | busy | self.feeds_are_skimming()
    }

    fn file_event(&mut self, file: FileId, event: FileEvent, now: Now) {
        self.save_file_event(file, &event, now);
    }

    fn shutdown(&mut self, now: Now) -> bool {
        self.begin_stop(now)
    }

    fn wake_at_us(&self) -> u64 {
        let pause_us = self.pause.map_or(u64::MAX, |(until_us, _)| until_us);
        pause_us.min(self.peers_wake_at_us()).min(self.later.next_us()).min(self.waits.next_us())
    }

    fn take_dirty(&mut self, into: &mut Vec<ConnId>) {
        self.foresight.forget();
        // The end of a round: what its writes left in the backlog goes to the readers in one block each.
        if !self.peers_are_idle() {
            self.pump_feeds();
        }
        into.append(&mut self.dirty);
    }

    fn take_output(&mut self, conn: ConnId, empty: &mut Vec<u8>) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.is_dirty = false;
            std::mem::swap(&mut session.output, empty);
            session.unsent += empty.len();
            session.bytes_out += empty.len() as u64;
            self.stats.net_out += empty.len() as u64;
            self.judge_output(conn);
        }
    }

    fn take_batch(&mut self, to: ShardId) -> Option<Batch> {
        let outbox = &mut self.outboxes[usize::from(to.0)];
        if outbox.is_empty() {
            return None;
        }
        self.stats.batches += 1;
        Some(std::mem::take(outbox))
    }

    fn measured(&mut self, measured: &port::Measured) {
        self.set_measured(measured);
    }

    fn config_rewritten(&mut self, result: Result<(), String>, now: Now) {
        self.end_rewrite(&result, now);
    }

    fn take_actions(&mut self, into: &mut Vec<Action>) {
        into.append(&mut self.actions);
    }
}
