//! A core for tests: a few line commands that exercise each thing the runtime does.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::base::ids::{ConnId, ShardId};
use crate::base::time::Now;
use crate::runtime::CoreSeat;
use crate::worker::port::{Action, Core, DialId, Endpoint, FileEvent, FileId, FileStep};

/// What crosses between toys.
pub(crate) struct Parcel {
    conn: ConnId,
    text: String,
    is_answer: bool,
}

/// Commands, one a line: `PING`, `ECHO x`, `BIG bytes`, `PAUSE ms`, `CLOSE`, `KILL`, `WHO`, `HOP shard text`,
/// `DIAL host port ms`, `WRITE bytes path`, `EXIT code`.
pub(crate) struct Toy {
    shard: ShardId,
    conns: HashMap<ConnId, ToyConn>,
    dirty: Vec<ConnId>,
    actions: Vec<Action>,
    outboxes: Vec<Vec<Parcel>>,
    paused: Vec<(u64, ConnId)>,
    dials: HashMap<DialId, ConnId>,
    files: HashMap<FileId, ToyFile>,
    next_number: u64,
}

#[derive(Default)]
struct ToyConn {
    peer: Endpoint,
    line: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
}

struct ToyFile {
    asker: ConnId,
    path: PathBuf,
    bytes_left: usize,
    bytes_read: usize,
    is_reading: bool,
}

const SLICE: usize = 64 * 1024;

impl Toy {
    pub(crate) fn new(seat: CoreSeat) -> Self {
        Self {
            shard: seat.shard,
            conns: HashMap::new(),
            dirty: Vec::new(),
            actions: Vec::new(),
            outboxes: (0..seat.shards).map(|_| Vec::new()).collect(),
            paused: Vec::new(),
            dials: HashMap::new(),
            files: HashMap::new(),
            next_number: 0,
        }
    }

    fn say(&mut self, id: ConnId, text: &str) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.output.extend_from_slice(text.as_bytes());
            conn.output.push(b'\n');
            self.dirty.push(id);
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn command(&mut self, id: ConnId, line: &str, now: Now) {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let word = |at: usize| rest.split(' ').nth(at).unwrap_or_default();
        let number = |at: usize| word(at).parse::<u64>().unwrap_or_default();
        match name {
            "PING" => self.say(id, "PONG"),
            "ECHO" => self.say(id, rest),
            "BIG" => {
                let mut pattern = "abcdefghijklmnopqrstuvw".repeat(number(0) as usize / 23 + 1);
                pattern.truncate(number(0) as usize);
                self.say(id, &pattern);
            }
            "PAUSE" => {
                self.actions.push(Action::PauseReading(id));
                self.paused.push((now.mono_us + number(0) * 1000, id));
            }
            "CLOSE" => {
                self.say(id, "BYE");
                self.actions.push(Action::CloseAfterFlush(id));
            }
            "KILL" => {
                self.conns.remove(&id);
                self.actions.push(Action::Close(id));
            }
            "WHO" => {
                let conn = &self.conns[&id];
                let text = format!("{} {} {} {}", self.shard.0, conn.peer.remote, conn.peer.local, conn.peer.is_local);
                self.say(id, &text);
            }
            "HOP" => {
                let text = rest.split_once(' ').map_or("", |(_, text)| text).to_owned();
                match number(0) as usize {
                    me if me == usize::from(self.shard.0) => self.say(id, &text),
                    to => self.outboxes[to].push(Parcel { conn: id, text, is_answer: false }),
                }
            }
            "DIAL" => {
                let dial = DialId(self.number());
                self.dials.insert(dial, id);
                let (host, port, timeout_ms) = (word(0).to_owned(), number(1) as u16, number(2));
                self.actions.push(Action::Dial { dial, host, port, timeout_ms });
            }
            "WRITE" => {
                let file = FileId(self.number());
                let path = PathBuf::from(word(1));
                self.actions.push(Action::File { file, step: FileStep::Create(path.clone()) });
                let bytes_left = number(0) as usize;
                self.files.insert(file, ToyFile { asker: id, path, bytes_left, bytes_read: 0, is_reading: false });
            }
            "EXIT" => self.actions.push(Action::Exit(number(0) as i32)),
            other => self.say(id, &format!("ERR {other}")),
        }
    }

