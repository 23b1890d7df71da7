//! A command's way: bytes -> command -> gates -> the shard that owns its keys -> reply in its place.

use super::batch::{Batch, Call, Done, Message, Ticket};
use super::control::Then;
use super::locks::Claim;
use super::port::Action;
use super::session::{Blocked, Kind, PENDING_MAX, Replies, Session};
use super::tx::mode_of;
use super::{Ask, Owed, Waiter, Worker};
use crate::base::ids::{ConnId, Db, ShardId};
use crate::base::time::Now;
use crate::command::args::Args;
use crate::command::error::CommandError;
use crate::command::spec::{CONTAINER, GROWS, Join, LOADING, NO_AUTH, Run, Spec, WRITE};
use crate::command::{Ctx, Handler, rename, scan};
use crate::resp::parse::{Argv, Limits as ParseLimits, Parsed, Parser};
use crate::resp::write::{Reply, Version};

/// A blocked session reads on until it has this much input, bytes.
pub(super) const BLOCKED_INPUT_MAX: usize = 64 * 1024;

/// What became of a command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// It ran, or is on its way.
    Done,
    /// It must be tried again when the session is unblocked.
    Retry,
}

impl Worker {
    /// Runs what a session has sent, `bytes` being the newest of it, and gives the session back.
    pub(super) fn run_input(&mut self, mut session: Box<Session>, bytes: &[u8], now: Now) {
        if session.input.is_empty() && session.blocked.is_none() {
            self.foresight.is_live = true;
            let used = self.run_commands(&mut session, bytes, now);
            self.foresight.is_live = false;
            session.input.extend_from_slice(&bytes[used..]);
        } else {
            session.input.extend_from_slice(bytes);
            if session.blocked.is_none() {
                let mut input = std::mem::take(&mut session.input);
                let used = self.run_commands(&mut session, &input, now);
                input.drain(..used);
                if input.is_empty() && input.capacity() > BLOCKED_INPUT_MAX {
                    input = Vec::new();
                }
                session.input = input;
            }
        }
        self.settle(session);
    }

    /// Gives a session back after its commands ran.
    fn settle(&mut self, mut session: Box<Session>) {
        let full = session.blocked.is_some() && session.input.len() >= BLOCKED_INPUT_MAX;
        if full != session.reading_paused && !session.closing {
            session.reading_paused = full;
            let conn = session.conn;
            self.act(if full { Action::PauseReading(conn) } else { Action::ResumeReading(conn) });
        }
        if session.half_closed && !session.closing && session.pending.is_empty() {
            session.closing = true;
            self.act(Action::CloseAfterFlush(session.conn));
        }
        if !session.output.is_empty() && !session.is_dirty {
            session.is_dirty = true;
            self.dirty.push(session.conn);
        }
        self.sessions.put(session);
    }

    // Runs whole commands; returns how many bytes they took.
    fn run_commands(&mut self, session: &mut Session, buf: &[u8], now: Now) -> usize {
        // Of the core, not of the session: one list serves all. Commands that run within others have an empty one.
        let mut argv = std::mem::take(&mut self.argv);
        let mut at = 0;
        while session.blocked.is_none() && session.kind == Kind::Client {
            if session.closing || session.half_closed {
                at = buf.len();
                break;
            }
            let limits = ParseLimits {
                bulk_bytes_max: self.limits.string_bytes_max,
                query_bytes_max: self.config.client_query_buffer_limit as usize,
                authenticated: session.authenticated,
            };
            match session.parser.next(&buf[at..], &limits, &mut argv) {
                Ok(Parsed::Command { consumed }) => {
                    if self.dispatch(session, &argv, &buf[at..at + consumed], now) == Flow::Retry {
                        break;
                    }
                    at += consumed;
                }
                Ok(Parsed::Empty { consumed }) => at += consumed,
                Ok(Parsed::Incomplete) => break,
                Err(error) => {
                    if error.is_answered() {
                        let version = session.version;
                        session.write(|out| Reply::new(out, version).error(&format!("ERR {error}")));
                    }
                    self.count_error("ERR");
                    self.stats.query_disconnects += u64::from(!error.is_answered());
                    // Replies that are pending go out first.
                    session.half_closed = true;
                    at = buf.len();
                    break;
                }
            }
        }
        self.argv = argv;
        at
    }

