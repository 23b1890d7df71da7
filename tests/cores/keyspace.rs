//! The keys of several cores as one keyspace: renames and copies across cores, scans, counts, digests.

use std::collections::BTreeMap;

use tutti::base::rng::Rng;

use crate::world::{ClientId, World, items, show, spread};

/// Runs a script in worlds of two to four cores. `{0}`, `{1}`, ... are keys on that core (modulo the cores there are).
#[track_caller]
fn check(script: &str) {
    for cores in 2..=4 {
        let mut world = World::of_cores(cores as u64, cores);
        let clients: Vec<ClientId> = (0..cores).map(|core| world.connect(0, core)).collect();
        let keys = spread("key", cores);
        for (at, line) in script.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
            let named = (0..5).fold(line.to_owned(), |line, n| line.replace(&format!("{{{n}}}"), &keys[n % cores]));
            let (command, want) = named.rsplit_once("=>").unwrap_or_else(|| panic!("no reply in: {line}"));
            // Whoever asks, the reply is the same.
            let reply = world.text(clients[at % cores], command.trim());
            assert_eq!(reply, want.trim(), "{command} on {cores} cores");
        }
    }
}

#[test]
fn renamed_across_cores_a_key_keeps_its_type_and_its_deadline() {
    check(
        "
        SET {0} text => OK
        PEXPIREAT {0} 1770009999000 => 1
        RENAME {0} {1} => OK
        EXISTS {0} => 0
        GET {1} => text
        PEXPIRETIME {1} => 1770009999000
        HSET {0} a 1 b 2 => 2
        RENAMENX {0} {1} => 0
        RENAME {0} {1} => OK
        TYPE {1} => hash
        PEXPIRETIME {1} => -1
        HGETALL {1} => a 1 b 2
        RENAMENX {1} {0} => 1
        EXISTS {1} => 0
        HLEN {0} => 2
        RENAME {1} {0} => -ERR no such key
        RENAMENX {1} {0} => -ERR no such key
        HLEN {0} => 2
    ",
    );
}

#[test]
fn renamed_and_copied_across_cores_counters_go_on_counting() {
    check(
        "
        INCRBY {0} 5 => 5
        RENAME {0} {1} => OK
        INCR {1} => 6
        INCR {0} => 1
        COPY {1} {0} => 0
        COPY {1} {0} REPLACE => 1
        INCRBY {0} 10 => 16
        GET {1} => 6
        HINCRBY {2}h f 7 => 7
        RENAME {2}h {1}h => OK
        HINCRBY {1}h f 1 => 8
        INCRBYFLOAT {0}f 1.5 => 1.5
        RENAME {0}f {1}f => OK
        INCRBYFLOAT {1}f 1.5 => 3
    ",
    );
}

#[test]
fn copies_and_moves_reach_other_databases() {
    check(
        "
        HSET {0} f v => 1
        PEXPIREAT {0} 1770009999000 => 1
        COPY {0} {1} DB 2 => 1
        EXISTS {1} => 0
        COPY {0} {1} DB 2 => 0
        COPY {0} {1} DB 2 REPLACE => 1
        COPY {0} {0} => -ERR source and destination objects are the same
        COPY {0} {0} DB 1 => 1
        COPY {0} {1} DB 3 => -ERR DB index is out of range
        MOVE {0} 2 => 1
        MOVE {0} 2 => 0
        EXISTS {0} => 0
        MOVE {0} 0 => -ERR source and destination objects are the same
    ",
    );
    for cores in 2..=4 {
        let mut world = World::of_cores(7, cores);
        let keys = spread("key", cores);
        let client = world.client();
        world.text(client, &format!("HSET {} f v", keys[0]));
        world.text(client, &format!("PEXPIREAT {} 1770009999000", keys[0]));
        assert_eq!(world.text(client, &format!("COPY {} {} DB 2", keys[0], keys[1])), "1");
        assert_eq!(world.text(client, "SELECT 2"), "OK");
        assert_eq!(world.text(client, &format!("HGETALL {}", keys[1])), "f v");
        assert_eq!(world.text(client, &format!("PEXPIRETIME {}", keys[1])), "1770009999000");
        assert_eq!(world.text(client, "DBSIZE"), "1");
    }
}

