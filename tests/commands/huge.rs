//! Huge hashes that go whole: no step frees or looks at more of them than its share.

use crate::support::Solo;

/// Many times what one step may free.
const FIELDS: usize = 50_000;

/// What one step of background work may free, and look at.
const FREED_MAX: usize = 4096 + 64;
const LOOKED_MAX: usize = 2048;

fn fill(solo: &mut Solo, key: &str) {
    for first in (0..FIELDS).step_by(1000) {
        let fields = (first..first + 1000).flat_map(|n| [format!("field:{n}"), format!("value {n}")]);
        let words = ["HSET".to_owned(), key.to_owned()].into_iter().chain(fields);
        let args: Vec<Vec<u8>> = words.map(String::into_bytes).collect();
        solo.run_args(&args);
    }
    assert_eq!(solo.run(&format!("HLEN {key}")), FIELDS.to_string());
    assert_eq!(solo.shard.keys.trash_len(), 0);
}

/// Steps until all is freed; returns how many steps there were before the first that freed something.
#[track_caller]
fn free(solo: &mut Solo) -> usize {
    let (mut work, mut waited, mut has_freed) = (0, 0, false);
    for _ in 0..1000 {
        let before = solo.shard.keys.trash_len();
        solo.shard.background(solo.now, &mut work);
        let after = solo.shard.keys.trash_len();
        // What comes and what is freed in one step cannot be told apart, but little of it is freed at once.
        let arrived = if before == 0 && after > 0 { FIELDS } else { before };
        assert!(arrived.saturating_sub(after) <= FREED_MAX, "{} freed in one step", arrived - after);
        has_freed |= after > 0;
        waited += usize::from(!has_freed);
        if has_freed && after == 0 {
            return waited;
        }
    }
    panic!("{} are left", solo.shard.keys.trash_len());
}

#[test]
fn a_huge_hash_that_is_deleted_is_freed_in_slices() {
    let ways: [(&str, &str); 7] = [
        ("DEL big", "1"),
        ("UNLINK big", "1"),
        ("SET big small", "OK"),
        ("RENAME other big", "OK"),
        ("FLUSHDB", "OK"),
        ("FLUSHALL", "OK"),
        ("PEXPIREAT big 1", "1"),
    ];
    for (line, reply) in ways {
        let mut solo = Solo::new();
        fill(&mut solo, "big");
        solo.run("SET other value");
        solo.run("INCR counter");
        assert_eq!(solo.run(line), reply, "{line}");
        let waiting = solo.shard.keys.trash_len();
        assert!((FIELDS..FIELDS + 2).contains(&waiting) || line.starts_with("FLUSH"), "{line}: {waiting} wait");
        assert_ne!(solo.run("TYPE big"), "hash", "{line}");
        free(&mut solo);
        // The key is as good as new.
        solo.run("DEL big");
        assert_eq!(solo.run("HSET big a b"), "1", "{line}");
        assert_eq!(solo.run("HGETALL big"), "[a, b]", "{line}");
    }
}

#[test]
fn a_huge_hash_that_expires_is_looked_at_and_freed_in_slices() {
    let mut solo = Solo::new();
    fill(&mut solo, "big");
    assert_eq!(solo.run("PEXPIRE big 100"), "1");
    solo.now.wall_ms += 200;
    solo.now.mono_us += 200_000;
    assert_eq!(solo.run("EXISTS big"), "0");
    let waited = free(&mut solo);
    assert!(waited >= FIELDS / LOOKED_MAX, "looked at in {waited} steps");
    assert_eq!(solo.run("DBSIZE"), "0");
    assert_eq!(solo.run("HSET big a b"), "1");
    assert_eq!(solo.run("HLEN big"), "1");
}
