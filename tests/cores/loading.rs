//! A node that loads its snapshot while clients and other nodes are there already.

use tutti::config::Config;
use tutti::config::values::SavePoint;
use tutti::worker::port::Action;

use crate::world::World;

const LOADING: &str = "-LOADING Redis is loading the dataset in memory";

/// A snapshot of redis-server with so many strings.
pub(crate) fn snapshot(keys: usize) -> Vec<u8> {
    let mut file = b"REDIS0010".to_vec();
    let text = |file: &mut Vec<u8>, text: String| {
        file.push(text.len() as u8);
        file.extend_from_slice(text.as_bytes());
    };
    for n in 0..keys {
        file.push(0);
        text(&mut file, format!("key:{n}"));
        text(&mut file, format!("value {n}"));
    }
    // The end, without a checksum.
    file.push(0xff);
    file.extend_from_slice(&[0; 8]);
    file
}

fn config() -> Config {
    // Save points that are due at once, and slices of a few keys.
    let save = vec![SavePoint { seconds: 0, changes: 1 }];
    Config { save, loading_process_events_interval_bytes: 1024, multi_master: true, ..Config::default() }
}

#[test]
fn clients_hear_loading_until_every_core_has_its_data() {
    for cores in 1..=4 {
        let mut world = World::new(cores as u64);
        world.add(cores, config());
        let file = snapshot(1000);
        world.load(0, &file);
        let client = world.connect(0, cores - 1);
        for line in ["PING", "GET key:1", "SET k v", "MGET a b c d", "DBSIZE", "FLUSHALL", "SAVE", "BGSAVE", "WAIT 0 0"]
        {
            assert_eq!(world.text(client, line), LOADING, "{line}");
        }
        // Redis allows these.
        assert_eq!(world.text(client, "SELECT 1"), "OK");
        assert_eq!(world.text(client, "ECHO hi"), "hi");
        assert_eq!(world.text(client, "CONFIG GET port"), "port 7000");
        assert_eq!(world.text(client, "SELECT 0"), "OK");
        assert_eq!(world.text(client, "GET"), "-ERR wrong number of arguments for 'get' command");
        let info = world.text(client, "INFO persistence");
        let total = format!("loading_total_bytes:{}\r\n", file.len());
        for line in ["loading:1\r\n", "async_loading:0", &total, "loading_rdb_used_mem:0"] {
            assert!(info.contains(line), "{line} in {info}");
        }
        for line in ["loading_start_time:", "loading_loaded_bytes:", "loading_loaded_perc:", "loading_eta_seconds:"] {
            assert!(info.contains(line), "{line} in {info}");
        }
        world.eventually("it is loaded", |world| world.text(client, "PING") == "PONG");
        assert_eq!(world.text(client, "DBSIZE"), "1000");
        assert_eq!(world.text(client, "MGET key:0 key:999"), "value 0 value 999");
        let info = world.text(client, "INFO persistence");
        assert!(info.contains("loading:0\r\n") && !info.contains("loading_total_bytes"), "{info}");
        assert!(info.contains("rdb_last_load_keys_loaded:1000"));
        let ready = world.nodes[0].actions.iter().filter(|action| **action == Action::Ready).count();
        assert_eq!(ready, 1, "said once, by the last core");
    }
}

#[test]
fn half_of_the_data_is_neither_saved_nor_shown_to_other_nodes() {
    let mut world = World::new(9);
    world.add(2, config());
    let replicaof = vec![("127.0.0.1".to_owned(), 7000)];
    world.add(1, Config { replicaof: replicaof.clone(), multi_master: true, ..Config::default() });
    world.load(0, &snapshot(4000));
    let (first, second) = (world.connect(0, 1), world.connect(1, 0));
    world.eventually("the link is refused", |world| {
        world.text(second, "INFO replication").contains("master_link_down_reason:it refused: LOADING")
    });
    assert_eq!(world.text(first, "PING"), LOADING);
    let is_saving = |action: &Action| matches!(action, Action::File { .. });
    assert!(!world.nodes[0].actions.iter().any(is_saving), "the save points wait");
    world.eventually("all of it arrives", |world| world.text(second, "DBSIZE") == "4000");
    let digest = world.text(first, "DEBUG DIGEST");
    world.eventually("equal data", |world| world.text(second, "DEBUG DIGEST") == digest);
}

#[test]
fn a_node_that_is_stopped_while_it_loads_leaves_its_snapshot_alone() {
    let mut world = World::new(4);
    world.add(2, config());
    world.load(0, &snapshot(1000));
    let client = world.connect(0, 0);
    world.send(client, "SHUTDOWN");
    world.until("the cores end", |world| {
        world.nodes[0].actions.iter().filter(|action| matches!(action, Action::Exit(0))).count() == 2
    });
    assert!(!world.nodes[0].actions.iter().any(|action| matches!(action, Action::File { .. })));
}