    fn dispatch(&mut self, session: &mut Session, argv: &Argv, buf: &[u8], now: Now) -> Flow {
        let Some((index, spec)) = self.row_again(argv, buf) else {
            self.refuse(session, &unknown_command(argv, buf));
            return Flow::Done;
        };
        if let Some(error) = self.gate(session, spec, argv.len()) {
            self.command_stats[index].rejected += 1;
            session.last_command = spec.name;
            self.refuse(session, &error);
            return Flow::Done;
        }
        if let Some((_, writes_only)) = self.pause
            && (!writes_only || spec.flags.has(WRITE))
            && !matches!(spec.run, Run::Home(_))
        {
            session.blocked = Some(Blocked::Paused);
            self.paused.push(session.conn);
            return Flow::Retry;
        }
        let errors = self.stats.errors;
        let is_skipped = session.replies == Replies::SkipNext;
        // Before it runs: containers put the subcommand's name there.
        let previous = std::mem::replace(&mut session.last_command, spec.name);
        let started_us = self.begin_measuring(spec);
        let pending = session.pending.len();
        let flow = self.run(session, spec, argv, buf, now);
        if flow == Flow::Retry {
            session.last_command = previous;
            return flow;
        }
        if is_skipped && session.replies == Replies::SkipNext {
            session.replies = Replies::On;
        }
        self.stats.commands += 1;
        session.commands += 1;
        session.has_written |= spec.flags.has(WRITE);
        let stats = &mut self.command_stats[index];
        stats.calls += 1;
        stats.failed += self.stats.errors - errors;
        // What goes to other cores is timed there.
        if let Some(started_us) = started_us.filter(|_| session.pending.len() <= pending) {
            self.end_measuring(index, spec, started_us, Some(session), argv, buf, now);
        }
        flow
    }

    // The row of a command, which is often that of the command before.
    #[inline]
    fn row_again(&mut self, argv: &Argv, buf: &[u8]) -> Option<(usize, &'static Spec)> {
        if let Some((_, spec)) = self.last_row
            && !argv.is_empty()
            && argv.get(0, buf).eq_ignore_ascii_case(spec.name.as_bytes())
        {
            return self.last_row;
        }
        let row = self.row_of(argv, buf);
        // Containers are told apart by their arguments, and renamed commands go by other names.
        self.last_row = row.filter(|(_, spec)| !spec.flags.has(CONTAINER) && self.config.rename_command.is_empty());
        row
    }

    fn run(&mut self, session: &mut Session, spec: &'static Spec, argv: &Argv, buf: &[u8], now: Now) -> Flow {
        match spec.run {
            Run::Owner(handler) => {
                let key = spec.keys.first_position(argv.len());
                self.foresight.current = if key == Some(1) { self.foreseen_key(argv.get(1, buf)) } else { None };
                let owner = match (&self.foresight.current, key) {
                    // Only keys of this core are foreseen.
                    (Some(_), _) | (None, None) => self.id,
                    (None, Some(at)) => self.shard.map.owner_of_key(argv.get(at, buf)),
                };
                self.run_on(session, owner, spec, handler, argv, buf, now)
            }
            Run::Cursor(handler) => {
                let slot = scan::cursor_slot(argv.get(1, buf));
                let owner = slot.map_or(self.id, |slot| self.shard.map.owner(slot.partition()));
                self.run_on(session, owner, spec, handler, argv, buf, now)
            }
            Run::Split(handler, _) | Run::Gather(handler) => {
                let mut owners =
                    spec.keys.positions(argv.len()).map(|at| self.shard.map.owner_of_key(argv.get(at, buf)));
                let first = owners.next().unwrap_or(self.id);
                if owners.all(|owner| owner == first) {
                    return self.run_on(session, first, spec, handler, argv, buf, now);
                }
                if !self.is_alone(session) {
                    return Flow::Retry;
                }
                self.begin_tx(session, spec, argv, buf, now);
                Flow::Done
            }
            Run::Everywhere(handler, join) => {
                if self.cores() == 1 {
                    return self.run_on(session, self.id, spec, handler, argv, buf, now);
                }
                if !self.is_alone(session) {
                    return Flow::Retry;
                }
                // One key of any core: nothing that could be seen half done.
                if join == Join::AnyOf {
                    let place = session.reserve();
                    session.blocked = Some(Blocked::Reply);
                    let ask =
                        Ask::Run { db: session.db, version: session.version, command: command_bytes(argv, buf).into() };
                    self.ask_all(session.conn, place, &ask, Then::Pick);
                } else {
                    self.begin_tx(session, spec, argv, buf, now);
                }
                Flow::Done
            }
            Run::Home(home) => {
                if spec.flags.has(crate::command::spec::BARRIER) && !self.is_alone(session) {
                    return Flow::Retry;
                }
                self.run_home(session, home, argv, buf, now);
                Flow::Done
            }
        }
    }

