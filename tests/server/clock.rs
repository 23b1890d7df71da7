//! Clocks that differ: measured on every link, shown, and bounded.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::node::{Conn, Node, eventually};
use tutti::base::ids::Uuid;
use tutti::merge::op::put_varint;
use tutti::merge::origins::OriginId;
use tutti::peer::handshake::Hello;
use tutti::resp::value::Value;
use tutti::shard::block::{self, Kind};

/// A reader whose clock is so far from ours.
fn link_to(node: &Node, offset_ms: i64) -> Conn {
    let mut conn = node.connect();
    let hello = Hello::ours(OriginId { node: Uuid([7; 16]), incarnation: 1 }, 1);
    let mut bytes = Vec::new();
    hello.put_command(&mut bytes, "", b"");
    conn.send_raw(&bytes);
    assert!(matches!(conn.receive(), Some(Value::Array(_))), "the handshake is answered");
    beat(&mut conn, offset_ms);
    conn
}

fn beat(conn: &mut Conn, offset_ms: i64) {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let mut bytes = Vec::new();
    block::put(&mut bytes, Kind::Heartbeat, |out| put_varint(out, now_ms.saturating_add_signed(offset_ms)));
    conn.send_raw(&bytes);
}

#[test]
fn the_clock_of_a_peer_is_measured_and_counted_when_it_is_beyond_the_limit() {
    let node = Node::start(&["--multi-master", "yes", "--max-clock-drift", "2000"]);
    let mut conn = node.connect();
    assert_eq!(conn.info("mm_clocks_beyond_drift"), "0");
    let mut peer = link_to(&node, 60_000);
    eventually("the clock ahead is counted", || conn.info("mm_clocks_beyond_drift") == "1");
    let offset_ms: i64 = conn.info("mm_clock_offset_ms_max").parse().expect("a number");
    assert!((50_000..=60_000).contains(&offset_ms), "{offset_ms}");
    assert!(conn.text("MULTIMASTER STATUS").contains(&format!("clock_offset_ms={offset_ms},")));
    // Repaired: the last seconds count.
    (0..8).for_each(|_| beat(&mut peer, 0));
    eventually("the clock is right again", || conn.info("mm_clocks_beyond_drift") == "0");
    // An older node says nothing of its clock, and a number beyond all time ends nothing.
    let mut bytes = Vec::new();
    block::put(&mut bytes, Kind::Heartbeat, |_| {});
    block::put(&mut bytes, Kind::Heartbeat, |out| put_varint(out, u64::MAX));
    peer.send_raw(&bytes);
    eventually("the strange clock is counted", || conn.info("mm_clocks_beyond_drift") == "1");
}
