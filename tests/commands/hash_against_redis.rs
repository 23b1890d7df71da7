//! Random commands on hashes and keys, here and on a real redis-server: every reply is the same, byte for byte, but for
//! the order of what has none.

use tutti::base::rng::Rng;
use tutti::resp::value::{Value, decode};

use crate::support::redis::Redis;
use crate::support::{Solo, show};

const KEYS: [&str; 5] = ["a", "b", "h", "i", "{a}x"];
const FIELDS: [&str; 6] = ["f", "g", "n", "", "long field", "x"];

struct Draw(Rng);

impl Draw {
    fn one(&mut self, of: &[&str]) -> String {
        of[self.0.below(of.len() as u64) as usize].into()
    }

    fn key(&mut self) -> String {
        self.one(&KEYS)
    }

    fn field(&mut self) -> String {
        self.one(&FIELDS)
    }

    fn number(&mut self) -> String {
        match self.0.below(10) {
            0 => {
                self.one(&["9223372036854775807", "-9223372036854775808", "9223372036854775808", "", "x", "1.5", " 1"])
            }
            1 => "0".into(),
            _ => format!("{}", self.0.below(100) as i64 - 50),
        }
    }

    fn value(&mut self) -> String {
        match self.0.below(4) {
            0 => self.number(),
            1 => self.one(&["1.25", "3e2", "", "text", "0.1", "-7.5"]),
            2 => self.0.below(1000).to_string(),
            _ => "v".repeat(self.0.below(70) as usize),
        }
    }

    // Far away or long past, never near: time passes there, not here.
    fn expiry(&mut self, name: &str) -> String {
        let far: &[&str] = if name.ends_with("at") {
            &["4000000000000", "5000000000000", "1", "-1", "0"]
        } else {
            // Far apart from each other, too, for GT and LT.
            if self.0.below(5) > 1 {
                return (1000 + self.0.below(1_000_000)).to_string() + "000";
            }
            &["0", "-100"]
        };
        if self.0.chance(8) {
            return self.one(&["x", "", "9223372036854775807", "-9223372036854775808", "9223372036854775", "1.5"]);
        }
        self.one(far)
    }

    fn command(&mut self) -> Vec<String> {
        const NAMES: &[&str] = &[
            "hset",
            "hset",
            "hset",
            "hmset",
            "hsetnx",
            "hget",
            "hmget",
            "hgetall",
            "hkeys",
            "hvals",
            "hlen",
            "hstrlen",
            "hexists",
            "hdel",
            "hdel",
            "hincrby",
            "hincrby",
            "hincrbyfloat",
            "hscan",
            "hrandfield",
            "set",
            "incr",
            "append",
            "del",
            "unlink",
            "exists",
            "touch",
            "type",
            "rename",
            "renamenx",
            "copy",
            "move",
            "keys",
            "scan",
            "expire",
            "pexpire",
            "expireat",
            "pexpireat",
            "persist",
            "ttl",
            "expiretime",
            "pexpiretime",
            "object",
            "dbsize",
            "flushdb",
            "select",
        ];
        let name = self.one(NAMES);
        let mut args = vec![name.clone()];
        match &*name {
            "hset" | "hmset" => {
                args.push(self.key());
                for _ in 0..=self.0.below(3) {
                    args.extend([self.field(), self.value()]);
                }
            }
            "hsetnx" => args.extend([self.key(), self.field(), self.value()]),
            "hget" | "hstrlen" | "hexists" => args.extend([self.key(), self.field()]),
            "hmget" | "hdel" => {
                args.push(self.key());
                (0..=self.0.below(3)).for_each(|_| args.push(self.field()));
            }
            "hincrby" => args.extend([self.key(), self.field(), self.number()]),
            "hincrbyfloat" => {
                let by = self.one(&["1.5", "-0.25", "3", "1e2", "0.125", "x", "", "nan", "inf", " 1"]);
                args.extend([self.key(), self.field(), by]);
            }
            "hscan" => {
                args.extend([self.key(), self.one(&["0", "0", "0", "x"])]);
                match self.0.below(5) {
                    0 => args.extend(["MATCH".into(), self.one(&["*", "?", "l*", "[fg]"])]),
                    1 => args.extend(["COUNT".into(), self.one(&["100", "0", "-1", "x"])]),
                    2 => args.extend(["BOGUS".into(), "1".into()]),
                    _ => {}
                }
            }
            "hrandfield" => {
                args.push(self.key());
                if self.0.chance(2) {
                    // All of them: which are picked is chance.
                    args.push(self.one(&["100", "100", "0", "x", "-9223372036854775808"]));
                    if self.0.chance(2) {
                        args.push(self.one(&["WITHVALUES", "bogus"]));
                    }
                } else {
                    args[0] = "hlen".into();
                }
            }
            "set" | "append" => args.extend([self.key(), self.value()]),
            "del" | "unlink" | "exists" | "touch" => (0..=self.0.below(2)).for_each(|_| args.push(self.key())),
            "rename" | "renamenx" => args.extend([self.key(), self.key()]),
            "copy" => {
                args.extend([self.key(), self.key()]);
                if self.0.chance(2) {
                    args.push("REPLACE".into());
                }
                if self.0.chance(2) {
                    args.extend(["DB".into(), self.one(&["0", "1", "1", "2", "16", "-1", "x", "99999999999"])]);
                }
                if self.0.chance(12) {
                    args.push(self.one(&["bogus", "DB"]));
                }
            }
            "move" => args.extend([self.key(), self.one(&["0", "1", "1", "16", "-1", "x", "99999999999"])]),
            "keys" => args.push(self.one(&["*", "?", "[a-h]", "*x", "none"])),
            "scan" => {
                args.extend(["0", "COUNT", "1000"].map(String::from));
                match self.0.below(5) {
                    0 => args.extend(["TYPE".into(), self.one(&["hash", "string", "STRING"])]),
                    1 => args.extend(["match".into(), self.one(&["*", "?"])]),
                    2 => args.extend([self.one(&["count", "bogus"]), self.one(&["0", "-1", "x", "1000"])]),
                    _ => {}
                }
            }
            "expire" | "pexpire" | "expireat" | "pexpireat" => {
                args.push(self.key());
                let mut at = self.expiry(&name);
                // Seconds of the same distance: both kinds are compared with each other by GT and LT.
                if name == "expireat" && at.len() == 13 {
                    at.truncate(10);
                }
                args.push(at);
                for _ in 0..self.0.below(3) {
                    args.push(self.one(&["NX", "xx", "GT", "LT", "GT", "LT", "bogus"]));
                }
            }
            "object" => args.extend([self.one(&["encoding", "ENCODING", "idletime", "freq", "bogus"]), self.key()]),
            "select" => args.push(self.one(&["0", "1"])),
            "dbsize" => {}
            "flushdb" => {
                if !self.0.chance(15) {
                    args[0] = "dbsize".into();
                } else if self.0.chance(2) {
                    args.push(self.one(&["SYNC", "async", "bogus"]));
                }
            }
            _ => args.push(self.key()),
        }
        if self.0.chance(60) {
            args.pop();
            if args.is_empty() {
                args.push("dbsize".into());
            }
        }
        args
    }
}

