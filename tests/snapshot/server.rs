//! Servers that start again in the folder they left: ours, and redis-server.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::node::{Conn, free_port};

/// A folder that goes when dropped.
pub struct Folder(pub PathBuf);

/// A process; killed when dropped.
pub struct Server {
    process: Child,
    pub port: u16,
}

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tutti-snapshot-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary folder can be made");
        Self(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn read(&self, name: &str) -> String {
        String::from_utf8(std::fs::read(self.file(name)).expect("it is there")).expect("text")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Server {
    /// Ours, in a folder.
    #[track_caller]
    pub fn ours(folder: &Folder, options: &[&str]) -> Self {
        Self::start(Path::new(env!("CARGO_BIN_EXE_tutti-server")), folder, options).expect("it starts")
    }

    /// redis-server, in a folder; `None`, with a message, when there is none.
    pub fn redis(folder: &Folder, options: &[&str]) -> Option<Self> {
        let started = Self::start(Path::new("redis-server"), folder, options);
        if started.is_none() {
            eprintln!("skipped: no redis-server on PATH to exchange files with");
        }
        started
    }

    /// What ours says on standard error when it refuses to start.
    pub fn refusal(folder: &Folder) -> String {
        let output = command(Path::new(env!("CARGO_BIN_EXE_tutti-server")), folder, free_port())
            .stderr(Stdio::piped())
            .output()
            .expect("the server was built");
        assert!(!output.status.success(), "it started");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn start(program: &Path, folder: &Folder, options: &[&str]) -> Option<Self> {
        let port = free_port();
        let process = command(program, folder, port).args(options).spawn().ok()?;
        let mut server = Self { process, port };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.process.try_wait().expect("it is our child");
            assert!(ended.is_none(), "{} ended at once: {ended:?}", program.display());
            assert!(Instant::now() < deadline, "{} does not listen", program.display());
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(server)
    }

    pub fn connect(&self) -> Conn {
        Conn::to(self.port)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.process.kill().expect("it runs");
        let _ = self.process.wait();
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub fn exit_code(mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.process.try_wait().expect("it is our child") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(program: &Path, folder: &Folder, port: u16) -> Command {
    let mut command = Command::new(program);
    let dir = folder.0.to_string_lossy().into_owned();
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir", &dir, "--save", ""])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}
