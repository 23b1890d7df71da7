//! Histories that were reported of other servers, and what must come of them here. Each test names the report and says
//! in a line what happened there; `conflicts` has those of two writes at the same time.

use tutti::base::ids::Db;
use tutti::worker::port::{Core, Measured};

use crate::nodes::{Nodes, WAYS, Way};
use crate::world::spread;

// --- Issues of KeyDB ---

// KeyDB 83: three masters count a key; one is down while it is deleted; when it is back the key is everywhere again.
#[test]
fn a_counter_deleted_while_a_node_was_down_stays_deleted_when_it_starts_again() {
    let mut nodes = Nodes::new(83, &[2, 1, 3]);
    (0..3).for_each(|node| _ = nodes.on(node, "INCR counter"));
    nodes.agree();
    assert_eq!(nodes.on_all("GET counter"), "3");
    nodes.save_and_stop(0);
    assert_eq!(nodes.on(1, "DEL counter"), "1");
    nodes.start(0, 2);
    nodes.agree();
    assert_eq!(nodes.on_all("EXISTS counter"), "0");
    assert_eq!(nodes.on(2, "INCR counter"), "1");
    nodes.agree();
    assert_eq!(nodes.on_all("GET counter"), "1");
}

// KeyDB 111: three masters count while one of them is restarted; each has another number in the end.
#[test]
fn increments_on_all_nodes_are_exact_though_one_restarts_meanwhile() {
    let mut nodes = Nodes::new(111, &[2, 3, 1]);
    let mut total = 0;
    let mut count = |nodes: &mut Nodes, who: &[usize]| {
        for _ in 0..30 {
            for &node in who {
                nodes.on(node, "INCR counter");
                nodes.on(node, "HINCRBY hash f 1");
                nodes.on(node, "INCRBYFLOAT float 0.1");
                total += 1;
            }
        }
        total
    };
    count(&mut nodes, &[0, 1, 2]);
    nodes.save_and_stop(2);
    count(&mut nodes, &[0, 1]);
    nodes.start(2, 2);
    let total = count(&mut nodes, &[0, 1, 2]);
    nodes.agree();
    assert_eq!(nodes.on_all("GET counter"), total.to_string());
    assert_eq!(nodes.on_all("HGET hash f"), total.to_string());
    assert_eq!(nodes.on_all("GET float"), format!("{}", f64::from(total) / 10.0));
}

// KeyDB 111, as it was measured later: a node counts, is saved before it has read its own echo, starts under a new name
// and takes its own ten once more.
#[test]
fn a_node_that_starts_again_does_not_count_its_own_increments_twice() {
    for has_file in [true, false] {
        let mut nodes = Nodes::new(5, &[2, 2]);
        (0..10).for_each(|_| _ = nodes.on(0, "INCR counter"));
        // The other has them, and nothing of that has come back to us.
        assert_eq!(nodes.on(0, "WAIT 1 0"), "1");
        match has_file {
            true => nodes.save_and_stop(0),
            false => nodes.world.stop(0),
        }
        nodes.start(0, 3);
        nodes.agree();
        assert_eq!(nodes.on_all("GET counter"), "10", "with its file: {has_file}");
        nodes.on(0, "INCR counter");
        nodes.agree();
        assert_eq!(nodes.on_all("GET counter"), "11", "with its file: {has_file}");
    }
}

// KeyDB 247: two hosts claim a name at the same moment, and each ends with the other's claim.
#[test]
fn two_nodes_that_claim_a_key_at_once_end_with_one_claim() {
    for seed in 0..4 {
        for skew_ms in [0, 300] {
            let mut nodes = Nodes::new(seed, &[1, 2]);
            nodes.world.nodes[0].clock_ms = skew_ms;
            let claims = [0, 1].map(|node| (nodes.clients[node], format!("SET name host{node} NX")));
            claims.iter().for_each(|(client, line)| nodes.world.send(*client, line));
            for (client, _) in claims {
                nodes.world.until("both are answered", |world| world.receive(client).is_some());
            }
            nodes.agree();
            let kept = nodes.on_all("GET name");
            assert!(kept == "host0" || kept == "host1", "{kept}");
        }
    }
}

