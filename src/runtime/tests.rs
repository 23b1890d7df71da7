//! The runtime over real sockets, driving [`Toy`]. Every wait has a deadline: reads time out, and a test that needs
//! a state polls for it.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::marks::{Mark, count};
use super::toy::Toy;
use super::{Port, Running, Settings, start};
use crate::base::rng::Rng;

const DEADLINE: Duration = Duration::from_secs(20);

/// A node that is stopped at the end of the test.
struct Node(Option<Running>);

impl Node {
    fn start(threads: usize) -> Self {
        Self::with(Settings { threads: Some(threads), ..Settings::default() })
    }

    fn with(settings: Settings) -> Self {
        let settings = Settings { port: Port::Any, bind: vec!["127.0.0.1".into()], pin_threads: false, ..settings };
        Self(Some(start(&settings, Toy::new).expect("start a node")))
    }

    fn address(&self) -> SocketAddr {
        self.0.as_ref().expect("not stopped").addresses()[0]
    }

    fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// A client served by this core.
    fn client_of(&self, shard: u16) -> Client {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            let mut client = self.client();
            if client.ask("WHO").starts_with(&format!("{shard} ")) {
                return client;
            }
        }
        panic!("no connection reached core {shard}");
    }

    fn stop(mut self) -> i32 {
        let running = self.0.take().expect("stopped once");
        running.stop();
        running.wait()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            running.stop();
            running.wait();
        }
    }
}

/// A client that fails instead of hanging.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("set a timeout");
        stream.set_nodelay(true).expect("set nodelay");
        Self(BufReader::new(stream))
    }

    fn stream(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }

    fn write(&mut self, text: &str) {
        self.stream().write_all(text.as_bytes()).expect("write");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("read a line");
        line.trim_end().to_owned()
    }

    fn ask(&mut self, command: &str) -> String {
        self.write(&format!("{command}\n"));
        self.line()
    }

    fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).expect("read to the end");
        rest
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A path of this test's own.
fn scratch(name: &str) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("tutti-runtime-{}-{number}-{name}", std::process::id()))
}

#[test]
fn answers_come_in_order_for_single_commands_and_pipelines() {
    let node = Node::start(1);
    let mut client = node.client();
    assert_eq!(client.ask("PING"), "PONG");
    let mut pipeline = String::new();
    (0..5000).for_each(|number| writeln!(pipeline, "ECHO {number}").expect("write to a string"));
    client.write(&pipeline);
    (0..5000).for_each(|number| assert_eq!(client.line(), number.to_string()));
    assert_eq!(node.stop(), 0);
}

#[test]
fn command_cut_at_every_byte_is_answered() {
    let node = Node::start(1);
    let mut client = node.client();
    for byte in b"ECHO hello\n" {
        client.stream().write_all(&[*byte]).expect("write");
    }
    assert_eq!(client.line(), "hello");
}

#[test]
fn slow_reader_gets_all_of_a_large_output_and_delays_nobody() {
    let node = Node::start(1);
    let mut slow = node.client();
    let bytes = 24 << 20;
    slow.write(&format!("BIG {bytes}\n"));
    // Its socket is full now; others are served while it does not read.
    let mut other = node.client();
    for _ in 0..100 {
        assert_eq!(other.ask("PING"), "PONG");
    }
    // More output joins behind what is in flight.
    slow.write("ECHO behind\nCLOSE\n");
    assert_eq!(other.ask("PING"), "PONG");
    let all = slow.rest();
    assert_eq!(all.len(), bytes + "\nbehind\nBYE\n".len());
    let is_pattern = |(at, byte): (usize, &u8)| *byte == b'a' + (at % 23) as u8;
    assert!(all[..bytes].iter().enumerate().step_by(7).all(is_pattern), "bytes changed on their way");
    assert!(all.ends_with(b"\nbehind\nBYE\n"));
}

