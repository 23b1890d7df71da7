use tutti::base::ids::Db;
use tutti::resp::value::{Value, decode};
use tutti::resp::write::Version;

use crate::support::{Solo, check};

#[test]
fn fields_are_written_read_and_deleted() {
    check(
        "
        HSET h a 1 b 2 => 2
        HSET h a 3 c 4 => 1
        HGET h a => 3
        HGET h x => (nil)
        HGET none a => (nil)
        HMGET h a x c => [3, (nil), 4]
        HMGET none a b => [(nil), (nil)]
        HLEN h => 3
        HSTRLEN h a => 1
        HSTRLEN h x => 0
        HEXISTS h b => 1
        HEXISTS h x => 0
        HDEL h a x a b => 2
        HGETALL h => [c, 4]
        HDEL h c => 1
        EXISTS h => 0
        HDEL h c => 0
        HGETALL h => []
        HKEYS h => []
        HMSET h a 1 b 2 => OK
        HKEYS h => [a, b]
        HVALS h => [1, 2]
        HSETNX h a 9 => 0
        HSETNX h c 9 => 1
        HGETALL h => [a, 1, b, 2, c, 9]
    ",
    );
}

#[test]
fn mistakes_are_answered_as_redis_does() {
    check(
        "
        SET s x => OK
        HSET s a 1 => -WRONGTYPE Operation against a key holding the wrong kind of value
        HGET s a => -WRONGTYPE Operation against a key holding the wrong kind of value
        HDEL s a => -WRONGTYPE Operation against a key holding the wrong kind of value
        HINCRBY s a 1 => -WRONGTYPE Operation against a key holding the wrong kind of value
        HRANDFIELD s => -WRONGTYPE Operation against a key holding the wrong kind of value
        HSCAN s 0 => -WRONGTYPE Operation against a key holding the wrong kind of value
        GET s => x
        HSET h a 1 b => -ERR wrong number of arguments for 'hset' command
        HMSET h a 1 b => -ERR wrong number of arguments for 'hmset' command
        HSET h a => -ERR wrong number of arguments for 'hset' command
        EXISTS h => 0
        HSET h a 1 => 1
        GET h => -WRONGTYPE Operation against a key holding the wrong kind of value
        HINCRBY h a x => -ERR value is not an integer or out of range
        HSCAN h x => -ERR invalid cursor
        HSCAN h 0 COUNT 0 => -ERR syntax error
        HSCAN h 0 TYPE string => -ERR syntax error
        HSCAN none 0 BOGUS => [0, []]
        HRANDFIELD h 1 BOGUS => -ERR syntax error
        HRANDFIELD h x => -ERR value is not an integer or out of range
    ",
    );
}

#[test]
fn a_field_given_twice_gets_its_last_value() {
    check(
        "
        HSET h f 2 f 1 => 1
        HGET h f => 1
        HSET h a 9 f 5 a 3 f 4 => 1
        HGETALL h => [f, 4, a, 3]
    ",
    );
    let mut solo = Solo::new();
    let mut command = String::from("HSET h");
    (0..100).for_each(|n| command.push_str(&format!(" f{} {}", n % 40, 100 - n)));
    assert_eq!(solo.run(&command), "40");
    assert_eq!((solo.run("HGET h f0"), solo.run("HGET h f39")), ("20".into(), "21".into()));
    assert_eq!(solo.run("HLEN h"), "40");
}

#[test]
fn counters_in_fields_add_up() {
    check(
        "
        HINCRBY h n 5 => 5
        HINCRBY h n -7 => -2
        HGET h n => -2
        HSTRLEN h n => 2
        HSET h n 10 => 0
        HINCRBY h n 1 => 11
        HINCRBY h n 0 => 11
        HSET h t text => 1
        HINCRBY h t 1 => -ERR hash value is not an integer
        HINCRBY h n 9223372036854775807 => -ERR increment or decrement would overflow
        HINCRBYFLOAT h n 0.5 => 11.5
        HINCRBY h n 1 => -ERR hash value is not an integer
        HINCRBYFLOAT h n -1.50 => 10
        HINCRBYFLOAT h f 0.1 => 0.1
        HINCRBYFLOAT h f 0.2 => 0.3
        HINCRBYFLOAT h f 5.0e3 => 5000.3
        HINCRBYFLOAT h t 1 => -ERR hash value is not a float
        HINCRBYFLOAT h f x => -ERR value is not a valid float
        HINCRBYFLOAT h f inf => -ERR value is NaN or Infinity
        HSET h big 1e100 => 1
        HINCRBYFLOAT h big 1e100 => 20000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
        HVALS h => [10, text, 5000.3, 20000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000]
        HDEL h n => 1
        HGET h n => (nil)
        HINCRBY h n 1 => 1
    ",
    );
}