// What is compared: replies without an order are sorted, and a hash's order is Redis' only while it is small.
fn comparable(name: &str, reply: &[u8]) -> String {
    let Some((value, used)) = decode(reply) else { panic!("{name}: undecodable") };
    assert_eq!(used, reply.len(), "{name}: one reply");
    let sorted = |items: &[Value], chunk: usize| {
        let mut items: Vec<String> =
            items.chunks(chunk).map(|chunk| chunk.iter().map(show).collect::<Vec<_>>().join("=")).collect();
        items.sort();
        items.join(", ")
    };
    match (name, &value) {
        ("keys", Value::Array(items)) => sorted(items, 1),
        ("hgetall", Value::Array(items)) => sorted(items, 2),
        ("hkeys" | "hvals" | "hrandfield", Value::Array(items)) => sorted(items, 1),
        ("scan" | "hscan", Value::Array(parts)) => match &parts[..] {
            [cursor, Value::Array(items)] => {
                format!("{} {}", show(cursor), sorted(items, if name == "scan" { 1 } else { 2 }))
            }
            _ => show(&value),
        },
        _ => String::from_utf8_lossy(reply).into_owned(),
    }
}

// Redis adds 80-bit numbers and prints what rounding left; our decimals are exact.
fn is_close(ours: &str, theirs: &str) -> bool {
    let number = |reply: &str| reply.lines().nth(1).and_then(|text| text.parse::<f64>().ok());
    number(ours).zip(number(theirs)).is_some_and(|(a, b)| (a - b).abs() <= a.abs() * 1e-15)
}

// Where Redis 7.0 says something else than 7.2, or tells of its own ways of keeping things.
fn is_excused(command: &[String], ours: &str, theirs: &str) -> bool {
    match &*command[0] {
        // What was appended to stays raw there.
        "object" if command[1] == "idletime" => [ours, theirs].iter().all(|reply| reply.starts_with(':')),
        "object" => ours.contains("int") || ours.contains("embstr") || theirs.contains("hashtable"),
        "hrandfield" => command.len() == 2 && [ours, theirs].iter().all(|reply| !reply.starts_with("$-")),
        // Our clock stands still at another time.
        "ttl" | "expiretime" | "pexpiretime" => [ours, theirs].iter().all(|reply| !reply.starts_with(":-")),
        _ => false,
    }
}

#[test]
fn prop_replies_about_hashes_and_keys_are_those_of_redis() {
    let Some(redis) = Redis::shared() else { return };
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(8);
    let from = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    for seed in from..from + rounds {
        let (mut solo, mut session, mut draw) = (Solo::new(), redis.session(), Draw(Rng::new(seed)));
        let mut history: Vec<String> = Vec::new();
        for _ in 0..500 {
            let command = draw.command();
            history.push(command.join(" "));
            let args: Vec<Vec<u8>> = command.iter().map(|arg| arg.clone().into_bytes()).collect();
            let theirs = session.run(&args);
            if command[0] == "select" {
                if command.len() == 2 {
                    solo.db.0 = command[1].parse().expect("0 or 1");
                }
                continue;
            }
            let ours = solo.run_args(&args);
            let (ours, theirs) = (comparable(&command[0], &ours), comparable(&command[0], &theirs));
            if ours != theirs && command[0] == "hincrbyfloat" && is_close(&ours, &theirs) {
                let text = theirs.lines().nth(1).unwrap_or_default().as_bytes().to_vec();
                solo.run_args(&[b"hset".to_vec(), args[1].clone(), args[2].clone(), text]);
                continue;
            }
            if ours != theirs && is_excused(&command, &ours, &theirs) {
                continue;
            }
            let recent = &history[history.len().saturating_sub(30)..];
            assert_eq!(ours, theirs, "seed {seed}, after\n{}", recent.join("\n"));
            for key in KEYS {
                let theirs = session.run(&["PTTL", key]);
                let has_one = !matches!(decode(&theirs), Some((Value::Integer(-1 | -2), _)));
                let recent = recent.join("\n");
                assert_eq!(
                    solo.has_deadline(key.as_bytes()),
                    has_one,
                    "seed {seed}: deadline of {key} after\n{recent}"
                );
            }
        }
    }
}
