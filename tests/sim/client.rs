//! Simulated clients: pipelines out, replies in, what a client may rely on checked at once.

use std::collections::{BTreeMap, VecDeque};

use tutti::resp::value::{Value, try_decode};
use tutti::resp::write::encode_command;

use crate::faults::VERIFY;
use crate::ledger::show;
use crate::net::End;
use crate::workload::{self, Command, Expected};
use crate::world::{Input, World, endpoint};

/// How long a reply may take in a run without faults, microseconds.
const PATIENCE_US: u64 = 60_000;

/// See the file's head.
pub struct Client {
    pub node: usize,
    conn: Option<usize>,
    input: Vec<u8>,
    sent: VecDeque<Sent>,
    /// What it has written to keys that only it writes.
    pub memory: Memory,
    /// It left commands behind on a lost connection, which may run at any later time.
    is_in_doubt: bool,
}

/// Values of keys as a client left them; `None`: deleted.
pub type Memory = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

struct Sent {
    command: Command,
    expected: Expected,
    life: u32,
    at_us: u64,
}

impl Client {
    pub fn new(node: usize) -> Self {
        Self { node, conn: None, input: Vec::new(), sent: VecDeque::new(), memory: Memory::new(), is_in_doubt: false }
    }

    /// How many replies it waits for.
    pub fn waits_for(&self) -> usize {
        if self.conn.is_some() { self.sent.len() } else { 0 }
    }
}

impl World {
    /// A client sends a pipeline, connecting first if need be.
    pub fn client_sends(&mut self, at: usize, commands: &[Command]) {
        let node = self.clients[at].node;
        if self.nodes[node].process.as_ref().is_none_or(|process| process.is_stopping) {
            return;
        }
        let conn = match self.clients[at].conn {
            Some(conn) => conn,
            None => {
                let (theirs, core, id) = self.accepting(node);
                let conn = self.connect([End::Client(at), theirs]);
                self.core(node, core).conns.insert(id, (conn, 1));
                let life = self.nodes[node].life;
                self.input(node, life, core, Input::Accepted(id, endpoint(format!("client:{at}"))));
                self.clients[at].conn = Some(conn);
                self.clients[at].memory.clear();
                conn
            }
        };
        let life = self.nodes[node].life;
        let mut bytes = Vec::new();
        for command in commands {
            encode_command(&mut bytes, &command.args);
            let expected = workload::expected(command, &mut self.clients[at].memory);
            let at_us = self.now_us;
            self.clients[at].sent.push_back(Sent { command: command.clone(), expected, life, at_us });
            for (key, writes) in workload::writes(&command.args, None) {
                self.ledger.count(node, life, key).unknown += writes;
            }
            self.ledger.commands += 1;
        }
        self.send(conn, 0, &bytes);
    }

    /// Replies arrive.
    pub fn client_hears(&mut self, at: usize, conn: usize, bytes: &[u8]) {
        if self.clients[at].conn != Some(conn) {
            return;
        }
        self.clients[at].input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.clients[at].input);
        let mut used = 0;
        loop {
            match try_decode(&input[used..]) {
                Ok(Some((reply, bytes))) => {
                    used += bytes;
                    self.replied(at, &reply);
                }
                Ok(None) => break,
                Err(error) => return self.breaks(|| format!("client {at} cannot read a reply: {error}")),
            }
        }
        self.clients[at].input = input[used..].to_vec();
    }

    fn replied(&mut self, at: usize, reply: &Value) {
        let node = self.clients[at].node;
        let Some(sent) = self.clients[at].sent.pop_front() else {
            return self.breaks(|| format!("client {at} got a reply it had not asked for: {reply:?}"));
        };
        let args = &sent.command.args;
        self.note(args.get(1).map(Vec::as_slice), || {
            format!("client {at} of node {node}: {} => {}", line(args), brief(reply))
        });
        for (key, writes) in workload::writes(args, None) {
            let count = self.ledger.count(node, sent.life, key);
            count.unknown = count.unknown.saturating_sub(writes);
        }
        for (key, writes) in workload::writes(args, Some(reply)) {
            self.ledger.count(node, sent.life, key).told += writes;
        }
        // What comes back after a node lost its memory may carry later stamps than what is written now.
        if sent.life == 1
            && !self.clients[at].is_in_doubt
            && !self.plan.has_flushes()
            && let Some(what) = workload::contradiction(&sent.expected, reply)
        {
            self.breaks(|| format!("client {at} of node {node}: {}: {what}", line(args)));
        }
        // It waits for other nodes.
        let is_verify = args.get(1).is_some_and(|word| word == VERIFY[1]);
        if is_verify {
            self.verified(node, reply);
        }
        if let Value::Error(text) = reply
            && !workload::is_usual(text)
        {
            self.breaks(|| format!("client {at} of node {node}: {} => {text}", line(args)));
        }
        // Where nothing goes wrong nothing waits for a timer.
        if self.plan.is_calm && !is_verify && self.now_us - sent.at_us > PATIENCE_US {
            self.breaks(|| format!("client {at} of node {node}: answered late: {}", line(args)));
        }
        let waited_s = (self.now_us - sent.at_us) / 1_000_000;
        if waited_s > 30 {
            self.breaks(|| format!("client {at} waited {waited_s} s for {}", line(args)));
        }
    }

    // MULTIMASTER VERIFY has told something. What it has found is counted by the nodes (`check_digests`).
    fn verified(&mut self, node: usize, reply: &Value) {
        let Value::Bulk(report) = reply else { return };
        let report = String::from_utf8_lossy(report).into_owned();
        match report.lines().find_map(|line| line.strip_prefix("result:")) {
            Some("equal") => self.coverage.hit("VERIFY: equal"),
            Some(_) if self.is_at_rest => self.breaks(|| format!("VERIFY on node {node}: {report}")),
            Some(_) => self.coverage.hit("VERIFY: cut short, or something was under way"),
            None => self.breaks(|| format!("VERIFY on node {node} tells no result: {report}")),
        }
    }

    /// Its connection is gone: what it has not heard of may or may not have happened.
    pub fn client_lost(&mut self, at: usize, conn: usize) {
        let client = &mut self.clients[at];
        if client.conn == Some(conn) {
            client.conn = None;
            client.input.clear();
            client.is_in_doubt |= !client.sent.is_empty();
            client.sent.clear();
            client.memory.clear();
        }
    }

    /// It does not wait for a life of its node that is over.
    pub fn client_reconnects(&mut self, at: usize) {
        let Some(conn) = self.clients[at].conn else { return };
        let is_over = match self.net.conns[conn].ends[1] {
            End::Core { node, life, .. } => !self.nodes[node].is_alive(life),
            End::Client(_) => false,
        };
        if is_over {
            self.client_leaves(at);
        }
    }

    /// It hangs up.
    pub fn client_leaves(&mut self, at: usize) {
        if let Some(conn) = self.clients[at].conn {
            self.client_lost(at, conn);
            self.close(conn, 0, false);
        }
    }
}

fn line(args: &[Vec<u8>]) -> String {
    args.iter().map(|arg| show(arg)).collect::<Vec<_>>().join(" ")
}

fn brief(reply: &Value) -> String {
    let text = format!("{reply:?}");
    match reply {
        Value::Bulk(bytes) if bytes.starts_with(b"node:") => String::from_utf8_lossy(bytes).into_owned(),
        Value::Bulk(bytes) => format!("\"{}\"", show(bytes)),
        _ => text.chars().take(200).collect(),
    }
}