#[test]
fn a_hash_that_loses_its_last_field_forgets_its_deadline() {
    check(
        "
        HSET h a 1 => 1
        EXPIRE h 100 => 1
        HDEL h a => 1
        TTL h => -2
        HSET h a 1 => 1
        TTL h => -1
        EXPIRE h 100 => 1
        HDEL h a => 1
        HINCRBY h a 1 => 1
        TTL h => -1
        EXPIRE h 100 => 1
        HDEL h a => 1
        INCR h => 1
        TTL h => -1
        DBSIZE => 1
    ",
    );
}

#[test]
fn an_expired_hash_is_a_new_one() {
    check(
        "
        HSET h a 1 n 1 => 2
        HINCRBY h n 1 => 2
        PEXPIRE h 10 => 1
        HLEN h => 2
        advance 10
        HLEN h => 0
        HDEL h a => 0
        HINCRBY h n 5 => 5
        HGETALL h => [n, 5]
        TTL h => -1
    ",
    );
}

#[test]
fn deleting_a_hash_deletes_its_counters_too() {
    check(
        "
        HSET h a 1 => 1
        HINCRBY h n 3 => 3
        DEL h => 1
        HINCRBY h n 4 => 4
        HGETALL h => [n, 4]
        SET h x => OK
        DEL h => 1
        HGETALL h => []
        HINCRBY h n 1 => 1
    ",
    );
}

#[test]
fn what_changes_nothing_leaves_no_write() {
    let mut solo = Solo::new();
    solo.run("HSET h a 1 n 5");
    solo.run("SET k v");
    let before = (solo.shard.last_hlc(), solo.shard.stats.dirty);
    for command in [
        "HDEL h x y",
        "HDEL none x",
        "HSETNX h a 2",
        "HINCRBY h n 0",
        "HINCRBY h a 9223372036854775807",
        "PERSIST h",
        "PERSIST none",
        "EXPIRE h 100 XX",
        "EXPIRE h 100 GT",
        "EXPIRE none 100",
        "DEL none",
        "RENAME k k",
        "RENAMENX k h",
        "COPY k h",
        "COPY none k REPLACE",
        "MOVE none 1",
        "HSET k a 1",
        "HSCAN h 0",
        "HRANDFIELD h 5",
    ] {
        solo.run(command);
        assert_eq!((solo.shard.last_hlc(), solo.shard.stats.dirty), before, "{command}");
    }
    solo.run("HSET h a 1");
    assert_eq!(solo.shard.stats.dirty, before.1 + 1, "an equal value is still a write");
}

#[test]
fn resp3_gives_maps_and_pairs() {
    let mut solo = Solo::new();
    solo.version = Version::Resp3;
    assert_eq!(solo.run("HSET h a 1 b 2"), "2");
    assert_eq!(solo.run("HGETALL h"), "{a: 1, b: 2}");
    assert_eq!(solo.run("HGETALL none"), "{}");
    assert_eq!(solo.run("HRANDFIELD h 9 WITHVALUES"), "[[a, 1], [b, 2]]");
    assert_eq!(solo.run("HSCAN h 0"), "[0, [a, 1, b, 2]]");
    solo.version = Version::Resp2;
    assert_eq!(solo.run("HRANDFIELD h 9 WITHVALUES"), "[a, 1, b, 2]");
}

fn words(reply: &str) -> Vec<String> {
    let inner = reply.trim_start_matches('[').trim_end_matches(']');
    inner.split(", ").filter(|word| !word.is_empty()).map(String::from).collect()
}

