//! What a node refuses while too few others are linked.

use tutti::config::Config;

use crate::world::World;

const MASTERDOWN: &str = "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
const NOREPLICAS: &str = "-NOREPLICAS Not enough good replicas to write.";

#[test]
fn stale_data_is_served_unless_forbidden_until_enough_masters_are_linked() {
    let mut world = World::new(1);
    let replicaof = vec![("127.0.0.1".to_owned(), 7001), ("127.0.0.1".to_owned(), 7002)];
    world.add(
        3,
        Config { multi_master: true, active_replica: true, replica_read_only: false, replicaof, ..Config::default() },
    );
    let client = world.connect(0, 1);
    assert_eq!(world.text(client, "SET k 1"), "OK");
    assert_eq!(world.text(client, "CONFIG SET replica-serve-stale-data no"), "OK");
    for line in ["GET k", "SET k 2", "PING", "DBSIZE", "WAIT 0 0"] {
        assert_eq!(world.text(client, line), MASTERDOWN, "{line}");
    }
    for (line, reply) in [("SELECT 0", "OK"), ("ECHO hi", "hi"), ("CONFIG GET port", "port 7000")] {
        assert_eq!(world.text(client, line), reply, "{line}");
    }
    assert!(world.text(client, "INFO replication").contains("master_global_link_status:down"));
    for _ in 0..2 {
        world.add(2, Config { multi_master: true, ..Config::default() });
    }
    world.eventually("all masters are linked", |world| world.text(client, "PING") == "PONG");
    assert!(world.text(client, "INFO replication").contains("master_global_link_status:up"));
    // One is lost: two of two were wanted, then one is enough.
    world.nodes[2].is_cut_off = true;
    world.text(client, "CONFIG SET repl-timeout 2");
    world.eventually("the link is given up", |world| world.text(client, "GET k") == MASTERDOWN);
    assert_eq!(world.text(client, "CONFIG SET replica-quorum 1"), "OK");
    assert_eq!(world.text(client, "GET k"), "1");
    assert_eq!(world.text(client, "CONFIG SET replica-quorum 2"), "OK");
    assert_eq!(world.text(client, "GET k"), MASTERDOWN);
    assert_eq!(world.text(client, "REPLICAOF NO ONE"), "OK");
    assert_eq!(world.text(client, "GET k"), "1", "who has no masters lacks none");
}

#[test]
fn where_stale_data_is_forbidden_nothing_is_served_before_all_that_a_master_had_is_here() {
    let mut world = World::new(3);
    world.add(2, Config { multi_master: true, ..Config::default() });
    let master = world.connect(0, 0);
    // More than the backlog of a megabyte keeps.
    let value = "v".repeat(20_000);
    for n in 0..120 {
        world.text(master, &format!("SET k{n} {value}"));
    }
    // Shards say what they have applied every 100 ms.
    world.pass_ms(200);
    let replicaof = vec![("127.0.0.1".to_owned(), 7000)];
    world.add(2, Config { multi_master: true, replicaof, replica_serve_stale_data: false, ..Config::default() });
    let client = world.connect(1, 1);
    let mut has_synced = false;
    loop {
        // Nothing happens between the two answers but what they take.
        let info = world.text(client, "INFO replication");
        let keys = world.text(client, "DBSIZE");
        let is_up = info.contains("master_link_status:up");
        assert_eq!(info.contains("master_sync_in_progress:1"), info.contains("master_sync_streams_left:"), "{info}");
        has_synced |= info.contains("master_link_state:sync") && info.contains("master_link_status:down");
        assert!(keys == "120" || !is_up && keys == MASTERDOWN, "{keys} keys of 120");
        if is_up {
            break;
        }
    }
    assert!(has_synced);
    world.eventually("nothing is left", |world| world.info(client, "master_sync_in_progress") == "0");
}

#[test]
fn writes_ask_for_readers_that_keep_up() {
    let mut world = World::new(2);
    world.add(2, Config { multi_master: true, min_replicas_to_write: 1, ..Config::default() });
    let client = world.connect(0, 0);
    for line in ["SET k 1", "DEL k", "MSET a 1 b 2", "FLUSHALL"] {
        assert_eq!(world.text(client, line), NOREPLICAS, "{line}");
    }
    assert_eq!(world.text(client, "GET k"), "(nil)");
    let replicaof = vec![("127.0.0.1".to_owned(), 7000)];
    world.add(1, Config { multi_master: true, replicaof, ..Config::default() });
    world.eventually("a reader is there", |world| world.text(client, "SET k 1") == "OK");
    assert_eq!(world.text(client, "CONFIG SET min-replicas-max-lag 2"), "OK");
    world.nodes[1].is_cut_off = true;
    world.eventually("it has been silent for too long", |world| world.text(client, "SET k 2") == NOREPLICAS);
    world.nodes[1].is_cut_off = false;
    world.eventually("it speaks again", |world| world.text(client, "SET k 2") == "OK");
    world.nodes[1].is_cut_off = true;
    world.eventually("it is silent again", |world| world.text(client, "SET k 2") == NOREPLICAS);
    assert_eq!(world.text(client, "CONFIG SET min-replicas-to-write 0"), "OK");
    assert_eq!(world.text(client, "SET k 3"), "OK");
}