/// Asks for outputs of many sizes without reading until the socket is long full, then reads them all.
fn fill_and_drain(asking: &mut impl Write, reading: &mut impl BufRead, other: &mut Client, rng: &mut Rng) {
    let mut sizes = Vec::new();
    // Each is an output of its own: the ping's answer says that the round before is over.
    while sizes.iter().sum::<u64>() < 6_000_000 {
        sizes.push(1 + rng.below(16_000));
        asking.write_all(format!("BIG {}\n", sizes[sizes.len() - 1]).as_bytes()).expect("write");
        assert_eq!(other.ask("PING"), "PONG");
    }
    for size in sizes {
        let mut line = String::new();
        reading.read_line(&mut line).expect("read a line");
        assert_eq!(line.len() as u64, size + 1);
        assert!(line.trim_end().bytes().enumerate().all(|(at, byte)| byte == b'a' + (at % 23) as u8));
    }
}

#[test]
fn small_outputs_that_find_the_socket_full_are_cut_anywhere_and_kept_in_order() {
    let path = scratch("full");
    let settings = Settings { threads: Some(1), unix_socket: Some(path.clone()), ..Settings::default() };
    let node = Node::with(settings);
    let mut other = node.client();
    let mut rng = Rng::new(7);
    // TCP takes a part of what does not fit.
    let mut client = node.client();
    let mut asking = client.stream().try_clone().expect("clone the socket");
    for _ in 0..3 {
        fill_and_drain(&mut asking, &mut client.0, &mut other, &mut rng);
    }
    assert!(count(Mark::ShortSend) > 0, "no send was cut short");
    // A Unix socket takes all or nothing of a small send.
    let mut asking = UnixStream::connect(&path).expect("connect");
    asking.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
    let mut reading = BufReader::new(asking.try_clone().expect("clone the socket"));
    for _ in 0..3 {
        fill_and_drain(&mut asking, &mut reading, &mut other, &mut rng);
    }
    assert!(count(Mark::NoRoom) > 0, "no send found the socket full");
}

#[test]
fn half_closed_client_gets_its_pending_answers_and_then_the_end() {
    let node = Node::start(1);
    let mut client = node.client();
    client.write("BIG 3000000\nECHO last\n");
    client.stream().shutdown(Shutdown::Write).expect("shutdown");
    let rest = client.rest();
    assert_eq!(rest.len(), 3_000_001 + 5);
    assert!(rest.ends_with(b"\nlast\n"));
}

#[test]
fn close_after_flush_delivers_and_close_does_not_wait() {
    let node = Node::start(1);
    let mut client = node.client();
    client.write("CLOSE\n");
    assert_eq!(client.rest(), b"BYE\n");
    let mut client = node.client();
    client.write("KILL\n");
    assert_eq!(client.rest(), b"");
}

#[test]
fn reset_in_the_middle_of_a_write_ends_only_that_connection() {
    let node = Node::start(1);
    let mut other = node.client();
    for _ in 0..50 {
        let mut client = node.client();
        client.write("BIG 8000000\n");
        let mut first = [0; 1000];
        client.0.read_exact(&mut first).expect("read some");
        reset(client.0.into_inner());
        assert_eq!(other.ask("PING"), "PONG");
    }
}

/// Closes with an RST instead of a FIN.
fn reset(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let len = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the kernel reads `linger`, which lives through the call.
    let result = unsafe {
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), len)
    };
    assert_eq!(result, 0);
}

#[test]
fn thousand_connections_are_served_and_their_slots_reused() {
    super::process::raise_file_limit(5000, 2);
    let node = Node::start(2);
    for round in 0..2 {
        let mut clients: Vec<_> = (0..1000).map(|_| node.client()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.write(&format!("ECHO {round} {number}\n"));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.line(), format!("{round} {number}"));
        }
    }
}

#[test]
fn more_senders_than_receive_buffers_are_all_heard() {
    let node = Node::with(Settings { threads: Some(1), receive_buffers: 4, ..Settings::default() });
    let mut clients: Vec<_> = (0..200).map(|_| node.client()).collect();
    let junk = "x".repeat(60_000);
    for (number, client) in clients.iter_mut().enumerate() {
        client.write(&format!("ECHO {number} {junk}\n"));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let line = client.line();
        assert!(line.starts_with(&format!("{number} xxx")) && line.ends_with('x'));
        assert_eq!(line.len(), number.to_string().len() + 1 + junk.len());
    }
    assert!(count(Mark::OutOfBuffers) > 0, "there were always buffers");
}

