//! Many clients at once on commands over keys of several cores: nobody sees half of one, and all are answered.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tutti::base::slot::ShardMap;
use tutti::resp::value::Value;

use crate::node::{Conn, Node, text};

/// Commands each client runs.
const COMMANDS: usize = 300;

/// Clients of each kind.
const CLIENTS: usize = 4;

fn spread(name: &str, cores: usize) -> Vec<String> {
    let map = ShardMap::new(cores as u16);
    let on = |core: usize| {
        let mut keys = (0..).map(|n| format!("{name}:{n}"));
        keys.find(|key| usize::from(map.owner_of_key(key.as_bytes()).0) == core).expect("every core owns keys")
    };
    (0..cores).map(on).collect()
}

/// What a client does as its n-th command.
type Kind<'a> = &'a (dyn Fn(&mut Conn, usize) + Sync);

/// Runs each kind of client several times, all at once, each from its first to its last command.
fn run_at_once(node: &Node, kinds: &[Kind<'_>]) {
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        for kind in kinds {
            for _ in 0..CLIENTS {
                let answered = &answered;
                scope.spawn(move || {
                    let mut conn = node.connect();
                    for n in 0..COMMANDS {
                        // Whoever waits for longer than `node::PATIENCE` fails there: nothing may stall.
                        kind(&mut conn, n);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
    });
    assert_eq!(answered.into_inner(), kinds.len() * CLIENTS * COMMANDS);
}

fn for_cores(test: impl Fn(&Node, usize)) {
    for cores in [2, 4] {
        let node = Node::start(&["--server-threads", &cores.to_string()]);
        assert_eq!(node.connect().text("CONFIG GET server-threads"), format!("server-threads {cores}"));
        test(&node, cores);
    }
}

#[track_caller]
fn expect_alike(reply: &Value) {
    let Value::Array(values) = reply else { panic!("{reply:?}") };
    assert!(values.iter().all(|value| *value == values[0]), "half done: {reply:?}");
}

#[test]
fn readers_see_all_of_an_mset_or_nothing_and_a_flush_likewise() {
    for_cores(|node, cores| {
        let keys = spread("k", cores);
        let joined = keys.join(" ");
        let set = |conn: &mut Conn, n: usize| {
            let pairs: Vec<String> = keys.iter().map(|key| format!("{key} {n}")).collect();
            assert_eq!(conn.text(&format!("MSET {}", pairs.join(" "))), "OK");
        };
        let get = |conn: &mut Conn, _: usize| expect_alike(&conn.run(&format!("MGET {joined}")));
        let flush = |conn: &mut Conn, n: usize| {
            let line = if n.is_multiple_of(32) { "FLUSHALL".into() } else { format!("EXISTS {joined}") };
            let reply = conn.text(&line);
            assert!([String::from("OK"), "0".into(), cores.to_string()].contains(&reply), "{line}: {reply}");
        };
        run_at_once(node, &[&set, &get, &flush]);
    });
}

#[test]
fn readers_see_all_of_an_msetnx_and_of_a_del_or_nothing() {
    for_cores(|node, cores| {
        let keys = spread("k", cores);
        let joined = keys.join(" ");
        let counts = ["0".to_owned(), cores.to_string()];
        let set = |conn: &mut Conn, n: usize| {
            let pairs: Vec<String> = keys.iter().map(|key| format!("{key} {n}")).collect();
            let reply = conn.text(&format!("MSETNX {}", pairs.join(" ")));
            assert!(reply == "0" || reply == "1", "{reply}");
        };
        let del = |conn: &mut Conn, n: usize| {
            let reply = conn.text(&format!("{} {joined}", if n.is_multiple_of(2) { "DEL" } else { "UNLINK" }));
            assert!(counts.contains(&reply), "half deleted: {reply}");
        };
        let read = |conn: &mut Conn, n: usize| match n % 2 {
            0 => expect_alike(&conn.run(&format!("MGET {joined}"))),
            _ => assert!(counts.contains(&conn.text(&format!("EXISTS {joined}")))),
        };
        run_at_once(node, &[&set, &del, &read]);
    });
}

#[test]
fn readers_find_a_renamed_key_under_one_name_and_copies_of_one_moment() {
    for_cores(|node, cores| {
        let names = spread("name", cores);
        let joined = names.join(" ");
        assert_eq!(node.connect().text(&format!("HSET {} field value", names[0])), "1");
        let rename = |conn: &mut Conn, n: usize| {
            let reply = conn.run(&format!("RENAME {} {}", names[n % cores], names[(n + 1) % cores]));
            assert!(["OK", "-ERR no such key"].contains(&text(&reply).as_str()), "{reply:?}");
        };
        let look = |conn: &mut Conn, _: usize| assert_eq!(conn.text(&format!("EXISTS {joined}")), "1");
        let (from, to) = (format!("from{{{}}}", names[0]), format!("to{{{}}}", names[1]));
        // Both are set, then the second is overwritten by a copy of the first: never is the second the newer one.
        let copy = |conn: &mut Conn, n: usize| {
            let line = match n % 2 {
                0 => format!("INCR {from}"),
                _ => format!("COPY {from} {to} REPLACE"),
            };
            conn.text(&line);
        };
        let compare = |conn: &mut Conn, _: usize| {
            let Value::Array(values) = conn.run(&format!("MGET {from} {to}")) else { panic!("no array") };
            let number = |at: usize| text(&values[at]).parse::<usize>().unwrap_or(0);
            assert!(number(0) >= number(1) && number(0) - number(1) <= CLIENTS, "{values:?}");
        };
        run_at_once(node, &[&rename, &look, &copy, &compare]);
        let left: Vec<String> = names.iter().map(|name| node.connect().text(&format!("HGETALL {name}"))).collect();
        assert_eq!(left.concat(), "field value");
    });
}