    // Whether nothing of this client is under way; else it waits until that is so. Commands over several shards run
    // alone, because their parts would overtake or be overtaken by commands on one key.
    fn is_alone(&mut self, session: &mut Session) -> bool {
        if session.pending.is_empty() {
            return true;
        }
        session.blocked = Some(Blocked::Drain);
        false
    }

    // Runs a command whose keys all belong to `owner`.
    #[expect(clippy::too_many_arguments, reason = "the parts of one command")]
    fn run_on(
        &mut self,
        session: &mut Session,
        owner: ShardId,
        spec: &'static Spec,
        handler: Handler,
        argv: &Argv,
        buf: &[u8],
        now: Now,
    ) -> Flow {
        if owner == self.id {
            if self.locks.any() && self.is_locked(session.db, spec, argv, buf) {
                self.foresight.current = None;
                let place = session.reserve();
                let command = command_bytes(argv, buf);
                let claim = Claim::Keys(mode_of(spec), self.lock_keys(session.db, spec, argv, buf));
                let (conn, db, version) = (session.conn, session.db, session.version);
                self.locks.claim(claim, Waiter::Local { conn, place, db, version, command });
            } else {
                let (db, version, silent) = (session.db, session.version, session.replies != Replies::On);
                let mut output = std::mem::take(&mut session.output);
                if session.pending.is_empty() && !silent {
                    self.run_handler(handler, db, version, argv, buf, &mut output, now);
                    session.output = output;
                } else {
                    session.output = output;
                    let mut reply = Vec::new();
                    self.run_handler(handler, db, version, argv, buf, &mut reply, now);
                    if !silent {
                        session.write(|out| out.extend_from_slice(&reply));
                    }
                }
                return Flow::Done;
            }
        } else {
            let place = session.reserve();
            let ticket = self.ticket();
            self.tickets.insert(ticket, Owed::Place { conn: session.conn, place });
            self.stats.hops += 1;
            let Batch { arena, calls, .. } = &mut self.outboxes[usize::from(owner.0)];
            let start = arena.len();
            put_command(arena, argv, buf);
            let len = (arena.len() - start) as u32;
            calls.push(Call { ticket, db: session.db, version: session.version, start: start as u32, len });
        }
        if session.pending.len() >= PENDING_MAX {
            session.blocked = Some(Blocked::Drain);
        }
        Flow::Done
    }

    /// Runs a handler on this core's shard, its reply or error appended to `out`.
    #[expect(clippy::too_many_arguments, reason = "the parts of one command")]
    #[inline]
    pub(super) fn run_handler(
        &mut self,
        handler: Handler,
        db: Db,
        version: Version,
        argv: &Argv,
        buf: &[u8],
        out: &mut Vec<u8>,
        now: Now,
    ) {
        let mut reply = Reply::new(out, version);
        let mark = reply.mark();
        let Self { shard, limits, scratch, foresight, .. } = self;
        let mut ctx = Ctx { shard, db, now, limits, scratch, foreseen: foresight.current.take() };
        if let Err(error) = handler(&mut ctx, &mut Args::new(argv, buf), &mut reply) {
            let text = error.to_string();
            reply.truncate(mark);
            reply.error(&text);
            self.count_error(&text);
        }
    }

    /// Runs a command given in RESP form; its keys belong here (or it has none).
    pub(super) fn run_bytes(&mut self, db: Db, version: Version, command: &[u8], out: &mut Vec<u8>, now: Now) {
        let mut argv = Argv::new();
        let parsed = Parser::new().next(
            command,
            &ParseLimits { bulk_bytes_max: usize::MAX, ..ParseLimits::default() },
            &mut argv,
        );
        let row = self.row_of(&argv, command).filter(|_| matches!(parsed, Ok(Parsed::Command { .. })));
        match row.and_then(|(index, spec)| Some((index, spec, spec.run.handler()?))) {
            Some((index, spec, handler)) => {
                let started_us = self.begin_measuring(spec);
                self.run_handler(handler, db, version, &argv, command, out, now);
                if let Some(started_us) = started_us {
                    self.end_measuring(index, spec, started_us, None, &argv, command, now);
                }
            }
            None => Reply::new(out, version).error("ERR internal error: a command was not understood by its owner"),
        }
    }

