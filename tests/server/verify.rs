//! MULTIMASTER VERIFY and the background comparison between real nodes.

use crate::node::{Conn, Node, eventually};
use tutti::base::ids::Uuid;
use tutti::merge::origins::OriginId;
use tutti::peer::handshake::Hello;
use tutti::resp::value::Value;

const OPTIONS: [&str; 6] = ["--multi-master", "yes", "--active-replica", "yes", "--enable-debug-command", "local"];

/// Nodes that all follow each other, with these options besides.
fn mesh(count: usize, options: &[&str]) -> (Vec<Node>, Vec<Conn>) {
    let options: Vec<&str> = OPTIONS.iter().chain(options).copied().collect();
    let nodes: Vec<Node> = (0..count).map(|_| Node::start(&options)).collect();
    let mut conns: Vec<Conn> = nodes.iter().map(Node::connect).collect();
    for (at, conn) in conns.iter_mut().enumerate() {
        for other in nodes.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, node)| node) {
            assert_eq!(conn.text(&format!("REPLICAOF 127.0.0.1 {}", other.port)), "OK");
        }
    }
    for conn in &mut conns {
        eventually("all links are up", || {
            let info = conn.text("INFO replication");
            info.lines().filter(|line| line.ends_with("_link_status:up") && !line.contains("global")).count()
                == count - 1
        });
    }
    (nodes, conns)
}

/// Some of every kind of key.
fn fill(conn: &mut Conn, count: usize) {
    for n in 0..count {
        conn.send(&format!("SET s:{n} value-{n}"));
        conn.send(&format!("INCRBY c:{n} {}", n + 1));
        conn.send(&format!("HSET h:{n} a {n} b text-{n}"));
        conn.send(&format!("SET e:{n} {n} EX {}", 1000 + n));
        conn.send(&format!("SET d:{n} x"));
        conn.send(&format!("DEL d:{n}"));
    }
    (0..count * 6).for_each(|_| assert!(!matches!(conn.receive().expect("a reply"), Value::Error(_))));
}

fn digest(conn: &mut Conn) -> String {
    conn.text("DEBUG DIGEST")
}

fn agree(conns: &mut [Conn]) {
    eventually("all nodes hold the same", || {
        let digests: Vec<String> = conns.iter_mut().map(digest).collect();
        digests.iter().all(|digest| *digest == digests[0])
    });
}

/// The value of the first line of that name.
fn field(report: &str, name: &str) -> String {
    let prefix = format!("{name}:");
    let line = report.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("no {name} in {report}")).to_owned()
}

fn verify(conn: &mut Conn, words: &str) -> String {
    conn.text(&format!("MULTIMASTER VERIFY {words}"))
}

#[test]
fn verify_proves_equality_and_names_and_repairs_what_was_damaged() {
    let (nodes, mut conns) = mesh(3, &["--digest-check-period", "0"]);
    fill(&mut conns[0], 200);
    agree(&mut conns);
    for words in ["", "DIGESTS"] {
        let report = verify(&mut conns[0], words);
        assert_eq!(field(&report, "result"), "equal", "{report}");
        assert_eq!(report.lines().filter(|line| line.starts_with("peer:")).count(), 2, "{report}");
    }
    let damaged =
        ["VALUE s:1", "STAMP s:2", "ABSENCE s:3", "VALUE c:4", "STAMP c:5", "ABSENCE h:6", "VALUE h:7", "STAMP h:8"];
    for words in damaged {
        assert_eq!(conns[1].text(&format!("DEBUG DAMAGE {words}")), "1", "{words}");
    }
    assert_eq!(conns[1].text("DEBUG DAMAGE ABSENCE none"), "0");
    // Seen from a node that is sound; the damaged one's books know of nothing.
    assert_eq!(field(&verify(&mut conns[0], "DIGESTS"), "result"), "equal");
    let report = verify(&mut conns[0], &format!("127.0.0.1 {}", nodes[1].port));
    assert_eq!(field(&report, "result"), "repaired", "{report}");
    assert_eq!(field(&report, "keys_repaired"), damaged.len().to_string(), "{report}");
    for words in damaged {
        let key = words.split(' ').nth(1).expect("two words");
        assert!(report.contains(&format!("key={key}\r\n")), "{key} in {report}");
    }
    assert!(report.contains("how=missing there,key=s:3") && report.contains("how=bytes differ,key=s:1"), "{report}");
    // Where bytes differ under one stamp the larger win on both sides; the third node is compared like the others.
    let report = verify(&mut conns[2], "");
    assert!(matches!(&*field(&report, "result"), "repaired" | "equal"), "{report}");
    assert_eq!(field(&verify(&mut conns[1], ""), "result"), "equal");
    let digests: Vec<String> = conns.iter_mut().map(digest).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    assert_eq!(conns[1].text("GET s:3"), "value-3");
    assert_eq!(conns[1].text("HGET h:6 b"), "text-6");
    assert!(conns[0].info("digest_repairs").parse::<u64>().expect("a number") > 0);
}

