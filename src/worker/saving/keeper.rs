//! Core 0's part: when to save, the file, and the end of the node.
//!
//! ```text
//! Prepare -> all Ready, file created -> head, Begin -> chunks as they come -> all have ended -> trailer, commit
//! ```
//! A failure at any step leaves the file of the last snapshot as it was.

use std::collections::VecDeque;
use std::path::PathBuf;

use super::super::Worker;
use super::super::control::Tell;
use super::super::port::{Action, FileEvent, FileId, FileStep};
use super::{KEEPER, Persistence, Piece, SaveMessage, Want};
use crate::base::ids::{ConnId, ShardId};
use crate::base::time::Now;
use crate::snapshot::crc64::crc64;
use crate::snapshot::{opcode, put};

/// Written at once.
const WRITE_BYTES: usize = 256 * 1024;

/// Our files among those of this core: their numbers begin here.
const FIRST_FILE: u64 = 1 << 48;

/// After a failure the save points wait this long.
const RETRY_S: u64 = 5;

const IN_PROGRESS: &[u8] = b"-ERR Background save already in progress\r\n";
const STARTED: &[u8] = b"+Background saving started\r\n";
const NOT_STOPPED: &[u8] = b"-ERR Errors trying to SHUTDOWN. Check logs.\r\n";

/// What core 0 knows beside its share; empty on the others.
pub(super) struct Keeper {
    save: Option<Save>,
    next_id: u64,
    /// `Stats::dirty` of every core as last heard.
    pub(super) dirty: Vec<u64>,
    last_try_s: u64,
    /// The node ends once a snapshot is written.
    stop: Option<Stop>,
}

/// Why and how the node ends.
struct Stop {
    /// Who is told if it does not.
    client: Option<(ShardId, ConnId, u64)>,
    force: bool,
}

/// A snapshot under way.
struct Save {
    id: u64,
    path: PathBuf,
    began: Now,
    clients: Vec<(ShardId, ConnId, u64)>,
    /// It is the node's last.
    is_last: bool,
    is_created: bool,
    ready: usize,
    keys: Vec<(usize, usize)>,
    chunks: VecDeque<(ShardId, Piece)>,
    /// What is being written: whose (none: the head or the trailer) and what is left of it.
    writing: Option<(Option<ShardId>, Vec<u8>)>,
    /// Cores whose last chunk is written.
    ended: usize,
    dirty: u64,
    crc: u64,
    bytes: u64,
    keys_written: u64,
    /// Origins named so far.
    origins: usize,
    is_trailed: bool,
}

impl Keeper {
    pub(super) fn new(cores: usize) -> Self {
        Self { save: None, next_id: 0, dirty: vec![0; cores], last_try_s: 0, stop: None }
    }
}

impl Worker {
    pub(super) fn wanted(&mut self, from: ShardId, conn: ConnId, place: u64, want: Want, now: Now) {
        let client = (from, conn, place);
        match want {
            Want::Shutdown { save, force } => {
                if self.saving.keeper.stop.is_some() {
                    return self.save_reply(client, NOT_STOPPED);
                }
                self.saving.keeper.stop = Some(Stop { client: Some(client), force });
                tracing::warn!("User requested shutdown...");
                self.begin_end(save.unwrap_or(!self.config.save.is_empty()), now);
            }
            Want::Save | Want::Bgsave if self.saving.keeper.save.is_some() => self.save_reply(client, IN_PROGRESS),
            Want::Save => self.begin_save(vec![client], false, now),
            Want::Bgsave => {
                self.save_reply(client, STARTED);
                self.begin_save(Vec::new(), false, now);
            }
        }
    }

    /// A signal asked the node to stop.
    pub(super) fn stop_node(&mut self, now: Now) {
        if self.saving.keeper.stop.is_none() {
            self.saving.keeper.stop = Some(Stop { client: None, force: false });
            self.begin_end(!self.config.save.is_empty(), now);
        }
    }

    // Clients' writes wait from here on: those answered must be in the snapshot.
    fn begin_end(&mut self, saves: bool, now: Now) {
        if !saves || self.is_loading() {
            return self.leave();
        }
        self.tell_all(&Tell::Pause { until_us: u64::MAX, writes_only: true });
        // One under way may be too early; its end begins ours.
        if self.saving.keeper.save.is_none() {
            tracing::info!("Saving the final snapshot before exiting.");
            self.begin_save(Vec::new(), true, now);
        }
    }

    fn leave(&mut self) {
        self.saving.is_leaving = true;
        for core in 0..self.cores() {
            self.save_say(ShardId(core as u16), SaveMessage::Leave);
        }
    }

