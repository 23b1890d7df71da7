//! What tests share: a single shard driven without sockets, and scripts of commands with their expected replies.

pub mod redis;

use std::sync::Arc;

use tutti::base::ids::{Db, ShardId, Uuid};
use tutti::base::slot::ShardMap;
use tutti::base::text::split_quoted;
use tutti::base::time::Now;
use tutti::command::args::Args;
use tutti::command::spec::Run;
use tutti::command::{Ctx, Limits, table};
use tutti::merge::origins::OriginId;
use tutti::merge::realm::Realm;
use tutti::resp::parse::{Argv, Limits as ParseLimits, Parsed, Parser};
use tutti::resp::value::{Value, decode};
use tutti::resp::write::{Reply, Version, encode_command};
use tutti::shard::{Shard, ShardSettings};

/// One shard that owns every key, and a clock that moves only when told.
pub struct Solo {
    pub shard: Shard,
    pub now: Now,
    pub db: Db,
    pub version: Version,
}

impl Solo {
    pub fn new() -> Self {
        let own = OriginId { node: Uuid([1; 16]), incarnation: 1 };
        let settings = ShardSettings {
            id: ShardId(0),
            map: ShardMap::new(1),
            databases: 16,
            backlog_bytes_max: 1 << 20,
            drift_ms_max: 1000,
            seed: 1,
        };
        let now = Now { wall_ms: 1_770_000_000_000, mono_us: 1_000_000 };
        Self { shard: Shard::new(Arc::new(Realm::new(own, 1)), &settings), now, db: Db(0), version: Version::Resp2 }
    }

    pub fn advance_ms(&mut self, ms: u64) {
        self.now.wall_ms += ms;
        self.now.mono_us += ms * 1000;
        let mut work = 0;
        for _ in 0..1000 {
            if !self.shard.background(self.now, &mut work) {
                break;
            }
        }
    }

    /// Runs one command given as its arguments and returns the raw reply.
    pub fn run_args(&mut self, args: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_command(&mut bytes, args);
        let (mut parser, mut argv) = (Parser::new(), Argv::new());
        let parsed = parser.next(&bytes, &ParseLimits::default(), &mut argv).expect("well formed");
        assert!(matches!(parsed, Parsed::Command { .. }));
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, self.version);
        let mut args = Args::new(&argv, &bytes);
        let Some((_, spec)) = table::resolve(args.get(0).expect("a name"), args.get(1)) else {
            reply.error("ERR unknown command");
            return out;
        };
        let wrong_arity = spec.arity >= 0 && args.count() != spec.arity as usize
            || spec.arity < 0 && args.count() < spec.arity.unsigned_abs() as usize;
        if wrong_arity {
            reply.error(&format!("ERR wrong number of arguments for '{}' command", spec.name));
            return out;
        }
        let handler = match spec.run {
            Run::Owner(handler) | Run::Gather(handler) | Run::Cursor(handler) => handler,
            Run::Split(handler, _) | Run::Everywhere(handler, _) => handler,
            Run::Home(_) => panic!("{} runs at home: test it through a worker", spec.name),
        };
        let (limits, mut scratch) = (Limits::default(), Vec::new());
        let mut ctx = Ctx {
            shard: &mut self.shard,
            db: self.db,
            now: self.now,
            limits: &limits,
            scratch: &mut scratch,
            foreseen: None,
        };
        let mark = reply.mark();
        if let Err(error) = handler(&mut ctx, &mut args, &mut reply) {
            reply.truncate(mark);
            reply.error(&error.to_string());
        }
        out
    }

    /// Whether a key exists and has a deadline.
    pub fn has_deadline(&self, key: &[u8]) -> bool {
        let key = self.shard.key(key);
        self.shard.peek(self.db, &key, self.now).is_some_and(|found| found.deadline.is_some())
    }

    /// Runs one command line (quoted as redis-cli reads it) and returns the reply as readable text.
    pub fn run(&mut self, line: &str) -> String {
        let args = split_quoted(line.as_bytes()).expect("balanced quotes");
        let reply = self.run_args(&args);
        let (value, used) = decode(&reply).unwrap_or_else(|| panic!("{line}: undecodable {reply:?}"));
        assert_eq!(used, reply.len(), "{line}: one command, one reply");
        show(&value)
    }
}

/// Runs a script on a fresh shard. A line is `COMMAND => reply`; `advance 100` moves time by 100 ms; `select 3`
/// switches the database; empty lines and lines that begin with `#` are skipped.
#[track_caller]
pub fn check(script: &str) {
    let mut solo = Solo::new();
    for line in lines(script) {
        if let Some(ms) = line.strip_prefix("advance ") {
            solo.advance_ms(ms.parse().expect("milliseconds"));
            continue;
        }
        if let Some(db) = line.strip_prefix("select ") {
            solo.db = Db(db.parse().expect("a number"));
            continue;
        }
        let (command, want) = expectation(line);
        let got = solo.run(command);
        assert_eq!(got, want, "{command}");
    }
}

/// As [`check`], and if there is a redis-server the same script must hold there. Not for scripts that move time.
#[track_caller]
pub fn check_with_redis(script: &str) {
    check(script);
    let Some(redis) = redis::Redis::shared() else { return };
    let mut session = redis.session();
    for line in lines(script) {
        if let Some(db) = line.strip_prefix("select ") {
            session.run(&["SELECT", db]);
            continue;
        }
        let (command, want) = expectation(line);
        let reply = session.run(&split_quoted(command.as_bytes()).expect("balanced quotes"));
        let (value, _) = decode(&reply).expect("redis-server replies well formed");
        assert_eq!(show(&value), want, "redis-server: {command}");
    }
}

fn lines(script: &str) -> impl Iterator<Item = &str> {
    script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn expectation(line: &str) -> (&str, &str) {
    let (command, want) = line.rsplit_once("=>").unwrap_or_else(|| panic!("no reply in: {line}"));
    (command.trim_end(), want.trim())
}

/// A reply as scripts write it: `(nil)`, numbers and texts bare, errors with `-`, arrays as `[a, b]`, maps as
/// `{k: v}`.
pub fn show(value: &Value) -> String {
    let list = |items: &[Value]| items.iter().map(show).collect::<Vec<_>>().join(", ");
    match value {
        Value::Simple(text) => text.clone(),
        Value::Error(text) => format!("-{text}"),
        Value::Integer(n) => n.to_string(),
        Value::Bulk(bytes) | Value::Verbatim(_, bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Nil => "(nil)".into(),
        Value::Array(items) | Value::Set(items) | Value::Push(items) => format!("[{}]", list(items)),
        Value::Map(pairs) => {
            let pairs: Vec<String> =
                pairs.iter().map(|(key, value)| format!("{}: {}", show(key), show(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Value::Double(n) => n.to_string(),
        Value::Boolean(yes) => yes.to_string(),
        other => format!("{other:?}"),
    }
}
