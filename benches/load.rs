//! A client that sends as fast as replies come, with so little work of its own that the server is what is measured:
//! redis-benchmark spends about as much on a pipelined command as the servers do, and then hides their differences.
//!
//! `load --port P --command get|set|incr|mset|hset [--connections C] [--pipeline D] [--requests N] [--keys K]
//! [--value-bytes B]` does what redis-benchmark does: every connection sends D commands with random keys at once, waits
//! for all D replies, and again. Prints one JSON line. One thread; give it a core of its own.
//!
//! Without `--port` (as `cargo bench` and `cargo test --bench` call it) it loads a toy server in this process for a
//! moment, so that it stays alive.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::Instant;

use tutti::base::rng::Rng;
use tutti::resp::write::encode_command;

/// Random keys end in so many digits, as redis-benchmark's do.
const DIGITS: usize = 12;

struct Options {
    port: u16,
    command: String,
    connections: usize,
    pipeline: usize,
    requests: u64,
    keys: u64,
    value_bytes: usize,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| words.iter().position(|word| word == name).and_then(|at| words.get(at + 1)).cloned();
    let number = |name: &str, default: u64| value(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let mut options = Options {
        port: number("--port", 0) as u16,
        command: value("--command").unwrap_or_else(|| "set".into()),
        connections: number("--connections", 50) as usize,
        pipeline: number("--pipeline", 1).max(1) as usize,
        requests: number("--requests", 100_000),
        keys: number("--keys", 100_000).max(1),
        value_bytes: number("--value-bytes", 64) as usize,
    };
    if options.port == 0 {
        options = Options { port: toy_server(), connections: 2, requests: 200, pipeline: 4, ..options };
    }
    let began = Instant::now();
    match run(&options) {
        Ok(done) => {
            let seconds = began.elapsed().as_secs_f64();
            println!("{{\"requests\": {done}, \"seconds\": {seconds:.4}, \"rps\": {:.0}}}", done as f64 / seconds);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One connection and the block of commands it sends again and again, its digits changed.
struct Conn {
    stream: TcpStream,
    block: Vec<u8>,
    /// Where the digits of random keys begin in the block.
    random: Vec<usize>,
    /// Bytes of the block that the kernel has not taken.
    unsent: usize,
    /// Line ends still to come.
    awaited: usize,
}

fn run(options: &Options) -> io::Result<u64> {
    let lines_per_reply = if options.command == "get" { 2 } else { 1 };
    let mut rng = Rng::new(1);
    let mut conns = Vec::new();
    for _ in 0..options.connections {
        let stream = TcpStream::connect(("127.0.0.1", options.port))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let (block, random) = block(options)?;
        conns.push(Conn { stream, block, random, unsent: 0, awaited: 0 });
    }
    let poll = Poll::new(&conns)?;
    let lines = options.pipeline * lines_per_reply;
    for conn in &mut conns {
        conn.send_block(options.keys, lines, &mut rng)?;
    }
    let mut buffer = vec![0; 64 * 1024];
    let mut done = 0;
    while done < options.requests {
        for at in poll.wait()? {
            let conn = &mut conns[at];
            if conn.unsent > 0 {
                conn.send_rest()?;
            }
            match conn.stream.read(&mut buffer) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed a connection")),
                Ok(bytes) => {
                    let bytes = &buffer[..bytes];
                    if bytes[0] == b'-' {
                        return Err(io::Error::other(String::from_utf8_lossy(bytes).into_owned()));
                    }
                    let ended = bytes.iter().filter(|&&byte| byte == b'\n').count();
                    conn.awaited =
                        conn.awaited.checked_sub(ended).ok_or_else(|| io::Error::other("a reply too many"))?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if conn.awaited == 0 {
                done += options.pipeline as u64;
                conn.send_block(options.keys, lines, &mut rng)?;
            }
        }
    }
    Ok(done)
}

/// The commands one connection sends at once, and where their random digits go.
fn block(options: &Options) -> io::Result<(Vec<u8>, Vec<usize>)> {
    let value = vec![b'v'; options.value_bytes];
    let zeros = [b'0'; DIGITS];
    let named = |prefix: &str| [prefix.as_bytes(), &zeros].concat();
    let (key, counter, element) = (named("key:"), named("counter:"), named("element:"));
    let words: Vec<&[u8]> = match options.command.as_str() {
        "get" => vec![b"GET", &key],
        "set" => vec![b"SET", &key, &value],
        "incr" => vec![b"INCR", &counter],
        "hset" => vec![b"HSET", b"myhash", &element, &value],
        "mset" => std::iter::once(&b"MSET"[..]).chain((0..10).flat_map(|_| [&key[..], &value])).collect(),
        other => return Err(io::Error::new(ErrorKind::InvalidInput, format!("unknown --command {other}"))),
    };
    let mut block = Vec::new();
    for _ in 0..options.pipeline {
        encode_command(&mut block, &words);
    }
    let is_zeros = |at: &usize| block[*at..].starts_with(&zeros);
    let random = (0..block.len()).filter(is_zeros).collect();
    Ok((block, random))
}

impl Conn {
    fn send_block(&mut self, keys: u64, lines: usize, rng: &mut Rng) -> io::Result<()> {
        for &at in &self.random {
            let mut number = rng.below(keys);
            for digit in self.block[at..at + DIGITS].iter_mut().rev().take(9) {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        (self.unsent, self.awaited) = (self.block.len(), lines);
        self.send_rest()
    }

    fn send_rest(&mut self) -> io::Result<()> {
        while self.unsent > 0 {
            match self.stream.write(&self.block[self.block.len() - self.unsent..]) {
                Ok(bytes) => self.unsent -= bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// An epoll over all connections: level-triggered for input, and edge-triggered for room to send.
struct Poll(i32);

impl Poll {
    fn new(conns: &[Conn]) -> io::Result<Self> {
        // SAFETY: plain system calls on descriptors we own; the event outlives the call.
        unsafe {
            let poll = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            for (at, conn) in conns.iter().enumerate() {
                let mut event = libc::epoll_event {
                    events: (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET) as u32,
                    u64: at as u64,
                };
                if libc::epoll_ctl(poll, libc::EPOLL_CTL_ADD, conn.stream.as_raw_fd(), &mut event) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(Self(poll))
        }
    }

    fn wait(&self) -> io::Result<impl Iterator<Item = usize>> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
        // SAFETY: the array has room for as many events as we say.
        let ready = unsafe { libc::epoll_wait(self.0, events.as_mut_ptr(), events.len() as i32, 10_000) };
        if ready <= 0 {
            return Err(io::Error::new(ErrorKind::TimedOut, "no reply for ten seconds"));
        }
        Ok(events.into_iter().take(ready as usize).map(|event| event.u64 as usize))
    }
}

/// Answers every line that looks like a command's count.
fn toy_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("a bound port").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0; 16 * 1024];
                while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                    let commands = buffer[..bytes].iter().filter(|&&byte| byte == b'*').count();
                    if stream.write_all("+OK\r\n".repeat(commands).as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}