    /// Runs a command of another core's client.
    pub(super) fn run_call(&mut self, from: ShardId, call: &Call, command: &[u8], now: Now) {
        if self.locks.any() {
            let mut argv = Argv::new();
            let parsed = Parser::new().next(
                command,
                &ParseLimits { bulk_bytes_max: usize::MAX, ..ParseLimits::default() },
                &mut argv,
            );
            if let (Ok(Parsed::Command { .. }), Some((_, spec))) = (parsed, self.row_of(&argv, command))
                && self.is_locked(call.db, spec, &argv, command)
            {
                let claim = Claim::Keys(mode_of(spec), self.lock_keys(call.db, spec, &argv, command));
                self.locks.claim(claim, Waiter::Remote { from, call: *call, command: command.to_vec() });
                return;
            }
        }
        let Batch { arena, .. } = &mut self.outboxes[usize::from(from.0)];
        let mut out = std::mem::take(arena);
        let start = out.len();
        self.run_bytes(call.db, call.version, command, &mut out, now);
        let Batch { arena, dones, .. } = &mut self.outboxes[usize::from(from.0)];
        dones.push(Done { ticket: call.ticket, start: start as u32, len: (out.len() - start) as u32 });
        *arena = out;
    }

    /// A reply came back.
    pub(super) fn done(&mut self, ticket: Ticket, reply: &[u8], now: Now) {
        match self.tickets.remove(&ticket) {
            Some(Owed::Place { conn, place }) => {
                self.complete(conn, place, reply, now);
            }
            Some(Owed::Part { tx, part }) => self.part_done(tx, part, reply.to_vec(), now),
            Some(owed @ Owed::Gathering { .. }) => {
                self.tickets.insert(ticket, owed);
            }
            None => {}
        }
    }

    /// Runs or grants whatever waited for something that is free now.
    pub(super) fn serve_waiting(&mut self, now: Now) {
        while let Some((claim, waiter)) = self.locks.next_free() {
            match waiter {
                // It says itself when it is done.
                Waiter::Tx(tx) => self.send(tx.home, Message::Granted { tx }),
                Waiter::Local { conn, place, db, version, command } => {
                    let mut out = Vec::new();
                    self.run_bytes(db, version, &command, &mut out, now);
                    self.locks.release(claim);
                    self.complete(conn, place, &out, now);
                }
                Waiter::Remote { from, call, command } => {
                    let mut out = Vec::new();
                    self.run_bytes(call.db, call.version, &command, &mut out, now);
                    self.locks.release(claim);
                    let Batch { arena, dones, .. } = &mut self.outboxes[usize::from(from.0)];
                    dones.push(Done { ticket: call.ticket, start: arena.len() as u32, len: out.len() as u32 });
                    arena.extend_from_slice(&out);
                }
            }
        }
    }

    // Facts about the client, the command and the node that forbid running it, in Redis' order.
    fn gate(&self, session: &Session, spec: &Spec, argc: usize) -> Option<CommandError> {
        let arity = usize::from(spec.arity.unsigned_abs());
        if argc < arity || spec.arity >= 0 && argc > arity {
            return Some(CommandError::Arity(spec.name.into()));
        }
        if !session.authenticated && !spec.flags.has(NO_AUTH) {
            return Some(CommandError::Text("NOAUTH Authentication required."));
        }
        if spec.flags.has(GROWS) && self.config.maxmemory > 0 && self.memory.used as u64 > self.config.maxmemory {
            return Some(CommandError::Text("OOM command not allowed when used memory > 'maxmemory'."));
        }
        if let Some(error) = self.refuses_unsaved(spec) {
            return Some(error);
        }
        if let Some(error) = self.refuses_alone(spec) {
            return Some(error);
        }
        if spec.flags.has(WRITE) && self.config.refuses_writes() {
            return Some(CommandError::Text("READONLY You can't write against a read only replica."));
        }
        if let Some(error) = self.refuses_stale(spec) {
            return Some(error);
        }
        if self.loading.is_some() && !spec.flags.has(LOADING) && self.is_loading() {
            return Some(CommandError::Text("LOADING Redis is loading the dataset in memory"));
        }
        None
    }

