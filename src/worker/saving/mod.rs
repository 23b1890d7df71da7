//! Snapshots without fork: every core scans its shard in slices between its other work and sends chunks to core 0,
//! which writes the file (`keeper`). One chunk of a core is under way at a time, so a slow disk slows the scan and
//! nothing else.
//!
//! Core 0 also decides when to save, and ends the node: SHUTDOWN and signals save first. What all cores need to know
//! of that (LASTSAVE, MISCONF, INFO) it tells them as a [`Persistence`].

mod keeper;

use super::Worker;
use super::batch::Message;
use super::port::Action;
use super::session::{Blocked, Session};
use crate::base::ids::{ConnId, Db, ShardId};
use crate::base::time::Now;
use crate::command::args::Args;
use crate::command::error::CommandError;
use crate::command::spec::{Home, Spec, WRITE};
use crate::resp::write::Reply;
use crate::snapshot::scan::Scan;

/// A chunk is sent when it has grown to this many bytes.
const CHUNK_BYTES: usize = 192 * 1024;

/// Who writes the file.
const KEEPER: ShardId = ShardId(0);

/// How snapshots stand; the same on all cores, a tick apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// A snapshot is being written.
    pub is_saving: bool,
    /// When it began, on `Now::mono_us`.
    pub began_us: u64,
    /// Unix seconds of the last one that succeeded, or of the start.
    pub last_save_s: u64,
    /// The last one succeeded, or there was none.
    pub last_ok: bool,
    /// How long the last one took, seconds.
    pub last_took_s: Option<u64>,
    /// How many succeeded.
    pub saves: u64,
    /// Of the shards' `Stats::dirty`, how much the last one holds: the difference has changed since.
    pub dirty_saved: u64,
    /// Keys written by the one under way.
    pub keys_written: u64,
    /// Keys loaded at the start.
    pub keys_loaded: u64,
    /// Keys that had expired by then.
    pub keys_expired: u64,
}

/// What cores say to each other about snapshots.
#[derive(Debug)]
pub enum SaveMessage {
    /// To core 0: a client of the sender wants something.
    Request {
        /// Who.
        conn: ConnId,
        /// Its place in the order of replies.
        place: u64,
        /// What.
        want: Want,
    },
    /// The reply to it.
    Reply {
        /// To whom.
        conn: ConnId,
        /// Its place in the order of replies.
        place: u64,
        /// In RESP form.
        reply: &'static [u8],
    },
    /// A snapshot is about to begin: the answer is `Ready`, behind all that was sent before.
    Prepare(u64),
    /// Keys and deadlines per database.
    Ready(u64, Vec<(usize, usize)>),
    /// Scan.
    Begin(u64),
    /// A piece of the file.
    Chunk(u64, Box<Piece>),
    /// It is written; the next may come.
    Written(u64),
    /// The snapshot has failed.
    Stop(u64),
    /// To core 0: the shard's `Stats::dirty`.
    Dirty(u64),
    /// How snapshots stand.
    State(Persistence),
    /// The node ends.
    Leave,
}

/// A piece of the file.
#[derive(Debug)]
pub struct Piece {
    /// Whole records.
    pub bytes: Vec<u8>,
    /// Keys in it.
    pub keys: u64,
    /// It is the core's last, and this is the `Stats::dirty` it holds.
    pub end: Option<u64>,
}

/// What a client wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// SAVE: the reply comes when it is done.
    Save,
    /// BGSAVE: the reply comes at once.
    Bgsave,
    /// SHUTDOWN. `save`: what was asked for, or as the save points say; `force`: also when that fails.
    Shutdown {
        /// SAVE or NOSAVE.
        save: Option<bool>,
        /// FORCE.
        force: bool,
    },
}

/// This core's part.
pub(super) struct Saving {
    /// The snapshot and the scan under way.
    scan: Option<(u64, Scan)>,
    /// A chunk of it is on its way.
    is_sent: bool,
    /// What core 0 was told last.
    dirty_told: u64,
    keys_told: u64,
    /// The shard's `Stats::dirty` when the scan ended.
    dirty_at_end: u64,
    /// Exit has been asked for, or will be.
    is_leaving: bool,
    pub(super) state: Persistence,
    keeper: keeper::Keeper,
}

impl Saving {
    pub(super) fn new(started: Now, cores: usize) -> Self {
        let state = Persistence {
            is_saving: false,
            began_us: 0,
            last_save_s: started.wall_ms / 1000,
            last_ok: true,
            last_took_s: None,
            saves: 0,
            dirty_saved: 0,
            keys_written: 0,
            keys_loaded: 0,
            keys_expired: 0,
        };
        let keeper = keeper::Keeper::new(cores);
        Self {
            scan: None,
            is_sent: false,
            dirty_told: 0,
            keys_told: 0,
            dirty_at_end: 0,
            is_leaving: false,
            state,
            keeper,
        }
    }
}

impl Worker {
    /// How snapshots stand, for INFO and LASTSAVE.
    pub fn persistence(&self) -> &Persistence {
        &self.saving.state
    }

    /// What was loaded at the start; told to every core before it serves.
    pub fn set_loaded(&mut self, keys: u64, expired: u64) {
        (self.saving.state.keys_loaded, self.saving.state.keys_expired) = (keys, expired);
    }

