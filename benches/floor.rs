//! The cost of the runtime alone: a server that answers every RESP command with the shortest reply its name allows
//! (`GET`: a 64-byte value, `SET`: `+OK`, else `+PONG`) and stores nothing. What it costs per request is the floor
//! under the real server.
//!
//! `floor PORT [THREADS]` serves until it is killed. Compare with redis-server in the same run: `scripts/`. Without
//! arguments (as `cargo bench` and `cargo test --benches` call it) it does nothing.

use tutti::base::ids::{ConnId, ShardId};
use tutti::base::time::Now;
use tutti::runtime::{Port, Settings, run};
use tutti::worker::port::{Action, Core, DialId, Endpoint};

#[global_allocator]
static ALLOCATOR: tutti::mem::alloc::Mimalloc = tutti::mem::alloc::Mimalloc;

fn main() {
    let numbers: Vec<u16> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let Some(&port) = numbers.first() else { return };
    let threads = numbers.get(1).map_or(1, |&threads| threads.into());
    let settings = Settings {
        port: Port::Number(port),
        bind: vec!["127.0.0.1".into()],
        threads: Some(threads),
        ..Settings::default()
    };
    eprintln!("{:?} on {:?}", settings.port, settings.bind);
    let ended = run(&settings, |_| Floor::default());
    std::process::exit(ended.unwrap_or_else(|reason| {
        eprintln!("floor: {reason}");
        1
    }));
}

#[derive(Default)]
struct Floor {
    conns: Vec<Conn>,
    dirty: Vec<ConnId>,
    actions: Vec<Action>,
}

#[derive(Default)]
struct Conn {
    output: Vec<u8>,
    /// A command whose end has not arrived.
    cut: Vec<u8>,
    is_dirty: bool,
}

impl Floor {
    fn conn(&mut self, id: ConnId) -> &mut Conn {
        let slot = (id.0 & 0xf_ffff) as usize;
        if slot >= self.conns.len() {
            self.conns.resize_with(slot + 1, Conn::default);
        }
        &mut self.conns[slot]
    }
}

impl Core for Floor {
    type Batch = ();

    fn accepted(&mut self, conn: ConnId, _: &Endpoint, _: Now) {
        *self.conn(conn) = Conn::default();
    }

    fn dialed(&mut self, _: DialId, _: Result<(ConnId, Endpoint), String>, _: Now) {}

    fn data(&mut self, id: ConnId, bytes: &[u8], _: Now) {
        let conn = self.conn(id);
        if conn.cut.is_empty() {
            let used = answer_all(bytes, &mut conn.output);
            conn.cut.extend_from_slice(&bytes[used..]);
        } else {
            conn.cut.extend_from_slice(bytes);
            let used = answer_all(&conn.cut, &mut conn.output);
            conn.cut.drain(..used);
        }
        if !conn.is_dirty && !conn.output.is_empty() {
            conn.is_dirty = true;
            self.dirty.push(id);
        }
    }

    fn sent(&mut self, _: ConnId, _: usize, _: Now) {}
    fn closed(&mut self, conn: ConnId, half: bool, _: Now) {
        if half {
            self.actions.push(Action::CloseAfterFlush(conn));
        }
    }
    fn receive(&mut self, _: ShardId, (): (), _: Now) {}
    fn tick(&mut self, _: Now) {}
    fn background(&mut self, _: Now) -> bool {
        false
    }
    fn wake_at_us(&self) -> u64 {
        u64::MAX
    }
    fn take_dirty(&mut self, into: &mut Vec<ConnId>) {
        into.append(&mut self.dirty);
    }
    fn take_output(&mut self, conn: ConnId, empty: &mut Vec<u8>) {
        let conn = self.conn(conn);
        conn.is_dirty = false;
        std::mem::swap(&mut conn.output, empty);
    }
    fn take_batch(&mut self, _: ShardId) -> Option<()> {
        None
    }
    fn take_actions(&mut self, into: &mut Vec<Action>) {
        into.append(&mut self.actions);
    }
}

/// Answers every complete command and tells how many bytes they were.
fn answer_all(bytes: &[u8], output: &mut Vec<u8>) -> usize {
    let mut used = 0;
    while let Some(len) = command_len(&bytes[used..]) {
        // "*2\r\n$3\r\nGET": the name's first letter.
        match bytes[used..].get(8).map(u8::to_ascii_uppercase) {
            Some(b'G') => {
                output
                    .extend_from_slice(b"$64\r\n................................................................\r\n");
            }
            Some(b'S') => output.extend_from_slice(b"+OK\r\n"),
            Some(b'C') => output.extend_from_slice(b"*0\r\n"),
            _ => output.extend_from_slice(b"+PONG\r\n"),
        }
        used += len;
    }
    used
}

fn command_len(bytes: &[u8]) -> Option<usize> {
    if *bytes.first()? != b'*' {
        return bytes.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
    }
    let (parts, mut at) = number(bytes, 1)?;
    for _ in 0..parts {
        let (len, next) = number(bytes, at + 1)?;
        at = next + len + 2;
    }
    (at <= bytes.len()).then_some(at)
}

/// The number at `at` and where the line after it begins.
fn number(bytes: &[u8], mut at: usize) -> Option<(usize, usize)> {
    let mut value = 0;
    loop {
        match *bytes.get(at)? {
            b'\r' => return Some((value, at + 2)),
            digit => value = value * 10 + usize::from(digit - b'0'),
        }
        at += 1;
    }
}
