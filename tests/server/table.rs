//! COMMAND, compared with a redis-server where there is one.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use tutti::resp::value::Value;

use crate::node::{Conn, Node, eventually, free_port, text};

#[test]
fn commands_can_be_counted_listed_and_described() {
    let node = Node::start(&[]);
    let mut conn = node.connect();
    let Value::Array(all) = conn.run("COMMAND") else { panic!("not a list") };
    assert_eq!(conn.text("COMMAND COUNT"), all.len().to_string());
    assert_eq!(conn.text("COMMAND INFO nonsense"), "(nil)");
    assert_eq!(conn.text("COMMAND LIST FILTERBY PATTERN 'hge*'"), "hget hgetall");
    assert!(conn.text("COMMAND DOCS get").starts_with("get summary "));
    assert!(conn.text("COMMAND DOCS 'multimaster|digest'").contains("Returns a digest of all keys"));
    for (line, reply) in [
        ("COMMAND GETKEYS MSET a 1 b 2", "a b"),
        ("COMMAND GETKEYS GET k", "k"),
        ("COMMAND GETKEYSANDFLAGS GET k", "k RO access"),
        ("COMMAND GETKEYS PING hello", "-ERR The command has no key arguments"),
        ("COMMAND GETKEYS NONSENSE a", "-ERR Invalid command specified"),
        ("COMMAND GETKEYS GET a b", "-ERR Invalid number of arguments specified for command"),
        ("COMMAND LIST FILTERBY NONSENSE a", "-ERR syntax error"),
    ] {
        assert_eq!(conn.text(line), reply, "{line}");
    }
}

#[test]
fn arity_flags_keys_and_categories_are_those_of_redis() {
    let Some(redis) = Redis::start() else { return eprintln!("skipped: no redis-server on PATH to compare with") };
    let node = Node::start(&[]);
    let theirs = rows(&mut redis.connect());
    let mut different = Vec::new();
    for (name, ours) in rows(&mut node.connect()) {
        // REPLICAOF takes REMOVE, as in KeyDB.
        let Some(theirs) = theirs.get(&name).filter(|_| name != "replicaof") else { continue };
        if ours != *theirs {
            different.push(format!("{name}\n  ours   {ours}\n  redis  {theirs}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

// Everything but hints and key specifications, as one line for each command and subcommand.
fn rows(conn: &mut Conn) -> BTreeMap<String, String> {
    let Value::Array(all) = conn.run("COMMAND") else { panic!("not a list") };
    let mut rows = BTreeMap::new();
    all.iter().for_each(|row| put(row, &mut rows));
    rows
}

fn put(row: &Value, rows: &mut BTreeMap<String, String>) {
    let Value::Array(fields) = row else { panic!("not a row: {row:?}") };
    let sorted = |value: &Value| {
        let (Value::Array(items) | Value::Set(items)) = value else { panic!("not a list: {value:?}") };
        let mut words: Vec<String> = items.iter().map(text).collect();
        words.sort();
        words.join(",")
    };
    let keys: Vec<String> = fields[3..6].iter().map(text).collect();
    let line =
        format!("{} [{}] keys {} [{}]", text(&fields[1]), sorted(&fields[2]), keys.join(" "), sorted(&fields[6]));
    rows.insert(text(&fields[0]), line);
    if let Value::Array(subs) = &fields[9] {
        subs.iter().for_each(|sub| put(sub, rows));
    }
}

pub(crate) struct Redis {
    process: Child,
    port: u16,
}

impl Redis {
    pub(crate) fn start() -> Option<Self> {
        let port = free_port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]).stdout(Stdio::null());
        let redis = Self { process: command.spawn().ok()?, port };
        eventually("redis-server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(redis)
    }

    pub(crate) fn connect(&self) -> Conn {
        Conn::to(self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
