//! A node's directory, copied and started a second time.

use crate::node::{Conn, Node, eventually};

const MODE: [&str; 4] = ["--multi-master", "yes", "--active-replica", "yes"];

fn link(conn: &mut Conn, to: &Node) {
    assert_eq!(conn.text(&format!("REPLICAOF 127.0.0.1 {}", to.port)), "OK");
}

#[test]
fn a_copy_of_a_directory_is_refused_with_a_reason_until_it_is_emptied_and_its_node_is_not_disturbed() {
    let peer = Node::start(&MODE);
    let port = peer.port.to_string();
    let options = [&MODE[..], &["--replicaof", "127.0.0.1", &port]].concat();
    let mut node = Node::start(&options);
    let (mut at_peer, mut at_node) = (peer.connect(), node.connect());
    link(&mut at_peer, &node);
    eventually("they are linked", || {
        at_peer.info("connected_masters") == "1" && at_node.info("connected_masters") == "1"
    });
    assert_eq!(
        (at_node.text("SET k v"), at_node.text("WAIT 1 0"), at_node.text("SAVE")),
        ("OK".into(), "1".into(), "OK".into())
    );

    let mut copy = Node::start_copy_of(&node, &options);
    let mut at_copy = copy.connect();
    let reason =
        "another run of this node is linked; that one is alive, so this one runs on a copy of its data directory";
    eventually("the reader hears why", || at_copy.text("INFO replication").contains(reason));
    assert!(peer.log().contains("link refused: another run of this node is linked"));
    eventually("the reader logs why", || copy.log().contains(reason));
    link(&mut at_peer, &copy);
    eventually("the reader of the copy has a reason", || {
        at_peer.text("INFO replication").contains(&format!("master_1_link_down_reason:{reason}"))
    });
    eventually("the copy as a master logs why", || {
        copy.log().contains(&format!("link refused by the other end: {reason}"))
    });
    assert_eq!(at_peer.text(&format!("REPLICAOF REMOVE 127.0.0.1 {}", copy.port)), "OK");

    // The node goes on, and is let in at once when it starts again.
    assert_eq!((at_node.info("connected_masters"), at_peer.info("connected_masters")), ("1".into(), "1".into()));
    assert_eq!((at_node.text("SET k w"), at_node.text("WAIT 1 0")), ("OK".into(), "1".into()));
    node.kill_and_start(|_| ());
    at_node = node.connect();
    eventually("it has what it had not saved", || at_node.text("GET k") == "w");
    assert_eq!(at_peer.info("mm_members"), "2");
    eventually("both follow again", || at_peer.info("connected_masters") == "1");
    assert_eq!(at_copy.info("connected_masters"), "0");

    // The copy is mended as the reason says.
    copy.kill_and_start(|folder| {
        for file in ["dump.rdb", "dump.rdb.node"] {
            std::fs::remove_file(folder.join(file)).expect("it was copied");
        }
    });
    at_copy = copy.connect();
    eventually("it is a node of its own", || at_copy.text("GET k") == "w" && at_peer.info("mm_members") == "3");
}
