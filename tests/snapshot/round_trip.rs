//! What is written is what is read.

use tutti::base::ids::{Db, Partition};
use tutti::merge::op::SetDeadline;
use tutti::merge::stamp::Hlc;
use tutti::merge::total::Total;

use crate::files::{NOW, Shards, check, node, send_states};

/// Every kind of state, of two origins.
pub fn varied(count: u16) -> Shards {
    let mut other = Shards::new(node(2, 7), 2);
    let mut own = Shards::new(node(1, 100), count);
    fill(&mut other, 1);
    send_states(&other, &mut own);
    fill(&mut own, 2);
    own
}

fn fill(shards: &mut Shards, by: i64) {
    for n in 0..200 {
        let db = Db((n % 3) as u16);
        let name = |kind: &str| format!("{kind}:{n}").into_bytes();
        let value = vec![b'x'; n * n % 3000];
        let key = name("string");
        let shard = shards.of(&key);
        let (key, deadline) = (shard.key(&key), NOW.wall_ms + 1 + n as u64 * 1000);
        shard.set(db, &key, &value, SetDeadline::Clear, NOW);
        if n % 3 == 0 {
            shard.set_deadline(db, &key, Some(deadline), NOW);
        }
        if n % 5 == 0 {
            shard.set(db, &key, b"again", SetDeadline::At(deadline), NOW);
            shard.set_deadline(db, &key, None, NOW);
        }
        let key = name("counter");
        let shard = shards.of(&key);
        let key = shard.key(&key);
        // Those with a fraction refuse.
        let _ = shard.incr(db, &key, by * 10, NOW);
        if n % 4 == 0 {
            shard.set(db, &key, b"5", SetDeadline::Clear, NOW);
            shard.incr(db, &key, by, NOW).expect("a number");
        }
        if n % 7 == 0 {
            shard.incr_exact(db, &key, Total::parse(b"0.25").expect("a number"), NOW).expect("a number");
        }
        let key = name("hash");
        let shard = shards.of(&key);
        let key = shard.key(&key);
        let fields: Vec<Vec<u8>> = (0..n % 50 + 1).map(|field| format!("field{field}").into_bytes()).collect();
        let pairs: Vec<(&[u8], &[u8])> = fields.iter().map(|field| (&field[..], &b"value"[..])).collect();
        shard.hset(db, &key, pairs.iter().copied(), NOW).expect("no other type");
        shard.hincr(db, &key, b"count", by, NOW).expect("a number");
        shard.hdel(db, &key, [&b"field0"[..]].into_iter(), NOW).expect("a hash");
        if n % 6 == 0 {
            shard.set_deadline(db, &key, Some(deadline), NOW);
        }
        let key = name("deleted");
        let shard = shards.of(&key);
        let key = shard.key(&key);
        shard.set(db, &key, b"x", SetDeadline::Clear, NOW);
        shard.del(db, &key, NOW);
        let key = name("expired");
        let shard = shards.of(&key);
        let key = shard.key(&key);
        shard.set(db, &key, b"x", SetDeadline::At(NOW.wall_ms - 5), NOW);
    }
    for shard in &mut shards.shards {
        let (first, _) = shard.keys.partitions();
        shard.flush_local(Db(2), Partition(first as u8), NOW);
        shard.keys.raise_forgotten(first + 1, shard.newest_applied(first));
        while shard.keys.expire(NOW.wall_ms, 0, 0, &|_, _| false, 1000).1 {}
    }
}

#[test]
fn every_state_returns_on_any_number_of_shards() {
    let mut one = varied(1);
    let before = one.dump();
    assert!(before.keys.len() > 900, "{} keys", before.keys.len());
    let mut three = Shards::load(&one.save(), node(1, 101), 3).expect("sound");
    assert_eq!(three.dump(), before);
    let two = Shards::load(&three.save(), node(1, 102), 2).expect("sound");
    assert_eq!(two.dump(), before);
    assert!(two.shards.iter().all(|shard| shard.last_hlc() >= one.shards[0].last_hlc()), "the clock goes on");
    for shard in &two.shards {
        assert_eq!(shard.versions, *shard.backlog.trimmed(), "nothing of it can be read from the backlog");
    }
}