// KeyDB 366: in a split brain one key is written on both sides in turns; after it the sides keep different values.
#[test]
fn writes_on_both_sides_of_a_split_end_with_the_last_one_on_both() {
    for way in WAYS {
        let mut nodes = Nodes::new(366, &[2, 3]);
        nodes.cut(1);
        for (node, line) in [(0, "SET b b2"), (1, "SET b b1"), (0, "SET b b3"), (0, "SET ab a"), (1, "SET ab b")] {
            nodes.pass_ms(3);
            nodes.on(node, line);
        }
        for (node, line) in [(1, "SET ba b"), (0, "SET ba a")] {
            nodes.pass_ms(3);
            nodes.on(node, line);
        }
        nodes.join(1, way);
        nodes.agree();
        assert_eq!(nodes.on_all("MGET b ab ba"), "b3 b a", "{way:?}");
    }
}

// KeyDB 390: a key is set and deleted while both nodes run; a node whose file still has it is restarted, and the key is
// back.
#[test]
fn a_key_deleted_before_the_restart_of_a_node_whose_file_still_has_it_stays_deleted() {
    let mut nodes = Nodes::new(390, &[2, 2]);
    nodes.on(0, "SET foo bar");
    nodes.agree();
    assert_eq!(nodes.on(1, "SAVE"), "OK");
    assert_eq!(nodes.on(0, "DEL foo"), "1");
    nodes.agree();
    // Long enough for the delete to be forgotten by both.
    nodes.pass_ms(3000);
    assert_eq!(nodes.on_all("EXISTS foo"), "0");
    assert_eq!(nodes.world.number(nodes.clients[0], "mm_tombstones"), 0);
    nodes.world.stop(1);
    nodes.start(1, 2);
    nodes.agree();
    assert_eq!(nodes.on_all("EXISTS foo"), "0");
}

// KeyDB 442: of the keys deleted around a restart of a few seconds some are back.
#[test]
fn keys_deleted_before_during_and_after_a_restart_stay_deleted() {
    let mut nodes = Nodes::new(442, &[2, 2]);
    (1..=4).for_each(|n| _ = nodes.on(0, &format!("SET key-{n} v")));
    nodes.agree();
    nodes.on(1, "DEL key-1");
    nodes.save_and_stop(0);
    nodes.on(1, "DEL key-2 key-3");
    nodes.pass_ms(5000);
    nodes.start(0, 2);
    nodes.on(0, "DEL key-4");
    nodes.agree();
    assert_eq!(nodes.on_all("EXISTS key-1 key-2 key-3 key-4"), "0");
}

// KeyDB 447: a key deleted on one side of a split comes back from the other side.
#[test]
fn what_is_deleted_on_either_side_of_a_split_stays_deleted() {
    for way in WAYS {
        let mut nodes = Nodes::new(447, &[3, 2]);
        nodes.on(0, "MSET k0 v k1 v k2 v kept v");
        nodes.on(0, "HSET h f 1 g 2");
        nodes.on(0, "INCRBY n 10");
        nodes.agree();
        nodes.cut(1);
        nodes.on(0, "DEL k0 k1");
        nodes.on(1, "DEL k2 n");
        nodes.on(1, "HDEL h f");
        nodes.join(1, way);
        nodes.agree();
        assert_eq!(nodes.on_all("MGET k0 k1 k2 kept n"), "(nil) (nil) (nil) v (nil)", "{way:?}");
        assert_eq!(nodes.on_all("HGETALL h"), "g 2", "{way:?}");
    }
}

// --- After a cut that outlived the backlog: what a full synchronisation of KeyDB made of it ---

// Seven and three increments on ten gave thirteen: the whole value of one side won.
#[test]
fn increments_on_both_sides_of_a_long_cut_all_count() {
    let mut nodes = Nodes::new(7, &[2, 2]);
    nodes.on(0, "SET n 10");
    nodes.agree();
    nodes.cut(1);
    (0..7).for_each(|_| _ = nodes.on(0, "INCR n"));
    (0..3).for_each(|_| _ = nodes.on(1, "INCR n"));
    nodes.join(1, Way::Whole);
    nodes.agree();
    assert_eq!(nodes.on_all("GET n"), "20");
}

// Fields written on two sides: one side's whole hash won.
#[test]
fn fields_written_on_both_sides_of_a_long_cut_are_all_there() {
    let mut nodes = Nodes::new(8, &[2, 3]);
    nodes.on(0, "HSET h old 0");
    nodes.agree();
    nodes.cut(1);
    nodes.on(0, "HSET h a 1");
    nodes.on(1, "HSET h b 2");
    nodes.join(1, Way::Whole);
    nodes.agree();
    assert_eq!(nodes.on_all("HMGET h old a b"), "0 1 2");
}

