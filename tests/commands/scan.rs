use std::collections::BTreeMap;

use tutti::base::rng::Rng;
use tutti::resp::value::{Value, decode};

use crate::support::{Solo, check};

/// One SCAN call: the next cursor and the keys.
fn scan(solo: &mut Solo, cursor: &str, options: &str) -> (String, Vec<String>) {
    let command = format!("SCAN {cursor} {options}");
    let args: Vec<Vec<u8>> = command.split_whitespace().map(|word| word.as_bytes().to_vec()).collect();
    let Some((Value::Array(parts), _)) = decode(&solo.run_args(&args)) else { panic!("{command}: an array") };
    let [Value::Bulk(next), Value::Array(keys)] = &parts[..] else { panic!("{command}: a cursor and keys") };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let keys = keys.iter().map(|key| match key {
        Value::Bulk(key) => text(key),
        other => panic!("{command}: {other:?}"),
    });
    (text(next), keys.collect())
}

#[test]
fn keys_match_patterns() {
    check(
        "
        KEYS * => []
        MSET hello 1 => OK
        KEYS h?llo => [hello]
        KEYS h[a-d]* => []
        SET gone x PX 1 => OK
        advance 1
        KEYS * => [hello]
        select 1
        KEYS * => []
    ",
    );
}

#[test]
fn a_scan_of_little_is_one_step_and_of_nothing_too() {
    check(
        "
        SCAN 0 => [0, []]
        MSET k 1 => OK
        SCAN 0 => [0, [k]]
        SCAN 0 MATCH x* => [0, []]
        SCAN 0 TYPE string => [0, [k]]
        SCAN 0 TYPE HASH => [0, []]
        SCAN 0 type bogus => [0, []]
        SCAN x => -ERR invalid cursor
        SCAN -1 => -ERR invalid cursor
        SCAN 0 COUNT 0 => -ERR syntax error
        SCAN 0 COUNT x => -ERR value is not an integer or out of range
        SCAN 0 COUNT => -ERR syntax error
        SCAN 0 BOGUS 1 => -ERR syntax error
        SCAN 18446744073709551615 => [0, []]
    ",
    );
}

#[test]
fn a_step_looks_at_about_as_many_keys_as_asked() {
    let mut solo = Solo::new();
    for n in 0..3000 {
        solo.run(&format!("MSET key:{n} x {{tag}}{n} x"));
    }
    for count in [1, 10, 100, 1000] {
        let (mut cursor, mut steps, mut keys) = (String::from("0"), 0, 0);
        loop {
            let (next, found) = scan(&mut solo, &cursor, &format!("COUNT {count}"));
            assert!(found.len() <= 4 * count + 20, "{} keys for COUNT {count}", found.len());
            (steps, keys, cursor) = (steps + 1, keys + found.len(), next);
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(keys, 6000);
        assert!(steps <= 6000 / count * 2 + 2, "{steps} steps for COUNT {count}");
    }
}

#[test]
fn prop_scan_returns_every_key_that_stays_and_none_that_was_never_there() {
    for seed in 1..=4 {
        let (mut solo, mut rng) = (Solo::new(), Rng::new(seed));
        let stay = 10 + rng.below(1000);
        // Many keys of one slot make its table grow and split; the others are spread.
        let name = |n: u64| if n.is_multiple_of(2) { format!("{{tag}}stay{n}") } else { format!("stay{n}") };
        for n in 0..stay {
            assert_eq!(solo.run(&format!("MSET {} {n}", name(n))), "OK");
        }
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let (mut cursor, mut step) = (String::from("0"), 0);
        let count = 1 + rng.below(60);
        loop {
            let (next, found) = scan(&mut solo, &cursor, &format!("COUNT {count}"));
            found.into_iter().for_each(|key| *seen.entry(key).or_default() += 1);
            cursor = next;
            if cursor == "0" {
                break;
            }
            for n in 0..rng.below(300) {
                let grow = rng.chance(2);
                let key = format!("{{tag}}come{}", n + 300 * (step % 3));
                solo.run(&if grow { format!("SET {key} x PX 50") } else { format!("DEL {key}") });
            }
            solo.advance_ms(rng.below(20));
            step += 1;
        }
        for n in 0..stay {
            assert_eq!(seen.get(&name(n)), Some(&1), "seed {seed}: {}", name(n));
        }
        assert!(seen.keys().all(|key| key.contains("stay") || key.contains("come")));
    }
}
