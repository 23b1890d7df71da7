//! A real redis-server to compare with, when there is one on PATH.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tutti::resp::value::decode;
use tutti::resp::write::encode_command;

/// A server of our own on a free port, without files, and one connection to it. Stopped when the last test that uses
/// it is done.
pub struct Redis {
    process: Child,
    stream: Mutex<TcpStream>,
}

/// The server, locked for one test. Empty at first.
pub struct Session<'a> {
    stream: MutexGuard<'a, TcpStream>,
}

impl Redis {
    /// The server all tests of this program share; `None`, with a message, when there is none to start.
    pub fn shared() -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<Redis>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Some(running);
        }
        let started = Self::start().map(Arc::new);
        match &started {
            Some(redis) => *shared = Arc::downgrade(redis),
            None => eprintln!("skipped: no redis-server on PATH to compare with"),
        }
        started
    }

    pub fn session(&self) -> Session<'_> {
        let mut session = Session { stream: self.stream.lock().unwrap_or_else(PoisonError::into_inner) };
        session.run(&["FLUSHALL"]);
        session.run(&["SELECT", "0"]);
        session
    }

    fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let mut process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        for _ in 0..500 {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                stream.set_nodelay(true).ok()?;
                return Some(Self { process, stream: Mutex::new(stream) });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = process.kill();
        None
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Session<'_> {
    /// Runs one command and returns the raw reply.
    pub fn run<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Vec<u8> {
        let mut request = Vec::new();
        encode_command(&mut request, args);
        self.stream.write_all(&request).expect("redis-server reads");
        let mut reply = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let read = self.stream.read(&mut chunk).expect("redis-server answers");
            assert!(read > 0, "redis-server closed the connection");
            reply.extend_from_slice(&chunk[..read]);
            if decode(&reply).is_some_and(|(_, used)| used == reply.len()) {
                return reply;
            }
        }
    }
}
