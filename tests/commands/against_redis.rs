//! Random commands over a few keys, here and on a real redis-server: every reply is the same, byte for byte.
//!
//! Left out where Redis 7.0 (what Debian packages) differs from 7.2, which is what we follow: BITCOUNT and BITPOS check
//! all their arguments first since 7.2.

use tutti::base::rng::Rng;
use tutti::base::text::parse_f64;
use tutti::resp::value::{Value, decode};

use crate::support::Solo;
use crate::support::redis::Redis;

const KEYS: [&str; 4] = ["a", "b", "c", "{a}x"];

/// Draws commands; what is likely to fit is likelier than what is not.
struct Draw(Rng);

impl Draw {
    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.0.below(of.len() as u64) as usize]
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.0.below(one_in) == 0
    }

    fn key(&mut self) -> String {
        self.one(&KEYS).into()
    }

    fn integer(&mut self) -> String {
        match self.0.below(12) {
            0 => self.one(&["9223372036854775807", "-9223372036854775808", "9223372036854775808"]).into(),
            1 => self.one(&["", "x", "1.5", " 1", "01", "-0", "+1"]).into(),
            2 => format!("{}", self.0.below(1 << 40)),
            3..=5 => format!("-{}", 1 + self.0.below(30)),
            _ => format!("{}", self.0.below(30)),
        }
    }

    // Redis saturates the smallest number of all upwards, having overflowed in the check; we do not.
    fn field_integer(&mut self) -> String {
        Some(self.integer()).filter(|text| text != "-9223372036854775808").unwrap_or_else(|| "-129".into())
    }

    fn float(&mut self) -> String {
        match self.0.below(10) {
            0 => {
                self.one(&["nan", "inf", "-inf", "", "x", "1 ", "1e", "0x10", "+2", ".5", "5.", "1e3", "-2e-2"]).into()
            }
            1 => self.integer(),
            _ => {
                let sign = if self.chance(2) { "-" } else { "" };
                format!("{sign}{}.{}", self.0.below(1000), self.0.below(1000))
            }
        }
    }

    fn offset(&mut self) -> String {
        match self.0.below(20) {
            0 => self.integer(),
            _ => self.0.below(70).to_string(),
        }
    }

    fn value(&mut self) -> String {
        match self.0.below(6) {
            0 => self.integer(),
            1 => self.float(),
            2 => String::new(),
            3 => self.0.below(100).to_string(),
            _ => (0..self.0.below(12)).map(|_| char::from(b'`' + self.0.below(8) as u8)).collect(),
        }
    }

    fn expiry(&mut self) -> String {
        self.one(&[
            "100",
            "100000",
            "100000",
            "4000000000000",
            "1",
            "0",
            "-1",
            "x",
            "9223372036854775807",
            "1000000000000000000",
        ])
        .into()
    }

    fn some(&mut self, each: fn(&mut Self) -> String, max: u64) -> Vec<String> {
        (0..1 + self.0.below(max)).map(|_| each(self)).collect()
    }

    fn set_option(&mut self) -> Vec<String> {
        // Deadlines are far away or long past, never near: time passes there, not here.
        let relative = self.one(&["100", "100000", "0", "-5", "x", "9223372036854775807", "9223372036854775"]);
        let absolute = self.expiry();
        match self.0.below(12) {
            0 | 1 => vec!["NX".into()],
            2 | 3 => vec!["xx".into()],
            4 | 5 => vec!["Get".into()],
            6 | 7 => vec!["KEEPTTL".into()],
            8 => vec!["EX".into(), relative.into()],
            9 => vec!["PXAT".into(), absolute],
            10 => vec!["EXAT".into(), absolute],
            _ => vec![self.one(&["EX", "bogus", "PERSIST"]).into()],
        }
    }

    fn field(&mut self) -> Vec<String> {
        let kind =
            self.one(&["u1", "u2", "u7", "u8", "u13", "u63", "i1", "i4", "i8", "i13", "i64", "i64", "u64", "i65", "x"]);
        let at = if self.chance(4) { format!("#{}", self.0.below(8)) } else { self.offset() };
        match self.0.below(9) {
            0 => vec!["OVERFLOW".into(), self.one(&["WRAP", "sat", "FAIL", "FAIL", "bogus"]).into()],
            1 => vec!["OVERFLOW".into(), self.one(&["WRAP", "sat", "FAIL"]).into()],
            2 | 3 => vec!["GET".into(), kind.into(), at],
            4..=6 => vec!["SET".into(), kind.into(), at, self.field_integer()],
            _ => vec!["incrby".into(), kind.into(), at, self.field_integer()],
        }
    }

    fn command(&mut self) -> Vec<String> {
        const NAMES: [&str; 33] = [
            "get",
            "set",
            "set",
            "set",
            "setnx",
            "setex",
            "psetex",
            "getset",
            "getdel",
            "getex",
            "mget",
            "mset",
            "msetnx",
            "strlen",
            "append",
            "setrange",
            "getrange",
            "substr",
            "incr",
            "decr",
            "incrby",
            "incrby",
            "decrby",
            "incrbyfloat",
            "incrbyfloat",
            "lcs",
            "setbit",
            "getbit",
            "bitcount",
            "bitpos",
            "bitop",
            "bitfield",
            "bitfield_ro",
        ];
        let name = self.one(&NAMES);
        let mut args: Vec<String> = vec![name.into()];
        match name {
            "get" | "strlen" | "incr" | "decr" | "getdel" => args.push(self.key()),
            "set" => {
                args.extend([self.key(), self.value()]);
                for _ in 0..self.0.below(3) {
                    args.extend(self.set_option());
                }
            }
            "setnx" | "getset" | "append" => args.extend([self.key(), self.value()]),
            "setex" | "psetex" => {
                let ttl = self.one(&["100000", "1000000", "0", "-1", "x", "9223372036854775807"]);
                args.extend([self.key(), ttl.into(), self.value()]);
            }
            "getex" => {
                args.push(self.key());
                if self.chance(3) {
                    args.push("PERSIST".into());
                }
                if self.chance(2) {
                    args.extend(self.set_option());
                }
            }
            "mget" => args.extend(self.some(Self::key, 4)),
            "mset" | "msetnx" => {
                for _ in 0..=self.0.below(3) {
                    args.extend([self.key(), self.value()]);
                }
                if self.chance(10) {
                    args.push(self.key());
                }
            }
            "setrange" => args.extend([self.key(), self.offset(), self.value()]),
            "getrange" | "substr" => args.extend([self.key(), self.integer(), self.integer()]),
            "incrby" | "decrby" => args.extend([self.key(), self.integer()]),
            "incrbyfloat" => args.extend([self.key(), self.float()]),
            "lcs" => {
                args.extend([self.key(), self.key()]);
                for _ in 0..self.0.below(3) {
                    let option = self.one(&["LEN", "IDX", "WITHMATCHLEN", "MINMATCHLEN", "bogus"]);
                    args.push(option.into());
                    if option == "MINMATCHLEN" {
                        args.push(self.integer());
                    }
                }
            }
            "setbit" => args.extend([self.key(), self.offset(), self.one(&["0", "1", "1", "2", "x"]).into()]),
            "getbit" => args.extend([self.key(), self.offset()]),
            "bitcount" | "bitpos" => {
                args.push(self.key());
                if name == "bitpos" {
                    args.push(self.one(&["0", "1", "1", "0", "2", "x"]).into());
                }
                if !self.chance(3) {
                    args.extend([self.integer(), self.integer()]);
                    if self.chance(2) {
                        args.push(self.one(&["BIT", "byte", "bit", "bogus"]).into());
                    }
                } else if self.chance(3) {
                    args.push(self.integer());
                }
            }
            "bitop" => {
                args.extend([self.one(&["AND", "or", "XOR", "NOT", "NOT", "bogus"]).into(), self.key()]);
                args.extend(self.some(Self::key, 3));
            }
            _ => {
                args.push(self.key());
                for _ in 0..self.0.below(4) {
                    args.extend(self.field());
                }
            }
        }
        if self.chance(60) {
            args.truncate(args.len() - 1);
        }
        args
    }
}

