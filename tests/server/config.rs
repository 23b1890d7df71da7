//! CONFIG.

use crate::node::Node;

#[test]
fn a_change_is_in_force_on_every_core_when_it_is_answered() {
    let node = Node::start(&[]);
    let [mut a, mut b] = node.connect_to_each_core();
    for n in 0..20 {
        assert_eq!(a.text(&format!("CONFIG SET timeout {n} maxmemory {n}mb")), "OK");
        assert_eq!(b.text("CONFIG GET timeout maxmemory"), format!("timeout {n} maxmemory {}", n << 20));
        assert_eq!(b.text(&format!("CONFIG SET slowlog-max-len {n}")), "OK");
        assert_eq!(a.text("CONFIG GET slowlog-max-len"), format!("slowlog-max-len {n}"));
    }
    assert_eq!(a.text("CONFIG GET timeout"), "timeout 19", "no change undoes another");
}

#[test]
fn refusals_are_those_of_redis() {
    let node = Node::start(&[]);
    let mut conn = node.connect();
    for (line, reply) in [
        ("CONFIG SET nonsense 1", "-ERR Unknown option or number of arguments for CONFIG SET - 'nonsense'"),
        ("CONFIG SET timeout", "-ERR wrong number of arguments for 'config|set' command"),
        ("CONFIG SET timeout 1 maxclients", "-ERR wrong number of arguments for 'config|set' command"),
        (
            "CONFIG SET port 1",
            "-ERR CONFIG SET failed (possibly related to argument 'port') - can't set immutable config",
        ),
        ("CONFIG GET nonsense", ""),
        ("CONFIG REWRITE", "-ERR The server is running without a config file"),
        ("CONFIG NONSENSE", "-ERR unknown subcommand 'NONSENSE'. Try CONFIG HELP."),
    ] {
        assert_eq!(conn.text(line), reply, "{line}");
    }
}

#[test]
fn rewrite_keeps_comments_and_the_new_file_gives_the_running_configuration() {
    let node = Node::start_with_file(Some("# mine\ntimeout 5\nmaxclients 77\n"), &[]);
    let mut conn = node.connect();
    assert_eq!(conn.text("CONFIG SET timeout 9 slowlog-max-len 3"), "OK");
    assert_eq!(conn.text("CONFIG REWRITE"), "OK");
    let file = std::fs::read_to_string(node.folder.join("tutti.conf")).expect("it is there");
    assert!(file.starts_with("# mine\ntimeout 9\nmaxclients 77\n"), "{file}");
    assert!(file.contains("slowlog-max-len 3\n"), "{file}");
    let again = Node::start_with_file(Some(&file.replace(&format!("port {}\n", node.port), "")), &[]);
    assert_eq!(
        again.connect().text("CONFIG GET timeout maxclients slowlog-max-len"),
        "timeout 9 maxclients 77 slowlog-max-len 3"
    );
    std::fs::remove_dir_all(&node.folder).expect("it is ours");
    assert!(conn.text("CONFIG REWRITE").starts_with("-ERR Rewriting config file: "));
}

#[test]
fn resetstat_sets_counters_to_zero() {
    let node = Node::start(&[]);
    let mut conn = node.connect();
    conn.text("GET nothing");
    conn.text("NONSENSE");
    assert_eq!(conn.info("keyspace_misses"), "1");
    assert_eq!(conn.info("errorstat_ERR"), "count=1");
    assert_eq!(conn.text("CONFIG RESETSTAT"), "OK");
    assert_eq!(conn.info("keyspace_misses"), "0");
    assert!(!conn.text("INFO errorstats").contains("errorstat_ERR"));
}
