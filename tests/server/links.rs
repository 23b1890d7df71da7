//! Real linked nodes.

use crate::node::{Conn, Node, eventually};

/// So many nodes, every one a master of every other, linked; with a connection to each.
fn mesh(count: usize, options: &[&str]) -> Vec<(Node, Conn)> {
    let mode = ["--multi-master", "yes", "--active-replica", "yes"];
    let mut nodes: Vec<(Node, Conn)> = (0..count)
        .map(|_| {
            let node = Node::start(&[&mode, options].concat());
            let conn = node.connect();
            (node, conn)
        })
        .collect();
    let ports: Vec<u16> = nodes.iter().map(|(node, _)| node.port).collect();
    for (node, conn) in &mut nodes {
        for port in ports.iter().filter(|port| **port != node.port) {
            assert_eq!(conn.text(&format!("REPLICAOF 127.0.0.1 {port}")), "OK");
        }
    }
    for (_, conn) in &mut nodes {
        eventually("all links are up", || conn.info("connected_masters") == (count - 1).to_string());
    }
    nodes
}

#[test]
fn wait_answers_when_other_nodes_have_what_was_written_before() {
    let mut nodes = mesh(3, &[]);
    for round in 0..20 {
        for key in 0..8 {
            assert_eq!(nodes[0].1.text(&format!("SET key:{key} {round}")), "OK");
        }
        assert_eq!(nodes[0].1.text("WAIT 2 0"), "2");
        for (_, conn) in &mut nodes[1..] {
            for key in 0..8 {
                assert_eq!(conn.text(&format!("GET key:{key}")), round.to_string());
            }
        }
    }
    assert_eq!(nodes[0].1.text("WAIT 3 50"), "2", "there is no third");
    for (_, conn) in &mut nodes[1..] {
        let lag_ms: i64 = conn.info("master_lag_ms").parse().expect("a number");
        assert!((0..20_000).contains(&lag_ms), "{lag_ms} ms");
        assert_eq!((conn.info("master_conflicts_won"), conn.info("master_conflicts_lost")), ("160".into(), "0".into()));
        assert_ne!(conn.info("master_bytes_in"), "0");
    }
}
