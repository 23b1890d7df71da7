//! A client that sends at a fixed rate and reports latencies, which redis-benchmark cannot do.
//!
//! `paced --port P --rate R [--seconds S] [--connections C] [--keys K] [--command get|set]` sends one command every 1/R
//! seconds, connection after connection, whether or not earlier replies have come, and measures each latency from the
//! moment the command was *due*: a server that stalls is charged for everything that had to wait. Prints one JSON
//! line. One thread that never sleeps: give it a core of its own.
//!
//! Without `--port` (as `cargo bench` and `cargo test --bench` call it) it measures a toy server in this process for a
//! moment, so that it stays alive.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tutti::resp::value::decode;
use tutti::resp::write::encode_command;

struct Options {
    port: u16,
    rate: f64,
    seconds: f64,
    connections: usize,
    keys: u64,
    command: String,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| words.iter().position(|word| word == name).and_then(|at| words.get(at + 1)).cloned();
    let number = |name: &str, default: f64| value(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let mut options = Options {
        port: number("--port", 0.0) as u16,
        rate: number("--rate", 10_000.0),
        seconds: number("--seconds", 5.0),
        connections: number("--connections", 50.0) as usize,
        keys: number("--keys", 100_000.0) as u64,
        command: value("--command").unwrap_or_else(|| "get".into()),
    };
    if options.port == 0 {
        options = Options { port: toy_server(), rate: 500.0, seconds: 0.05, connections: 2, ..options };
    }
    match run(&options) {
        Ok(mut latencies_us) => {
            latencies_us.sort_unstable_by(f64::total_cmp);
            report(&options, &latencies_us);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("paced: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Conn {
    stream: TcpStream,
    /// When each command that has no reply yet was due.
    due: VecDeque<Instant>,
    input: Vec<u8>,
    output: Vec<u8>,
}

fn run(options: &Options) -> std::io::Result<Vec<f64>> {
    let poll = Poll::new()?;
    let mut conns = Vec::new();
    for at in 0..options.connections {
        let stream = TcpStream::connect(("127.0.0.1", options.port))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        poll.add(&stream, at)?;
        conns.push(Conn { stream, due: VecDeque::new(), input: Vec::new(), output: Vec::new() });
    }
    let total = (options.rate * options.seconds) as u64;
    let between = Duration::from_secs_f64(1.0 / options.rate);
    let value = vec![b'x'; 64];
    let mut latencies_us = Vec::with_capacity(total as usize);
    let (start, mut sent) = (Instant::now(), 0u64);
    let give_up = start + Duration::from_secs_f64(options.seconds + 10.0);
    while (latencies_us.len() as u64) < total {
        let now = Instant::now();
        if now > give_up {
            let missing = total - latencies_us.len() as u64;
            return Err(std::io::Error::other(format!("{missing} of {total} replies are missing")));
        }
        while sent < total && start + between.mul_f64(sent as f64) <= now {
            let conn = &mut conns[(sent % options.connections as u64) as usize];
            // A step that is coprime to most counts visits the keys in a scattered order.
            let key = format!("key:{:012}", sent.wrapping_mul(2_654_435_761) % options.keys);
            match options.command.as_str() {
                "set" => encode_command(&mut conn.output, &[b"SET".as_slice(), key.as_bytes(), &value]),
                _ => encode_command(&mut conn.output, &[b"GET".as_slice(), key.as_bytes()]),
            }
            conn.due.push_back(start + between.mul_f64(sent as f64));
            conn.flush()?;
            sent += 1;
        }
        for at in poll.ready()? {
            conns[at].read(&mut latencies_us)?;
        }
    }
    Ok(latencies_us)
}

impl Conn {
    fn flush(&mut self) -> std::io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(wrote) => drop(self.output.drain(..wrote)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&mut self, latencies_us: &mut Vec<f64>) -> std::io::Result<()> {
        let mut chunk = [0u8; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => return Err(std::io::Error::other("the server closed a connection")),
            Ok(read) => self.input.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        let now = Instant::now();
        let mut at = 0;
        while let Some((_, used)) = decode(&self.input[at..]) {
            if self.input[at] == b'-' {
                let text = String::from_utf8_lossy(&self.input[at..at + used]).into_owned();
                return Err(std::io::Error::other(text));
            }
            let due = self.due.pop_front().ok_or_else(|| std::io::Error::other("a reply nobody asked for"))?;
            latencies_us.push(now.duration_since(due).as_secs_f64() * 1e6);
            at += used;
        }
        self.input.drain(..at);
        self.flush()
    }
}

/// The sockets that have something to read.
struct Poll(i32);

impl Poll {
    fn new() -> std::io::Result<Self> {
        // SAFETY: takes no pointer.
        match unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } {
            -1 => Err(std::io::Error::last_os_error()),
            fd => Ok(Self(fd)),
        }
    }

    fn add(&self, stream: &TcpStream, at: usize) -> std::io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: at as u64 };
        // SAFETY: `event` lives through the call.
        match unsafe { libc::epoll_ctl(self.0, libc::EPOLL_CTL_ADD, stream.as_raw_fd(), &mut event) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }

    /// Does not wait: the next command is always due soon.
    fn ready(&self) -> std::io::Result<Vec<usize>> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        // SAFETY: the kernel writes at most 64 events into `events`.
        match unsafe { libc::epoll_wait(self.0, events.as_mut_ptr(), events.len() as i32, 0) } {
            -1 => Err(std::io::Error::last_os_error()),
            count => Ok(events[..count as usize].iter().map(|event| event.u64 as usize).collect()),
        }
    }
}

#[allow(clippy::print_stdout, reason = "its output is its purpose")]
fn report(options: &Options, sorted_us: &[f64]) {
    let at = |share: f64| sorted_us.get(((sorted_us.len() as f64 - 1.0) * share) as usize).copied().unwrap_or(0.0);
    println!(
        "{{\"command\":\"{}\",\"rate\":{},\"replies\":{},\"p50_us\":{:.1},\"p99_us\":{:.1},\"p999_us\":{:.1},\"max_us\":{:.1}}}",
        options.command,
        options.rate,
        sorted_us.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
    );
}

/// Answers nil to everything that ends in a line break, on a free port.
fn toy_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let (mut input, mut chunk) = (Vec::new(), [0u8; 4096]);
                while let Ok(read @ 1..) = stream.read(&mut chunk) {
                    input.extend_from_slice(&chunk[..read]);
                    while let Some((_, used)) = decode(&input) {
                        input.drain(..used);
                        if stream.write_all(b"$-1\r\n").is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    port
}
