use tutti::base::ids::Db;

use crate::support::{Solo, check};

#[test]
fn flushes_empty_one_database_or_all() {
    check(
        "
        SET a 1 => OK
        select 3
        MSET a 1 b 2 => OK
        DBSIZE => 2
        FLUSHDB => OK
        DBSIZE => 0
        GET a => (nil)
        SET a 3 => OK
        select 0
        DBSIZE => 1
        FLUSHALL ASYNC => OK
        DBSIZE => 0
        SET a 2 EX 10 => OK
        FLUSHDB sync => OK
        TTL a => -2
        FLUSHDB BOGUS => -ERR syntax error
        FLUSHALL ASYNC SYNC => -ERR syntax error
        select 3
        DBSIZE => 0
        SET a 4 => OK
        GET a => 4
        SWAPDB 0 1 => -ERR SWAPDB is not supported: other masters write to both databases meanwhile, and a swap cannot be merged with that
    ",
    );
}

#[test]
fn a_flush_of_what_was_never_written_leaves_no_write() {
    let mut solo = Solo::new();
    solo.run("FLUSHALL");
    solo.run("FLUSHDB");
    assert_eq!(solo.shard.stats.dirty, 0);
    solo.run("SET a 1");
    solo.run("FLUSHALL");
    assert_eq!(solo.shard.stats.dirty, 2, "one write, one partition that ever held something");
    solo.db = Db(5);
    solo.run("FLUSHDB");
    assert_eq!(solo.shard.stats.dirty, 2);
}

#[test]
fn a_key_set_again_after_a_flush_expires_by_its_own_deadline() {
    let mut solo = Solo::new();
    solo.run("SET a 1 PX 10");
    solo.advance_ms(10);
    solo.run("FLUSHALL");
    // The same deadline, long past and only ever written by a peer, then deleted: the count must not drift.
    let at = solo.now.wall_ms;
    let key = solo.shard.key(b"a");
    let op = tutti::merge::op::Op::Set {
        value: b"2",
        deadline: tutti::merge::op::SetDeadline::At(at),
        observed: Default::default(),
    };
    solo.shard.apply_local(Db(0), &key, &op, solo.now);
    solo.shard.set(Db(0), &key, b"3", tutti::merge::op::SetDeadline::Clear, solo.now);
    assert_eq!(solo.run("DBSIZE"), "1");
    solo.run("DEL a");
    assert_eq!(solo.run("DBSIZE"), "0");
}
