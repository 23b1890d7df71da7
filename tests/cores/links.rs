//! Linked nodes of several cores each: what is told of links, and what waits for members.

use crate::nodes::{Nodes, Way};
use crate::world::{World, spread};

#[test]
fn wait_answers_when_so_many_members_have_what_the_client_wrote() {
    for seed in 0..6 {
        let mut world = World::mesh(seed, &[1 + seed as usize % 3, 2, 1]);
        let cores = world.nodes[0].cores.len();
        let writer = world.connect(0, 0);
        let keys = spread("k", cores);
        for round in 0..5 {
            for key in &keys {
                world.text(writer, &format!("SET {key} {round}"));
            }
            let before_us = world.now.mono_us;
            assert_eq!(world.text(writer, "WAIT 2 0"), "2");
            let took_ms = (world.now.mono_us - before_us) / 1000;
            assert!(took_ms < 50, "asked for, not waited for: {took_ms} ms");
            for node in 1..3 {
                let reader = world.connect(node, 0);
                for key in &keys {
                    assert_eq!(world.text(reader, &format!("GET {key}")), round.to_string(), "on node {node}");
                }
            }
        }
    }
}

#[test]
fn wait_gives_up_in_time_with_the_number_reached() {
    let mut world = World::mesh(1, &[2, 1, 2]);
    let writer = world.connect(0, 1);
    world.text(writer, "SET k 1");
    world.nodes[2].is_cut_off = true;
    let before_us = world.now.mono_us;
    assert_eq!(world.text(writer, "WAIT 2 500"), "1");
    let took_ms = (world.now.mono_us - before_us) / 1000;
    assert!((500..700).contains(&took_ms), "{took_ms} ms");
    assert_eq!(world.text(writer, "WAIT 1 500"), "1");
    assert_eq!(world.text(writer, "WAIT 0 0"), "1");
    // Others write on meanwhile; the wait is for what was written before.
    let other = world.connect(0, 0);
    world.send(writer, "WAIT 2 0");
    world.text(other, "SET later 1");
    world.pass_ms(300);
    assert_eq!(world.receive(writer), None, "one member is cut off");
    world.nodes[2].is_cut_off = false;
    world.until("the wait ends", |world| world.receive(writer).is_some());
}

#[test]
fn wait_of_a_client_that_wrote_nothing_counts_who_is_connected() {
    let mut world = World::mesh(2, &[1, 1]);
    let reader = world.connect(0, 0);
    assert_eq!(world.text(reader, "WAIT 1 0"), "1");
    assert_eq!(world.text(reader, "WAIT 0 0"), "1");
    assert_eq!(world.text(reader, "WAIT 2 20"), "1");
    assert_eq!(world.text(reader, "WAIT 1 -1"), "-ERR timeout is negative");
    assert_eq!(world.text(reader, "WAIT x 1"), "-ERR value is not an integer or out of range");
    assert_eq!(world.text(reader, "WAIT 1 x"), "-ERR timeout is not an integer or out of range");
}

#[test]
fn info_tells_how_far_each_link_is_behind() {
    let mut world = World::mesh(3, &[2, 3]);
    let (a, b) = (world.connect(0, 0), world.connect(1, 1));
    assert_eq!(world.number(b, "master_lag_ms"), 0, "nothing was written");
    for n in 0..20 {
        world.text(a, &format!("SET k{n} v"));
    }
    world.eventually("all arrives", |world| world.text(b, "DBSIZE") == "20");
    let lag_ms = world.number(b, "master_lag_ms");
    assert!((0..100).contains(&lag_ms), "{lag_ms} ms");
    // What waits for the line is as old as the line was silent.
    world.nodes[0].is_cut_off = true;
    world.text(a, "SET late v");
    world.pass_ms(1700);
    assert!(world.number(b, "master_lag_ms") >= 1500, "nothing was heard for so long");
    world.nodes[0].is_cut_off = false;
    world.eventually("it arrives", |world| world.text(b, "GET late") == "v");
    let lag_ms = world.number(b, "master_lag_ms");
    assert!((1700..2500).contains(&lag_ms), "{lag_ms} ms");
    world.text(a, "SET again v");
    world.eventually("it arrives", |world| world.text(b, "GET again") == "v");
    world.pass_ms(2100);
    assert_eq!(world.number(b, "master_lag_ms"), 0, "nothing lags any more");
    world.text(b, "REPLICAOF nowhere 1");
    assert_eq!(world.number(b, "master_1_lag_ms"), -1, "never linked");
}