    /// Writes its bytes, commits, reads them back, tells how many there were.
    fn file_step(&mut self, id: FileId, event: FileEvent) -> Option<FileStep> {
        let file = self.files.get_mut(&id)?;
        match event {
            FileEvent::Opened(_) | FileEvent::Appended if !file.is_reading => {
                let len = file.bytes_left.min(SLICE);
                file.bytes_left -= len;
                Some(if len == 0 { FileStep::Commit } else { FileStep::Append(vec![b'x'; len]) })
            }
            FileEvent::Committed => {
                file.is_reading = true;
                Some(FileStep::Open(file.path.clone()))
            }
            FileEvent::Read(bytes) if bytes.is_empty() => Some(FileStep::Abandon),
            FileEvent::Opened(_) | FileEvent::Read(_) => {
                if let FileEvent::Read(bytes) = event {
                    assert!(bytes.iter().all(|&byte| byte == b'x'));
                    file.bytes_read += bytes.len();
                }
                Some(FileStep::Read(SLICE))
            }
            FileEvent::Abandoned => {
                let text = format!("WROTE {}", file.bytes_read);
                let asker = file.asker;
                self.say(asker, &text);
                None
            }
            FileEvent::Failed(reason) => {
                let asker = file.asker;
                self.say(asker, &format!("FAILED {reason}"));
                None
            }
            FileEvent::Appended | FileEvent::Synced => unreachable!("not asked for while reading"),
        }
    }
}

impl Core for Toy {
    type Batch = Vec<Parcel>;

    fn accepted(&mut self, conn: ConnId, peer: &Endpoint, _: Now) {
        let known = self.conns.insert(conn, ToyConn { peer: peer.clone(), ..ToyConn::default() });
        assert!(known.is_none(), "{conn:?} was given twice");
    }

    fn dialed(&mut self, dial: DialId, result: Result<(ConnId, Endpoint), String>, _: Now) {
        let asker = self.dials.remove(&dial).expect("each dial ends once");
        match result {
            Ok((conn, endpoint)) => {
                self.say(asker, &format!("DIALED {}", endpoint.remote));
                self.actions.push(Action::Close(conn));
            }
            Err(reason) => self.say(asker, &format!("FAILED {reason}")),
        }
    }

    fn data(&mut self, id: ConnId, bytes: &[u8], now: Now) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let mut input = std::mem::take(&mut conn.line);
        input.extend_from_slice(bytes);
        let mut lines = input.split(|&byte| byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            if lines.peek().is_some() {
                self.command(id, &String::from_utf8_lossy(line), now);
            } else if let Some(conn) = self.conns.get_mut(&id) {
                conn.line = line.to_vec();
            }
        }
    }

    fn sent(&mut self, id: ConnId, bytes: usize, _: Now) {
        self.conns.get_mut(&id).expect("sent for a connection we have").sent += bytes;
    }

    fn closed(&mut self, id: ConnId, half: bool, _: Now) {
        assert!(self.conns.contains_key(&id), "closed for a connection we do not have");
        if half {
            self.actions.push(Action::CloseAfterFlush(id));
        } else {
            self.conns.remove(&id);
        }
    }

    fn receive(&mut self, from: ShardId, batch: Vec<Parcel>, _: Now) {
        for Parcel { conn, text, is_answer } in batch {
            if is_answer {
                self.say(conn, &text);
            } else {
                self.outboxes[usize::from(from.0)].push(Parcel { conn, text, is_answer: true });
            }
        }
    }

    fn tick(&mut self, now: Now) {
        let (due, rest) = self.paused.drain(..).partition(|&(at_us, _)| at_us <= now.mono_us);
        self.paused = rest;
        let due: Vec<(u64, ConnId)> = due;
        self.actions.extend(due.into_iter().map(|(_, conn)| Action::ResumeReading(conn)));
    }

    fn background(&mut self, _: Now) -> bool {
        false
    }

    fn wake_at_us(&self) -> u64 {
        self.paused.iter().map(|&(at_us, _)| at_us).min().unwrap_or(u64::MAX)
    }

    fn take_dirty(&mut self, into: &mut Vec<ConnId>) {
        into.append(&mut self.dirty);
    }

    fn take_output(&mut self, id: ConnId, empty: &mut Vec<u8>) {
        if let Some(conn) = self.conns.get_mut(&id) {
            std::mem::swap(&mut conn.output, empty);
        }
    }

    fn take_batch(&mut self, to: ShardId) -> Option<Vec<Parcel>> {
        let batch = std::mem::take(&mut self.outboxes[usize::from(to.0)]);
        (!batch.is_empty()).then_some(batch)
    }

    fn take_actions(&mut self, into: &mut Vec<Action>) {
        for action in self.actions.drain(..) {
            into.push(action);
        }
    }

    fn file_event(&mut self, file: FileId, event: FileEvent, _: Now) {
        if let Some(step) = self.file_step(file, event) {
            self.actions.push(Action::File { file, step });
        }
    }
}
