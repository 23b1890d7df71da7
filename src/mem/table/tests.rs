//! What a table promises, against the plain truth.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    rc::Rc,
};

use proptest::{
    prelude::{ProptestConfig, Strategy},
    prop_assert_eq, proptest,
};

use super::dir::*;
use super::*;

/// Miri is a few thousand times slower.
const SCALE: u64 = if cfg!(miri) { 100 } else { 1 };

fn hash(key: &u64) -> u64 {
    Rng::new(*key).next_u64()
}

/// Inserts 0..len.
fn filled(len: u64) -> ScanTable<u64> {
    let mut table = ScanTable::new();
    for key in 0..len {
        table.insert_unique(hash(&key), key, hash);
    }
    table
}

fn remove(table: &mut ScanTable<u64>, key: u64) -> Option<u64> {
    table.remove(hash(&key), |k| *k == key, hash)
}

/// Every place leads to the leaf responsible for it, and every element is where it is looked for.
fn assert_sound<T>(table: &ScanTable<T>, hasher: impl Fn(&T) -> u64) {
    fn walk<T>(dir: &Dir<T>, used: u32, above: u64, hasher: &impl Fn(&T) -> u64) -> usize {
        assert!(dir.nodes.len() == 1 << dir.bits && dir.bits <= DIR_BITS_MAX && used < TREE_BITS_MAX);
        let (mut at, mut len) = (0, 0);
        while at < dir.nodes.len() {
            let from = above | (at as u64) << (PREFIX_BITS - used - dir.bits);
            match &dir.nodes[at] {
                Node::Leaf { depth, table } => {
                    let span = 1 << (dir.bits - u32::from(*depth));
                    assert_eq!(at % span, 0);
                    for alias in &dir.nodes[at + 1..at + span] {
                        assert!(matches!(alias, Node::Alias { depth: d } if d == depth));
                    }
                    let to = from + (1 << (PREFIX_BITS - used - u32::from(*depth)));
                    assert!(table.iter().all(|v| (from..to).contains(&u64::from(prefix_of(hasher(v))))));
                    len += table.len();
                    at += span;
                }
                Node::Dir(inner) => {
                    assert_eq!(dir.bits, DIR_BITS_MAX);
                    len += walk(inner, used + DIR_BITS_MAX, from, hasher);
                    at += 1;
                }
                Node::Alias { .. } => panic!("an alias without a leaf at {at}"),
            }
        }
        len
    }
    if let Root::Tree(tree) = &table.root {
        assert_eq!(walk(&tree.dir, 0, 0, &hasher), tree.len);
    }
    assert_eq!(table.iter().len(), table.iter().count());
}

#[test]
fn empty_table_owns_no_memory_and_finds_nothing() {
    let mut table = ScanTable::<u64>::new();
    assert_eq!((table.len(), table.heap_bytes(), table.scan(0, 10, hash, |_| panic!())), (0, 0, 0));
    assert_eq!(table.find(5, |_| true), None);
    assert_eq!(table.sample(&mut Rng::new(1)), None);
    assert_eq!(remove(&mut table, 5), None);
    assert_eq!(table.iter().next(), None);
}

#[test]
fn table_gives_all_memory_back_when_emptied() {
    for len in [1, 50, 896, 897, 5_000, 250_000 / SCALE] {
        let mut table = filled(len);
        assert_sound(&table, hash);
        let full = table.heap_bytes();
        for key in 0..len {
            assert_eq!(remove(&mut table, key), Some(key));
            if key == len - len / 10 {
                assert_sound(&table, hash);
                assert!(table.heap_bytes() < full / 2 || len < 5_000, "{} of {full}", table.heap_bytes());
            }
        }
        assert_eq!((table.len(), table.heap_bytes()), (0, 0));
        assert!(matches!(table.root, Root::Leaf(_)));
    }
}

