//! Linked nodes of several cores each: what is told of links, and what waits for members.

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