// A value overwritten by one that then expired came back, without a deadline.
#[test]
fn a_key_that_expired_while_a_node_was_away_does_not_come_back_with_its_older_value() {
    for way in WAYS {
        let mut nodes = Nodes::new(9, &[2, 2, 1]);
        nodes.on(0, "SET k old");
        nodes.on(0, "HSET h f old");
        nodes.agree();
        nodes.cut(2);
        nodes.on(0, "SET k short PX 400");
        nodes.on(1, "PEXPIRE h 400");
        nodes.pass_ms(3000);
        assert_eq!(nodes.on(0, "EXISTS k h"), "0");
        nodes.join(2, way);
        nodes.agree();
        assert_eq!(nodes.on_all("EXISTS k h"), "0", "{way:?}");
    }
}

// A flush was undone by whoever had not heard of it.
#[test]
fn what_was_flushed_during_a_cut_does_not_come_back_and_what_is_newer_stays() {
    for way in WAYS {
        let mut nodes = Nodes::new(10, &[2, 2]);
        nodes.on(0, "MSET a 1 b 2");
        nodes.agree();
        nodes.cut(1);
        nodes.on(1, "SET c 3");
        nodes.pass_ms(5);
        nodes.on(0, "FLUSHALL");
        nodes.pass_ms(5);
        nodes.on(1, "SET d 4");
        nodes.join(1, way);
        nodes.agree();
        assert_eq!(nodes.on_all("MGET a b c d"), "(nil) (nil) (nil) 4", "{way:?}");
    }
}

// A command that changed nothing refreshed the stale value it had looked at, which then beat the newer one.
#[test]
fn a_command_that_changes_nothing_does_not_make_an_old_value_newer() {
    for way in WAYS {
        let mut nodes = Nodes::new(11, &[2, 2]);
        nodes.on(0, "MSET a old b old c old");
        nodes.on(0, "HSET h f old");
        nodes.agree();
        nodes.cut(1);
        nodes.on(1, "MSET a new b new c new");
        nodes.on(1, "HSET h f new");
        nodes.pass_ms(5);
        for line in ["SETNX a x", "SET b x NX", "HSETNX h f x", "HSET c f x", "INCR c", "PERSIST a", "HDEL h g"] {
            nodes.on(0, line);
        }
        nodes.join(1, way);
        nodes.agree();
        assert_eq!(nodes.on_all("MGET a b c"), "new new new", "{way:?}");
        assert_eq!(nodes.on_all("HGET h f"), "new", "{way:?}");
    }
}

// An old write that arrives late counted as new, because it was stamped where it arrived.
#[test]
fn a_write_that_arrives_late_is_as_old_as_it_is() {
    let mut nodes = Nodes::following(12, &[1, 2, 1], &[&[1], &[0, 2], &[1]], |_| {});
    nodes.cut(0);
    nodes.on(0, "SET k old");
    nodes.pass_ms(500);
    nodes.on(2, "SET k new");
    nodes.pass_ms(500);
    nodes.join(0, Way::Late);
    nodes.agree();
    assert_eq!(nodes.on_all("GET k"), "new");
}

// --- Ways in which nodes of KeyDB lose or double data ---

// Writes of a second master that came while a first one's data was loaded were refused, and lost for good.
#[test]
fn writes_that_come_while_a_node_takes_whole_partitions_are_all_taken() {
    let mut nodes = Nodes::new(13, &[2, 2, 2]);
    nodes.cut(2);
    (0..400).for_each(|n| _ = nodes.on(0, &format!("SET bulk:{n} {}", "x".repeat(400))));
    nodes.join(2, Way::Whole);
    // The merge is under way from here on.
    for n in 0..100 {
        nodes.on(1, &format!("SET other:{n} v"));
        nodes.on(2, &format!("SET own:{n} v"));
        nodes.on(1, "INCR counter");
        nodes.on(2, "INCR counter");
    }
    nodes.agree();
    assert!(nodes.full_merges(2) > 0);
    assert_eq!(nodes.on_all("GET counter"), "200");
    for n in 0..100 {
        assert_eq!(nodes.on_all(&format!("MGET other:{n} own:{n}")), "v v");
    }
}

// A node at its memory limit dropped what its masters sent, and nobody sent it again.
#[test]
fn a_node_beyond_maxmemory_refuses_its_clients_and_takes_what_other_nodes_write() {
    let mut nodes = Nodes::new(14, &[2, 2]);
    assert_eq!(nodes.on(1, "CONFIG SET maxmemory 1"), "OK");
    let measured = Measured { used_bytes: 2, ..Measured::default() };
    nodes.world.nodes[1].cores.iter_mut().for_each(|core| core.measured(&measured));
    let refused = nodes.on(1, "SET mine v");
    assert!(refused.starts_with("-OOM"), "{refused}");
    nodes.on(0, "MSET a 1 b 2 c 3");
    nodes.on(0, "HSET h f 1");
    assert_eq!(nodes.on(0, "WAIT 1 0"), "1");
    assert_eq!(nodes.on_all("MGET a b c"), "1 2 3");
    assert_eq!(nodes.on_all("HGET h f"), "1");
    assert_eq!(nodes.on(1, "DEL a"), "1", "what gives memory back is done");
}