#[test]
fn counts_patterns_and_flushes_are_over_all_cores() {
    check(
        "
        MSET {0} 1 {1} 2 b 3 a 5 => OK
        UNLINK b nothing => 1
        EXISTS {0} {1} a a => 4
        DEL {0} {1} => 2
        DBSIZE => 1
        KEYS * => a
        KEYS ? => a
        KEYS x* => 
        RANDOMKEY => a
        FLUSHDB => OK
        DBSIZE => 0
        RANDOMKEY => (nil)
        DEBUG DIGEST => 0000000000000000000000000000000000000000
        MSET {0} 1 {1} 2 => OK
        FLUSHALL ASYNC => OK
        KEYS * => 
        FLUSHALL NEVER => -ERR syntax error
    ",
    );
}

#[test]
fn a_flush_of_one_database_leaves_the_others() {
    let mut world = World::of_cores(3, 3);
    let keys = spread("key", 3);
    let (a, b) = (world.connect(0, 0), world.connect(0, 2));
    world.text(b, "SELECT 1");
    for key in &keys {
        world.text(a, &format!("SET {key} 0"));
        world.text(b, &format!("SET {key} 1"));
    }
    assert_eq!(world.text(a, "FLUSHDB"), "OK");
    assert_eq!((world.text(a, "DBSIZE"), world.text(b, "DBSIZE")), ("0".into(), "3".into()));
    world.text(a, "SET again 1");
    assert_eq!(world.text(b, "FLUSHALL"), "OK");
    assert_eq!((world.text(a, "DBSIZE"), world.text(b, "DBSIZE")), ("0".into(), "0".into()));
}

#[test]
fn every_key_is_picked_about_as_often_whatever_core_it_is_on() {
    let mut world = World::of_cores(5, 4);
    let client = world.client();
    let alone = &spread("key", 4)[3];
    world.text(client, &format!("SET {alone} 1"));
    // So many on another core that the lone key should hardly ever be seen.
    let tag = &spread("tag", 4)[0];
    for n in 0..199 {
        world.text(client, &format!("SET {n}{{{tag}}} 1"));
    }
    let picked = (0..400).filter(|_| world.text(client, "RANDOMKEY") == *alone).count();
    assert!((0..=12).contains(&picked), "picked {picked} times of 400, 2 expected");
}

/// One step of a scan: the next cursor, and what was found.
fn scan(world: &mut World, client: ClientId, cursor: &str, options: &str) -> (String, Vec<String>) {
    let reply = world.run(client, &format!("SCAN {cursor} {options}"));
    let tutti::resp::value::Value::Array(parts) = &reply else { panic!("{reply:?}") };
    (show(&parts[0]), items(&parts[1]))
}

#[test]
fn a_scan_returns_what_stays_while_tables_of_all_cores_grow_and_shrink() {
    for seed in 0..8 {
        let cores = 1 + seed as usize % 4;
        let mut world = World::of_cores(seed, cores);
        let mut rng = Rng::new(seed);
        let clients: Vec<ClientId> = (0..cores).map(|core| world.connect(0, core)).collect();
        let any = |rng: &mut Rng| clients[rng.below(cores as u64) as usize];
        // Tags crowd keys into few slots, so that their tables really grow and shrink.
        let name = |kind: &str, n: u64| format!("{kind}{n}{{{}}}", n % 7);
        let mut stays: Vec<String> = (0..150).map(|n| name("stays", n)).collect();
        for key in &stays {
            world.text(clients[0], &format!("SET {key} 1"));
        }
        for n in 0..400 {
            world.text(clients[0], &format!("SET {} 1", name("goes", n)));
        }
        let (mut cursor, mut seen, mut steps) = ("0".to_owned(), BTreeMap::<String, usize>::new(), 0);
        loop {
            let client = any(&mut rng);
            let (next, found) = scan(&mut world, client, &cursor, &format!("COUNT {}", 1 + rng.below(20)));
            found.into_iter().for_each(|key| *seen.entry(key).or_default() += 1);
            cursor = next;
            steps += 1;
            if cursor == "0" {
                break;
            }
            assert!(steps < 5_000, "it ends");
            // First they shrink, then they grow far beyond what they were.
            for _ in 0..12 {
                let client = any(&mut rng);
                let line = match steps {
                    ..30 => format!("DEL {}", name("goes", rng.below(400))),
                    _ => format!("SET {} 1", name("comes", rng.below(3_000))),
                };
                world.text(client, &line);
            }
        }
        stays.retain(|key| !seen.contains_key(key));
        assert!(stays.is_empty(), "seed {seed}: {stays:?} were there all the time and not returned");
    }
}

