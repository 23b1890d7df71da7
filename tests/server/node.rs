//! A server of our own, and connections to it.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use tutti::resp::value::{Value, decode};
use tutti::resp::write::encode_command;

/// Nothing here may take longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a node logs, in its folder.
const LOG: &str = "stdout.log";

/// A running server with two cores and a folder of its own; killed when dropped.
pub struct Node {
    process: Child,
    command: Command,
    pub port: u16,
    pub folder: PathBuf,
}

/// One connection.
pub struct Conn {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

impl Node {
    /// Started with these options beside the usual ones.
    #[track_caller]
    pub fn start(options: &[&str]) -> Self {
        Self::start_with_file(None, options)
    }

    /// The same with a configuration file of this content.
    #[track_caller]
    pub fn start_with_file(content: Option<&str>, options: &[&str]) -> Self {
        Self::start_with(content, &[], options)
    }

    /// The same with these variables in the environment.
    #[track_caller]
    pub fn start_with_env(env: &[(&str, &str)], options: &[&str]) -> Self {
        Self::start_with(None, env, options)
    }

    /// Started on a copy of another node's folder, which may go on running.
    #[track_caller]
    pub fn start_copy_of(other: &Node, options: &[&str]) -> Self {
        let (port, folder) = new_folder();
        for file in std::fs::read_dir(&other.folder).expect("it is there") {
            let file = file.expect("it can be read").path();
            let name = file.file_name().expect("a file");
            std::fs::copy(&file, folder.join(name)).expect("the folder is writable");
        }
        Self::start_there(port, folder, None, &[], options)
    }

    #[track_caller]
    fn start_with(content: Option<&str>, env: &[(&str, &str)], options: &[&str]) -> Self {
        let (port, folder) = new_folder();
        Self::start_there(port, folder, content, env, options)
    }

    #[track_caller]
    fn start_there(port: u16, folder: PathBuf, content: Option<&str>, env: &[(&str, &str)], options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tutti-server"));
        if let Some(content) = content {
            let path = folder.join("tutti.conf");
            std::fs::write(&path, content).expect("the folder is writable");
            command.arg(path);
        }
        let dir = folder.to_string_lossy().into_owned();
        let log = std::fs::File::create(folder.join(LOG)).expect("the folder is writable");
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir", &dir, "--save", ""])
            .args(["--server-threads", "2"])
            .args(options)
            .envs(env.iter().copied())
            .stdout(log);
        let process = command.spawn().expect("the server was built");
        let node = Self { process, command, port, folder };
        node.wait_until_it_listens();
        node
    }

    /// Killed at once, and started again with the same options and on its folder, which `change` may change before.
    #[track_caller]
    pub fn kill_and_start(&mut self, change: impl FnOnce(&Path)) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it is our child");
        // The kernel closes what a ring holds a little later.
        eventually("nobody listens any more", || TcpStream::connect(("127.0.0.1", self.port)).is_err());
        change(&self.folder);
        self.process = self.command.spawn().expect("the server was built");
        self.wait_until_it_listens();
    }

    #[track_caller]
    fn wait_until_it_listens(&self) {
        eventually("the server accepts connections", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    pub fn connect(&self) -> Conn {
        Conn::to(self.port)
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join(LOG)).expect("it was made")
    }

    /// One connection on each core, by its CLIENT ID: ids of one core are equal modulo the number of cores.
    pub fn connect_to_each_core(&self) -> [Conn; 2] {
        let mut found: [Option<Conn>; 2] = [None, None];
        let deadline = Instant::now() + PATIENCE;
        while found.iter().any(Option::is_none) {
            assert!(Instant::now() < deadline, "the kernel gives every connection to one core");
            let mut conn = self.connect();
            let Value::Integer(id) = conn.run("CLIENT ID") else { panic!("no id") };
            found[(id % 2) as usize].get_or_insert(conn);
        }
        found.map(|conn| conn.expect("the loop ended"))
    }

    /// Waits for the process to end by itself.
    pub fn exit_code(&mut self) -> Option<i32> {
        let mut code = None;
        eventually("the server ends", || {
            let status = self.process.try_wait().expect("it is our child");
            code = status.and_then(|status| status.code());
            status.is_some()
        });
        code
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Conn {
    pub fn to(port: u16) -> Self {
        Self::to_address(([127, 0, 0, 1], port).into())
    }

    pub fn to_address(address: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a positive time");
        Self { stream, unread: Vec::new() }
    }

    /// Sends a line of words and returns the reply.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> Value {
        self.send(line);
        self.receive().unwrap_or_else(|| panic!("{line}: closed instead of a reply"))
    }

    /// The same, the reply as text: errors with a minus sign, statuses and bulks bare.
    #[track_caller]
    pub fn text(&mut self, line: &str) -> String {
        text(&self.run(line))
    }

    pub fn send(&mut self, line: &str) {
        let words: Vec<Vec<u8>> = tutti::base::text::split_quoted(line.as_bytes()).expect("balanced quotes");
        let mut request = Vec::new();
        encode_command(&mut request, &words);
        self.send_raw(&request);
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// The next reply; `None` when the server has closed the connection.
    #[track_caller]
    pub fn receive(&mut self) -> Option<Value> {
        let mut chunk = [0; 65536];
        loop {
            if let Some((value, used)) = decode(&self.unread) {
                self.unread.drain(..used);
                return Some(value);
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(read) => self.unread.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no reply: {error}"),
            }
        }
    }

    /// So many raw bytes.
    #[track_caller]
    pub fn receive_raw(&mut self, count: usize) -> String {
        let mut chunk = [0; 4096];
        while self.unread.len() < count {
            let read = self.stream.read(&mut chunk).expect("the server answers");
            assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&self.unread));
            self.unread.extend_from_slice(&chunk[..read]);
        }
        String::from_utf8_lossy(&self.unread.drain(..count).collect::<Vec<_>>()).into_owned()
    }

    /// One field of INFO.
    #[track_caller]
    pub fn info(&mut self, field: &str) -> String {
        let all = self.text("INFO everything");
        let prefix = format!("{field}:");
        all.lines()
            .find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
            .unwrap_or_else(|| panic!("INFO has no {field}"))
    }
}

pub fn text(value: &Value) -> String {
    match value {
        Value::Simple(text) => text.clone(),
        Value::Error(text) => format!("-{text}"),
        Value::Integer(n) => n.to_string(),
        Value::Bulk(bytes) | Value::Verbatim(_, bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Nil => "(nil)".into(),
        Value::Array(items) | Value::Set(items) => items.iter().map(text).collect::<Vec<_>>().join(" "),
        Value::Map(pairs) => {
            pairs.iter().map(|(key, value)| format!("{}={}", text(key), text(value))).collect::<Vec<_>>().join(" ")
        }
        other => format!("{other:?}"),
    }
}

/// Asks again and again until it is so.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn new_folder() -> (u16, PathBuf) {
    let port = free_port();
    let folder = std::env::temp_dir().join(format!("tutti-server-test-{}-{port}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder can be made");
    (port, folder)
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}
