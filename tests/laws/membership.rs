//! Who must hear of a delete before it is forgotten: strangers, the absent, the forgotten.

use tutti::base::ids::Uuid;
use tutti::base::rng::Rng;
use tutti::merge::op::SetDeadline;
use tutti::merge::version::Versions;
use tutti::shard::block::{self, Front, Kind};
use tutti::shard::feed::Feed;

use crate::mesh::{Broken, DB, Mesh, identity};
use crate::rules::{key, mesh, partition};

// Nodes that have not met.
fn strangers(nodes: usize) -> Mesh {
    Mesh::new(nodes, &vec![0; nodes], Broken { no_stability_wait: true, ..Broken::default() })
}

// A node that has met nobody deletes a key that another node, which it then meets, has had for longer.
fn deleted_before_they_met(stranger: bool) -> Vec<Option<String>> {
    let (mut mesh, k) = (strangers(2), key("k"));
    let [a, b] = [0, 1].map(|at| identity(at).node);
    (0..2).for_each(|at| mesh.nodes[at].shard.stability.set_unknown(0, stranger));
    mesh.set(1, &k, "old");
    mesh.wall_ms += 10;
    mesh.set(0, &k, "new");
    mesh.wall_ms += 10;
    mesh.del(0, &k);
    (0..3).for_each(|_| mesh.background(0));
    mesh.nodes[0].shard.stability.add(b);
    mesh.nodes[1].shard.stability.add(a);
    (0..2).for_each(|at| mesh.nodes[at].shard.stability.set_unknown(0, stranger));
    mesh.exchange();
    let texts = mesh.texts(&k);
    mesh.settle(100);
    assert!(mesh.kept(0, &[k]).is_empty() || texts[0].is_some(), "having met, they forget");
    texts
}

#[test]
fn who_has_met_nobody_remembers_its_deletes_for_whom_it_meets() {
    assert_eq!(deleted_before_they_met(true), vec![None; 2]);
    // The control: forgotten at once, the delete binds only the other node.
    assert_eq!(deleted_before_they_met(false), vec![Some("old".to_owned()), None]);
}

#[test]
fn a_reader_that_was_no_member_when_deletes_were_forgotten_gets_states_and_not_records() {
    // Node 0 alone: it forgets, and still has the records.
    let (mut mesh, k, other) = (strangers(2), key("k"), key("other"));
    mesh.set(1, &k, "old");
    mesh.wall_ms += 10;
    mesh.set(0, &k, "new");
    mesh.del(0, &k);
    mesh.set(0, &other, "v");
    (0..3).for_each(|_| mesh.background(0));
    assert!(!mesh.nodes[0].shard.keys.forgotten(partition()).is_zero());
    let shard = &mesh.nodes[0].shard;
    let (first, end) = shard.keys.partitions();
    let mut feed = Feed::new(shard, Versions::new(first, end), Vec::new());
    let mut blocks = Vec::new();
    feed.pump(shard, &mut blocks, usize::MAX);
    let Front::Block(Kind::Behind, payload, used) = block::front(&blocks) else { panic!("it is told it is behind") };
    assert_eq!((payload, used), (&[partition() as u8][..], blocks.len()), "and is sent no record");
    // What it holds itself is older than a delete that nobody remembers: both see it.
    mesh.pass_all(1, 0);
    mesh.merge_whole(0, 1);
    assert_eq!(mesh.texts(&k), vec![Some("old".to_owned()); 2]);
    assert_eq!(mesh.texts(&other), vec![Some("v".to_owned()); 2]);
}

// Nodes 0 and 1 delete what node 2, which is away, still has; node 2 writes something of its own.
fn deleted_while_one_is_away() -> (Mesh, [String; 2]) {
    let (mut mesh, k, own) = (mesh(3), key("k"), key("own"));
    mesh.set(0, &k, "v");
    mesh.settle(100);
    mesh.del(0, &k);
    mesh.set(2, &own, "v");
    mesh.settle_without_2(100);
    assert_eq!(mesh.nodes[0].shard.keys.tombstones(), 1, "node 2 has not heard of the delete");
    (mesh, [k, own])
}

