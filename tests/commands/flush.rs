use tutti::base::ids::{Db, PARTITIONS, Uuid};
use tutti::base::slot::slot_of;
use tutti::merge::op::Op;
use tutti::merge::origins::{OriginId, OriginIdx};
use tutti::merge::stamp::{Hlc, Stamp};
use tutti::shard::{Merged, record};

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

// A write of a peer, older than what is done here, that arrives late.
fn late_write_of_a_peer(solo: &mut Solo) -> Vec<u8> {
    let wall_ms = solo.now.wall_ms - 1000;
    let stamp = Stamp::new(Hlc::at_ms(wall_ms), OriginIdx(1));
    let mut bytes = Vec::new();
    record::encode(&mut bytes, slot_of(b"late").partition(), stamp, Db(3), b"late", &Op::set(b"v"));
    bytes
}

fn hear(solo: &mut Solo, bytes: &[u8]) {
    let id = OriginId { node: Uuid([7; 16]), incarnation: 1 };
    let peer = solo.shard.realm().origins.index(id).expect("room");
    assert_eq!(solo.shard.merge(bytes, &|_| Some(peer), true, solo.now), Merged::Applied);
}

#[test]
fn a_flush_of_what_was_never_written_voids_an_older_write_that_comes_late() {
    for flush in ["FLUSHALL", "FLUSHDB"] {
        let mut solo = Solo::new();
        solo.db = Db(3);
        let late = late_write_of_a_peer(&mut solo);
        solo.run(flush);
        hear(&mut solo, &late);
        assert_eq!(solo.run("EXISTS late"), "0", "{flush}");
    }
    let mut solo = Solo::new();
    let late = late_write_of_a_peer(&mut solo);
    solo.run("FLUSHDB");
    hear(&mut solo, &late);
    solo.db = Db(3);
    assert_eq!(solo.run("EXISTS late"), "1", "the flush was of another database");
}

#[test]
fn a_flush_of_nothing_is_sent_in_a_few_bytes_and_changes_nothing_worth_saving() {
    let mut solo = Solo::new();
    solo.shard.logging = true;
    solo.run("FLUSHALL");
    assert_eq!(solo.shard.backlog.len(), PARTITIONS * 19);
    assert_eq!(solo.shard.stats.dirty, 0);
    solo.run("SET a 1");
    solo.run("FLUSHALL");
    assert_eq!(solo.shard.stats.dirty, 2, "one write, one partition that held something");
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
