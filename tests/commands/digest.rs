use crate::support::{Solo, check};

fn digest_after(commands: &[&str]) -> String {
    let mut solo = Solo::new();
    for command in commands {
        match command.strip_prefix("select ") {
            Some(db) => solo.db.0 = db.parse().expect("a number"),
            None => assert!(!solo.run(command).starts_with('-'), "{command}"),
        }
    }
    solo.run("DEBUG DIGEST")
}

#[test]
fn nothing_digests_to_zeros() {
    check(
        "
        DEBUG DIGEST => 0000000000000000000000000000000000000000
        DEBUG DIGEST-VALUE none => [0000000000000000000000000000000000000000]
        SET k v PX 5 => OK
        advance 5
        DEBUG DIGEST => 0000000000000000000000000000000000000000
    ",
    );
}

#[test]
fn equal_data_digests_alike_however_it_came() {
    let same = [
        &["MSET a 5 b 2", "HSET h f 1 g 2 n 3", "PEXPIREAT b 1780000000000"][..],
        &[
            "HSET h g 2",
            "SET b 1",
            "INCR b",
            "INCRBY a 5",
            "HINCRBY h n 3",
            "HSET h f 1 x 1",
            "HDEL h x",
            "PEXPIREAT b 1780000000000",
        ],
        &["SET x 5", "RENAME x a", "SET b 2 PXAT 1780000000000", "HSET h n 3 f 1 g 2", "SET z 1", "DEL z"],
    ];
    let first = digest_after(same[0]);
    assert!(same.iter().all(|commands| digest_after(commands) == first));
}

#[test]
fn different_data_digests_differently() {
    let different = [
        &["SET a 1"][..],
        &["SET a 2"],
        &["SET a 1 PXAT 1780000000000"],
        &["SET b 1"],
        &["SET a 1", "SET b 1"],
        &["HSET a 1 1"],
        &["HSET a 11 1"],
        &["HSET a 1 11"],
        &["HSET a 1 2 2 1"],
        &["HSET a 1 1 2 2"],
        &["select 1", "SET a 1"],
        &["SET a 1", "select 1", "SET a 1"],
    ];
    let mut digests: Vec<String> = different.iter().map(|commands| digest_after(commands)).collect();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), different.len());
    assert!(digests.iter().all(|digest| digest.len() == 40));
}

#[test]
fn digests_of_shards_join_to_the_digest_of_their_data() {
    let parts = [digest_after(&["SET a 1"]), digest_after(&["HSET b f v"])];
    assert_eq!(tutti::command::debug::join(parts.into_iter()), digest_after(&["SET a 1", "HSET b f v"]));
}

#[test]
fn a_value_digests_alike_under_any_name() {
    let mut solo = Solo::new();
    solo.run("MSET a 1 b 1 c 2");
    assert_eq!(solo.run("DEBUG DIGEST-VALUE a"), solo.run("DEBUG DIGEST-VALUE b"));
    assert_ne!(solo.run("DEBUG DIGEST-VALUE a"), solo.run("DEBUG DIGEST-VALUE c"));
}
