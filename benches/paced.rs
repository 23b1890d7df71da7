//! A client that sends at a fixed rate and reports latencies, which redis-benchmark cannot do.
//!
//! `paced --port P --rate R [--seconds S] [--connections C] [--keys K] [--command get|set] [--pipeline D] [--sleep yes]
//! [--beside "COMMAND" --every S]` sends D commands every D/R seconds, connection after connection, whether or not
//! earlier replies have come, and measures each latency from the moment the command was *due*: a server that stalls is
//! charged for everything that had to wait. Prints one JSON line. One thread that never sleeps: give it a core of its
//! own, or let it sleep between commands.
//!
//! With `--beside` a connection of its own sends that command every so many seconds. What is measured is told apart by
//! when a command was due: `during` that one, in a window that begins `with` it and lasts half of the time to the next (or
//! until it is answered), or `without` it.
//!
//! Without `--port` (as `cargo bench` and `cargo test --bench` call it) it measures a toy server in this process for a
//! moment, so that it stays alive.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tutti::resp::value::{Value, decode};
use tutti::resp::write::encode_command;

/// Keys end in so many digits, as redis-benchmark's do.
const DIGITS: usize = 12;

struct Options {
    port: u16,
    rate: f64,
    seconds: f64,
    connections: usize,
    keys: u64,
    command: String,
    pipeline: u64,
    may_sleep: bool,
    beside: Option<(Vec<String>, f64)>,
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
        pipeline: number("--pipeline", 1.0).max(1.0) as u64,
        may_sleep: value("--sleep").as_deref() == Some("yes"),
        beside: value("--beside").map(|words| (words.split(' ').map(str::to_owned).collect(), number("--every", 1.0))),
    };
    if options.port == 0 {
        let beside = Some((vec!["PING".to_owned()], 0.02));
        options = Options {
            port: toy_server(),
            rate: 500.0,
            seconds: 0.05,
            connections: 2,
            pipeline: 2,
            may_sleep: true,
            beside,
            ..options
        };
    }
    match run(&options) {
        Ok(outcome) => {
            report(&options, &outcome);
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

#[derive(Default)]
struct Outcome {
    /// When each command was due, seconds from the start, and how long its reply took.
    replies: Vec<(f64, f64)>,
    /// When each command beside them was sent and answered, and the first line of its reply.
    beside: Vec<(f64, f64, String)>,
}

/// The connection for the command beside.
struct Beside<'a> {
    stream: TcpStream,
    words: &'a [String],
    every_s: f64,
    next_s: f64,
    sent_s: Option<f64>,
    input: Vec<u8>,
}

impl Beside<'_> {
    fn send_if_due(&mut self, now_s: f64) -> std::io::Result<()> {
        if self.sent_s.is_none() && now_s >= self.next_s {
            let words: Vec<&[u8]> = self.words.iter().map(|word| word.as_bytes()).collect();
            let mut bytes = Vec::new();
            encode_command(&mut bytes, &words);
            self.stream.write_all(&bytes)?;
            self.sent_s = Some(now_s);
        }
        Ok(())
    }

    fn read(&mut self, now_s: f64, answered: &mut Vec<(f64, f64, String)>) -> std::io::Result<()> {
        if !receive(&mut self.stream, &mut self.input)? {
            return Ok(());
        }
        while let Some((reply, used)) = decode(&self.input) {
            let text = match reply {
                Value::Bulk(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                other => format!("{other:?}"),
            };
            let line = text.lines().next().unwrap_or_default().replace(['"', '\\'], "");
            let sent_s = self.sent_s.take().ok_or_else(|| std::io::Error::other("a reply nobody asked for"))?;
            answered.push((sent_s, now_s, line));
            // As much time without it at least.
            self.next_s = (sent_s + self.every_s).max(now_s + (now_s - sent_s));
            self.input.drain(..used);
        }
        Ok(())
    }
}

fn run(options: &Options) -> std::io::Result<Outcome> {
    let poll = Poll::new()?;
    let mut outcome = Outcome::default();
    let mut beside = match &options.beside {
        None => None,
        Some((words, every_s)) => {
            let stream = TcpStream::connect(("127.0.0.1", options.port))?;
            stream.set_nonblocking(true)?;
            poll.add(&stream, options.connections)?;
            let (every_s, next_s) = (*every_s, *every_s / 2.0);
            Some(Beside { stream, words, every_s, next_s, sent_s: None, input: Vec::new() })
        }
    };
    let mut conns = Vec::new();
    for at in 0..options.connections {
        let stream = TcpStream::connect(("127.0.0.1", options.port))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        poll.add(&stream, at)?;
        conns.push(Conn { stream, due: VecDeque::new(), input: Vec::new(), output: Vec::new() });
    }
    if options.may_sleep {
        // SAFETY: takes no pointer. Else every sleep would last up to 50 us longer than asked for.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    }
    let total = (options.rate * options.seconds) as u64;
    let between = Duration::from_secs_f64(1.0 / options.rate);
    let (value, key) = (vec![b'x'; 64], format!("key:{:0DIGITS$}", 0));
    let mut command = Vec::new();
    match options.command.as_str() {
        "set" => encode_command(&mut command, &[b"SET".as_slice(), key.as_bytes(), &value]),
        _ => encode_command(&mut command, &[b"GET".as_slice(), key.as_bytes()]),
    }
    let digits_at = command.windows(4).position(|four| four == b"key:").expect("it has just been written") + 4;
    outcome.replies = Vec::with_capacity(total as usize);
    let (start, mut sent) = (Instant::now(), 0u64);
    let give_up = start + Duration::from_secs_f64(options.seconds + 10.0);
    while (outcome.replies.len() as u64) < total {
        let now = Instant::now();
        if now > give_up {
            let missing = total - outcome.replies.len() as u64;
            return Err(std::io::Error::other(format!("{missing} of {total} replies are missing")));
        }
        let due_at = |sent: u64| start + between.mul_f64(sent as f64);
        while sent < total && due_at(sent) <= now {
            let due = due_at(sent);
            let conn = &mut conns[(sent / options.pipeline % options.connections as u64) as usize];
            for _ in 0..options.pipeline.min(total - sent) {
                // A step that is coprime to most counts visits the keys in a scattered order.
                put_digits(&mut command[digits_at..], sent.wrapping_mul(2_654_435_761) % options.keys);
                conn.output.extend_from_slice(&command);
                conn.due.push_back(due);
                sent += 1;
            }
            conn.flush()?;
        }
        let is_all_sent = sent == total;
        if let Some(beside) = beside.as_mut().filter(|_| !is_all_sent) {
            beside.send_if_due(now.duration_since(start).as_secs_f64())?;
        }
        let patience = match options.may_sleep {
            false => Duration::ZERO,
            true if is_all_sent => Duration::from_millis(10),
            true => due_at(sent).saturating_duration_since(Instant::now()),
        };
        for at in poll.ready(patience)? {
            match (conns.get_mut(at), &mut beside) {
                (Some(conn), _) => conn.read(start, &mut outcome.replies)?,
                (None, Some(beside)) => beside.read(start.elapsed().as_secs_f64(), &mut outcome.beside)?,
                (None, None) => {}
            }
        }
    }
    Ok(outcome)
}

fn put_digits(to: &mut [u8], mut number: u64) {
    for digit in to[..DIGITS].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
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

    fn read(&mut self, start: Instant, replies: &mut Vec<(f64, f64)>) -> std::io::Result<()> {
        if !receive(&mut self.stream, &mut self.input)? {
            return Ok(());
        }
        let now = Instant::now();
        let mut at = 0;
        while let Some((_, used)) = decode(&self.input[at..]) {
            if self.input[at] == b'-' {
                let text = String::from_utf8_lossy(&self.input[at..at + used]).into_owned();
                return Err(std::io::Error::other(text));
            }
            let due = self.due.pop_front().ok_or_else(|| std::io::Error::other("a reply nobody asked for"))?;
            replies.push((due.duration_since(start).as_secs_f64(), now.duration_since(due).as_secs_f64()));
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

    /// Waits no longer than that: the next command is due then.
    fn ready(&self, patience: Duration) -> std::io::Result<Vec<usize>> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        let nanoseconds = i64::from(patience.subsec_nanos());
        let patience = libc::timespec { tv_sec: patience.as_secs() as i64, tv_nsec: nanoseconds };
        let count = events.len() as i32;
        // SAFETY: the kernel writes at most 64 events into `events` and reads `patience`; no signal mask is given.
        match unsafe { libc::epoll_pwait2(self.0, events.as_mut_ptr(), count, &patience, std::ptr::null()) } {
            -1 => Err(std::io::Error::last_os_error()),
            count => Ok(events[..count as usize].iter().map(|event| event.u64 as usize).collect()),
        }
    }
}

#[allow(clippy::print_stdout, reason = "its output is its purpose")]
fn report(options: &Options, outcome: &Outcome) {
    let half_s = options.beside.as_ref().map_or(0.0, |(_, every_s)| every_s / 2.0);
    let is_during = |at_s: f64| outcome.beside.iter().any(|(from_s, to_s, _)| (*from_s..*to_s).contains(&at_s));
    let windows =
        || outcome.beside.iter().map(|(from_s, to_s, _)| *from_s..to_s.max(from_s + half_s).min(options.seconds));
    let is_beside = |at_s: f64| windows().any(|window| window.contains(&at_s));
    let figures = |wanted: &dyn Fn(f64) -> bool| {
        let replies = || outcome.replies.iter();
        let mut sorted_us: Vec<f64> = replies().filter(|reply| wanted(reply.0)).map(|reply| reply.1 * 1e6).collect();
        sorted_us.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| sorted_us.get(((sorted_us.len() as f64 - 1.0) * share) as usize).copied().unwrap_or(0.0);
        // What came meanwhile, whenever it was due.
        let came = replies().filter(|(due_s, took_s)| wanted(due_s + took_s)).count();
        format!(
            "\"replies\":{},\"came\":{came},\"mean_us\":{:.1},\"p50_us\":{:.1},\"p99_us\":{:.1},\"p999_us\":{:.1},\"max_us\":{:.1}",
            sorted_us.len(),
            sorted_us.iter().sum::<f64>() / sorted_us.len().max(1) as f64,
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
        )
    };
    print!("{{\"command\":\"{}\",\"rate\":{},{}", options.command, options.rate, figures(&|_| true));
    if options.beside.is_some() {
        let runs: Vec<String> = outcome
            .beside
            .iter()
            .map(|(from_s, to_s, line)| format!("{{\"seconds\":{:.4},\"reply\":\"{line}\"}}", to_s - from_s))
            .collect();
        let during_s: f64 = outcome.beside.iter().map(|(from_s, to_s, _)| to_s - from_s).sum();
        let with_s: f64 = windows().map(|window| window.end - window.start).sum();
        print!(
            ",\"beside\":[{}],\"during\":{{\"seconds\":{during_s:.4},{}}},\"with\":{{\"seconds\":{with_s:.4},{}}},\"without\":{{\"seconds\":{:.4},{}}}",
            runs.join(","),
            figures(&is_during),
            figures(&is_beside),
            options.seconds - with_s,
            figures(&|at_s| !is_beside(at_s) && at_s < options.seconds),
        );
    }
    println!("}}");
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

// Takes what has arrived. False: nothing.
fn receive(stream: &mut TcpStream, input: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut chunk = [0u8; 16 * 1024];
    match stream.read(&mut chunk) {
        Ok(0) => Err(std::io::Error::other("the server closed a connection")),
        Ok(read) => {
            input.extend_from_slice(&chunk[..read]);
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
