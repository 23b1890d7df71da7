//! Who may connect, and who may stay.

use crate::node::{Node, eventually};

#[test]
fn clients_beyond_maxclients_are_told_so_and_counted() {
    let node = Node::start(&["--maxclients", "4"]);
    let mut conns = vec![node.connect()];
    // The connection that found out whether the server listens may still be there.
    eventually("we are alone", || conns[0].info("connected_clients") == "1");
    (0..3).for_each(|_| conns.push(node.connect()));
    eventually("four are there", || conns[0].info("connected_clients") == "4");
    let mut fifth = node.connect();
    assert_eq!(
        fifth.receive().map(|reply| crate::node::text(&reply)).as_deref(),
        Some("-ERR max number of clients reached")
    );
    assert_eq!(fifth.receive(), None);
    assert_eq!(conns[0].info("rejected_connections"), "1");
    conns.pop();
    eventually("there is room again", || conns[0].info("connected_clients") == "3");
    assert_eq!(node.connect().text("PING"), "PONG");
}

#[test]
fn clients_from_elsewhere_are_denied_while_there_is_no_password() {
    // The address we would send from to another host; none is sent to.
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("203.0.113.1:9")?;
        socket.local_addr()
    });
    let Some(own) = probe.ok().map(|addr| addr.ip()).filter(|ip| !ip.is_loopback()) else {
        return eprintln!("skipped: this host has no address but loopback");
    };
    let node = Node::start(&["--bind", "0.0.0.0"]);
    let mut conn = crate::node::Conn::to_address((own, node.port).into());
    let denial = conn.receive().map(|reply| crate::node::text(&reply)).unwrap_or_default();
    assert!(
        denial.starts_with("-DENIED Redis is running in protected mode because protected mode is enabled"),
        "{denial}"
    );
    assert_eq!(conn.receive(), None);
    assert_eq!(node.connect().text("CONFIG SET protected-mode no"), "OK");
    assert_eq!(crate::node::Conn::to_address((own, node.port).into()).text("PING"), "PONG");
}

#[test]
fn an_idle_client_is_disconnected_after_the_timeout() {
    let node = Node::start(&[]);
    let mut conn = node.connect();
    assert_eq!(conn.text("CONFIG SET timeout 1"), "OK");
    assert_eq!(conn.receive(), None);
}

#[test]
fn a_client_that_does_not_read_is_disconnected_at_the_hard_limit() {
    let node = Node::start(&["--client-output-buffer-limit", "normal 1mb 0 0"]);
    let mut conn = node.connect();
    assert_eq!(conn.text(&format!("SET big {}", "x".repeat(300_000))), "OK");
    // Far more than the sockets between us hold.
    let request = "GET big\r\n".repeat(200);
    conn.send_raw(request.as_bytes());
    let mut other = node.connect();
    eventually("it is cut off", || other.info("client_output_buffer_limit_disconnections") == "1");
    eventually("it is gone", || other.info("connected_clients") == "1");
}

#[test]
fn a_client_over_the_soft_limit_for_long_enough_is_disconnected() {
    let node = Node::start(&["--client-output-buffer-limit", "normal 0 1mb 1"]);
    let mut conn = node.connect();
    assert_eq!(conn.text(&format!("SET big {}", "x".repeat(300_000))), "OK");
    conn.send_raw("GET big\r\n".repeat(200).as_bytes());
    let mut other = node.connect();
    eventually("it is cut off", || other.info("client_output_buffer_limit_disconnections") == "1");
}

#[test]
fn a_query_beyond_the_limit_ends_the_connection() {
    let node = Node::start(&["--client-query-buffer-limit", "1mb"]);
    let mut conn = node.connect();
    conn.send_raw(b"*2\r\n$4\r\nECHO\r\n$3000000\r\n");
    // The server may hang up while we are still writing.
    let _ = std::io::Write::write_all(&mut conn.stream, &vec![b'x'; 2_000_000]);
    assert_eq!(conn.receive(), None);
    assert_eq!(node.connect().info("client_query_buffer_limit_disconnections"), "1");
}

#[test]
fn protocol_errors_are_answered_behind_earlier_replies_and_close() {
    let node = Node::start(&[]);
    let mut conn = node.connect();
    conn.send_raw(b"SET a 1\r\nSET b 1\r\nSET c 1\r\n*1\r\nnonsense\r\n");
    for _ in 0..3 {
        assert_eq!(conn.receive().map(|reply| crate::node::text(&reply)).as_deref(), Some("OK"));
    }
    let error = conn.receive().map(|reply| crate::node::text(&reply));
    assert_eq!(error.as_deref(), Some("-ERR Protocol error: expected '$', got 'n'"));
    assert_eq!(conn.receive(), None);
}
