use tutti::base::rng::Rng;
use tutti::merge::op::Op;

use crate::support::{Solo, check};

#[test]
fn keys_are_counted_and_deleted_each_time_they_are_named() {
    check(
        "
        MSET a 1 b 2 => OK
        HSET h f v => 1
        EXISTS a b x a => 3
        TOUCH a x h => 2
        TYPE a => string
        TYPE h => hash
        TYPE x => none
        UNLINK a a h => 2
        DEL b x => 1
        DBSIZE => 0
        RANDOMKEY => (nil)
        SET only 1 => OK
        RANDOMKEY => only
    ",
    );
}

#[test]
fn rename_moves_value_and_deadline() {
    check(
        "
        RENAME none x => -ERR no such key
        RENAMENX none x => -ERR no such key
        SET a 1 EX 100 => OK
        SET b 2 => OK
        RENAME a b => OK
        GET b => 1
        TTL b => 100
        EXISTS a => 0
        RENAME b b => OK
        RENAMENX b b => 0
        SET c 3 => OK
        RENAMENX b c => 0
        RENAMENX b d => 1
        GET d => 1
        TTL d => 100
        HSET h f1 v1 f2 v2 => 2
        HINCRBY h n 7 => 7
        RENAME h d => OK
        HGETALL d => [f1, v1, f2, v2, n, 7]
        TTL d => -1
        EXPIRE d 50 => 1
        HSET g gone 1 => 1
        RENAME d g => OK
        HGETALL g => [f1, v1, f2, v2, n, 7]
        TTL g => 50
        HINCRBY g n 1 => 8
        INCR count => 1
        RENAME count g => OK
        GET g => 1
        TTL g => -1
        DBSIZE => 2
    ",
    );
}

#[test]
fn copy_leaves_the_source_and_may_cross_databases() {
    check(
        "
        SET a 1 PX 5000 => OK
        COPY a a => -ERR source and destination objects are the same
        COPY a b => 1
        PTTL b => 5000
        COPY a b => 0
        SET a 2 => OK
        COPY a b REPLACE => 1
        GET b => 2
        TTL b => -1
        COPY none b REPLACE => 0
        COPY a a DB 3 => 1
        COPY a b DB 16 => -ERR DB index is out of range
        COPY a b DB x => -ERR value is not an integer or out of range
        COPY a b DB => -ERR syntax error
        COPY a b BOGUS => -ERR syntax error
        HSET h f 1 => 1
        COPY h i => 1
        HSET h f 2 => 0
        HGETALL i => [f, 1]
        select 3
        GET a => 2
        COPY a a DB 0 REPLACE => 1
    ",
    );
}

#[test]
fn move_takes_a_key_to_another_database() {
    check(
        "
        MOVE none 1 => 0
        SET a 1 EX 10 => OK
        MOVE a 0 => -ERR source and destination objects are the same
        MOVE a 16 => -ERR DB index is out of range
        MOVE a 99999999999 => -ERR value is out of range, value must between -2147483648 and 2147483647
        MOVE a 1 => 1
        EXISTS a => 0
        DBSIZE => 0
        SET a 2 => OK
        select 1
        GET a => 1
        TTL a => 10
        DBSIZE => 1
        MOVE a 0 => 0
    ",
    );
}

#[test]
fn object_tells_what_redis_would_keep() {
    let long = "x".repeat(45);
    check(&format!(
        "
        SET n 12345 => OK
        OBJECT ENCODING n => int
        INCR c => 1
        OBJECT ENCODING c => int
        SET e short => OK
        object encoding e => embstr
        SET r {long} => OK
        OBJECT ENCODING r => raw
        HSET h f v => 1
        OBJECT ENCODING h => listpack
        HSET h f {long}{long} => 0
        OBJECT ENCODING h => hashtable
        OBJECT ENCODING none => (nil)
        OBJECT REFCOUNT n => 1
        OBJECT REFCOUNT none => (nil)
        OBJECT IDLETIME e => 0
        OBJECT IDLETIME none => (nil)
        OBJECT FREQ none => (nil)
        OBJECT ENCODING => -ERR wrong number of arguments for 'object|encoding' command
        OBJECT BOGUS => -ERR unknown subcommand 'BOGUS'. Try OBJECT HELP.
        MEMORY USAGE none => (nil)
        MEMORY USAGE n SAMPLES => -ERR syntax error
        DEBUG OBJECT none => -ERR no such key
    "
    ));
    let mut solo = Solo::new();
    solo.run("SET k v");
    assert!(solo.run("DEBUG OBJECT k").starts_with("Value at:0x0 refcount:1 encoding:embstr serializedlength:"));
    assert!(solo.run("OBJECT HELP").starts_with("[OBJECT <subcommand>"));
    assert!(solo.run("OBJECT FREQ k").starts_with("-ERR An LFU maxmemory policy is not selected"));
    (0..129).for_each(|n| assert_eq!(solo.run(&format!("HSET h f{n} v")), "1"));
    assert_eq!(solo.run("OBJECT ENCODING h"), "hashtable");
    let number = |text: String| text.parse::<usize>().expect("bytes");
    let (small, large) = (number(solo.run("MEMORY USAGE k")), number(solo.run("MEMORY USAGE h")));
    assert!(small > 20 && small < 100 && large > 129 * 20 && large < 129 * 200, "{small} {large}");
    let exact = number(solo.run("MEMORY USAGE h SAMPLES 0"));
    assert!(exact.abs_diff(large) < exact / 5, "{exact} {large}");
}