#[test]
fn paused_connection_delivers_again_after_resume_and_others_never_stop() {
    let node = Node::start(1);
    let (mut paused, mut other) = (node.client(), node.client());
    let began = Instant::now();
    paused.write("PAUSE 300\n");
    // Given time to pause; what arrives after that stays with the kernel.
    until("other answers", || other.ask("PING") == "PONG" && began.elapsed() > Duration::from_millis(50));
    paused.write("ECHO after\n");
    assert_eq!(other.ask("PING"), "PONG");
    assert_eq!(paused.line(), "after");
    assert!(began.elapsed() >= Duration::from_millis(300), "answered while paused: {:?}", began.elapsed());
    // Pause and resume in quick succession, with the cancel under way.
    for _ in 0..50 {
        paused.write("PAUSE 0\nECHO x\n");
        assert_eq!(paused.line(), "x");
    }
}

#[test]
fn batches_cross_cores_and_come_back_in_order() {
    let node = Node::start(2);
    let (mut zero, mut one) = (node.client_of(0), node.client_of(1));
    for number in 0..200 {
        assert_eq!(zero.ask(&format!("HOP 1 {number}")), number.to_string());
        assert_eq!(one.ask(&format!("HOP 0 {number}")), number.to_string());
    }
    let mut pipeline = String::new();
    (0..2000).for_each(|number| writeln!(pipeline, "HOP 1 {number}").expect("write to a string"));
    zero.write(&pipeline);
    (0..2000).for_each(|number| assert_eq!(zero.line(), number.to_string()));
}

