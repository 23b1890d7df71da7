//! How often a write crosses a link.

use std::collections::BTreeSet;

use tutti::base::ids::Partition;
use tutti::base::slot::slot_of;

use crate::world::{ClientId, World};

/// Records and duplicates that a node has taken over all its links.
fn taken(world: &mut World, client: ClientId) -> (i64, i64) {
    let status = world.text(client, "MULTIMASTER STATUS");
    let links = || status.lines().filter(|line| line.starts_with("master:"));
    (links().map(|line| figure(line, "records_in")).sum(), links().map(|line| figure(line, "duplicates")).sum())
}

fn figure(line: &str, name: &str) -> i64 {
    let found = line.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {line}")).parse().expect("a number")
}

/// Every node has this many keys.
#[track_caller]
fn all_have(world: &mut World, clients: &[ClientId], keys: usize) {
    for &client in clients {
        world.eventually("all arrives", |world| world.text(client, "DBSIZE") == keys.to_string());
    }
}

#[test]
fn in_a_mesh_every_write_crosses_each_link_once_and_is_counted_at_both_ends() {
    let mut world = World::mesh(7, &[1, 2, 3]);
    let clients: Vec<ClientId> = (0..3).map(|node| world.connect(node, 0)).collect();
    // Links must know of each other before nothing is forwarded any more.
    world.pass_ms(500);
    for n in 0..40 {
        world.text(clients[0], &format!("SET k{n} v"));
    }
    all_have(&mut world, &clients, 40);
    for &client in &clients[1..] {
        assert_eq!(world.number(client, "master_records_in"), 40);
        assert_eq!((world.number(client, "master_duplicates"), world.number(client, "master_1_records_in")), (0, 0));
    }
    assert_eq!(taken(&mut world, clients[0]), (0, 0));
    let status = world.text(clients[0], "MULTIMASTER STATUS");
    let sent: Vec<i64> =
        status.lines().filter(|line| line.starts_with("reader:")).map(|line| figure(line, "records_out")).collect();
    assert_eq!(sent, [40, 40]);
}

#[test]
fn a_node_that_returns_is_sent_what_it_missed_once() {
    const WRITES: usize = 600;
    for seed in 0..5 {
        let mut world = World::mesh(seed, &[1 + seed as usize % 2, 1, 2, 1]);
        let clients: Vec<ClientId> = (0..4).map(|node| world.connect(node, 0)).collect();
        for &client in &clients {
            world.text(client, "CONFIG SET repl-timeout 2");
        }
        world.nodes[0].is_cut_off = true;
        world.eventually("its links are given up", |world| {
            clients.iter().all(|&client| world.info(client, "master_link_status") == "down")
        });
        let value = "v".repeat(1000);
        for n in 0..WRITES {
            world.text(clients[1 + n % 3], &format!("SET k{n} {value}"));
        }
        all_have(&mut world, &clients[1..], WRITES);
        let before = taken(&mut world, clients[0]);
        world.nodes[0].is_cut_off = false;
        all_have(&mut world, &clients[..1], WRITES);
        world.eventually("all links are up", |world| {
            world.text(clients[0], "INFO replication").contains("connected_masters:3")
        });
        world.pass_ms(1000);
        let after = taken(&mut world, clients[0]);
        assert_eq!((after.0 - before.0, after.1 - before.1), (WRITES as i64, 0), "seed {seed}");
    }
}

