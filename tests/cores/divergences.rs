//! Known divergences of another multi-master server, drakeydb, which resolves whole keys and replays commands: its
//! register numbers them. What must be so here instead. Of its entries 13, 14, 25, 26, 28 and 31 concern commands or
//! structures there are none of here; 23 and 24 are among `conflicts` (increments against SET and EXPIRE), 21 too (a
//! result that replaces a key is one effect); 16 is among `histories` (a key that expired while a node was away).

use crate::loading::snapshot;
use crate::nodes::{Nodes, WAYS};

// D-12, D-29: data that came without stamps could neither lose to a delete nor win for a known reason.
#[test]
fn a_file_of_redis_counts_as_written_when_it_is_loaded() {
    let mut nodes = Nodes::new(12, &[2, 3]);
    nodes.on(0, "MSET key:1 older key:2 older");
    nodes.on(0, "DEL key:2");
    nodes.world.stop(1);
    nodes.pass_ms(5);
    nodes.world.nodes[1].saved = snapshot(10);
    nodes.start(1, 2);
    nodes.on(1, "SET key:3 newer");
    nodes.agree();
    assert_eq!(nodes.on_all("MGET key:1 key:2 key:3"), "value 1 value 2 newer");
    // From its own file it comes back with the stamps it got.
    nodes.save_and_stop(1);
    nodes.on(0, "DEL key:1");
    nodes.start(1, 2);
    nodes.agree();
    assert_eq!(nodes.on_all("MGET key:1 key:2 key:3"), "(nil) value 2 newer");
}

// D-15: what a third node makes of a value older than a delete it has heard of before had never been tried.
#[test]
fn a_write_older_than_a_delete_loses_to_it_also_where_it_arrives_later() {
    for way in WAYS {
        let mut nodes = Nodes::new(15, &[1, 2, 2]);
        nodes.on(0, "SET k v");
        nodes.agree();
        nodes.cut(1);
        nodes.on(1, "SET k between");
        nodes.pass_ms(5);
        nodes.on(2, "DEL k");
        nodes.pass_ms(500);
        nodes.join(1, way);
        nodes.agree();
        assert_eq!(nodes.on_all("EXISTS k"), "0", "{way:?}");
    }
}

// D-18: RENAME and MOVE were replayed, each node deciding by what it held itself.
#[test]
fn a_move_that_is_refused_on_its_node_happens_nowhere() {
    for way in WAYS {
        let mut nodes = Nodes::new(18, &[2, 2]);
        nodes.on(0, "SET k v");
        nodes.on(0, "COPY k k DB 3");
        nodes.agree();
        nodes.cut(1);
        nodes.on(1, "MOVE k 2");
        nodes.on(1, "COPY k k DB 2");
        nodes.on(1, "SELECT 3");
        nodes.on(1, "DEL k");
        nodes.on(1, "SELECT 0");
        assert_eq!(nodes.on(0, "MOVE k 3"), "0", "it is there already");
        nodes.join(1, way);
        nodes.agree();
        assert_eq!(nodes.on_all("EXISTS k"), "0", "{way:?}: moved to another database by the other node only");
        nodes.on_all("SELECT 3");
        assert_eq!(nodes.on_all("EXISTS k"), "0", "{way:?}");
        nodes.on_all("SELECT 2");
        assert_eq!(nodes.on_all("GET k"), "v", "{way:?}");
    }
}

// D-18, the other half.
#[test]
fn a_move_that_was_done_on_its_node_is_done_everywhere() {
    for way in WAYS {
        let mut nodes = Nodes::new(19, &[2, 2]);
        nodes.on(0, "SET k v");
        nodes.agree();
        nodes.cut(1);
        // Where the command would be refused.
        nodes.on(1, "SELECT 3");
        nodes.on(1, "SET k other");
        nodes.on(1, "SELECT 0");
        nodes.pass_ms(5);
        assert_eq!(nodes.on(0, "MOVE k 3"), "1");
        nodes.join(1, way);
        nodes.agree();
        assert_eq!(nodes.on_all("EXISTS k"), "0", "{way:?}");
        nodes.on_all("SELECT 3");
        assert_eq!(nodes.on_all("GET k"), "v", "{way:?}");
    }
}