#[test]
fn a_lag_is_measured_by_the_masters_clock() {
    for clock_ms in [700, -700] {
        let mut world = World::mesh(4, &[1, 2]);
        world.nodes[0].clock_ms = clock_ms;
        let (a, b) = (world.connect(0, 0), world.connect(1, 0));
        let about = |offset_ms: i64, wanted: i64| (wanted - 50..wanted + 50).contains(&offset_ms);
        world.eventually("the clock is known", |world| about(world.number(b, "master_clock_offset_ms"), clock_ms));
        world.eventually("by both", |world| about(world.number(a, "master_clock_offset_ms"), -clock_ms));
        world.text(a, "SET k v");
        world.eventually("it arrives", |world| world.text(b, "GET k") == "v");
        let lag_ms = world.number(b, "master_lag_ms");
        assert!((0..100).contains(&lag_ms), "{lag_ms} ms with a clock {clock_ms} ms ahead");
    }
}

#[test]
fn conflicts_are_counted_where_they_are_judged_and_over_reconnects() {
    let mut world = World::mesh(5, &[2, 2]);
    let (a, b) = (world.connect(0, 0), world.connect(1, 1));
    world.nodes[1].is_cut_off = true;
    world.text(a, "MSET x old y old");
    world.pass_ms(20);
    world.text(b, "MSET x new y new");
    world.nodes[1].is_cut_off = false;
    world.eventually("the newer wins", |world| world.text(a, "MGET x y") == "new new");
    world.eventually("the older loses", |world| world.number(b, "master_conflicts_lost") == 2);
    assert_eq!((world.number(a, "master_conflicts_won"), world.number(a, "master_conflicts_lost")), (2, 0));
    assert_eq!(world.number(b, "master_conflicts_won"), 0);
    let bytes = (world.number(a, "master_bytes_in"), world.number(a, "master_bytes_out"));
    assert!(bytes.0 > 0 && bytes.1 > 0);
    // The line is lost and comes back: from the backlog.
    for client in [a, b] {
        assert_eq!(world.text(client, "CONFIG SET repl-timeout 2"), "OK");
    }
    world.nodes[1].is_cut_off = true;
    world.eventually("the link is given up", |world| world.info(a, "master_link_status") == "down");
    world.text(b, "SET x newer");
    world.nodes[1].is_cut_off = false;
    world.text(a, "CONFIG SET repl-timeout 60");
    world.text(b, "CONFIG SET repl-timeout 60");
    world.eventually("it arrives", |world| world.text(a, "GET x") == "newer");
    assert_eq!((world.number(a, "master_resumes"), world.number(a, "master_full_merges")), (1, 0));
    assert_eq!(world.number(a, "master_conflicts_won"), 3);
    assert!(world.number(a, "master_bytes_in") > bytes.0 && world.number(a, "master_bytes_out") > bytes.1);
    let status = world.text(a, "MULTIMASTER STATUS");
    assert!(status.contains(",full_merges=0,resumes=1,conflicts_won=3,conflicts_lost=0"), "{status}");
}

#[test]
fn a_link_that_comes_back_too_late_counts_whole_partitions_instead() {
    let mut world = World::mesh(6, &[1, 2]);
    let (a, b) = (world.connect(0, 0), world.connect(1, 1));
    assert_eq!(world.text(a, "CONFIG SET repl-timeout 2"), "OK");
    world.nodes[0].is_cut_off = true;
    world.eventually("the link is given up", |world| world.info(a, "master_link_status") == "down");
    // More than the backlog of a megabyte keeps.
    let value = "v".repeat(20_000);
    for n in 0..120 {
        world.text(b, &format!("SET k{n} {value}"));
    }
    world.nodes[0].is_cut_off = false;
    world.eventually("all arrives", |world| world.text(a, "DBSIZE") == "120");
    assert!(world.number(a, "master_full_merges") > 0);
    assert_eq!(world.number(a, "master_resumes"), 0);
}

/// In a one-way ring every node is sent all that others wrote by one master only.
#[test]
fn whole_partitions_do_not_go_round_a_ring_for_ever_while_its_nodes_write() {
    for seed in 0..3 {
        let mut nodes = Nodes::following(seed, &[1, 2, 1, 2], &[&[3], &[0], &[1], &[2]], |_| {});
        let keys: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
        let write = |nodes: &mut Nodes, round: usize| {
            for node in 0..4 {
                for key in &keys {
                    nodes.on(node, &format!("SET {key}:{node} {round}"));
                }
            }
            nodes.pass_ms(50);
        };
        write(&mut nodes, 0);
        nodes.cut(1);
        write(&mut nodes, 1);
        nodes.join(1, Way::Whole);
        (2..40).for_each(|round| write(&mut nodes, round));
        let mut merges = || (0..4).map(|node| nodes.full_merges(node)).sum::<i64>();
        let before = merges();
        assert!(before > 0, "the backlogs had forgotten it, seed {seed}");
        (40..80).for_each(|round| write(&mut nodes, round));
        let after = (0..4).map(|node| nodes.full_merges(node)).sum::<i64>();
        assert_eq!(after, before, "seed {seed}: nothing was cut any more");
        nodes.agree();
    }
}