#[test]
fn a_scan_of_an_idle_keyspace_returns_every_key_once_and_what_it_is_asked_for() {
    for cores in 1..=4 {
        let mut world = World::of_cores(cores as u64, cores);
        let clients: Vec<ClientId> = (0..cores).map(|core| world.connect(0, core)).collect();
        for n in 0..60 {
            world.text(clients[0], &format!("SET string:{n} 1"));
            world.text(clients[0], &format!("HSET hash:{n} f v"));
        }
        let mut all = |options: &str| {
            let (mut cursor, mut keys, mut turn) = ("0".to_owned(), Vec::new(), 0);
            loop {
                let (next, found) = scan(&mut world, clients[turn % cores], &cursor, options);
                keys.extend(found);
                (cursor, turn) = (next, turn + 1);
                if cursor == "0" {
                    break;
                }
            }
            keys.sort();
            let count = keys.len();
            keys.dedup();
            assert_eq!(keys.len(), count, "{options}: some came twice");
            keys
        };
        assert_eq!(all("COUNT 7").len(), 120);
        assert_eq!(all("COUNT 1000").len(), 120);
        let hashes = all("TYPE hash");
        assert!(hashes.len() == 60 && hashes.iter().all(|key| key.starts_with("hash:")));
        let matching = all("MATCH *:1? COUNT 3");
        assert!(matching.len() == 20 && matching.iter().all(|key| key.contains(":1")));
        assert_eq!(all("MATCH string:5 TYPE string COUNT 2"), ["string:5"]);
        assert!(all("TYPE list").is_empty());
    }
}

#[test]
fn the_digest_of_equal_data_is_the_same_on_any_number_of_cores() {
    let digests: Vec<String> = (1..=4)
        .map(|cores| {
            let mut world = World::of_cores(cores as u64, cores);
            let clients: Vec<ClientId> = (0..cores).map(|core| world.connect(0, core)).collect();
            for n in 0..50 {
                // From another core, hence in another order of stamps, each time.
                let client = clients[n % cores];
                world.text(client, &format!("SET s{n} {n}"));
                world.text(client, &format!("INCRBY c{n} {n}"));
                world.text(client, &format!("HSET h{n} f{n} v g w"));
                world.text(client, &format!("PEXPIREAT s{n} {}", 1_770_009_999_000u64 + n as u64));
            }
            world.text(clients[0], "RENAME s1 renamed");
            world.text(clients[0], "DEL s2 c3 h4");
            world.text(clients[0], "MOVE s5 1");
            let whole = world.text(clients[0], "DEBUG DIGEST");
            let each = world.text(clients[cores - 1], "MULTIMASTER DIGEST");
            let words: Vec<&str> = each.split(' ').collect();
            assert_eq!((words[0], words[1]), ("all", whole.as_str()));
            assert_eq!((words[2], words[4], words.len()), ("db0", "db1", 6), "{each}");
            each
        })
        .collect();
    assert!(!digests[0].contains(&"0".repeat(40)));
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn digests_per_database_tell_which_one_differs() {
    let mut world = World::new(1);
    let config = tutti::config::Config { databases: 12, ..Default::default() };
    for cores in [1, 3] {
        world.add(cores, config.clone());
    }
    let clients = [world.connect(0, 0), world.connect(1, 1)];
    for client in clients {
        world.text(client, "SET k v");
        world.text(client, "SELECT 11");
        world.text(client, "HSET h f v");
    }
    let before = clients.map(|client| world.text(client, "MULTIMASTER DIGEST"));
    assert_eq!(before[0], before[1]);
    world.text(clients[1], "HSET h f w");
    let after = world.text(clients[1], "MULTIMASTER DIGEST");
    let differs: Vec<bool> = before[0].split(' ').zip(after.split(' ')).map(|(one, other)| one != other).collect();
    assert_eq!(differs, [false, true, false, false, false, true], "{after}");
    assert_eq!(world.text(clients[0], "FLUSHALL"), "OK");
    assert_eq!(world.text(clients[0], "MULTIMASTER DIGEST"), format!("all {}", "0".repeat(40)));
    assert_eq!(
        world.text(clients[0], "MULTIMASTER NONSENSE"),
        "-ERR unknown subcommand 'NONSENSE'. Try MULTIMASTER HELP."
    );
}