// Without, what a full merge had brought before the restart could be taken for damage.
#[test]
fn how_far_data_is_ahead_of_the_version_vectors_survives_a_restart() {
    let mut own = Shards::new(node(1, 100), 2);
    let index = own.shards[0].realm().origins.index(node(2, 7)).expect("room");
    own.shards[0].raise_ahead(3, index, Hlc(77));
    let file = own.save();
    let again = Shards::load(&file, node(1, 101), 3).expect("sound");
    let ahead: Vec<_> = again.shards.iter().flat_map(|shard| shard.all_ahead()).collect();
    let index = again.shards[0].realm().origins.index(node(2, 7)).expect("room");
    assert_eq!(ahead, [(index, 3, Hlc(77))]);
}

#[test]
fn a_file_says_who_wrote_it() {
    let facts = check(&varied(2).save()).expect("sound");
    assert_eq!(facts.node, Some(node(1, 100)));
    assert!(facts.keys > 500);
}

#[test]
fn writes_during_the_scan_are_in_the_file_with_their_versions() {
    // One shard: several end their scans one after another, and none says anything of later writes.
    let mut shards = varied(1);
    let mut round = 0u32;
    let file = shards.save_while(|shards| {
        round += 1;
        if round < 1000 {
            change_some(shards, round);
        }
    });
    assert!(round > 25, "the scan ended in {round} slices, before anything changed behind it");
    let loaded = Shards::load(&file, node(1, 101), 3).expect("sound");
    assert_eq!(loaded.dump(), shards.dump());
}

fn change_some(shards: &mut Shards, round: u32) {
    for n in (0..200).step_by(3) {
        let db = Db((n % 3) as u16);
        let name = |kind: &str| format!("{kind}:{n}").into_bytes();
        let shard = &mut shards.shards[0];
        let (string, counter, hash, new) = (name("string"), name("counter"), name("hash"), name("new"));
        let key = shard.key(&string);
        shard.set(db, &key, round.to_string().as_bytes(), SetDeadline::Clear, NOW);
        let key = shard.key(&counter);
        let _ = shard.incr(db, &key, 1, NOW);
        let key = shard.key(&hash);
        shard.hincr(db, &key, b"count", 1, NOW).expect("a number");
        shard.del(db, &key, NOW);
        let key = shard.key(&new);
        shard.set(Db(3), &key, b"new", SetDeadline::Clear, NOW);
    }
    if round == 20 {
        shards.shards[0].flush_local(Db(1), Partition(3), NOW);
    }
}

#[test]
fn who_is_a_member_survives_a_restart_and_is_not_taken_over_by_another_node() {
    use tutti::base::ids::Uuid;
    use tutti::shard::standing::Standing;
    let (absent, forgotten) = (Uuid([8; 16]), Uuid([9; 16]));
    let mut own = Shards::new(node(1, 100), 2);
    for shard in &mut own.shards {
        [absent, forgotten].into_iter().for_each(|member| shard.stability.add(member));
        shard.stability.judge(Standing { node: forgotten, epoch: 1, forgotten: true }, false);
        // Deleted while a member was absent.
        let (first, _) = shard.keys.partitions();
        let name = (0..)
            .map(|n: u32| n.to_string())
            .find(|name| usize::from(tutti::base::slot::slot_of(name.as_bytes()).partition().0) == first);
        let name = name.expect("some number hashes there");
        let key = shard.key(name.as_bytes());
        shard.set(Db(0), &key, b"v", SetDeadline::Clear, NOW);
        shard.del(Db(0), &key, NOW);
    }
    let file = own.save();
    let tombstones = |shards: &mut Shards| {
        let left = shards.shards.iter_mut().map(|shard| {
            let mut work = 0;
            (0..100).for_each(|_| _ = shard.background(NOW, &mut work));
            shard.keys.tombstones()
        });
        left.sum::<usize>()
    };
    let mut again = Shards::load(&file, node(1, 101), 3).expect("sound");
    for shard in &again.shards {
        assert_eq!(shard.stability.members().collect::<Vec<_>>(), [absent]);
        assert!(shard.stability.standings().of(forgotten).forgotten);
    }
    assert_eq!(tombstones(&mut again), 2, "the absent member has not heard of them");
    let mut copy = Shards::load(&file, node(2, 1), 3).expect("sound");
    assert!(copy.shards.iter().all(|shard| shard.stability.members().next().is_none()));
    assert_eq!(tombstones(&mut copy), 0);
}
