//! Commands over keys of several cores: nobody sees half of one, whatever is late, and none waits for ever.

use std::collections::VecDeque;

use tutti::resp::value::Value;

use crate::world::{ClientId, World, items, show, spread};

/// Commands each client runs in a world.
const COMMANDS: usize = 40;

/// Clients that each send their next command when they have the last one's reply.
#[derive(Default)]
struct Crowd {
    members: Vec<Member>,
}

struct Member {
    client: ClientId,
    left: VecDeque<String>,
    running: Option<String>,
}

impl Crowd {
    fn add(&mut self, world: &mut World, command: impl Fn(usize) -> String) {
        let client = world.client();
        self.members.push(Member { client, left: (0..COMMANDS).map(command).collect(), running: None });
    }

    /// Runs all to their ends; `judge` is told who got which reply to which command.
    fn run(mut self, world: &mut World, mut judge: impl FnMut(usize, &str, &Value)) {
        world.until("everyone is done", |world| {
            for (at, member) in self.members.iter_mut().enumerate() {
                if member.running.is_some()
                    && let Some(reply) = world.receive(member.client)
                {
                    judge(at, &member.running.take().unwrap_or_default(), &reply);
                }
                if member.running.is_none()
                    && let Some(command) = member.left.pop_front()
                {
                    world.send(member.client, &command);
                    member.running = Some(command);
                }
            }
            self.members.iter().all(|member| member.running.is_none())
        });
    }
}

fn for_worlds(test: impl FnMut(&mut World, usize)) {
    for_some_worlds(12, test);
}

fn for_some_worlds(count: u64, mut test: impl FnMut(&mut World, usize)) {
    for seed in 0..count {
        let cores = 2 + seed as usize % 3;
        test(&mut World::of_cores(seed, cores), cores);
    }
}

fn mset(keys: &[String], value: &str) -> String {
    let pairs: Vec<String> = keys.iter().map(|key| format!("{key} {value}")).collect();
    format!("MSET {}", pairs.join(" "))
}

#[track_caller]
fn expect_alike(command: &str, reply: &Value) {
    let values = items(reply);
    assert!(values.iter().all(|value| *value == values[0]), "{command}: half done: {values:?}");
}

#[test]
fn nobody_sees_half_of_an_mset() {
    for_worlds(|world, cores| {
        let keys = spread("k", cores);
        let mut crowd = Crowd::default();
        for writer in 0..3 {
            crowd.add(world, |n| mset(&keys, &format!("{writer}-{n}")));
        }
        for _ in 0..4 {
            crowd.add(world, |_| format!("MGET {}", keys.join(" ")));
        }
        crowd.run(world, |_, command, reply| match command.starts_with("MGET") {
            true => expect_alike(command, reply),
            false => assert_eq!(show(reply), "OK"),
        });
    });
}

#[test]
fn what_is_seen_of_one_key_of_an_mset_is_seen_of_all_from_then_on() {
    for_worlds(|world, cores| {
        let keys = spread("k", cores);
        let mut crowd = Crowd::default();
        crowd.add(world, |n| mset(&keys, &n.to_string()));
        for _ in 0..4 {
            crowd.add(world, |at| format!("GET {}", keys[at % cores]));
        }
        let mut seen = [0; 5];
        crowd.run(world, |who, command, reply| {
            if command.starts_with("GET") {
                let value = show(reply).parse().unwrap_or(0);
                assert!(value >= seen[who], "{command}: {value} after {}", seen[who]);
                seen[who] = value;
            }
        });
    });
}

#[test]
fn nobody_sees_half_of_an_msetnx_a_del_or_an_unlink() {
    for_worlds(|world, cores| {
        let keys = spread("k", cores);
        let joined = keys.join(" ");
        let mut crowd = Crowd::default();
        for writer in 0..3 {
            crowd.add(world, |n| mset(&keys, &format!("{writer}-{n}")).replacen("MSET", "MSETNX", 1));
        }
        crowd.add(world, |_| format!("DEL {joined}"));
        crowd.add(world, |_| format!("UNLINK {joined}"));
        for _ in 0..2 {
            crowd.add(world, |_| format!("MGET {joined}"));
            crowd.add(world, |_| format!("EXISTS {joined}"));
            crowd.add(world, |_| format!("TOUCH {joined}"));
        }
        let all_or_none = ["0".to_owned(), cores.to_string()];
        crowd.run(world, |_, command, reply| {
            let shown = show(reply);
            match command.split(' ').next() {
                Some("MGET") => expect_alike(command, reply),
                Some("MSETNX") => assert!(shown == "0" || shown == "1"),
                _ => assert!(all_or_none.contains(&shown), "{command}: {shown} of {cores}"),
            }
        });
    });
}

