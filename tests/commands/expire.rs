use crate::support::{Solo, check};

#[test]
fn deadlines_are_read_in_seconds_and_milliseconds() {
    check(
        "
        TTL none => -2
        PTTL none => -2
        EXPIRETIME none => -2
        PEXPIRETIME none => -2
        SET k v => OK
        TTL k => -1
        PTTL k => -1
        EXPIRETIME k => -1
        PEXPIRETIME k => -1
        PEXPIRE k 1500 => 1
        TTL k => 2
        PTTL k => 1500
        EXPIRETIME k => 1770000002
        PEXPIRETIME k => 1770000001500
        advance 1001
        PTTL k => 499
        TTL k => 0
        PERSIST k => 1
        PERSIST k => 0
        PERSIST none => 0
        TTL k => -1
        EXPIREAT k 1770000100 => 1
        EXPIRETIME k => 1770000100
        PEXPIREAT k 1770000100001 => 1
        PEXPIRETIME k => 1770000100001
        EXPIRE none 100 => 0
    ",
    );
}

#[test]
fn an_expired_key_is_absent_before_and_after_the_cycle_removes_it() {
    let mut solo = Solo::new();
    solo.run("MSET a 1 b 2");
    solo.run("PEXPIRE a 10");
    solo.now.wall_ms += 9;
    assert_eq!(solo.run("GET a"), "1");
    solo.now.wall_ms += 1;
    for command in ["GET a", "TTL a", "EXISTS a", "TYPE a", "PERSIST a", "EXPIRE a 10", "DEL a", "RENAME a c", "KEYS *"]
    {
        let reply = solo.run(command);
        assert!(["(nil)", "-2", "0", "none", "-ERR no such key", "[b]"].contains(&&*reply), "{command}: {reply}");
    }
    solo.advance_ms(1);
    assert_eq!((solo.run("DBSIZE"), solo.run("EXISTS a")), ("1".into(), "0".into()));
    assert_eq!(solo.shard.stats.expired, 1);
}

#[test]
fn a_deadline_that_has_passed_deletes_the_key() {
    check(
        "
        SET a 1 => OK
        EXPIRE a 0 => 1
        EXISTS a => 0
        SET a 1 => OK
        EXPIRE a -5 => 1
        EXISTS a => 0
        HSET a f 1 => 1
        EXPIREAT a 1 => 1
        EXISTS a => 0
        SET a 1 => OK
        PEXPIREAT a 1770000000000 => 1
        EXISTS a => 0
        SET a 1 => OK
        PEXPIREAT a -1 LT => 1
        DBSIZE => 0
    ",
    );
}

#[test]
fn conditions_compare_with_the_deadline_in_force() {
    check(
        "
        SET k v => OK
        EXPIRE k 100 XX => 0
        EXPIRE k 100 GT => 0
        TTL k => -1
        EXPIRE k 100 NX => 1
        EXPIRE k 200 NX => 0
        EXPIRE k 100 GT => 0
        EXPIRE k 200 GT => 1
        EXPIRE k 200 LT => 0
        EXPIRE k 150 XX LT => 1
        EXPIRE k 300 xx gt => 1
        TTL k => 300
        PERSIST k => 1
        EXPIRE k 500 LT => 1
        TTL k => 500
        EXPIRE k 1 NX XX => -ERR NX and XX, GT or LT options at the same time are not compatible
        EXPIRE k 1 NX GT => -ERR NX and XX, GT or LT options at the same time are not compatible
        EXPIRE k 1 GT LT => -ERR GT and LT options at the same time are not compatible
        EXPIRE k 1 AB => -ERR Unsupported option AB
        EXPIRE k x AB => -ERR Unsupported option AB
        EXPIRE k x => -ERR value is not an integer or out of range
        EXPIRE k 1.5 => -ERR value is not an integer or out of range
        EXPIRE k 9223372036854775807 => -ERR invalid expire time in 'expire' command
        EXPIRE k -9223372036854775807 => -ERR invalid expire time in 'expire' command
        EXPIREAT k 9223372036854775807 => -ERR invalid expire time in 'expireat' command
        PEXPIRE k 9223372036854775807 => -ERR invalid expire time in 'pexpire' command
        PEXPIREAT k 9223372036854775807 => 1
        PEXPIRETIME k => 9223372036854775807
        PEXPIREAT k -9223372036854775808 => 1
        EXISTS k => 0
    ",
    );
}

#[test]
fn values_written_anew_keep_or_lose_the_deadline_as_in_redis() {
    check(
        "
        SET s 1 EX 100 => OK
        INCR s => 2
        TTL s => 100
        SET s 5 => OK
        TTL s => -1
        HSET h f 1 => 1
        EXPIRE h 100 => 1
        HSET h g 2 => 1
        HDEL h f => 1
        HINCRBY h g 1 => 3
        TTL h => 100
        DEL h => 1
        HSET h f 1 => 1
        TTL h => -1
    ",
    );
}

#[test]
fn an_appended_string_keeps_its_deadline_again_and_again() {
    check(
        "
        SET h -7.5 => OK
        APPEND h 1.25 => 8
        PEXPIREAT h 4000000000000 => 1
        APPEND h 309 => 11
        PEXPIRETIME h => 4000000000000
        DEL h => 1
        HINCRBY h f 1 => 1
        DEL h => 1
        SET h x PXAT 4000000000000 => OK
        APPEND h y => 2
        PEXPIRETIME h => 4000000000000
    ",
    );
}