    fn refuse(&mut self, session: &mut Session, error: &CommandError) {
        let text = error.to_string();
        self.count_error(&text);
        let version = session.version;
        if session.replies == Replies::On {
            session.write(|out| Reply::new(out, version).error(&text));
        }
    }

    fn is_locked(&self, db: Db, spec: &Spec, argv: &Argv, buf: &[u8]) -> bool {
        let mut dbs = rename::databases_of(spec, Args::new(argv, buf), db, self.shard.keys.databases());
        let mode = mode_of(spec);
        dbs.any(|db| spec.keys.positions(argv.len()).any(|at| self.locks.blocks(mode, db, argv.get(at, buf))))
    }

    /// The keys of a command as they are locked, each once.
    pub(super) fn lock_keys(&self, db: Db, spec: &Spec, argv: &Argv, buf: &[u8]) -> Vec<super::batch::LockKey> {
        let dbs = rename::databases_of(spec, Args::new(argv, buf), db, self.shard.keys.databases());
        let in_db = |db| spec.keys.positions(argv.len()).map(move |at| (db, Box::from(argv.get(at, buf))));
        let mut keys: Vec<_> = dbs.flat_map(in_db).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Joins what was gathered into one reply.
    pub(super) fn finish_gathering(
        &mut self,
        conn: ConnId,
        place: u64,
        gathering: super::Gathering,
        now: Now,
    ) -> Option<Vec<u8>> {
        let version = self.sessions.get(conn).map_or(Version::Resp2, |session| session.version);
        match gathering.then {
            Then::Pick => {
                let found = gathering.answers.into_iter().filter_map(|(_, answer)| match answer {
                    super::Answer::Found { reply, keys } => Some((reply, keys)),
                    _ => None,
                });
                Some(super::plan::pick(found.collect(), version, &mut self.shard.rng))
            }
            Then::Wait { wanted, until_us } => {
                self.begin_wait(conn, place, wanted, until_us, gathering.answers, now).map(|count| {
                    let mut out = Vec::new();
                    Reply::new(&mut out, version).integer(count as i64);
                    out
                })
            }
            Then::Verify(plan) => self.finish_verify(conn, place, *plan, gathering.answers, version, now),
            Then::Adopt => self.finish_change(conn, place, gathering.answers, version),
            then => Some(self.finish_home(then, gathering.answers, version, now)),
        }
    }
}

impl Run {
    /// What runs on a shard, if anything does.
    pub fn handler(&self) -> Option<Handler> {
        match *self {
            Self::Owner(handler) | Self::Split(handler, _) | Self::Gather(handler) => Some(handler),
            Self::Everywhere(handler, _) | Self::Cursor(handler) => Some(handler),
            Self::Home(_) => None,
        }
    }

    /// How parts are joined, for split commands.
    pub fn join(&self) -> Option<Join> {
        match *self {
            Self::Split(_, join) | Self::Everywhere(_, join) => Some(join),
            _ => None,
        }
    }
}

/// A command in RESP form.
pub(super) fn command_bytes(argv: &Argv, buf: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(buf.len() + 16);
    put_command(&mut out, argv, buf);
    out
}

// RESP as it came is sent on as it came; an inline command is put into RESP.
fn put_command(out: &mut Vec<u8>, argv: &Argv, buf: &[u8]) {
    if buf.first() == Some(&b'*') {
        out.extend_from_slice(buf);
    } else {
        let args: Vec<&[u8]> = argv.iter(buf).collect();
        crate::resp::write::encode_command(out, &args);
    }
}

fn unknown_command(argv: &Argv, buf: &[u8]) -> CommandError {
    // Redis shows at most 128 bytes of the name and of the arguments together.
    let show = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(128)]).into_owned();
    let mut args = String::new();
    for arg in argv.iter(buf).skip(1) {
        if args.len() >= 128 {
            break;
        }
        let room = 128 - args.len();
        args.push_str(&format!("'{}' ", show(&arg[..arg.len().min(room)])));
    }
    let name = show(argv.get(0, buf));
    CommandError::Owned(format!("ERR unknown command '{name}', with args beginning with: {args}"))
}
