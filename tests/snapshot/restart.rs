//! The real binary over restarts, and files exchanged with redis-server.

use std::process::Command;

use crate::node::{Conn, eventually};
use crate::server::{Folder, Server};

#[test]
fn after_a_kill_the_last_snapshot_and_the_identity_are_there() {
    let folder = Folder::new();
    let server = Server::ours(&folder, &["--server-threads", "2"]);
    let mut conn = server.connect();
    conn.text("SET kept 1");
    conn.text("HSET hash field value");
    conn.text("SET short x PX 100000");
    conn.text("INCRBY counter 5");
    conn.text("DEL counter");
    conn.text("INCRBY counter 3");
    assert_eq!(conn.text("SAVE"), "OK");
    conn.text("SET lost 1");
    let before = identity(&folder);
    server.kill();
    let server = Server::ours(&folder, &["--server-threads", "3"]);
    let mut conn = server.connect();
    assert_eq!(conn.text("GET kept"), "1");
    assert_eq!(conn.text("HGETALL hash"), "field value");
    assert_eq!(conn.text("GET counter"), "3");
    assert_eq!(conn.text("GET lost"), "(nil)");
    assert!(conn.text("PTTL short").parse::<i64>().expect("a number") > 1000);
    assert_eq!(conn.text("DBSIZE"), "4");
    assert_eq!(conn.info("rdb_last_load_keys_loaded"), "4");
    assert_eq!(conn.text("INCRBY counter 1"), "4");
    let after = identity(&folder);
    assert_eq!(before.0, after.0, "the same node");
    assert!(after.1 > before.1, "another run");
}

#[test]
fn while_the_snapshot_is_loaded_clients_hear_so_and_then_find_all_of_it() {
    let folder = Folder::new();
    let server = Server::ours(&folder, &["--server-threads", "2"]);
    let mut conn = server.connect();
    for n in 0..400 {
        let pairs: Vec<String> = (0..250).map(|key| format!("key:{n}:{key} value")).collect();
        assert_eq!(conn.text(&format!("MSET {}", pairs.join(" "))), "OK");
    }
    assert_eq!(conn.text("SAVE"), "OK");
    let digest = conn.text("MULTIMASTER DIGEST");
    server.kill();
    let slowly = ["--server-threads", "2", "--loading-process-events-interval-bytes", "1024"];
    let server = Server::ours(&folder, &slowly);
    let mut conn = server.connect();
    // Three megabytes, a kilobyte between two looks at clients.
    assert_eq!(conn.text("PING"), "-LOADING Redis is loading the dataset in memory");
    assert_eq!(conn.info("loading"), "1");
    assert_eq!(conn.text("GET key:1:1"), "-LOADING Redis is loading the dataset in memory");
    eventually("it is loaded", || conn.text("PING") == "PONG");
    assert_eq!(conn.info("loading"), "0");
    assert_eq!(conn.text("DBSIZE"), "100000");
    assert_eq!(conn.text("MULTIMASTER DIGEST"), digest);
}

#[test]
fn a_node_without_a_snapshot_keeps_its_identity() {
    let folder = Folder::new();
    Server::ours(&folder, &[]).kill();
    let before = identity(&folder);
    Server::ours(&folder, &[]).kill();
    assert_eq!(identity(&folder).0, before.0);
    let other = Server::ours(&folder, &["--dbfilename", "other.rdb"]);
    drop(other);
    assert!(!folder.read("other.rdb.node").contains(&before.0), "nodes may share a folder");
}

#[test]
fn a_second_server_in_the_same_place_is_another_node() {
    let folder = Folder::new();
    let first = Server::ours(&folder, &[]);
    let before = folder.read("dump.rdb.node");
    let second = Server::ours(&folder, &[]);
    assert_eq!(second.connect().text("PING"), "PONG");
    assert_eq!(folder.read("dump.rdb.node"), before, "it is the first one's");
    drop(first);
}