impl Mesh {
    /// As [`Mesh::settle`], while node 2 neither hears nor is heard.
    fn settle_without_2(&mut self, ms: u64) {
        for _ in 0..4 {
            self.wall_ms += ms;
            for (from, to) in [(0, 1), (1, 0)] {
                self.background(from);
                self.background(from);
                self.beat(from);
                self.pass_all(from, to);
            }
        }
    }

    /// Node 2 is linked again: told that it is behind, it takes whole partitions, and then everybody hears everything.
    fn return_of_2(&mut self) {
        self.rejoin_2(true);
    }

    fn rejoin_2(&mut self, must_be_behind: bool) {
        for from in 0..2 {
            let (reader, shard) = (&self.nodes[2], &self.nodes[from].shard);
            let (first, end) = shard.keys.partitions();
            let mut known = Versions::new(first, end);
            for (origin, partition, hlc) in reader.shard.versions.all() {
                let global = reader.indices.iter().position(|index| *index == origin).expect("known");
                known.raise(self.nodes[from].indices[global], partition, hlc);
            }
            let mut blocks = Vec::new();
            Feed::new(shard, known, Vec::new()).pump(shard, &mut blocks, usize::MAX);
            // The second finds that it has taken everything already.
            let is_behind = matches!(block::front(&blocks), Front::Block(Kind::Behind, ..));
            assert!(is_behind || from > 0 || !must_be_behind, "not resumed");
            if is_behind {
                self.merge_whole(from, 2);
            }
        }
        self.exchange();
    }
}

#[test]
fn a_forgotten_node_holds_nothing_back_and_takes_whole_partitions_when_it_returns() {
    let (mut mesh, [k, own]) = deleted_while_one_is_away();
    let away = identity(2).node;
    for at in 0..2 {
        let stability = &mut mesh.nodes[at].shard.stability;
        let said = stability.standings().turned(away, true);
        assert!(stability.judge(said, false) && !stability.judge(said, false));
        // Hearsay does not make it a member again.
        stability.add(away);
        assert!(!stability.members().any(|member| member == away));
    }
    mesh.settle_without_2(100);
    assert_eq!((mesh.nodes[0].shard.keys.tombstones(), mesh.nodes[1].shard.keys.tombstones()), (0, 0));
    for at in 0..2 {
        let stability = &mut mesh.nodes[at].shard.stability;
        let said = stability.standings().turned(away, false);
        assert!(stability.judge(said, false));
        assert!(stability.members().any(|member| member == away));
    }
    mesh.return_of_2();
    assert_eq!(mesh.texts(&k), vec![None; 3], "the delete stays");
    assert_eq!(mesh.texts(&own), vec![Some("v".to_owned()); 3], "what it wrote itself is taken");
    // And it holds back what it has not heard of, as any member.
    mesh.del(0, &own);
    mesh.settle_without_2(100);
    assert_eq!(mesh.nodes[0].shard.keys.tombstones(), 1);
    mesh.settle(100);
    assert_eq!((mesh.nodes[0].shard.keys.tombstones(), mesh.texts(&own)), (0, vec![None; 3]));
}

// All that is remembered is too much.
fn tend(mesh: &mut Mesh, at: usize) -> Option<Uuid> {
    let now_ms = mesh.now(at).wall_ms;
    let shard = &mut mesh.nodes[at].shard;
    let bytes = shard.keys.tombstones() + shard.keys.past_len();
    shard.stability.tend(bytes, 0, now_ms)
}

#[test]
fn beyond_the_limit_a_node_that_is_away_holds_nothing_back_and_takes_whole_partitions_when_it_returns() {
    let (mut mesh, [k, own]) = deleted_while_one_is_away();
    let away = identity(2).node;
    (0..2).for_each(|at| assert_eq!(tend(&mut mesh, at), None, "node {at} has just heard of all"));
    mesh.settle_without_2(5000);
    // Within the limit it is waited for, however long it is away.
    assert_eq!(mesh.nodes[0].shard.stability.tend(1, 1, mesh.wall_ms), None);
    for at in 0..2 {
        assert_eq!(tend(&mut mesh, at), Some(away));
        assert_eq!(tend(&mut mesh, at), None, "and nobody else: who speaks is not away");
    }
    mesh.settle_without_2(100);
    assert_eq!((mesh.nodes[0].shard.keys.tombstones(), mesh.nodes[1].shard.keys.tombstones()), (0, 0));
    mesh.return_of_2();
    assert_eq!(mesh.texts(&k), vec![None; 3], "the delete stays");
    assert_eq!(mesh.texts(&own), vec![Some("v".to_owned()); 3], "what it wrote itself is taken");
    mesh.settle(100);
    (0..2).for_each(|at| assert_eq!(tend(&mut mesh, at), None));
    assert!(!mesh.nodes[0].shard.stability.is_let_go(away), "it has spoken");
    mesh.del(0, &own);
    mesh.settle_without_2(100);
    assert_eq!(mesh.nodes[0].shard.keys.tombstones(), 1, "and is waited for again");
}