    /// SAVE, BGSAVE, LASTSAVE, SHUTDOWN.
    pub(super) fn run_saving(
        &mut self,
        session: &mut Session,
        home: Home,
        args: &mut Args<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), CommandError> {
        let want = match home {
            Home::Lastsave => {
                reply.integer(self.saving.state.last_save_s as i64);
                return Ok(());
            }
            Home::Save => Want::Save,
            Home::Bgsave => {
                // There is nothing else a snapshot would have to wait for.
                args.word("schedule");
                Want::Bgsave
            }
            _ => parse_shutdown(args)?,
        };
        args.finish()?;
        let place = session.reserve();
        session.blocked = Some(Blocked::Reply);
        self.save_say(KEEPER, SaveMessage::Request { conn: session.conn, place, want });
        Ok(())
    }

    /// Whether a command must be refused because snapshots fail (`stop-writes-on-bgsave-error`). With several masters
    /// the others still have the write.
    pub(super) fn refuses_unsaved(&self, spec: &Spec) -> Option<CommandError> {
        let state = &self.saving.state;
        let stops = !state.last_ok && self.config.stop_writes_on_bgsave_error && !self.config.save.is_empty();
        let is_meant = spec.flags.has(WRITE) || spec.name == "ping";
        (stops && is_meant && !self.config.multi_master && self.config.replicaof.is_empty()).then_some(
            CommandError::Text(
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. \
                 Commands that may modify the data set are disabled, because this instance is configured to report \
                 errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check \
                 the Redis logs for details about the RDB error.",
            ),
        )
    }

    /// Tells core 0 how much has changed, and lets it look at the save points.
    pub(super) fn tick_saving(&mut self, now: Now) {
        let dirty = self.shard.stats.dirty;
        if dirty != self.saving.dirty_told {
            self.saving.dirty_told = dirty;
            self.save_say(KEEPER, SaveMessage::Dirty(dirty));
        }
        if self.id == KEEPER {
            self.check_save_points(now);
        }
    }

    /// A slice of the scan. True: there is more to do now.
    pub(super) fn save_slice(&mut self, now: Now) -> bool {
        let saving = &mut self.saving;
        let Some((_, scan)) = &mut saving.scan else { return false };
        if !scan.is_over() && scan.len() < CHUNK_BYTES && scan.step(&mut self.shard, now) {
            saving.dirty_at_end = self.shard.stats.dirty;
        }
        let is_ready = scan.is_over() || scan.len() >= CHUNK_BYTES;
        if is_ready && !saving.is_sent {
            self.send_chunk();
            self.drain_inbox(now);
            return true;
        }
        !is_ready
    }

    /// The node was asked to stop. True: it has something to finish first.
    pub(super) fn begin_stop(&mut self, now: Now) -> bool {
        if self.saving.is_leaving {
            return false;
        }
        if self.id == KEEPER {
            self.stop_node(now);
            self.drain_inbox(now);
        }
        true
    }

    pub(super) fn save_message(&mut self, from: ShardId, message: SaveMessage, now: Now) {
        match message {
            SaveMessage::Request { conn, place, want } => self.wanted(from, conn, place, want, now),
            SaveMessage::Reply { conn, place, reply } => self.complete(conn, place, reply, now),
            SaveMessage::Prepare(id) => {
                let dbs = (0..self.shard.keys.databases() as u16).map(Db);
                let keys = dbs.map(|db| (self.shard.keys.len(db), self.shard.keys.deadlines(db))).collect();
                self.save_say(from, SaveMessage::Ready(id, keys));
            }
            SaveMessage::Ready(id, keys) => self.core_is_ready(id, &keys, now),
            SaveMessage::Begin(id) => {
                self.saving.scan = Some((id, Scan::begin(&mut self.shard)));
                (self.saving.is_sent, self.saving.keys_told) = (false, 0);
            }
            SaveMessage::Chunk(id, piece) => self.got_chunk(from, id, *piece, now),
            SaveMessage::Written(id) => {
                if self.saving.scan.as_ref().is_some_and(|(known, _)| *known == id) {
                    self.saving.is_sent = false;
                }
            }
            SaveMessage::Stop(id) => {
                if let Some((_, scan)) = self.saving.scan.take_if(|(known, _)| *known == id) {
                    scan.abandon(&mut self.shard);
                }
            }
            SaveMessage::Dirty(dirty) => self.saving.keeper.dirty[usize::from(from.0)] = dirty,
            SaveMessage::State(state) => self.saving.state = state,
            SaveMessage::Leave => {
                self.saving.is_leaving = true;
                self.act(Action::Exit(0));
            }
        }
    }

    fn send_chunk(&mut self) {
        let Some((id, scan)) = &mut self.saving.scan else { return };
        let keys = scan.keys - self.saving.keys_told;
        let end = scan.is_over().then_some(self.saving.dirty_at_end);
        let (id, piece) = (*id, Box::new(Piece { bytes: scan.take(), keys, end }));
        self.saving.keys_told += keys;
        self.saving.is_sent = true;
        if piece.end.is_some() {
            self.saving.scan = None;
        }
        self.save_say(KEEPER, SaveMessage::Chunk(id, piece));
    }

    fn save_say(&mut self, to: ShardId, message: SaveMessage) {
        self.send(to, Message::Save(Box::new(message)));
    }
}

fn parse_shutdown(args: &mut Args<'_>) -> Result<Want, CommandError> {
    let (mut save, mut force, mut is_abort, count) = (None, false, false, args.left());
    while args.left() > 0 {
        if save.is_none() && args.word("save") {
            save = Some(true);
        } else if save.is_none() && args.word("nosave") {
            save = Some(false);
        } else if args.word("force") {
            force = true;
        } else if args.word("abort") {
            is_abort = true;
        } else if !args.word("now") {
            return Err(CommandError::Syntax);
        }
    }
    match is_abort {
        true if count > 1 => Err(CommandError::Syntax),
        true => Err(CommandError::Text("ERR No shutdown in progress.")),
        false => Ok(Want::Shutdown { save, force }),
    }
}