/// Three nodes of which the first was cut off while the others wrote; then those of `restarted` have started again, so
/// that their backlogs do not have what was written. Returns a client on each node.
fn away_while_others_write(seed: u64, writes: usize, restarted: &[usize]) -> (World, Vec<ClientId>) {
    let mut world = World::mesh(seed, &[1 + seed as usize % 3, 2, 1]);
    let mut clients: Vec<ClientId> = (0..3).map(|node| world.connect(node, 0)).collect();
    for &client in &clients {
        world.text(client, "CONFIG SET repl-timeout 2");
    }
    world.nodes[0].is_cut_off = true;
    world.eventually("its links are given up", |world| {
        clients.iter().all(|&client| world.text(client, "INFO replication").contains("link_status:down"))
    });
    for n in 0..writes {
        world.text(clients[1 + n % 2], &format!("SET k{n} v"));
    }
    all_have(&mut world, &clients[1..], writes);
    for &node in restarted {
        assert_eq!(world.text(clients[node], "SAVE"), "OK");
        let cores = world.nodes[node].cores.len();
        world.stop(node);
        world.restart(node, cores);
        clients[node] = world.connect(node, 0);
        let client = clients[node];
        world.eventually("it has its data", |world| world.text(client, "PING") == "PONG");
    }
    for &client in &clients[1..] {
        world.eventually("the two are linked", |world| {
            world.text(client, "INFO replication").contains("connected_masters:1")
        });
    }
    (world, clients)
}

fn full_merges(world: &mut World, client: ClientId) -> i64 {
    let status = world.text(client, "MULTIMASTER STATUS");
    status.lines().filter(|line| line.starts_with("master:")).map(|line| figure(line, "full_merges")).sum()
}

#[test]
fn what_one_master_cannot_stream_comes_from_another_that_can_and_not_as_whole_partitions() {
    const WRITES: usize = 300;
    for seed in 0..5 {
        let (mut world, clients) = away_while_others_write(seed, WRITES, &[1 + seed as usize % 2]);
        let before = taken(&mut world, clients[0]);
        world.nodes[0].is_cut_off = false;
        all_have(&mut world, &clients[..1], WRITES);
        world.eventually("both links are up", |world| world.info(clients[0], "connected_masters") == "2");
        world.pass_ms(3000);
        let after = taken(&mut world, clients[0]);
        assert_eq!(full_merges(&mut world, clients[0]), 0, "seed {seed}");
        assert_eq!((after.0 - before.0, after.1 - before.1), (WRITES as i64, 0), "seed {seed}");
    }
}

#[test]
fn what_no_master_can_stream_comes_as_whole_partitions_at_once() {
    let partitions: BTreeSet<Partition> = (0..300).map(|n| slot_of(format!("k{n}").as_bytes()).partition()).collect();
    for seed in [0, 1, 2, 3, 38] {
        let (mut world, clients) = away_while_others_write(seed, 300, &[1, 2]);
        // The last one is not there to be asked.
        if seed % 2 == 1 {
            world.nodes[2].is_cut_off = true;
        }
        world.nodes[0].is_cut_off = false;
        world.eventually("a link is up", |world| world.info(clients[0], "connected_masters") != "0");
        let began_us = world.now.mono_us;
        all_have(&mut world, &clients[..1], 300);
        let took_ms = (world.now.mono_us - began_us) / 1000;
        assert!(took_ms < 1000, "{took_ms} ms");
        world.pass_ms(2000);
        let merges = full_merges(&mut world, clients[0]);
        assert_eq!(merges, partitions.len() as i64, "each once, seed {seed}");
    }
}

#[test]
fn the_background_comparison_leaves_alone_who_is_behind() {
    let mut world = World::mesh(8, &[1, 1]);
    let (ahead, behind) = (world.connect(0, 0), world.connect(1, 0));
    world.text(behind, "REPLICAOF REMOVE 127.0.0.1 7000");
    world.text(ahead, "CONFIG SET digest-check-period 1");
    world.pass_ms(5000);
    for n in 0..300 {
        world.text(ahead, &format!("SET k{n} v"));
    }
    world.pass_ms(1500);
    let before = world.number(ahead, "master_bytes_in") + world.number(ahead, "master_bytes_out");
    world.pass_ms(6000);
    let bytes = world.number(ahead, "master_bytes_in") + world.number(ahead, "master_bytes_out") - before;
    // A partition is asked after ten times a second.
    assert!((2_000..10_000).contains(&bytes), "{bytes} bytes");
}