#[test]
fn random_keys_come_from_all_and_never_from_the_dead() {
    let mut solo = Solo::new();
    for n in 0..200 {
        solo.run(&format!("SET dead{n} x"));
        solo.run(&format!("SET brief{n} x PX 5"));
    }
    (0..200).for_each(|n| assert_eq!(solo.run(&format!("DEL dead{n}")), "1"));
    (0..4).for_each(|n| assert_eq!(solo.run(&format!("SET live{n} x")), "OK"));
    solo.now.wall_ms += 5;
    let seen: std::collections::BTreeSet<String> = (0..200).map(|_| solo.run("RANDOMKEY")).collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["live0", "live1", "live2", "live3"]);
}

#[test]
fn prop_dbsize_counts_what_can_be_seen() {
    for seed in 1..=3 {
        let (mut solo, mut rng) = (Solo::new(), Rng::new(seed));
        for step in 0..1500 {
            let key = format!("k{}", rng.below(12));
            let other = format!("k{}", rng.below(12));
            let ms = rng.below(60);
            let at = solo.now.wall_ms + rng.below(40);
            let command = match rng.below(26) {
                0 | 1 => format!("MSET {key} {step}"),
                2 => format!("INCR {key}"),
                3 | 4 => format!("HSET {key} f{} {step}", rng.below(3)),
                5 | 6 => format!("HDEL {key} f0 f1 f2"),
                7 => format!("HINCRBY {key} f{} 1", rng.below(3)),
                8 | 9 => format!("DEL {key}"),
                10 | 11 => format!("PEXPIRE {key} {ms}"),
                12 => format!("PEXPIREAT {key} {at}"),
                13 => format!("PEXPIREAT {key} {at} GT"),
                14 => format!("PERSIST {key}"),
                15 | 16 => format!("RENAME {key} {other}"),
                17 => format!("COPY {key} {other} REPLACE"),
                18 => format!("MOVE {key} {}", rng.below(2)),
                19 if rng.chance(20) => "FLUSHALL".into(),
                20 if rng.chance(10) => "FLUSHDB".into(),
                21 => {
                    solo.db.0 = rng.below(2) as u16;
                    continue;
                }
                22 => {
                    solo.now.wall_ms += rng.below(5);
                    continue;
                }
                _ => {
                    // What peers write goes the same way without a handler's checks: clashes of types, late deadlines.
                    let key = solo.shard.key(key.as_bytes());
                    let (value, name) = (step.to_string(), [b'f']);
                    let op = match rng.below(4) {
                        0 => Op::field(&name, Some(value.as_bytes())),
                        1 => Op::field(&name, None),
                        2 => Op::Deadline { at: Some(at) },
                        _ => Op::Add { epoch: solo.shard.last_hlc(), total: tutti::merge::total::Total::Int(1) },
                    };
                    solo.shard.apply_local(solo.db, &key, &op, solo.now);
                    continue;
                }
            };
            solo.run(&command);
            if step % 7 == 0 {
                solo.advance_ms(rng.below(10));
                let seen = solo.run("KEYS *").split(", ").filter(|key| *key != "[]").count();
                assert_eq!(solo.run("DBSIZE"), seen.to_string(), "seed {seed}, step {step}, after {command}");
                let brief = (0..12).filter(|n| !["-1", "-2"].contains(&&*solo.run(&format!("PTTL k{n}")))).count();
                assert_eq!(solo.shard.keys.deadlines(solo.db), brief, "seed {seed}, step {step}, after {command}");
            }
        }
    }
}
