//! What is written reads back; what is malformed is refused and panics nobody.

use std::sync::Arc;

use proptest::prelude::*;
use tutti::base::ids::{Db, Partition};
use tutti::base::time::Now;
use tutti::merge::op::{Op, put_bytes, put_total, put_varint, take_bytes, take_total, take_varint};
use tutti::merge::origins::OriginIdx;
use tutti::merge::stamp::Stamp;
use tutti::merge::total::Total;
use tutti::shard::{Merged, Shard, record, state};
use tutti::store::keyspace::{KeyRef, Keyspace};

use crate::gen_ops::{ORIGINS, READINGS, cases, realm, write, writes};
use crate::mesh::{START_MS, canonical, settings, tag};

fn same(index: u16) -> Option<OriginIdx> {
    Some(OriginIdx(index))
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn prop_records_read_back(key in 0u64..100, origin in 0..ORIGINS, n in 0..READINGS, partition: u8, db: u16, name: Vec<u8>) {
        let write = write(key, origin, n);
        let mut bytes = Vec::new();
        record::encode(&mut bytes, Partition(partition), write.stamp, Db(db), &name, &write.op);
        let head = record::head(&bytes).expect("whole");
        prop_assert_eq!((head.bytes, head.partition, head.origin), (bytes.len(), Partition(partition), origin));
        prop_assert_eq!(head.hlc, write.stamp.hlc());
        let body = record::body(&bytes, &same).expect("well formed");
        prop_assert_eq!((body.db, body.key, format!("{:?}", body.op)), (Db(db), &name[..], format!("{:?}", write.op)));
        // No part of a record is a record, and an unknown origin is no origin.
        prop_assert_eq!(record::head(&bytes[..bytes.len() - 1]), None);
        let knows_none = record::body(&bytes, &|_| None);
        let is_same = knows_none.is_none_or(|body| format!("{:?}", body.op) == format!("{:?}", write.op));
        prop_assert!(is_same);
    }

    #[test]
    fn prop_records_cut_or_changed_panic_nobody(origin in 0..ORIGINS, n in 0..READINGS, at: usize, to: u8, cut: usize) {
        let write = write(0, origin, n);
        let mut bytes = Vec::new();
        record::encode(&mut bytes, Partition(1), write.stamp, Db(0), b"key", &write.op);
        let at = at % bytes.len();
        bytes[at] = to;
        let cut = cut % (bytes.len() + 1);
        for bytes in [&bytes[..], &bytes[..cut]] {
            if let Some(head) = record::head(bytes) {
                _ = record::body(&bytes[..head.bytes], &same);
            }
        }
    }

    #[test]
    fn prop_garbage_panics_no_decoder(bytes: Vec<u8>) {
        _ = Op::decode(&bytes, &same);
        _ = record::head(&bytes);
        _ = record::body(&bytes, &same);
        _ = state::decode(&realm(), &mut &bytes[..], &same);
        _ = Total::parse(&bytes);
    }

    #[test]
    fn prop_a_shard_survives_any_record(
        changes in prop::collection::vec((0..ORIGINS, 0..READINGS, any::<usize>(), any::<u8>()), 1..12),
    ) {
        let mut shard = Shard::new(Arc::new(realm()), &settings());
        shard.logging = true;
        let (now, mut work) = (Now { wall_ms: START_MS, mono_us: 0 }, 0);
        for (origin, n, at, to) in changes {
            let write = write(n % 3, origin, n);
            let mut bytes = Vec::new();
            let key = format!("k{{{}}}", tag(0));
            let partition = shard.key(key.as_bytes()).slot.partition();
            record::encode(&mut bytes, partition, write.stamp, Db(0), key.as_bytes(), &write.op);
            let at = at % bytes.len();
            // The length is the link's business; everything else is ours.
            if at >= 4 {
                bytes[at] = to;
            }
            assert_eq!(shard.fetch_records(&[&bytes[..], &bytes[..]].concat()), 2 * usize::from(record::head(&bytes).is_some()));
            let known = |index: u16| (index < ORIGINS).then_some(OriginIdx(index));
            _ = shard.merge(&bytes, &known, true, now);
            // What is due is seen to first.
            while shard.background(now, &mut work) {}
            crate::mesh::check_counts(&shard, now).expect("counts");
        }
    }

    #[test]
    fn prop_states_read_back(writes in writes(7)) {
        let realm = Arc::new(realm());
        let (first, end) = settings().map.range(tutti::base::ids::ShardId(0));
        let mut keys = Keyspace::new(Arc::clone(&realm), first, end, 1);
        let name = format!("k{{{}}}", tag(0));
        let key = KeyRef::new(&realm, name.as_bytes());
        for write in &writes {
            keys.apply(Db(0), &key, &write.op, |_| write.stamp);
        }
        if let Some(entry) = keys.find(Db(0), &key) {
            let mut bytes = Vec::new();
            state::encode(entry, &mut bytes);
            let mut input = &bytes[..];
            let read = state::decode(&realm, &mut input, &same).expect("well formed");
            prop_assert!(input.is_empty());
            let text = |state: &tutti::merge::key::KeyState| canonical(&realm, state, &|origin| usize::from(origin.0));
            prop_assert_eq!(text(&read), text(&tutti::store::keyspace::unpack(&realm, entry)));
            // Every shorter form is refused or is another state, and panics nobody.
            for cut in 0..bytes.len() {
                _ = state::decode(&realm, &mut &bytes[..cut], &same);
            }
        }
    }

    #[test]
    fn prop_numbers_and_bytes_read_back(n: u64, int: i64, fixed in -10i128.pow(36)..10i128.pow(36), bytes: Vec<u8>) {
        let mut out = Vec::new();
        put_varint(&mut out, n);
        put_bytes(&mut out, &bytes);
        put_total(&mut out, Total::Int(int));
        put_total(&mut out, Total::Fixed(fixed.into()));
        let input = &mut &out[..];
        prop_assert_eq!(take_varint(input), Some(n));
        prop_assert_eq!(take_bytes(input), Some(&bytes[..]));
        prop_assert_eq!(take_total(input), Some(Total::Int(int)));
        prop_assert_eq!(take_total(input), Some(Total::Fixed(fixed.into())));
        prop_assert!(input.is_empty());
    }
}