#[test]
fn shutdown_and_a_signal_save_when_there_are_save_points() {
    let folder = Folder::new();
    let points = ["--save", "3600 1", "--server-threads", "2"];
    let server = Server::ours(&folder, &points);
    let mut conn = server.connect();
    conn.text("SET a 1");
    conn.send("SHUTDOWN");
    assert_eq!(conn.receive(), None);
    assert_eq!(server.exit_code(), Some(0));
    let server = Server::ours(&folder, &points);
    let mut conn = server.connect();
    assert_eq!(conn.text("GET a"), "1");
    conn.text("SET b 2");
    let signalled = Command::new("kill").args(["-TERM", &server.pid().to_string()]).status();
    assert!(signalled.is_ok_and(|status| status.success()));
    assert_eq!(server.exit_code(), Some(0));
    let server = Server::ours(&folder, &points);
    let mut conn = server.connect();
    assert_eq!(conn.text("GET b"), "2");
    conn.text("SET c 3");
    conn.send("SHUTDOWN NOSAVE");
    assert_eq!(conn.receive(), None);
    assert_eq!(server.exit_code(), Some(0));
    let server = Server::ours(&folder, &points);
    assert_eq!(server.connect().text("GET c"), "(nil)");
}

#[test]
fn what_cannot_be_saved_stops_writes_and_the_shutdown() {
    let folder = Folder::new();
    let server = Server::ours(&folder, &["--save", "3600 1"]);
    let mut conn = server.connect();
    conn.text("SET a 1");
    assert_eq!(conn.text("SAVE"), "OK");
    // A folder where the new file should be.
    std::fs::create_dir(folder.file("dump.rdb.tmp")).expect("the name is free");
    assert_eq!(conn.text("SAVE"), "-ERR");
    assert_eq!(conn.info("rdb_last_bgsave_status"), "err");
    assert!(conn.text("SET a 2").starts_with("-MISCONF Redis is configured to save RDB snapshots"));
    assert_eq!(conn.text("GET a"), "1");
    assert_eq!(conn.text("SHUTDOWN"), "-ERR Errors trying to SHUTDOWN. Check logs.");
    conn.text("CONFIG SET stop-writes-on-bgsave-error no");
    assert_eq!(conn.text("SET a 2"), "OK", "writes go on");
    std::fs::remove_dir(folder.file("dump.rdb.tmp")).expect("it is empty");
    assert_eq!(conn.text("BGSAVE"), "Background saving started");
    eventually("it succeeds", || conn.info("rdb_last_bgsave_status") == "ok");
}

#[test]
fn save_points_save() {
    let folder = Folder::new();
    let server = Server::ours(&folder, &["--save", "1 3", "--server-threads", "2"]);
    let mut conn = server.connect();
    for n in 0..3 {
        conn.text(&format!("SET key{n} 1"));
    }
    assert_ne!(conn.info("rdb_changes_since_last_save"), "0");
    eventually("a snapshot is written", || conn.info("rdb_saves") == "1");
    assert_eq!(conn.info("rdb_changes_since_last_save"), "0");
}

#[test]
fn a_snapshot_under_writes_loses_nothing_that_was_there_at_its_begin() {
    let folder = Folder::new();
    let server = Server::ours(&folder, &["--server-threads", "2"]);
    let mut conn = server.connect();
    pipeline(&mut conn, 0..20_000, |n| format!("SET key:{n} {n}"));
    assert_eq!(conn.text("BGSAVE"), "Background saving started");
    let mut round = 0;
    while conn.info("rdb_saves") == "0" {
        round += 1;
        pipeline(&mut conn, 0..500, |n| format!("INCR count:{n}"));
        pipeline(&mut conn, 0..500, |n| format!("SET key:{} later{round}", n * 7));
    }
    assert_eq!(conn.text("BGSAVE SCHEDULE"), "Background saving started");
    assert_eq!(conn.text("LASTSAVE").len(), 10);
    eventually("the second is written", || conn.info("rdb_saves") == "2");
    server.kill();
    let server = Server::ours(&folder, &[]);
    let mut conn = server.connect();
    for n in (0..20_000).step_by(11) {
        let value = conn.text(&format!("GET key:{n}"));
        assert!(value == n.to_string() || n % 7 == 0 && value.starts_with("later"), "key:{n} is {value}");
    }
    let counted = conn.text("GET count:3");
    assert_eq!(if round > 0 { counted } else { "0".into() }, round.to_string());
}

#[test]
fn redis_server_loads_our_file() {
    let folder = Folder::new();
    let server = Server::ours(&folder, &["--server-threads", "2"]);
    let mut conn = server.connect();
    fill(&mut conn);
    for n in 0..50 {
        conn.text(&format!("INCRBY counter{n} {}", n * 1000));
        conn.text(&format!("SET gone{n} x"));
        conn.text(&format!("DEL gone{n}"));
    }
    conn.text("HINCRBY hash count 7");
    conn.text("HDEL hash f3");
    assert_eq!(conn.text("SAVE"), "OK");
    let Some(redis) = Server::redis(&folder, &["--enable-debug-command", "yes"]) else { return };
    compare(&mut conn, &mut redis.connect());
}