#[test]
fn who_has_been_away_longest_is_let_go_first() {
    let (mut mesh, k) = (mesh(4), key("k"));
    mesh.set(0, &k, "v");
    mesh.settle(100);
    tend(&mut mesh, 0);
    // Node 3 falls silent, then node 2, and node 1 goes on.
    mesh.wall_ms += 8000;
    mesh.beat(2);
    mesh.pass_all(2, 0);
    tend(&mut mesh, 0);
    mesh.wall_ms += 12_000;
    mesh.beat(1);
    mesh.pass_all(1, 0);
    mesh.del(0, &k);
    let gone = [(); 3].map(|()| tend(&mut mesh, 0));
    assert_eq!(gone, [Some(identity(3).node), Some(identity(2).node), None]);
    // What node 1 passes on of node 3 from before is no sign of life.
    mesh.pass_all(1, 0);
    assert!(mesh.nodes[0].shard.stability.is_let_go(identity(3).node));
}

#[test]
fn prop_nodes_agree_again_after_one_was_away_for_longer_than_deletes_were_remembered() {
    for seed in crate::model::seeds(150) {
        let mut rng = Rng::new(seed);
        let mut mesh = mesh(3);
        let names: Vec<String> = ["h0", "h1", "s0", "s1", "m0", "m1"].map(key).into();
        let step = |mesh: &mut Mesh, rng: &mut Rng, at: usize| {
            let name = &names[rng.below(names.len() as u64) as usize];
            let (field, value) = (["x", "y"][rng.below(2) as usize], rng.below(100).to_string());
            mesh.write(at, |shard, now| {
                let key = shard.key(name.as_bytes());
                match (&name[..1], rng.below(8)) {
                    (_, 0..2) => _ = shard.del(DB, &key, now),
                    ("s", _) | ("m", 2..4) => shard.set(DB, &key, value.as_bytes(), SetDeadline::Clear, now),
                    (_, 4..6) => _ = shard.hdel(DB, &key, [field.as_bytes()].into_iter(), now),
                    _ => _ = shard.hset(DB, &key, [(field.as_bytes(), value.as_bytes())].into_iter(), now),
                }
            });
        };
        for _ in 0..20 {
            let at = rng.below(3) as usize;
            step(&mut mesh, &mut rng, at);
            mesh.wall_ms += rng.below(20);
            if rng.chance(3) {
                mesh.exchange();
            }
        }
        mesh.settle(100);
        for _ in 0..30 {
            let at = rng.below(3) as usize;
            step(&mut mesh, &mut rng, at);
            mesh.wall_ms += rng.below(20);
        }
        mesh.settle_without_2(6000);
        for at in 0..2 {
            // Heard of once more by whoever had not looked yet.
            tend(&mut mesh, at);
        }
        mesh.settle_without_2(6000);
        (0..2).for_each(|at| _ = tend(&mut mesh, at));
        mesh.settle_without_2(100);
        for at in 0..2 {
            assert_eq!(mesh.nodes[at].shard.keys.tombstones(), 0, "seed {seed}, node {at}");
        }
        mesh.rejoin_2(false);
        mesh.settle(100);
        let time_ms = mesh.time_ms();
        let seen: Vec<_> = (0..3).map(|at| mesh.seen(at, &names, time_ms)).collect();
        assert!(seen[0] == seen[1] && seen[0] == seen[2], "seed {seed}: {seen:#?}");
        let kept: Vec<_> = (0..3).map(|at| mesh.kept(at, &names)).collect();
        assert!(kept[0] == kept[1] && kept[0] == kept[2], "seed {seed}: {kept:#?}");
    }
}
