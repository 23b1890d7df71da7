//! MULTIMASTER VERIFY between nodes of several cores that are written to all the time.

use crate::nodes::Nodes;
use crate::world::show;

/// What VERIFY on the first node says while every node is written to, one command at a time.
fn verify_under_writes(nodes: &mut Nodes, words: &str, keys: u64) -> String {
    let asking = nodes.world.connect(0, 0);
    nodes.world.send(asking, &format!("MULTIMASTER VERIFY {words}"));
    for n in 0..20_000u64 {
        let node = (n % nodes.clients.len() as u64) as usize;
        nodes.on(node, &format!("SET k:{node}:{} {n}", n % keys));
        nodes.on(node, &format!("INCR c:{}", n % keys));
        if let Some(report) = nodes.world.receive(asking) {
            return show(&report);
        }
    }
    panic!("no answer to VERIFY {words}");
}

#[test]
fn nodes_are_equal_though_all_of_them_are_written_to_while_they_are_compared() {
    let mut nodes = Nodes::new(5, &[2, 1, 3]);
    for node in 0..3 {
        for n in 0..100 {
            nodes.on(node, &format!("HSET h:{node}:{n} a {n} b text"));
        }
    }
    nodes.agree();
    for words in ["", "DIGESTS"] {
        let report = verify_under_writes(&mut nodes, words, 50);
        assert!(report.contains("result:equal"), "{words}: {report}");
        assert!(report.contains("keys_differing:0"), "{words}: {report}");
    }
    nodes.agree();
}