#[test]
fn a_record_for_another_shard_or_beyond_all_time_is_refused() {
    let mut shard = Shard::new(Arc::new(realm()), &settings());
    let now = Now { wall_ms: START_MS, mono_us: 0 };
    let encoded = |partition: Partition, stamp: Stamp, key: &str| {
        let mut bytes = Vec::new();
        record::encode(&mut bytes, partition, stamp, Db(0), key.as_bytes(), &Op::set(b"v"));
        bytes
    };
    let stamp = write(0, 1, 5).stamp;
    let (ours, theirs) = (format!("k{{{}}}", tag(0)), format!("k{{{}}}", tag(1)));
    let at = shard.key(ours.as_bytes()).slot.partition();
    assert_eq!(shard.merge(&encoded(Partition(200), stamp, &ours), &same, true, now), Merged::Malformed);
    assert_eq!(shard.merge(&encoded(at, stamp, &theirs), &same, true, now), Merged::Malformed);
    let mut late = encoded(at, stamp, &ours);
    late[10] = 0xff;
    assert_eq!(shard.merge(&late, &same, true, now), Merged::Malformed);
    assert_eq!(shard.stats.malformed, 3);
    assert_eq!(shard.merge(&encoded(at, stamp, &ours), &same, true, now), Merged::Applied);
}

#[test]
fn totals_and_deadlines_no_node_can_hold_are_refused() {
    let mut beyond = vec![5];
    put_varint(&mut beyond, 1);
    beyond.push(1);
    beyond.extend_from_slice(&i128::MIN.to_le_bytes());
    assert_eq!(Op::decode(&beyond, &same), None);
    let mut never = vec![6];
    put_varint(&mut never, u64::MAX);
    assert_eq!(Op::decode(&never, &same), None);
}