#[test]
fn we_load_redis_servers_file() {
    let folder = Folder::new();
    let Some(redis) = Server::redis(&folder, &[]) else { return };
    let mut theirs = redis.connect();
    fill(&mut theirs);
    // Compressed, numbers as numbers, small hashes packed and large ones not.
    theirs.text(&format!("SET long {}", "abcabcabc".repeat(1000)));
    for n in [0i64, 1, -1, 63, 127, -128, 255, 32767, -40000, 1 << 30, i64::MAX] {
        theirs.text(&format!("SET int{n} {n}"));
        theirs.text(&format!("HSET packed number{n} {n}"));
    }
    theirs.text(&format!("HSET packed long {}", "x".repeat(63)));
    theirs.text(&format!("HSET packed2 long {}", "y".repeat(64)));
    assert_eq!(theirs.text("SAVE"), "OK");
    let ours = Server::ours(&folder, &["--server-threads", "2"]);
    let mut conn = ours.connect();
    compare(&mut conn, &mut theirs);
    // And on.
    assert_eq!(conn.text("SAVE"), "OK");
    drop(ours);
    let ours = Server::ours(&folder, &["--server-threads", "3"]);
    compare(&mut ours.connect(), &mut theirs);
    theirs.text("RPUSH queue a b");
    theirs.text("SAVE");
    drop(ours);
    let refusal = Server::refusal(&folder);
    assert!(refusal.contains("key 'queue' in database 0 is a list"), "{refusal}");
    assert!(refusal.contains("left as it is"), "{refusal}");
}

#[test]
fn a_damaged_file_is_refused_and_left_alone() {
    let folder = Folder::new();
    let server = Server::ours(&folder, &[]);
    let mut conn = server.connect();
    fill(&mut conn);
    assert_eq!(conn.text("SAVE"), "OK");
    drop(server);
    let mut bytes = std::fs::read(folder.file("dump.rdb")).expect("it was saved");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(folder.file("dump.rdb"), &bytes).expect("writable");
    let refusal = Server::refusal(&folder);
    assert!(refusal.contains("dump.rdb: at byte "), "{refusal}");
    assert_eq!(refusal.trim_end().lines().count(), 1, "{refusal}");
    assert_eq!(std::fs::read(folder.file("dump.rdb")).expect("still there"), bytes);
}

fn fill(conn: &mut Conn) {
    for n in 0..300 {
        conn.text(&format!("SET string{n} \"value \\x00 {n}\""));
        conn.text(&format!("HSET hash f{n} v{n}"));
    }
    conn.text("SET empty \"\"");
    conn.text("SET ttl x PX 500000");
    conn.text("EXPIRE hash 1000");
    conn.text("SELECT 3");
    conn.text("SET elsewhere 1");
    conn.text("SELECT 0");
}

// The same keys, values and deadlines.
#[track_caller]
fn compare(ours: &mut Conn, theirs: &mut Conn) {
    for db in 0..16 {
        let select = format!("SELECT {db}");
        assert_eq!(ours.text(&select), theirs.text(&select));
        assert_eq!(sorted(&ours.text("KEYS *")), sorted(&theirs.text("KEYS *")));
        for key in sorted(&ours.text("KEYS *")) {
            let read = match ours.text(&format!("TYPE {key}")).as_str() {
                "hash" => format!("HGETALL {key}"),
                _ => format!("GET {key}"),
            };
            assert_eq!(sorted(&ours.text(&read)), sorted(&theirs.text(&read)), "{read}");
            let deadline = format!("PEXPIRETIME {key}");
            assert_eq!(ours.text(&deadline), theirs.text(&deadline), "{deadline}");
        }
    }
    let select = "SELECT 0";
    assert_eq!(ours.text(select), theirs.text(select));
}

fn sorted(text: &str) -> Vec<String> {
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    words.sort();
    words
}

fn pipeline(conn: &mut Conn, numbers: std::ops::Range<u32>, command: impl Fn(u32) -> String) {
    let count = numbers.len();
    for n in numbers {
        conn.send(&command(n));
    }
    for _ in 0..count {
        conn.receive().expect("a reply");
    }
}

// UUID and incarnation.
fn identity(folder: &Folder) -> (String, u64) {
    let text = folder.read("dump.rdb.node");
    let word = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
    };
    (word("uuid"), word("incarnation").parse().expect("a number"))
}