#[test]
fn no_insertion_or_removal_hashes_more_than_about_a_leaf() {
    let calls = Cell::new(0);
    let counted = |key: &u64| {
        calls.set(calls.get() + 1);
        hash(key)
    };
    let mut table = ScanTable::new();
    let (len, mut most) = (250_000 / SCALE, 0);
    for key in 0..len {
        table.insert_unique(hash(&key), key, counted);
        most = most.max(calls.replace(0));
    }
    // Churn, so that leaves fill up with deletion marks.
    for key in len..3 * len {
        table.insert_unique(hash(&key), key, counted);
        most = most.max(calls.replace(0));
        let old = key - len;
        assert_eq!(table.remove(hash(&old), |k| *k == old, counted), Some(old));
        most = most.max(calls.replace(0));
    }
    for key in 2 * len..3 * len {
        table.remove(hash(&key), |k| *k == key, counted);
        most = most.max(calls.replace(0));
    }
    assert!(table.is_empty());
    assert!(most <= LEAF_BUCKETS, "{most} hashes in one step");
}

#[test]
fn elements_of_equal_hash_share_one_growing_leaf() {
    let same = |_: &u64| 0x1234_5678_9abc_def0;
    let mut table = ScanTable::new();
    for key in 0..3_000 / SCALE {
        table.insert_unique(same(&key), key, same);
    }
    assert_sound(&table, same);
    for key in 0..3_000 / SCALE {
        assert_eq!(table.find(same(&key), |k| *k == key), Some(&key));
    }
    let mut seen = 0;
    assert_eq!(table.scan(0, usize::MAX, same, |_| seen += 1), 0);
    assert_eq!(seen, table.len());
    for key in 0..3_000 / SCALE {
        assert_eq!(table.remove(same(&key), |k| *k == key, same), Some(key));
    }
    assert_eq!(table.heap_bytes(), 0);
}

#[test]
fn iterators_visit_everything_once() {
    for len in [0, 10, 896, 200_000 / SCALE] {
        let mut table = filled(len);
        let all: HashSet<u64> = (0..len).collect();
        assert_eq!(table.iter().copied().collect::<HashSet<_>>(), all);
        assert_eq!(table.iter().count() as u64, len);
        for key in table.iter_mut() {
            *key += 0;
        }
        let kept = table.iter().filter(|k| **k % 3 == 0).count();
        table.retain(|key| *key % 3 == 0);
        assert_eq!(table.len(), kept);
        assert_sound(&table, hash);
        let before = table.heap_bytes();
        table.compact(hash);
        assert_sound(&table, hash);
        assert!(table.heap_bytes() <= before && table.len() == kept);
        let mut drained = table.drain();
        assert_eq!(drained.by_ref().take(5).count(), kept.min(5));
        assert_eq!((drained.len(), table.len(), table.heap_bytes()), (kept.saturating_sub(5), 0, 0));
    }
}

#[test]
fn every_element_is_dropped_once() {
    struct Counted(u64, Rc<Cell<u64>>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.set(self.1.get() + 1);
        }
    }
    let drops = Rc::new(Cell::new(0));
    let len = 20_000 / SCALE;
    let mut table = ScanTable::new();
    for key in 0..len {
        table.insert_unique(hash(&key), Counted(key, drops.clone()), |c| hash(&c.0));
    }
    assert_eq!(drops.get(), 0);
    for key in 0..10 {
        drop(table.remove(hash(&key), |c| c.0 == key, |c| hash(&c.0)));
    }
    assert_eq!(drops.get(), 10);
    table.retain(|c| c.0 >= 20);
    assert_eq!(drops.get(), 20);
    let mut drained = table.drain();
    drained.by_ref().take(30).for_each(drop);
    assert_eq!(drops.get(), 50);
    drop(drained);
    assert_eq!(drops.get(), len);
}

#[test]
fn scan_steps_return_about_as_many_as_asked() {
    for len in [100, 896, 50_000 / SCALE] {
        let table = filled(len);
        for count in [1, 10, 100, 1000] {
            let (mut cursor, mut steps, mut most) = (0, 0, 0);
            loop {
                let mut seen = 0;
                cursor = table.scan(cursor, count, hash, |_| seen += 1);
                (steps, most) = (steps + 1, most.max(seen));
                if cursor == 0 {
                    break;
                }
                assert!(cursor < 1 << 32);
            }
            assert!(most <= 4 * count + 20, "{most} elements in one step, {count} asked of {len}");
            assert!(steps <= 4 * (len as usize / count + 1), "{steps} steps of {count} for {len}");
        }
    }
}

