//! Who must hear of a delete before it is forgotten: strangers, the absent, the forgotten.

use tutti::merge::version::Versions;
use tutti::shard::block::{self, Front, Kind};
use tutti::shard::feed::Feed;

use crate::mesh::{Broken, Mesh, identity};
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
            let front = block::front(&blocks);
            assert!(from > 0 || matches!(front, Front::Block(Kind::Behind, ..)), "not resumed: {front:?}");
            self.merge_whole(from, 2);
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
        assert!(stability.judge(said) && !stability.judge(said));
        // Hearsay does not make it a member again.
        stability.add(away);
        assert!(!stability.members().any(|member| member == away));
    }
    mesh.settle_without_2(100);
    assert_eq!((mesh.nodes[0].shard.keys.tombstones(), mesh.nodes[1].shard.keys.tombstones()), (0, 0));
    for at in 0..2 {
        let stability = &mut mesh.nodes[at].shard.stability;
        let said = stability.standings().turned(away, false);
        assert!(stability.judge(said));
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
