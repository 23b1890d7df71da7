//! PING, ECHO, AUTH, HELLO, SELECT, QUIT, RESET.

use crate::node::Node;

#[test]
fn first_words_are_answered_as_redis_does() {
    let node = Node::start(&[]);
    let mut conn = node.connect();
    for (line, reply) in [
        ("PING", "PONG"),
        ("PING hello", "hello"),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command"),
        ("ECHO hi", "hi"),
        ("SELECT 16", "-ERR DB index is out of range"),
        ("SELECT x", "-ERR value is not an integer or out of range"),
        ("SELECT 3", "OK"),
        (
            "AUTH secret",
            "-ERR AUTH <password> called without any password configured for the default user. Are you \
                         sure your configuration is correct?",
        ),
        ("AUTH default anything", "OK"),
        ("AUTH somebody anything", "-WRONGPASS invalid username-password pair or user is disabled."),
        ("AUTH a b c", "-ERR syntax error"),
        ("HELLO x", "-ERR Protocol version is not an integer or out of range"),
        ("HELLO 4", "-NOPROTO unsupported protocol version"),
        ("HELLO 3 NONSENSE", "-ERR Syntax error in HELLO option 'NONSENSE'"),
        ("HELLO 3 SETNAME 'a b'", "-ERR Client names cannot contain spaces, newlines or special characters."),
        ("CLIENT NONSENSE", "-ERR unknown subcommand 'NONSENSE'. Try CLIENT HELP."),
        ("CLIENT SETNAME", "-ERR wrong number of arguments for 'client|setname' command"),
        ("CLUSTER INFO", "-ERR This instance has cluster support disabled"),
        ("ACL WHOAMI", "default"),
        ("MODULE LIST", ""),
        ("WAIT 0 0", "0"),
        ("WAIT 1 10", "0"),
        ("RESET", "RESET"),
        ("SHUTDOWN SAVE NOSAVE", "-ERR syntax error"),
    ] {
        assert_eq!(conn.text(line), reply, "{line}");
    }
}

#[test]
fn hello_switches_the_protocol_and_says_who_is_there() {
    let node = Node::start(&[]);
    let mut conn = node.connect();
    conn.send_raw(b"HELLO 3 SETNAME me\r\n");
    let id = conn.receive();
    let text = id.as_ref().map(crate::node::text).unwrap_or_default();
    assert!(text.starts_with("server=redis version=7.2.5 proto=3 id="), "{text}");
    assert!(text.ends_with(" mode=standalone role=master modules="), "{text}");
    assert_eq!(conn.text("CLIENT GETNAME"), "me");
    conn.send_raw(b"GET nothing\r\n");
    assert_eq!(conn.receive_raw(3), "_\r\n");
    conn.send_raw(b"RESET\r\nGET nothing\r\n");
    assert_eq!(conn.receive_raw(13), "+RESET\r\n$-1\r\n");
}

#[test]
fn a_password_is_asked_for_and_failures_are_counted() {
    let node = Node::start(&["--requirepass", "hunter2", "--masteruser", "peer", "--masterauth", "mesh"]);
    let mut conn = node.connect();
    assert_eq!(conn.text("PING"), "-NOAUTH Authentication required.");
    assert!(conn.text("HELLO 3").starts_with("-NOAUTH HELLO must be called with the client already authenticated"));
    assert_eq!(conn.text("AUTH hunter"), "-WRONGPASS invalid username-password pair or user is disabled.");
    assert_eq!(conn.text("AUTH hunter22"), "-WRONGPASS invalid username-password pair or user is disabled.");
    assert_eq!(conn.text("AUTH hunter2"), "OK");
    assert_eq!(conn.info("acl_access_denied_auth"), "2");
    assert_eq!(conn.info("errorstat_WRONGPASS"), "count=2");
    let mut peer = node.connect();
    assert_eq!(peer.text("AUTH peer mesh"), "OK");
    assert_eq!(peer.text("ACL WHOAMI"), "peer");
    let mut new = node.connect();
    assert!(new.text("HELLO 2 AUTH default hunter2").starts_with("server redis version 7.2.5 proto 2"));
    assert_eq!(new.text("PING"), "PONG");
}

#[test]
fn quit_is_answered_behind_what_came_before_and_nothing_runs_after_it() {
    let node = Node::start(&[]);
    let mut conn = node.connect();
    let mut request = String::new();
    // Some of these keys belong to the other core.
    (0..20).for_each(|n| request.push_str(&format!("SET key{n} {n}\r\n")));
    request.push_str("QUIT\r\nSET late 1\r\n");
    conn.send_raw(request.as_bytes());
    for _ in 0..21 {
        assert_eq!(conn.receive().map(|reply| crate::node::text(&reply)).as_deref(), Some("OK"));
    }
    assert_eq!(conn.receive(), None);
    let mut other = node.connect();
    assert_eq!(other.text("GET late"), "(nil)");
    assert_eq!(other.info("connected_clients"), "1");
}

#[test]
fn client_reply_silences_commands_wherever_their_keys_are() {
    let node = Node::start(&[]);
    let mut conn = node.connect();
    for n in 0..20 {
        conn.send_raw(format!("CLIENT REPLY SKIP\r\nSET key{n} {n}\r\n").as_bytes());
    }
    assert_eq!(conn.text("PING first"), "first");
    conn.send_raw(b"CLIENT REPLY OFF\r\nPING\r\nINCR key1\r\nINCR key2\r\nINFO\r\nNONSENSE\r\nCLIENT REPLY ON\r\n");
    assert_eq!(conn.receive().map(|reply| crate::node::text(&reply)).as_deref(), Some("OK"));
    assert_eq!(conn.text("MGET key1 key2 key3"), "2 3 3");
}

#[test]
fn renamed_commands_answer_to_their_new_names_only() {
    let node = Node::start(&["--rename-command", "FLUSHALL", "wipe", "--rename-command", "APPEND", ""]);
    let mut conn = node.connect();
    assert_eq!(conn.text("MSET a 1 b 2 c 3 d 4"), "OK");
    assert!(conn.text("FLUSHALL").starts_with("-ERR unknown command 'FLUSHALL'"));
    assert!(conn.text("APPEND a 1").starts_with("-ERR unknown command"));
    assert_eq!(conn.text("DBSIZE"), "4");
    assert_eq!(conn.text("WIPE"), "OK");
    assert_eq!(conn.text("DBSIZE"), "0");
}

#[test]
fn debug_sleep_delays_only_who_asked() {
    let node = Node::start(&["--enable-debug-command", "yes"]);
    let [mut sleeper, mut other] = node.connect_to_each_core();
    sleeper.send("DEBUG SLEEP 0.3");
    sleeper.send("PING after");
    let start = std::time::Instant::now();
    assert_eq!(other.text("PING"), "PONG");
    assert_eq!(sleeper.receive().map(|reply| crate::node::text(&reply)).as_deref(), Some("OK"));
    assert!(start.elapsed().as_millis() >= 250, "{:?}", start.elapsed());
    assert_eq!(sleeper.receive().map(|reply| crate::node::text(&reply)).as_deref(), Some("after"));
}

#[test]
fn shutdown_ends_the_process() {
    let mut node = Node::start(&[]);
    let mut conn = node.connect();
    // Every core has begun to serve: all of them answer to this.
    conn.info("connected_clients");
    conn.send("SHUTDOWN NOSAVE");
    assert_eq!(conn.receive(), None);
    assert_eq!(node.exit_code(), Some(0));
}