// The second half of what was written together was dropped when the link was lost in between, or blocked all that
// followed.
#[test]
fn an_mset_cut_off_in_the_middle_arrives_whole_after_all() {
    let mut was_seen_in_part = false;
    for seed in 0..4 {
        let mut nodes = Nodes::new(seed, &[3, 2]);
        let keys: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
        let pairs: Vec<String> = keys.iter().map(|key| format!("{key} {}", "v".repeat(3000))).collect();
        let count = format!("EXISTS {}", keys.join(" "));
        let client = nodes.clients[0];
        nodes.world.send(client, &format!("MSET {}", pairs.join(" ")));
        nodes.world.until("something of it has arrived", |world| {
            world.nodes[1].cores.iter().map(|core| core.shard.keys.len(Db(0))).sum::<usize>() > 0
        });
        nodes.cut(1);
        nodes.world.until("it is answered", |world| world.receive(client).is_some());
        was_seen_in_part |= nodes.on(1, &count) != "40";
        nodes.pass_ms(3000);
        nodes.join(1, WAYS[seed as usize % 2]);
        nodes.agree();
        assert_eq!(nodes.on_all(&count), "40");
    }
    assert!(was_seen_in_part, "that is what is tried here");
}

// Nodes with clocks apart expired a key at different times, and a synchronisation brought it back.
#[test]
fn a_deadline_is_one_instant_on_a_node_that_hears_of_it_late() {
    for way in WAYS {
        let mut nodes = Nodes::new(15, &[2, 2]);
        nodes.cut(1);
        for line in ["SET a v EX 100", "SET b v", "PEXPIRE b 90000", "SET c v", "GETEX c EX 80", "SETEX d 70 v"] {
            nodes.on(0, line);
        }
        nodes.pass_ms(1500);
        nodes.join(1, way);
        nodes.agree();
        for key in ["a", "b", "c", "d"] {
            let at: i64 = nodes.on_all(&format!("PEXPIRETIME {key}")).parse().expect("a number");
            assert!(at > 1_770_000_000_000, "{key}: {at}");
        }
    }
}

// In a ring or a star whose nodes were told to forward nothing some never got the data.
#[test]
fn every_write_reaches_every_node_of_a_chain_also_with_multi_master_no_forward() {
    let mut nodes = Nodes::following(16, &[1, 2, 1, 2], &[&[1], &[0, 2], &[1, 3], &[2]], |_| {});
    (0..4).for_each(|node| assert_eq!(nodes.on(node, "CONFIG SET multi-master-no-forward yes"), "OK"));
    for node in 0..4 {
        nodes.on(node, &format!("SET k{node} v"));
        nodes.on(node, "INCR n");
    }
    nodes.agree();
    assert_eq!(nodes.on_all("MGET k0 k1 k2 k3 n"), "v v v v 4");
}

// A node that joined a path in the middle of the stream forwarded a later write first; the earlier ones then counted
// as seen.
#[test]
fn a_node_that_comes_between_two_others_keeps_nothing_from_them() {
    let mut nodes = Nodes::following(17, &[2, 1, 2], &[&[], &[0], &[1]], |_| {});
    let keys = spread("k", 2);
    for round in 0..60 {
        keys.iter().for_each(|key| _ = nodes.on(0, &format!("HSET {key} f{round} v")));
        nodes.on(0, "INCR n");
        match round {
            20 => assert_eq!(nodes.on(2, "REPLICAOF 127.0.0.1 7000"), "OK"),
            30 => assert_eq!(nodes.on(1, "REPLICAOF REMOVE 127.0.0.1 7000"), "OK"),
            40 => assert_eq!(nodes.on(1, "REPLICAOF 127.0.0.1 7002"), "OK"),
            _ => {}
        }
    }
    let clients = nodes.clients.clone();
    nodes.world.eventually("all have all", |world| clients.iter().all(|&client| world.text(client, "GET n") == "60"));
    for key in &keys {
        assert_eq!(nodes.on_all(&format!("HLEN {key}")), "60");
    }
}
