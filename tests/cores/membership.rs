//! Who must hear of a delete before it is forgotten, over links and cores.

use std::collections::BTreeSet;

use tutti::config::Config;

use crate::nodes::Nodes;
use crate::world::{ClientId, World};

fn info(world: &mut World, client: ClientId, field: &str) -> String {
    let text = world.text(client, "INFO replication");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// Three linked nodes with a client each; the last is cut off, and the others have noticed.
fn one_is_away(seed: u64, tombstone_memory_limit: u64) -> (World, [ClientId; 3]) {
    let mut world = World::new(seed);
    for (at, cores) in [2, 3, 1].into_iter().enumerate() {
        let others = (0..3).filter(|&other| other != at);
        let replicaof = others.map(|other| ("127.0.0.1".to_owned(), 7000 + other as u16)).collect();
        world.add(
            cores,
            Config {
                multi_master: true,
                active_replica: true,
                repl_timeout: 2,
                tombstone_memory_limit,
                replicaof,
                ..Config::default()
            },
        );
    }
    let clients = [world.connect(0, 1), world.connect(1, 0), world.connect(2, 0)];
    for client in clients {
        world.eventually("all have met", |world| info(world, client, "mm_members") == "3");
    }
    assert_eq!(world.text(clients[0], "SET k v"), "OK");
    world.eventually("all have it", |world| world.text(clients[2], "GET k") == "v");
    world.nodes[2].is_cut_off = true;
    for client in &clients[..2] {
        world.eventually("the link is given up", |world| {
            world.text(*client, "INFO replication").matches("link_status:down").count() > 0
        });
    }
    (world, clients)
}

#[test]
fn a_forgotten_node_is_waited_for_by_none_and_a_member_again_when_it_returns() {
    for seed in 0..3 {
        let (mut world, [a, b, c]) = one_is_away(seed, 1 << 20);
        let (away, here) = (info(&mut world, c, "mm_node"), info(&mut world, b, "mm_node"));
        assert_eq!(world.text(a, "DEL k"), "1");
        assert_eq!(world.text(c, "SET own v"), "OK");
        world.eventually("both know of the delete", |world| world.text(b, "GET k") == "(nil)");
        world.pass_ms(3000);
        assert_eq!(
            (info(&mut world, a, "mm_tombstones"), info(&mut world, b, "mm_tombstones")),
            ("1".into(), "1".into())
        );

        let connected = world.text(a, &format!("MULTIMASTER FORGET {here}"));
        assert!(connected.contains("is connected: stop it"), "{connected}");
        let own = info(&mut world, a, "mm_node");
        assert!(world.text(a, &format!("MULTIMASTER FORGET {own}")).contains("cannot forget itself"));
        assert!(world.text(a, "MULTIMASTER FORGET 00000000-0000-0000-0000-0000000000ff").contains("is not known"));
        assert!(world.text(a, "MULTIMASTER FORGET x").contains("UUID"));

        assert_eq!(world.text(a, &format!("MULTIMASTER FORGET {away}")), "OK");
        for client in [a, b] {
            world.eventually("nobody waits for it", |world| {
                info(world, client, "mm_members") == "2" && info(world, client, "mm_tombstones") == "0"
            });
        }
        world.pass_ms(2000);
        assert_eq!((info(&mut world, a, "mm_members"), info(&mut world, b, "mm_members")), ("2".into(), "2".into()));

        world.nodes[2].is_cut_off = false;
        for client in [a, b, c] {
            world.eventually("it is a member again", |world| info(world, client, "mm_members") == "3");
            world.eventually("what it wrote itself is taken", |world| world.text(client, "GET own") == "v");
            world.eventually("the delete stays", |world| world.text(client, "GET k") == "(nil)");
        }
        world.pass_ms(2000);
        for client in [a, b, c] {
            assert_eq!((world.text(client, "GET own"), world.text(client, "GET k")), ("v".into(), "(nil)".into()));
        }
        // It holds back what it has not heard of, as any member.
        world.nodes[2].is_cut_off = true;
        assert_eq!(world.text(b, "DEL own"), "1");
        world.pass_ms(4000);
        assert_eq!(info(&mut world, b, "mm_tombstones"), "1");
    }
}

#[test]
fn beyond_the_limit_deletes_are_not_remembered_for_who_is_away_and_stay_deleted_when_it_returns() {
    let (mut world, [a, b, c]) = one_is_away(7, 6);
    assert_eq!(world.text(a, "DEL k"), "1");
    assert_eq!(world.text(c, "SET own v"), "OK");
    world.eventually("both know of the delete", |world| world.text(b, "GET k") == "(nil)");
    assert_eq!(info(&mut world, a, "mm_tombstones"), "1");
    world.pass_ms(10_000);
    for client in [a, b] {
        world.eventually("it has been away for too long", |world| info(world, client, "mm_tombstones") == "0");
        assert_eq!(info(&mut world, client, "mm_members"), "3");
    }
    world.nodes[2].is_cut_off = false;
    for client in [a, b, c] {
        world.eventually("what it wrote itself is taken", |world| world.text(client, "GET own") == "v");
        world.eventually("the delete stays", |world| world.text(client, "GET k") == "(nil)");
    }
    world.eventually("it is waited for", |world| !world.text(a, "MULTIMASTER STATUS").contains("waited_for=0"));
}

/// Nobody could have told it. Where the end is final by the time its count comes, that stands alone; a comparison of
/// digests makes all equal.
#[test]
fn what_a_new_node_counted_before_it_was_linked_may_be_added_to_a_count_that_has_just_ended() {
    let (mut seen, masters): (_, [&[usize]; 3]) = (BTreeSet::new(), [&[1], &[0], &[]]);
    for after_ms in (0..1500).step_by(75) {
        let mut nodes = Nodes::following(after_ms, &[1, 2, 1], &masters, |config| config.digest_check_period = 1);
        nodes.on(0, "INCRBY k 4");
        nodes.on(0, "PEXPIRE k 100");
        nodes.pass_ms(100 + after_ms);
        assert_eq!(nodes.on(2, "INCRBY k 5"), "5");
        for (follower, master) in [(2, 0), (0, 2)] {
            assert_eq!(nodes.on(follower, &format!("REPLICAOF 127.0.0.1 {}", 7000 + master)), "OK");
        }
        let clients = nodes.clients.clone();
        nodes.world.eventually("all are equal", |world| {
            let values: Vec<String> = clients.iter().map(|&client| world.text(client, "GET k")).collect();
            let digests: Vec<String> = clients.iter().map(|&client| world.text(client, "MULTIMASTER DIGEST")).collect();
            seen.extend(values.iter().cloned());
            digests.iter().all(|digest| *digest == digests[0])
                && values.iter().all(|value| *value == values[0] && value != "(nil)")
        });
    }
    assert!(seen.contains("5") && seen.iter().all(|value| ["5", "9", "(nil)"].contains(&value.as_str())), "{seen:?}");
}
