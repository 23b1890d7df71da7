//! Changes of the configuration from several cores at once.

use std::collections::BTreeSet;

use tutti::config::Config;

use crate::world::{ClientId, World};

#[test]
fn changes_from_several_cores_at_once_all_hold_on_every_core() {
    for seed in 0..20 {
        let cores = 2 + seed as usize % 3;
        let mut world = World::new(seed);
        let replicaof = (0..10).map(|at| (format!("old{at}"), 1)).collect();
        world.add(cores, Config { multi_master: true, replicaof, ..Config::default() });
        let clients: Vec<ClientId> = (0..4).map(|at| world.connect(0, at % cores)).collect();
        for n in 0..10 {
            world.send(clients[0], &format!("REPLICAOF new{n} 1"));
            world.send(clients[1], &format!("REPLICAOF REMOVE old{n} 1"));
            world.send(clients[2], &format!("CONFIG SET maxclients {}", 500 + n));
            world.send(clients[3], &format!("CONFIG SET timeout {n}"));
        }
        for client in clients {
            for _ in 0..10 {
                let mut reply = None;
                world.until("it is answered", |world| {
                    reply = reply.take().or_else(|| world.receive(client));
                    reply.is_some()
                });
                assert_eq!(reply.as_ref().map(crate::world::show).as_deref(), Some("OK"));
            }
        }
        let wanted: BTreeSet<String> = (0..10).map(|n| format!("new{n}")).collect();
        for worker in &world.nodes[0].cores {
            let config = &worker.config;
            let masters: BTreeSet<String> = config.replicaof.iter().map(|(host, _)| host.clone()).collect();
            assert_eq!((masters, config.maxclients, config.timeout), (wanted.clone(), 509, 9), "seed {seed}");
        }
    }
}

#[test]
fn replicaof_answers_when_all_cores_know() {
    let mut world = World::new(3);
    world.add(3, Config { multi_master: true, ..Config::default() });
    let client = world.connect(0, 2);
    for (line, reply) in [
        ("REPLICAOF there 6379", "OK"),
        ("REPLICAOF There 6379", "OK Already connected to specified master"),
        ("REPLICAOF there 6380", "OK"),
        ("REPLICAOF REMOVE there 1", "-ERR Master not found"),
        ("REPLICAOF REMOVE there 6379", "OK"),
        ("REPLICAOF there x", "-ERR Invalid master port"),
        ("REPLICAOF there 65536", "-ERR Invalid master port"),
        ("REPLICAOF there 1 2", "-ERR Invalid arguments"),
        ("CONFIG GET replicaof", "replicaof there 6380"),
        ("REPLICAOF NO ONE", "OK"),
    ] {
        assert_eq!(world.text(client, line), reply, "{line}");
        let known: Vec<usize> = world.nodes[0].cores.iter().map(|worker| worker.config.replicaof.len()).collect();
        assert!(known.iter().all(|count| *count == known[0]), "{line}: {known:?}");
    }
}