// D-19: the second of two pairs with one key was stamped below the delete that the first had overwritten.
#[test]
fn a_key_named_twice_in_an_mset_gets_its_last_value_above_the_delete_of_a_faster_clock() {
    for skew_ms in [800, 60_000] {
        let mut nodes = Nodes::new(20, &[2, 2, 1]);
        nodes.world.nodes[1].clock_ms = skew_ms;
        nodes.on(1, "SET k v");
        nodes.agree();
        // While one of them is away the others remember.
        nodes.cut(2);
        nodes.on(1, "DEL k");
        nodes.on(1, "WAIT 1 0");
        assert_eq!(nodes.on(0, "MSET k a k b"), "OK");
        nodes.join(2, WAYS[0]);
        nodes.agree();
        assert_eq!(nodes.on_all("GET k"), "b");
    }
}

// D-20: a later delete did not count where the key was gone already, so a write from between the two stayed there.
#[test]
fn the_later_of_two_deletes_counts_also_where_the_key_was_gone_already() {
    for first in ["DEL k", "PEXPIRE k 50"] {
        for way in WAYS {
            let mut nodes = Nodes::new(20, &[1, 2, 1]);
            nodes.on(0, "SET k v");
            nodes.agree();
            nodes.cut(1);
            nodes.cut(2);
            assert_eq!(nodes.on(0, first), "1");
            nodes.pass_ms(5);
            nodes.on(2, "SET k between");
            nodes.pass_ms(5);
            assert_eq!(nodes.on(1, "DEL k"), "1");
            nodes.pass_ms(100);
            assert_eq!(nodes.on(0, "EXISTS k"), "0");
            nodes.join(1, way);
            nodes.pass_ms(500);
            nodes.join(2, way);
            nodes.agree();
            assert_eq!(nodes.on_all("EXISTS k"), "0", "{first}, {way:?}");
        }
    }
}

// D-22, D-27: an increment from before a deadline that arrived after it made the key anew, without a deadline: a rate
// limiter's window never ended on that node.
#[test]
fn an_increment_from_before_a_deadline_that_arrives_after_it_does_not_make_the_key_anew() {
    for way in WAYS {
        for line in ["INCR k", "APPEND k 1", "SET k 7 KEEPTTL", "SETRANGE k 0 9"] {
            let mut nodes = Nodes::new(27, &[2, 1, 2]);
            nodes.on(0, "SET k 5 PX 400");
            nodes.agree();
            nodes.cut(1);
            nodes.on(1, line);
            assert_eq!(nodes.on(1, "EXISTS k"), "1", "before the deadline");
            nodes.pass_ms(600);
            nodes.join(1, way);
            nodes.agree();
            assert_eq!(nodes.on_all("EXISTS k"), "0", "{line}, {way:?}");
            // The next window.
            for node in 0..3 {
                if nodes.on(node, "INCR k") == "1" {
                    nodes.on(node, "PEXPIRE k 2000");
                }
            }
            nodes.agree();
            assert_ne!(nodes.on(0, "PEXPIRETIME k"), "-1", "{line}, {way:?}");
            nodes.on_all("PEXPIRETIME k");
            nodes.pass_ms(2500);
            assert_eq!(nodes.on_all("EXISTS k"), "0", "{line}, {way:?}");
        }
    }
}

// D-30: a delete by a node with a slow clock went out below the stamp of what it deleted.
#[test]
fn a_node_with_a_slow_clock_wins_over_everything_it_has_seen() {
    for behind_ms in [900, 60_000] {
        let mut nodes = Nodes::new(30, &[2, 3]);
        nodes.world.nodes[0].clock_ms = -behind_ms;
        nodes.on(1, "MSET a 1 b 1 c 1 d 1");
        nodes.on(1, "HSET h f 1");
        nodes.on(1, "HSET g f 1 x 1");
        nodes.agree();
        for line in ["DEL a", "SET b 2", "INCR c", "APPEND d 2", "HDEL h f", "DEL g", "HSET g y 2"] {
            nodes.on(0, line);
        }
        nodes.agree();
        assert_eq!(nodes.on_all("MGET a b c d"), "(nil) 2 2 12", "{behind_ms} ms");
        assert_eq!(nodes.on_all("EXISTS h"), "0");
        assert_eq!(nodes.on_all("HMGET g f x y"), "(nil) (nil) 2");
    }
}

// A flush there empties the book of deletes.
#[test]
fn a_flush_forgets_no_delete() {
    for way in WAYS {
        let mut nodes = Nodes::new(31, &[2, 2]);
        nodes.on(0, "SET k v");
        nodes.agree();
        nodes.cut(1);
        nodes.on(1, "SET k stale");
        nodes.on(1, "HSET h f stale");
        nodes.pass_ms(5);
        nodes.on(0, "DEL k");
        nodes.on(0, "FLUSHALL");
        nodes.pass_ms(3000);
        nodes.join(1, way);
        nodes.agree();
        assert_eq!(nodes.on_all("EXISTS k h"), "0", "{way:?}");
    }
}
