//! How often a write crosses a link.

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