#[test]
fn random_fields_exist_and_differ_when_asked_to() {
    for fields in [1usize, 7, 32, 33, 500] {
        let mut solo = Solo::new();
        (0..fields * 2).for_each(|n| assert_eq!(solo.run(&format!("HSET h f{n} v{n}")), "1"));
        (0..fields).for_each(|n| assert_eq!(solo.run(&format!("HDEL h f{}", 2 * n)), "1"));
        for count in [1, 2, fields / 5, fields / 2, fields - 1, fields, fields + 3] {
            let mut picked = words(&solo.run(&format!("HRANDFIELD h {count}")));
            assert_eq!(picked.len(), count.min(fields));
            picked.sort();
            picked.dedup();
            assert_eq!(picked.len(), count.min(fields), "{fields} fields");
            assert!(picked.iter().all(|name| solo.run(&format!("HEXISTS h {name}")) == "1"));
        }
        assert_eq!(words(&solo.run("HRANDFIELD h -20")).len(), 20);
        let pairs = words(&solo.run("HRANDFIELD h 3 WITHVALUES"));
        assert!(pairs.chunks(2).all(|pair| pair[0][1..] == pair[1][1..]), "{pairs:?}");
    }
    check(
        "
        HRANDFIELD none => (nil)
        HRANDFIELD none 5 => []
        HSET h a 1 => 1
        HRANDFIELD h => a
        HRANDFIELD h 0 => []
        HRANDFIELD h -9223372036854775808 => -ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
        HRANDFIELD h -9223372036854775807 WITHVALUES => -ERR value is out of range
    ",
    );
}

#[test]
fn prop_hscan_returns_every_field_that_stays() {
    for fields in [20usize, 200, 3000] {
        let mut solo = Solo::new();
        (0..fields).for_each(|n| assert_eq!(solo.run(&format!("HSET h stay{n} v{n}")), "1"));
        let (mut cursor, mut step, mut seen) = (String::from("0"), 0, std::collections::BTreeMap::new());
        loop {
            let reply = solo.run_args(&["HSCAN", "h", &cursor, "COUNT", "15"].map(|word| word.as_bytes().to_vec()));
            let Some((Value::Array(parts), _)) = decode(&reply) else { panic!("an array") };
            let [Value::Bulk(next), Value::Array(items)] = &parts[..] else { panic!("a cursor and fields") };
            for pair in items.chunks(2) {
                let [Value::Bulk(name), Value::Bulk(value)] = pair else { panic!("bulks") };
                seen.insert(String::from_utf8_lossy(name).into_owned(), value.clone());
            }
            cursor = String::from_utf8_lossy(next).into_owned();
            if cursor == "0" {
                break;
            }
            for n in 0..fields / 4 {
                solo.run(&format!("HSET h go{}:{n} x", step % 3));
                solo.run(&format!("HDEL h go{}:{n}", (step + 2) % 3));
            }
            step += 1;
        }
        for n in 0..fields {
            assert_eq!(seen.get(&format!("stay{n}")), Some(&format!("v{n}").into_bytes()), "{fields} fields");
        }
    }
    check(
        "
        HSET h aa 1 ab 2 b 3 => 3
        HSCAN h 0 MATCH a* => [0, [aa, 1, ab, 2]]
        HSCAN h 0 MATCH * COUNT 1 => [0, [aa, 1, ab, 2, b, 3]]
    ",
    );
}

#[test]
fn merged_clashes_of_types_leave_no_wrong_count() {
    // A hash written over a string's name after the string was deleted, and back.
    let mut solo = Solo::new();
    for _ in 0..3 {
        assert_eq!(solo.run("SET k 1"), "OK");
        assert_eq!(solo.run("DEL k"), "1");
        assert_eq!(solo.run("HSET k f 1"), "1");
        assert_eq!(solo.run("TYPE k"), "hash");
        assert_eq!(solo.shard.keys.len(Db(0)), 1);
        assert_eq!(solo.run("SET k 2"), "OK");
        assert_eq!(solo.run("TYPE k"), "string");
        assert_eq!(solo.shard.keys.len(Db(0)), 1);
    }
}
