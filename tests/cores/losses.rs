//! What is lost, and what is not, when nodes are killed, start from old files, lose their disks or are forgotten.

use crate::nodes::{Nodes, Way};

#[test]
fn a_killed_node_loses_what_nobody_has_heard_and_no_snapshot_holds() {
    let mut nodes = Nodes::new(1, &[2, 2]);
    nodes.on(0, "SET heard v");
    nodes.agree();
    nodes.cut(0);
    // What is on its way when a node dies arrives: the links must be gone.
    nodes.pass_ms(2500);
    nodes.on(0, "SET saved v");
    assert_eq!(nodes.on(0, "SAVE"), "OK");
    nodes.on(0, "SET lost v");
    nodes.on(0, "INCR counter");
    nodes.world.stop(0);
    nodes.world.nodes[0].is_cut_off = false;
    nodes.start(0, 2);
    nodes.agree();
    assert_eq!(nodes.on_all("MGET heard saved lost counter"), "v v (nil) (nil)");
}

#[test]
fn a_node_that_starts_from_an_older_snapshot_gets_back_what_others_have_of_it() {
    for is_saved in [true, false] {
        let mut nodes = Nodes::new(2, &[2, 3]);
        nodes.on(0, "SET k old");
        nodes.on(0, "INCR counter");
        if is_saved {
            assert_eq!(nodes.on(0, "SAVE"), "OK");
        }
        nodes.on(0, "SET k new");
        nodes.on(0, "DEL gone");
        nodes.on(0, "INCR counter");
        nodes.agree();
        nodes.world.stop(0);
        nodes.start(0, 1);
        // Before it has its links again, too.
        nodes.on(0, "INCR counter");
        nodes.on(0, "SET other v");
        nodes.agree();
        assert_eq!(nodes.on_all("MGET k counter other"), "new 3 v", "with a snapshot: {is_saved}");
    }
}

#[test]
fn a_delete_is_remembered_until_no_member_can_write_below_it_though_it_has_lost_the_delete() {
    let mut nodes = Nodes::new(8, &[2, 2, 1]);
    nodes.world.nodes[0].clock_ms = 900;
    nodes.on(0, "SET k v");
    nodes.agree();
    nodes.on(0, "DEL k");
    assert_eq!(nodes.on(0, "WAIT 2 0"), "2");
    nodes.pass_ms(400);
    // All have acknowledged it, and what they acknowledged they can lose.
    for client in nodes.clients.clone() {
        assert_eq!(nodes.world.number(client, "mm_tombstones"), 1);
    }
    nodes.world.stop(2);
    nodes.start(2, 1);
    nodes.on(2, "SET k below");
    nodes.agree();
    nodes.on_all("GET k");
    nodes.pass_ms(3000);
    for client in nodes.clients.clone() {
        assert_eq!(nodes.world.number(client, "mm_tombstones"), 0);
    }
}

#[test]
fn what_expired_after_the_snapshot_was_saved_and_was_written_anew_is_the_same_after_a_restart() {
    for (anew, shown) in [("DEL k", "(nil)"), ("INCR k", "1"), ("SET k w", "w")] {
        let mut nodes = Nodes::new(9, &[2, 3, 2]);
        nodes.on(1, "INCRBY k 6");
        nodes.agree();
        assert_eq!(nodes.on(2, "PEXPIRE k 20000"), "1");
        nodes.agree();
        // All streams of the partition go on from the backlogs.
        (0..3).for_each(|node| _ = nodes.on(node, &format!("SET {{k}}{node} v")));
        nodes.agree();
        assert_eq!(nodes.on(2, "SAVE"), "OK");
        nodes.pass_ms(25_000);
        nodes.world.stop(2);
        // Nobody knows any more that there was a count.
        nodes.on(0, "HSET k f v");
        nodes.on(0, "DEL k");
        nodes.on(0, anew);
        nodes.pass_ms(1000);
        // Nothing is final again before it has heard of this one.
        nodes.cut(1);
        nodes.start(2, 1);
        let client = nodes.clients[2];
        nodes.world.eventually("it shows what the others do", |world| world.text(client, "GET k") == shown);
        nodes.join(1, Way::Late);
        nodes.agree();
        assert_eq!(nodes.on_all("GET k"), shown);
        let merges = nodes.full_merges(2);
        assert!((1..8).contains(&merges), "the partition of the key, and no others: {merges}");
    }
}

#[test]
fn what_is_written_under_a_name_that_expired_is_seen_after_a_restart_though_a_member_is_away() {
    let mut nodes = Nodes::new(10, &[2, 2, 1, 1]);
    nodes.on(1, "SET k v PX 20000");
    nodes.agree();
    (0..4).for_each(|node| _ = nodes.on(node, &format!("SET {{k}}{node} v")));
    nodes.agree();
    assert_eq!(nodes.on(2, "SAVE"), "OK");
    nodes.pass_ms(25_000);
    // Nothing is final while it is away.
    nodes.world.stop(3);
    nodes.world.stop(2);
    nodes.on(0, "HSET k f v");
    nodes.start(2, 2);
    let client = nodes.clients[2];
    nodes.world.eventually("it is seen", |world| world.text(client, "HGET k f") == "v");
}

#[test]
fn a_node_that_has_lost_its_disk_gets_everything_as_a_new_member() {
    let mut nodes = Nodes::new(3, &[2, 2, 1]);
    nodes.on(2, "SET k v");
    nodes.on(2, "INCRBY counter 7");
    nodes.on(2, "HSET h f v");
    nodes.agree();
    nodes.world.stop(2);
    nodes.world.lose_disk(2);
    nodes.on(0, "DEL h");
    nodes.start(2, 2);
    nodes.on(2, "INCR counter");
    nodes.agree();
    assert_eq!(nodes.on_all("MGET k counter"), "v 8");
    assert_eq!(nodes.on_all("EXISTS h"), "0");
    assert_eq!(
        nodes.world.info(nodes.clients[0], "mm_members"),
        "4",
        "the old one is waited for until it is forgotten"
    );
}