#[test]
fn tiny_mesh_under_load_from_all_sides_loses_nothing() {
    // Few buffers too: what is kept while the mesh is full holds them all.
    let settings = Settings { threads: Some(3), mesh_batches: 1, receive_buffers: 4, ..Settings::default() };
    let node = Node::with(settings);
    let address = node.address();
    let clients: Vec<_> = (0..12)
        .map(|seed| {
            thread::spawn(move || {
                let mut client = Client::connect(address);
                for round in 0..60 {
                    let mut pipeline = String::new();
                    (0..50).for_each(|number| {
                        writeln!(pipeline, "HOP {} {round}.{number}", (seed + round) % 3).expect("write to a string");
                    });
                    client.write(&pipeline);
                    (0..50).for_each(|number| assert_eq!(client.line(), format!("{round}.{number}")));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().expect("a client failed"));
    assert!(count(Mark::Held) > 0, "the mesh was never full");
}

#[test]
fn dial_ends_once_connected_refused_unresolvable_or_late() {
    let node = Node::start(1);
    let mut client = node.client();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("bound").port();
    assert_eq!(client.ask(&format!("DIAL 127.0.0.1 {port} 5000")), format!("DIALED 127.0.0.1:{port}"));
    let by_name = client.ask(&format!("DIAL localhost {port} 5000"));
    assert_eq!(by_name, format!("DIALED 127.0.0.1:{port}"));
    drop(listener);
    let refused = client.ask(&format!("DIAL 127.0.0.1 {port} 5000"));
    assert!(refused.starts_with("FAILED") && refused.contains("refused"), "{refused}");
    let unknown = client.ask(&format!("DIAL no-such-host.invalid {port} 10000"));
    assert!(unknown.starts_with("FAILED") && unknown.contains("no-such-host.invalid"), "{unknown}");
}

#[test]
fn dial_that_never_answers_ends_in_time_and_delays_nobody() {
    let node = Node::start(1);
    let (mut client, mut other) = (node.client(), node.client());
    // A listener whose queue is full leaves connects unanswered.
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    // SAFETY: a plain system call on a descriptor we own.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let target = listener.local_addr().expect("bound");
    let connect = || TcpStream::connect_timeout(&target, Duration::from_millis(50));
    let mut fillers = Vec::new();
    until("the queue is full", || match connect() {
        Ok(stream) => {
            fillers.push(stream);
            false
        }
        Err(_) => true,
    });
    let began = Instant::now();
    client.write(&format!("DIAL 127.0.0.1 {} 200\n", target.port()));
    let mut pings = 0;
    while began.elapsed() < Duration::from_millis(150) {
        assert_eq!(other.ask("PING"), "PONG");
        pings += 1;
    }
    assert!(pings > 20, "only {pings} answers while a dial waited");
    let late = client.line();
    assert!(late.contains("longer than 200 ms"), "{late}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn file_is_written_committed_and_read_back_while_clients_are_served() {
    let node = Node::start(1);
    let path = scratch("file");
    let (mut client, mut other) = (node.client(), node.client());
    client.write(&format!("WRITE 5000000 {}\n", path.display()));
    client.stream().set_nonblocking(true).expect("set nonblocking");
    let mut pings = 0;
    until("the file is written", || {
        assert_eq!(other.ask("PING"), "PONG");
        pings += 1;
        let mut peek = [0; 1];
        !matches!(client.stream().peek(&mut peek), Err(error) if error.kind() == ErrorKind::WouldBlock)
    });
    client.stream().set_nonblocking(false).expect("set blocking");
    assert_eq!(client.line(), "WROTE 5000000");
    assert!(pings > 5, "only {pings} answers while a file was written");
    assert_eq!(std::fs::metadata(&path).expect("committed").len(), 5_000_000);
    assert!(!path.with_extension("tmp").exists());
    // Without any traffic, the pump sleeps in glommio.
    assert_eq!(client.ask(&format!("WRITE 300000 {}", path.display())), "WROTE 300000");
    assert!(count(Mark::SleptInGlommio) > 0, "the pump never slept in glommio");
    std::fs::remove_file(&path).expect("remove");
    let failed = client.ask("WRITE 10 /no-such-folder/file");
    assert!(failed.starts_with("FAILED create /no-such-folder/file.tmp: "), "{failed}");
}

#[test]
fn unix_socket_is_served_replaces_a_stale_file_and_is_removed_at_the_end() {
    let path = scratch("socket");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a stale socket file"));
    assert!(path.exists());
    let settings = Settings {
        threads: Some(1),
        unix_socket: Some(path.clone()),
        unix_socket_mode: Some(0o700),
        ..Settings::default()
    };
    let node = Node::with(settings);
    let mut stream = UnixStream::connect(&path).expect("connect");
    stream.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
    stream.write_all(b"WHO\nCLOSE\n").expect("write");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("read");
    assert_eq!(text, format!("0 {0}:0 {0}:0 true\nBYE\n", path.display()));
    node.stop();
    assert!(!path.exists());
}

#[test]
fn port_in_use_is_one_line_and_optional_addresses_are_skipped() {
    let node = Node::start(1);
    let port = Port::Number(node.address().port());
    let settings = Settings { threads: Some(1), port, bind: vec!["127.0.0.1".into()], ..Settings::default() };
    let error = start(&settings, Toy::new).expect_err("the port is taken");
    assert!(error.contains("in use") && !error.contains('\n'), "{error}");
    let bind = vec!["127.0.0.1".into(), "-192.0.2.1".into()];
    let settings = Settings { threads: Some(1), port: Port::Any, bind, ..Settings::default() };
    let node = Node(Some(start(&settings, Toy::new).expect("the missing address is optional")));
    assert_eq!(node.client().ask("PING"), "PONG");
}

#[test]
fn exit_of_one_core_stops_all_and_its_code_wins() {
    let node = Node::start(2);
    let mut client = node.client();
    client.write("ECHO last words\nEXIT 3\n");
    assert_eq!(client.line(), "last words");
    assert_eq!(client.rest(), b"");
    let mut node = node;
    assert_eq!(node.0.take().expect("running").wait(), 3);
}