#[test]
fn verify_repairs_the_node_it_is_asked_on_and_stays_quiet_under_writes() {
    let (nodes, mut conns) = mesh(2, &["--digest-check-period", "0"]);
    fill(&mut conns[0], 100);
    agree(&mut conns);
    // Both nodes write to the same keys while they are compared.
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for node in &nodes {
            let (stop, mut conn) = (&stop, node.connect());
            scope.spawn(move || {
                let mut n = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    for _ in 0..50 {
                        n += 1;
                        conn.send(&format!("SET hot:{} {n}", n % 20));
                        conn.send(&format!("INCR count:{}", n % 30));
                        conn.send(&format!("SET brief:{} {n} PX 20", n % 50));
                        conn.send(&format!("DEL hot:{}", (n + 7) % 20));
                    }
                    (0..200).for_each(|_| _ = conn.receive());
                }
            });
        }
        for _ in 0..3 {
            for conn in &mut conns {
                let report = verify(conn, "");
                assert_eq!(
                    (field(&report, "result"), field(&report, "keys_differing")),
                    ("equal".into(), "0".into()),
                    "{report}"
                );
            }
        }
        assert_eq!(conns[0].text("DEBUG DAMAGE ABSENCE s:1"), "1");
        let report = verify(&mut conns[0], "");
        assert!(report.contains("how=missing here,key=s:1"), "{report}");
        assert_eq!(field(&report, "keys_differing"), "1", "{report}");
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(conns[0].text("GET s:1"), "value-1");
    agree(&mut conns);
    assert_eq!(field(&verify(&mut conns[1], ""), "result"), "equal");
    assert_eq!(conns[1].info("digest_mismatches"), "1");
}

#[test]
fn the_background_comparison_finds_no_mismatch_where_there_is_none() {
    let (_nodes, mut conns) = mesh(2, &["--digest-check-period", "1"]);
    fill(&mut conns[0], 300);
    for conn in &mut conns {
        eventually("everything has been compared once", || {
            conn.info("digest_comparisons").parse::<u64>().expect("a number") > 300
        });
        assert_eq!(conn.info("digest_mismatches"), "0");
    }
}

#[test]
fn verify_says_what_it_cannot_do() {
    let alone = Node::start(&OPTIONS);
    let mut conn = alone.connect();
    assert_eq!(conn.text("MULTIMASTER VERIFY"), "-ERR no other node is linked");
    assert_eq!(conn.text("MULTIMASTER VERIFY 127.0.0.1 1"), "-ERR no node is linked as 127.0.0.1:1");
    assert_eq!(conn.text("MULTIMASTER VERIFY a"), "-ERR syntax error");
    assert_eq!(conn.text("MULTIMASTER VERIFY a b"), "-ERR value is not an integer or out of range");
    let plain = Node::start(&[]);
    assert!(plain.connect().text("DEBUG DAMAGE VALUE k").starts_with("-ERR DEBUG command not allowed"));
}

#[test]
fn an_older_peer_is_told_apart() {
    let node = Node::start(&OPTIONS);
    let mut conn = node.connect();
    let mut old = node.connect();
    let origin = OriginId { node: Uuid([7; 16]), incarnation: 1 };
    let mut bytes = Vec::new();
    Hello { features: 0, ..Hello::ours(origin, 1) }.put_command(&mut bytes, "", b"");
    old.send_raw(&bytes);
    assert!(matches!(old.receive(), Some(Value::Array(_))), "the handshake is answered");
    eventually("every core knows of it", || {
        conn.text("MULTIMASTER VERIFY 127.0.0.1 1") == "-ERR not supported by peer"
    });
    let report = verify(&mut conn, "");
    assert_eq!(field(&report, "result"), "not supported by peer", "{report}");
    assert!(report.contains(&format!("node={},result=not supported by peer", origin.node)), "{report}");
}