// Redis adds 80-bit numbers and prints what rounding left in the 17th decimal; our decimals are exact.
fn is_close(ours: &[u8], theirs: &[u8]) -> bool {
    let number = |reply| match decode(reply) {
        Some((Value::Bulk(text), _)) => parse_f64(&text),
        _ => None,
    };
    match (number(ours), number(theirs)) {
        (Some(a), Some(b)) => (a - b).abs() <= a.abs() * 1e-15,
        _ => false,
    }
}

#[test]
fn prop_replies_are_those_of_redis() {
    let Some(redis) = Redis::shared() else { return };
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(12);
    let from = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    for seed in from..from + rounds {
        let (mut solo, mut session, mut draw) = (Solo::new(), redis.session(), Draw(Rng::new(seed)));
        let mut history = Vec::new();
        for _ in 0..300 {
            let command = draw.command();
            history.push(command.join(" "));
            let args: Vec<Vec<u8>> = command.iter().map(|arg| arg.clone().into_bytes()).collect();
            let (ours, theirs) = (solo.run_args(&args), session.run(&args));
            if matches!(&*command[0], "bitcount" | "bitpos") && ours.starts_with(b"-") {
                continue;
            }
            if command[0] == "incrbyfloat" && ours != theirs && is_close(&ours, &theirs) {
                let Some((Value::Bulk(text), _)) = decode(&theirs) else { unreachable!("is_close has read it") };
                solo.run_args(&[b"set".to_vec(), args[1].clone(), text, b"keepttl".to_vec()]);
                continue;
            }
            assert!(
                ours == theirs,
                "seed {seed}, after\n{}\nours   {}\ntheirs {}",
                history[history.len().saturating_sub(25)..].join("\n"),
                String::from_utf8_lossy(&ours),
                String::from_utf8_lossy(&theirs)
            );
            for key in KEYS {
                let value = solo.run_args(&[b"get".to_vec(), key.as_bytes().to_vec()]);
                assert_eq!(value, session.run(&["GET", key]), "seed {seed}: {key} after {}", history.join("\n"));
                let deadline = solo.has_deadline(key.as_bytes());
                let theirs = session.run(&["PTTL", key]);
                let has_one = !matches!(decode(&theirs), Some((Value::Integer(-1 | -2), _)));
                assert_eq!(deadline, has_one, "seed {seed}: deadline of {key} after\n{}", history.join("\n"));
            }
        }
    }
}