    pub(super) fn check_save_points(&mut self, now: Now) {
        let (keeper, state) = (&self.saving.keeper, &self.saving.state);
        if keeper.save.is_some() || keeper.stop.is_some() || self.saving.is_leaving {
            return;
        }
        let changes = keeper.dirty.iter().sum::<u64>().saturating_sub(state.dirty_saved);
        let now_s = now.wall_ms / 1000;
        let age_s = now_s.saturating_sub(state.last_save_s);
        let may_try = state.last_ok || now_s > keeper.last_try_s + RETRY_S;
        let due = self.config.save.iter().find(|point| changes >= point.changes && age_s > point.seconds);
        if let Some(point) = due.filter(|_| may_try && changes > 0) {
            tracing::info!("{changes} changes in {} seconds. Saving...", point.seconds);
            self.begin_save(Vec::new(), false, now);
        }
    }

    fn begin_save(&mut self, clients: Vec<(ShardId, ConnId, u64)>, is_last: bool, now: Now) {
        let keeper = &mut self.saving.keeper;
        keeper.next_id += 1;
        keeper.last_try_s = now.wall_ms / 1000;
        let id = keeper.next_id;
        let path = PathBuf::from(&self.config.dir).join(&self.config.dbfilename);
        keeper.save = Some(Save {
            id,
            path: path.clone(),
            began: now,
            clients,
            is_last,
            is_created: false,
            ready: 0,
            keys: vec![(0, 0); self.shard.keys.databases()],
            chunks: VecDeque::new(),
            writing: None,
            ended: 0,
            dirty: 0,
            crc: 0,
            bytes: 0,
            keys_written: 0,
            origins: 0,
            is_trailed: false,
        });
        tracing::info!("Background saving started");
        self.act(Action::File { file: FileId(FIRST_FILE + id), step: FileStep::Create(path) });
        for core in 0..self.cores() {
            self.save_say(ShardId(core as u16), SaveMessage::Prepare(id));
        }
        let began_us = now.mono_us;
        self.publish_saving(|state| (state.is_saving, state.began_us, state.keys_written) = (true, began_us, 0));
    }

    pub(super) fn core_is_ready(&mut self, id: u64, keys: &[(usize, usize)], now: Now) {
        let Some(save) = self.saving.keeper.save.as_mut().filter(|save| save.id == id) else { return };
        save.ready += 1;
        for (sum, keys) in save.keys.iter_mut().zip(keys) {
            (sum.0, sum.1) = (sum.0 + keys.0, sum.1 + keys.1);
        }
        self.begin_file(now);
    }

    pub(super) fn got_chunk(&mut self, from: ShardId, id: u64, piece: Piece, now: Now) {
        let Some(save) = self.saving.keeper.save.as_mut().filter(|save| save.id == id) else { return };
        save.chunks.push_back((from, piece));
        if save.writing.is_none() {
            self.write_on(now);
        }
    }

    /// A step on one of our files ended. False: it is not ours.
    pub(in super::super) fn save_file_event(&mut self, file: FileId, event: &FileEvent, now: Now) -> bool {
        let Some(id) = file.0.checked_sub(FIRST_FILE) else { return false };
        let Some(save) = self.saving.keeper.save.as_mut().filter(|save| save.id == id) else { return true };
        match event {
            FileEvent::Opened(_) => {
                save.is_created = true;
                self.begin_file(now);
            }
            FileEvent::Appended => self.write_on(now),
            FileEvent::Committed => self.end_save(None, now),
            FileEvent::Failed(reason) => self.end_save(Some(reason), now),
            FileEvent::Read(_) | FileEvent::Synced | FileEvent::Abandoned => {}
        }
        self.drain_inbox(now);
        true
    }

    // The head, once the file is there and every core has answered.
    fn begin_file(&mut self, now: Now) {
        let cores = self.cores();
        let Some(save) = self.saving.keeper.save.as_mut() else { return };
        if !save.is_created || save.ready < cores {
            return;
        }
        let (id, mut bytes) = (save.id, Vec::new());
        let head = put::Head {
            time_s: now.wall_ms / 1000,
            memory_bytes: self.memory.used,
            own: self.node.realm.origins.own(),
            keys: &save.keys,
        };
        put::head(&mut bytes, &head);
        save.writing = Some((None, bytes));
        for core in 0..cores {
            self.save_say(ShardId(core as u16), SaveMessage::Begin(id));
        }
        self.write_on(now);
    }