#[test]
fn any_number_is_a_valid_cursor() {
    let table = filled(5_000);
    let mut rng = Rng::new(3);
    for shift in 0..64 {
        let cursor = rng.next_u64() >> shift;
        let next = table.scan(cursor, 10, hash, |_| ());
        assert!(next == 0 || (next > cursor && next < 1 << 32));
    }
    assert_eq!(table.scan(1 << 32, 10, hash, |_| panic!()), 0);
}

#[test]
fn samples_are_close_to_uniform() {
    for len in [5, 500, 5_000 / SCALE] {
        let table = filled(len);
        let mut rng = Rng::new(9);
        let rounds = 100 / SCALE;
        let mut hits: HashMap<u64, u64> = HashMap::new();
        for _ in 0..len * rounds {
            *hits.entry(*table.sample(&mut rng).expect("it is not empty")).or_default() += 1;
        }
        assert_eq!(hits.len() as u64, len);
        let (least, most) = (hits.values().min().expect("some"), hits.values().max().expect("some"));
        assert!(cfg!(miri) || (*least > rounds / 2 && *most < rounds * 2), "{least} to {most} of {rounds}");
    }
}

/// Phases of many random operations each: how likely (in 16) an insertion is, and among how many keys.
fn phases() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let keys = if cfg!(miri) { 1000..3000u64 } else { 100..30_000u64 };
    proptest::collection::vec((0..16u64, keys), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 12 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn prop_table_agrees_with_std(seed: u64, phases in phases()) {
        let mut rng = Rng::new(seed);
        let mut table = ScanTable::new();
        let mut model = HashMap::new();
        let hasher = |pair: &(u64, u64)| hash(&pair.0);
        for (inserts, keys) in phases {
            for step in 0..2 * keys {
                let key = rng.below(keys);
                let found = table.find_mut(hash(&key), |pair: &(u64, u64)| pair.0 == key);
                prop_assert_eq!(found.as_ref().map(|pair| pair.1), model.get(&key).copied());
                match found {
                    _ if rng.below(16) >= inserts => {
                        let removed = table.remove(hash(&key), |pair| pair.0 == key, hasher);
                        prop_assert_eq!(removed.map(|pair| pair.1), model.remove(&key));
                    }
                    Some(pair) => {
                        pair.1 = step;
                        model.insert(key, step);
                    }
                    None => {
                        let pair = table.insert_unique(hash(&key), (key, step), hasher);
                        prop_assert_eq!(*pair, (key, step));
                        model.insert(key, step);
                    }
                }
            }
            prop_assert_eq!(table.len(), model.len());
            assert_sound(&table, hasher);
            prop_assert_eq!(table.iter().copied().collect::<HashMap<_, _>>(), model.clone());
        }
    }

    #[test]
    fn prop_scan_returns_what_stays_exactly_once(seed: u64, phases in phases(), count in 1..200usize) {
        let mut rng = Rng::new(seed);
        let mut table = ScanTable::new();
        // Even keys stay, odd ones come and go between the steps.
        let stay = phases[0].1;
        for key in 0..stay {
            table.insert_unique(hash(&(2 * key)), 2 * key, hash);
        }
        let mut present = HashSet::new();
        let mut seen: HashMap<u64, u32> = HashMap::new();
        let (mut cursor, mut step) = (0, 0);
        loop {
            cursor = table.scan(cursor, count, hash, |key| *seen.entry(*key).or_default() += 1);
            if cursor == 0 {
                break;
            }
            step += 1;
            let (inserts, keys) = phases[step / 8 % phases.len()];
            for _ in 0..rng.below(500) {
                let key = 2 * rng.below(keys) + 1;
                if rng.below(16) < inserts {
                    if present.insert(key) {
                        table.insert_unique(hash(&key), key, hash);
                    }
                } else if present.remove(&key) {
                    prop_assert_eq!(remove(&mut table, key), Some(key));
                }
            }
        }
        for key in 0..stay {
            prop_assert_eq!(seen.get(&(2 * key)), Some(&1));
        }
        assert_sound(&table, hash);
    }
}
