//! Damaged and foreign files are refused with a reason, and never end the process.

use proptest::prelude::*;
use tutti::snapshot::crc64::crc64;

use crate::files::{Shards, check, node};
use crate::round_trip::varied;

/// A file with its checksum put right, so that what is inside is looked at.
fn resealed(mut file: Vec<u8>) -> Vec<u8> {
    if let Some(end) = file.len().checked_sub(8) {
        let crc = crc64(0, &file[..end]);
        file[end..].copy_from_slice(&crc.to_le_bytes());
    }
    file
}

fn small() -> Vec<u8> {
    static FILE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    FILE.get_or_init(|| varied(2).save()).clone()
}

#[test]
fn every_truncation_is_refused() {
    let file = small();
    for len in (0..300).chain((300..file.len()).step_by(file.len() / 40)).chain(file.len() - 20..file.len()) {
        let damage = check(&file[..len]).expect_err("it is cut short");
        assert!(damage.offset <= len as u64);
    }
}

#[test]
fn what_stands_behind_the_end_is_refused() {
    let mut file = small();
    file.push(0);
    assert_eq!(check(&file).expect_err("one byte too many").reason, "1 bytes behind the end");
}

#[test]
fn other_files_are_refused_with_a_reason() {
    let reason = |file: &[u8]| check(file).expect_err("not ours").reason;
    assert!(reason(b"").contains("too short"));
    assert!(reason(b"#!/bin/sh\necho hello\n").contains("no RDB file"));
    assert!(reason(b"REDIS0099........").contains("RDB version 99"));
    assert!(reason(b"REDIS0010\xfa\x0ctutti-format\x0299").contains("later version"));
    assert!(reason(b"REDIS0010\x01\x05queue\x00").contains("key 'queue' in database 0 is a list"));
    assert!(reason(b"REDIS0010\xfe\x09\x00\x01a\x01b\xff").contains("`databases` is 4"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn prop_a_changed_byte_is_found(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut file = small();
        let at = at.index(file.len() - 9);
        file[at] ^= flip;
        prop_assert!(check(&file).is_err());
    }

    #[test]
    fn prop_damage_under_a_right_checksum_ends_nothing(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut file = small();
        for (at, byte) in changes {
            let at = at.index(file.len() - 9);
            file[at] = byte;
        }
        let file = resealed(file);
        // Refused or taken, but whole: what passes the check can be loaded.
        if check(&file).is_ok() {
            prop_assert!(Shards::load(&file, node(9, 9), 2).is_ok());
        }
    }

    #[test]
    fn prop_noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut file = b"REDIS0010".to_vec();
        file.extend_from_slice(&bytes);
        let _ = check(&resealed(file));
    }
}
