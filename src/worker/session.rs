//! One client on its home core: database, protocol, what it has sent that is not run yet, and its replies in order.

use std::collections::VecDeque;

use crate::base::ids::{ConnId, Db};
use crate::base::time::Now;
use crate::resp::parse::Parser;
use crate::resp::write::Version;
use crate::worker::port::Endpoint;

/// A client may have this many commands on their way to other cores; then its further bytes wait.
pub const PENDING_MAX: usize = 16 * 1024;

/// What kind of peer sits at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Sends commands.
    Client,
    /// A connection we opened to a master: its bytes belong to `peer`.
    Link(u32),
    /// A peer that reads our writes: its bytes belong to `peer`.
    Feed(u32),
}

/// See the file's head.
pub struct Session {
    /// The socket.
    pub conn: ConnId,
    /// CLIENT ID: unique in this process.
    pub id: u64,
    /// What it is.
    pub kind: Kind,
    /// Both ends as text.
    pub endpoint: Endpoint,
    /// SELECT.
    pub db: Db,
    /// HELLO.
    pub version: Version,
    /// AUTH succeeded or was not needed.
    pub authenticated: bool,
    /// The user AUTH named.
    pub user: String,
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME and LIB-VER.
    pub library: (String, String),
    /// CLIENT REPLY.
    pub replies: Replies,
    /// It has sent a command that writes: WAIT waits for something.
    pub has_written: bool,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// When it connected.
    pub since: Now,
    /// When it last sent something.
    pub last_input: Now,
    /// The last command's name.
    pub last_command: &'static str,
    /// Commands run.
    pub commands: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes produced.
    pub bytes_out: u64,
    /// Progress within an incomplete command.
    pub parser: Parser,
    /// Bytes received and not run: a partial command, or what waits behind a barrier.
    pub input: Vec<u8>,
    /// Replies for the runtime to fetch.
    pub output: Vec<u8>,
    /// Produced, fetched, and not yet taken by the kernel, bytes.
    pub unsent: usize,
    /// Replies not complete yet, and complete ones behind them, in order.
    pub pending: VecDeque<Pending>,
    /// The number of the first of `pending`.
    pub first_pending: u64,
    /// Why its input waits.
    pub blocked: Option<Blocked>,
    /// Reading was paused.
    pub reading_paused: bool,
    /// It counts towards `maxclients`: it came to us.
    pub is_counted: bool,
    /// In the list of sessions with new output.
    pub is_dirty: bool,
    /// Closing: nothing more is run.
    pub closing: bool,
    /// The client has stopped sending, or is not listened to any more (QUIT, CLIENT KILL, a protocol error); it is closed
    /// when its replies are out.
    pub half_closed: bool,
    /// Since when the output has been over the soft limit, on `Now::mono_us`.
    pub over_soft_since_us: Option<u64>,
}

/// A place in the order of replies.
#[derive(Debug)]
pub enum Pending {
    /// Its call is out. Silent: CLIENT REPLY drops the reply.
    Waiting {
        /// The reply is dropped.
        is_silent: bool,
    },
    /// Complete; behind one that is not.
    Ready(Vec<u8>),
}

/// CLIENT REPLY's modes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replies {
    /// As usual.
    On,
    /// None at all.
    Off,
    /// Not the next command's; its own reply was suppressed already.
    SkipNext,
}

/// Why a session's input waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocked {
    /// Too many replies are pending, or a barrier waits for them: run on when none is.
    Drain,
    /// A command that answers later (WAIT, SHUTDOWN, a gathering INFO): run on when its reply is there.
    Reply,
    /// CLIENT PAUSE.
    Paused,
}

impl Session {
    /// A client that has just connected.
    pub fn new(conn: ConnId, id: u64, endpoint: Endpoint, authenticated: bool, now: Now) -> Self {
        Self {
            conn,
            id,
            kind: Kind::Client,
            endpoint,
            db: Db(0),
            version: Version::Resp2,
            authenticated,
            user: "default".into(),
            name: String::new(),
            library: Default::default(),
            replies: Replies::On,
            has_written: false,
            no_evict: false,
            no_touch: false,
            since: now,
            last_input: now,
            last_command: "NULL",
            commands: 0,
            bytes_in: 0,
            bytes_out: 0,
            parser: Parser::new(),
            input: Vec::new(),
            output: Vec::new(),
            unsent: 0,
            pending: VecDeque::new(),
            first_pending: 0,
            blocked: None,
            reading_paused: false,
            is_counted: false,
            is_dirty: false,
            closing: false,
            half_closed: false,
            over_soft_since_us: None,
        }
    }

    /// Reserves the next place in the order of replies.
    pub fn reserve(&mut self) -> u64 {
        self.pending.push_back(Pending::Waiting { is_silent: self.replies != Replies::On });
        self.first_pending + self.pending.len() as u64 - 1
    }

    /// Completes a reserved place; replies that are now in turn move to the output.
    pub fn complete(&mut self, place: u64, reply: &[u8]) {
        let Some(at) = place.checked_sub(self.first_pending) else { return };
        let is_silent = matches!(self.pending.get(at as usize), Some(Pending::Waiting { is_silent: true }));
        let reply = if is_silent { &[] } else { reply };
        if at == 0 {
            self.output.extend_from_slice(reply);
            self.pending.pop_front();
            self.first_pending += 1;
            while let Some(Pending::Ready(_)) = self.pending.front() {
                if let Some(Pending::Ready(ready)) = self.pending.pop_front() {
                    self.output.extend_from_slice(&ready);
                    self.first_pending += 1;
                }
            }
        } else if let Some(slot) = self.pending.get_mut(at as usize) {
            *slot = Pending::Ready(reply.to_vec());
        }
    }

    /// The buffer replies run here and now are written to: the output, or a place behind those still pending.
    pub fn write<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        if self.pending.is_empty() {
            return write(&mut self.output);
        }
        if let Some(Pending::Ready(last)) = self.pending.back_mut() {
            return write(last);
        }
        let mut reply = Vec::new();
        let result = write(&mut reply);
        if !reply.is_empty() {
            self.pending.push_back(Pending::Ready(reply));
        }
        result
    }
}
