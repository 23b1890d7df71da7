//! What a supervisor is told.

use std::os::unix::net::UnixDatagram;

use crate::node::Node;

/// A server under a supervisor's socket.
fn start(supervised: &str) -> (Node, UnixDatagram) {
    let name = format!("tutti-notify-{}-{}", std::process::id(), crate::node::free_port());
    let path = std::env::temp_dir().join(name);
    let socket = UnixDatagram::bind(&path).expect("a free name");
    socket.set_read_timeout(Some(crate::node::PATIENCE)).expect("a positive time");
    let socket_path = path.to_string_lossy().into_owned();
    let node = Node::start_with_env(&[("NOTIFY_SOCKET", &socket_path)], &["--supervised", supervised]);
    (node, socket)
}

fn heard(socket: &UnixDatagram) -> String {
    let mut buf = [0; 256];
    let len = socket.recv(&mut buf).expect("the server says something");
    String::from_utf8_lossy(&buf[..len]).into_owned()
}

#[test]
fn systemd_is_told_of_readiness_and_of_the_end() {
    for supervised in ["systemd", "auto"] {
        let (mut node, socket) = start(supervised);
        assert_eq!(heard(&socket), "STATUS=Ready to accept connections\nREADY=1");
        assert_eq!(node.connect().info("process_supervised"), supervised);
        node.connect().send("SHUTDOWN NOSAVE");
        assert_eq!(heard(&socket), "STOPPING=1");
        assert_eq!(node.exit_code(), Some(0));
    }
}

#[test]
fn nobody_is_told_unless_it_is_asked_for() {
    let (mut node, socket) = start("no");
    assert_eq!(node.connect().text("PING"), "PONG");
    node.connect().send("SHUTDOWN NOSAVE");
    assert_eq!(node.exit_code(), Some(0));
    socket.set_nonblocking(true).expect("a socket");
    assert!(socket.recv(&mut [0; 8]).is_err(), "it said something");
}