#[test]
fn a_key_that_is_renamed_is_always_under_one_of_its_names() {
    for_some_worlds(6, |world, cores| {
        let names = spread("name", cores);
        let joined = names.join(" ");
        let admin = world.client();
        world.text(admin, &format!("HSET {} field value", names[0]));
        let mut crowd = Crowd::default();
        for writer in 0..3 {
            let rename = if writer == 0 { "RENAMENX" } else { "RENAME" };
            crowd.add(world, |n| format!("{rename} {} {}", names[(n + writer) % cores], names[n % cores]));
            crowd.add(world, |n| format!("{rename} {} {}", names[n % cores], names[(n + 1) % cores]));
        }
        for _ in 0..3 {
            crowd.add(world, |_| format!("EXISTS {joined}"));
            crowd.add(world, |_| "DBSIZE".into());
            crowd.add(world, |_| "KEYS *".into());
        }
        crowd.run(world, |_, command, reply| match command.split(' ').next() {
            Some("EXISTS" | "DBSIZE") => assert_eq!(show(reply), "1", "{command}"),
            Some("KEYS") => assert_eq!(items(reply).len(), 1, "{command}: {reply:?}"),
            _ => {}
        });
        let left: Vec<String> = names.iter().map(|name| world.text(admin, &format!("HGETALL {name}"))).collect();
        assert_eq!(left.concat(), "field value");
    });
}

#[test]
fn a_copy_is_of_one_moment() {
    for_worlds(|world, cores| {
        let keys = spread("k", cores.max(2));
        let (from, to) = (&keys[0], &keys[1]);
        let mut crowd = Crowd::default();
        // The source is written before it is copied, by one client: the copy is at most one behind.
        crowd.add(world, |n| match n % 2 {
            0 => format!("SET {from} {n}"),
            _ => format!("COPY {from} {to} REPLACE"),
        });
        for _ in 0..4 {
            crowd.add(world, |_| format!("MGET {from} {to}"));
        }
        crowd.run(world, |_, command, reply| {
            if command.starts_with("MGET") {
                let numbers: Vec<i64> = items(reply).iter().map(|text| text.parse().unwrap_or(-2)).collect();
                let behind = numbers[0] - numbers[1];
                assert!(behind == 0 || behind == 2, "{command}: {numbers:?}");
            }
        });
    });
}

#[test]
fn a_flush_takes_all_of_an_mset_or_nothing() {
    for_some_worlds(6, |world, cores| {
        let keys = spread("k", cores);
        let mut crowd = Crowd::default();
        for writer in 0..3 {
            crowd.add(world, |n| mset(&keys, &format!("{writer}-{n}")));
        }
        crowd.add(world, |n| if n.is_multiple_of(2) { "FLUSHALL".into() } else { "FLUSHDB".into() });
        for _ in 0..3 {
            crowd.add(world, |_| format!("MGET {}", keys.join(" ")));
            crowd.add(world, |_| "DBSIZE".into());
            crowd.add(world, |_| "DEBUG DIGEST".into());
        }
        let sizes = ["0".to_owned(), cores.to_string()];
        crowd.run(world, |_, command, reply| match command {
            "DBSIZE" => assert!(sizes.contains(&show(reply)), "{command}: {reply:?} of {cores}"),
            _ if command.starts_with("MGET") => expect_alike(command, reply),
            _ => {}
        });
    });
}

#[test]
fn a_client_reads_what_it_has_written_whatever_core_owns_it() {
    for_worlds(|world, cores| {
        let keys = spread("k", cores);
        let clients: Vec<ClientId> = (0..cores).map(|core| world.connect(0, core)).collect();
        for round in 0..20 {
            // In one pipeline: nothing is waited for before the reads are sent.
            for (at, &client) in clients.iter().enumerate() {
                for key in &keys {
                    world.send(client, &format!("SET {key}{at} {round}"));
                    world.send(client, &format!("GET {key}{at}"));
                }
            }
            for &client in &clients {
                for _ in &keys {
                    let mut replies = Vec::new();
                    world.until("both replies", |world| {
                        replies.extend(world.receive(client));
                        replies.len() == 2
                    });
                    assert_eq!((show(&replies[0]), show(&replies[1])), ("OK".into(), round.to_string()));
                }
            }
        }
    });
}

#[test]
fn opposite_orders_and_hot_keys_stall_nobody() {
    for_worlds(|world, cores| {
        let mut keys = spread("a", cores);
        keys.extend(spread("b", cores));
        let reversed: Vec<String> = keys.iter().rev().cloned().collect();
        let mut crowd = Crowd::default();
        for writer in 0..2 {
            let keys = if usize::is_multiple_of(writer, 2) { &keys } else { &reversed };
            crowd.add(world, |n| mset(keys, &n.to_string()));
            crowd.add(world, |n| format!("MGET {}", keys[n % cores..].join(" ")));
            crowd.add(world, |n| format!("INCR {}", keys[n % keys.len()]));
            crowd.add(world, |_| format!("DEL {}", keys.join(" ")));
            crowd.add(world, |n| format!("RENAME {} {}", keys[0], keys[n % keys.len()]));
            crowd.add(world, |_| "FLUSHALL".into());
        }
        // `Crowd::run` ends when all have their replies.
        crowd.run(world, |_, _, _| {});
        let admin = world.client();
        assert_eq!(world.text(admin, &mset(&keys, "x")), "OK", "nothing is left locked");
    });
}