    // The next piece of what is at hand, or the end.
    fn write_on(&mut self, now: Now) {
        let cores = self.cores();
        loop {
            let Some(save) = self.saving.keeper.save.as_mut() else { return };
            if let Some((from, rest)) = &mut save.writing {
                if !rest.is_empty() {
                    let bytes = if rest.len() > WRITE_BYTES {
                        rest.drain(..WRITE_BYTES).collect()
                    } else {
                        std::mem::take(rest)
                    };
                    return self.append(bytes);
                }
                let (id, from) = (save.id, *from);
                save.writing = None;
                if let Some(from) = from {
                    self.save_say(from, SaveMessage::Written(id));
                }
            } else if let Some((from, piece)) = save.chunks.pop_front() {
                save.keys_written += piece.keys;
                if let Some(dirty) = piece.end {
                    save.ended += 1;
                    save.dirty += dirty;
                }
                // Every origin in the chunk was known when it was made.
                let mut bytes = Vec::new();
                save.origins = put::origins(&mut bytes, &self.node.realm.origins, save.origins);
                if bytes.is_empty() {
                    bytes = piece.bytes;
                } else {
                    bytes.extend_from_slice(&piece.bytes);
                }
                save.writing = Some((Some(from), bytes));
            } else if save.ended == cores && !save.is_trailed {
                save.is_trailed = true;
                let mut bytes = vec![opcode::EOF];
                let crc = if self.config.rdbchecksum { crc64(save.crc, &bytes) } else { 0 };
                bytes.extend_from_slice(&crc.to_le_bytes());
                save.writing = Some((None, bytes));
            } else if save.is_trailed {
                let file = FileId(FIRST_FILE + save.id);
                return self.act(Action::File { file, step: FileStep::Commit });
            } else {
                let keys = save.keys_written;
                self.saving.state.keys_written = keys;
                return self.drain_inbox(now);
            }
        }
    }

    fn append(&mut self, bytes: Vec<u8>) {
        let Some(save) = self.saving.keeper.save.as_mut() else { return };
        if self.config.rdbchecksum {
            save.crc = crc64(save.crc, &bytes);
        }
        save.bytes += bytes.len() as u64;
        let file = FileId(FIRST_FILE + save.id);
        self.act(Action::File { file, step: FileStep::Append(bytes) });
    }

    fn end_save(&mut self, failure: Option<&str>, now: Now) {
        let Some(save) = self.saving.keeper.save.take() else { return };
        let took_ms = now.mono_us.saturating_sub(save.began.mono_us) / 1000;
        let is_ok = failure.is_none();
        match failure {
            None => {
                tracing::info!("DB saved on disk: {} keys, {} bytes in {took_ms} ms", save.keys_written, save.bytes)
            }
            Some(reason) => {
                tracing::error!("Background saving error: {}: {reason}", save.path.display());
                for core in 0..self.cores() {
                    self.save_say(ShardId(core as u16), SaveMessage::Stop(save.id));
                }
            }
        }
        self.publish_saving(|state| {
            state.is_saving = false;
            state.last_ok = is_ok;
            state.last_took_s = Some(took_ms / 1000);
            if is_ok {
                state.last_save_s = now.wall_ms / 1000;
                state.saves += 1;
                state.dirty_saved = save.dirty;
            }
        });
        for client in &save.clients {
            self.save_reply(*client, if is_ok { b"+OK\r\n" } else { b"-ERR\r\n" });
        }
        let Some(stop) = &self.saving.keeper.stop else { return };
        match (save.is_last, is_ok || stop.force) {
            (false, _) => self.begin_save(Vec::new(), true, now),
            (true, true) => self.leave(),
            (true, false) => self.stay(),
        }
    }

    // Redis, too, would rather run on than lose what it could not save.
    fn stay(&mut self) {
        tracing::error!("Error trying to save the DB, can't exit.");
        let stop = self.saving.keeper.stop.take();
        if let Some(client) = stop.and_then(|stop| stop.client) {
            self.save_reply(client, NOT_STOPPED);
        }
        self.tell_all(&Tell::Pause { until_us: 0, writes_only: true });
    }

    fn save_reply(&mut self, (core, conn, place): (ShardId, ConnId, u64), reply: &'static [u8]) {
        self.save_say(core, SaveMessage::Reply { conn, place, reply });
    }

    fn publish_saving(&mut self, change: impl FnOnce(&mut Persistence)) {
        let mut state = self.saving.state.clone();
        change(&mut state);
        self.saving.state = state.clone();
        for core in (0..self.cores() as u16).map(ShardId).filter(|&core| core != KEEPER) {
            self.save_say(core, SaveMessage::State(state.clone()));
        }
    }
}