#[test]
fn after_all_nodes_were_killed_their_last_snapshots_are_merged() {
    let mut nodes = Nodes::new(4, &[2, 2, 1]);
    for node in 0..3 {
        nodes.on(node, &format!("SET k{node} v"));
        nodes.on(node, "INCR counter");
    }
    nodes.agree();
    nodes.on(0, "DEL k1");
    assert_eq!(nodes.on(0, "SAVE"), "OK");
    (1..3).for_each(|node| nodes.cut(node));
    nodes.on(1, "SET own v");
    assert_eq!(nodes.on(1, "SAVE"), "OK");
    // Nothing is on its way any more.
    nodes.pass_ms(2500);
    nodes.on(2, "SET never-saved v");
    (0..3).for_each(|node| nodes.world.stop(node));
    (1..3).for_each(|node| nodes.world.nodes[node].is_cut_off = false);
    (0..3).for_each(|node| nodes.start(node, 2));
    // WAIT speaks of what this run of a node has written; this was an earlier one.
    for client in nodes.clients.clone() {
        nodes.world.eventually("it is merged everywhere", |world| world.text(client, "GET own") == "v");
    }
    nodes.agree();
    assert_eq!(nodes.on_all("MGET k0 k1 k2 own counter never-saved"), "v (nil) v v 3 (nil)");
}

#[test]
fn what_wait_has_counted_outlives_the_node_that_took_it() {
    let mut nodes = Nodes::new(5, &[3, 1, 2]);
    for n in 0..30 {
        nodes.on(0, &format!("SET k{n} v"));
    }
    assert_eq!(nodes.on(0, "WAIT 2 0"), "2");
    nodes.world.stop(0);
    for n in 0..30 {
        assert_eq!((nodes.on(1, &format!("GET k{n}")), nodes.on(2, &format!("GET k{n}"))), ("v".into(), "v".into()));
    }
}

#[test]
fn counts_that_were_reset_while_a_forgotten_node_was_away_may_count_again_if_it_goes_on_counting() {
    let mut nodes = Nodes::new(6, &[2, 2, 1]);
    nodes.on(2, "INCRBY counter 10");
    nodes.on(2, "INCRBY idle 10");
    nodes.agree();
    let away = nodes.world.info(nodes.clients[2], "mm_node");
    nodes.cut(2);
    nodes.on(0, "DEL counter idle");
    nodes.pass_ms(3000);
    assert_eq!(nodes.on(0, &format!("MULTIMASTER FORGET {away}")), "OK");
    nodes.on(2, "INCR counter");
    nodes.pass_ms(3000);
    assert_eq!(nodes.world.number(nodes.clients[0], "mm_tombstones"), 0);
    nodes.join(2, Way::Whole);
    nodes.agree();
    assert_eq!(nodes.on_all("EXISTS idle"), "0", "what it did not touch stays deleted");
    assert_eq!(nodes.on_all("GET counter"), "11", "1 if it had not been forgotten");
}

// What comes of a partition before the link breaks may be of a run that is over, and known to nobody else.
#[test]
fn a_partition_that_comes_whole_is_here_whole_or_not_at_all() {
    let keys: Vec<String> = (0..150).map(|n| format!("{{k}}{n}")).collect();
    let exists = format!("EXISTS {}", keys.join(" "));
    let mut seen = [0; 2];
    for later_ms in (0..200).step_by(8) {
        let mut nodes = Nodes::new(later_ms, &[2, 2]);
        nodes.cut(1);
        for key in &keys {
            nodes.on(0, &format!("SETRANGE {key} 2000 v"));
        }
        nodes.outlast_the_backlogs();
        nodes.world.nodes[1].is_cut_off = false;
        nodes.pass_ms(200 + later_ms);
        nodes.world.stop(0);
        nodes.pass_ms(100);
        let count: usize = nodes.on(1, &exists).parse().expect("a number");
        assert!([0, keys.len()].contains(&count), "{count} after {later_ms} ms");
        seen[usize::from(count > 0)] += 1;
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}

#[test]
fn a_partition_that_is_larger_than_may_be_on_its_way_comes_when_the_limit_is_raised() {
    let mut nodes = Nodes::new(7, &[1, 3]);
    assert_eq!(nodes.on(1, "CONFIG SET client-query-buffer-limit 1mb"), "OK");
    nodes.cut(1);
    let write = |nodes: &mut Nodes, round: usize| {
        for n in 0..30 {
            nodes.on(0, &format!("SETRANGE {{k}}{n} 50000 {round}"));
            nodes.on(0, &format!("SET other{n} {round}"));
        }
    };
    write(&mut nodes, 1);
    nodes.join(1, Way::Whole);
    nodes.pass_ms(1000);
    write(&mut nodes, 2);
    nodes.pass_ms(4000);
    assert_eq!(nodes.on(1, "EXISTS {k}0 {k}29"), "0", "neither whole nor what was streamed beside it");
    assert_eq!(nodes.on(1, "GET other29"), "2", "all else goes on");
    let held = nodes.world.nodes[1].cores.iter().flat_map(|core| core.queues()).map(|queue| queue.len).max();
    assert!(held < Some(1 << 20), "{held:?}");
    assert_eq!(nodes.on(1, "CONFIG SET client-query-buffer-limit 1gb"), "OK");
    nodes.agree();
    assert_eq!(nodes.on_all("EXISTS {k}0 {k}29"), "2");
}
