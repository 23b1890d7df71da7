//! Sums told for a cut: what a partition counts for at a place in its history, said by two nodes that are elsewhere by
//! then and are written to all the time.

use tutti::base::ids::Partition;
use tutti::base::rng::Rng;
use tutti::merge::op::SetDeadline;
use tutti::shard::compare::{Level, Position, Told, Walk};

use crate::mesh::{Broken, DB, Mesh, key_ref, tag};

const KEYS: u64 = 12;

struct Run {
    mesh: Mesh,
    rng: Rng,
    /// Nodes write to the same keys.
    is_shared: bool,
    /// Keys have deadlines.
    with_deadlines: bool,
}

impl Run {
    fn new(seed: u64, is_shared: bool, with_deadlines: bool) -> Self {
        let mesh = Mesh::new(2, &[0, 0], Broken::default());
        let mut run = Self { mesh, rng: Rng::new(seed), is_shared, with_deadlines };
        (0..200).for_each(|_| run.step());
        run
    }

    fn partition(&self) -> Partition {
        Partition(self.mesh.partitions[0] as u8)
    }

    fn write(&mut self) {
        let at = self.rng.below(2) as usize;
        let whose = if self.is_shared { 0 } else { at };
        let name = format!("{}:{whose}:{{{}}}", self.rng.below(KEYS), tag(0));
        let (what, n) = (self.rng.below(10), self.rng.below(1000).to_string());
        let with_deadlines = self.with_deadlines;
        let soon_ms = self.mesh.wall_ms + 1 + self.rng.below(20);
        self.mesh.write(at, |shard, now| {
            let key = key_ref(shard, &name);
            match what {
                0 | 1 => shard.set(DB, &key, n.as_bytes(), SetDeadline::Clear, now),
                2 if with_deadlines => shard.set(DB, &key, n.as_bytes(), SetDeadline::At(soon_ms), now),
                3 if with_deadlines && shard.peek(DB, &key, now).is_some() => {
                    shard.set_deadline(DB, &key, Some(soon_ms), now)
                }
                4 | 5 => _ = shard.del(DB, &key, now),
                6 | 7 => _ = shard.incr(DB, &key, 3, now),
                _ => {
                    let field: (&[u8], &[u8]) = (n.as_bytes(), b"value");
                    _ = shard.hset(DB, &key, [field].into_iter(), now);
                }
            }
        });
    }

    fn step(&mut self) {
        match self.rng.below(8) {
            0..=2 => self.write(),
            3 | 4 => _ = self.mesh.pass(0, 1, 0),
            5 => _ = self.mesh.pass(1, 0, 1),
            6 => {
                let at = self.rng.below(2) as usize;
                self.mesh.background(at);
            }
            _ => self.mesh.wall_ms += self.rng.below(4),
        }
    }

    fn translated(&self, from: usize, to: usize, position: &Position) -> Position {
        let (from, to) = (&self.mesh.nodes[from].indices, &self.mesh.nodes[to].indices);
        let index = |origin| to[from.iter().position(|known| *known == origin).expect("a known origin")];
        let applied = position.applied.iter().map(|&(origin, hlc)| (index(origin), hlc)).collect();
        Position { applied, passed_ms: position.passed_ms }
    }

    /// What both say of one cut: node 0 asks, node 1 answers.
    fn compare(&mut self) -> (Told, Told) {
        let partition = self.partition();
        let watches = [0, 1].map(|at| self.mesh.nodes[at].shard.watch(partition, 1, Level::Data, at == 0));
        let mut walks = watches.map(|watch| Walk::over_partition(partition, u64::MAX, 1, watch));
        let began = self.mesh.nodes[0].shard.position_of(partition);
        let after = self.translated(0, 1, &began);
        let mut answer: Option<(Position, Told)> = None;
        for _ in 0..100_000 {
            self.step();
            let at = self.rng.below(2) as usize;
            walks[at].step(&mut self.mesh.nodes[at].shard, 1);
            let shard = &self.mesh.nodes[1].shard;
            if answer.is_none() && walks[1].is_over() && shard.has_reached(partition, &after) {
                let mut position = shard.position_of(partition);
                position.passed_ms = position.passed_ms.max(after.passed_ms);
                let told = shard.sums_now(watches[1]).expect("it is watched");
                answer = Some((self.translated(1, 0, &position), told));
            }
            let shard = &self.mesh.nodes[0].shard;
            if let Some((position, theirs)) = &answer
                && walks[0].is_over()
                && shard.has_reached(partition, position)
            {
                assert!(position.has_reached(&began));
                let ours = shard.sums_at(watches[0], position).expect("it is watched");
                let theirs = theirs.clone();
                (0..2).for_each(|at| self.mesh.nodes[at].shard.keys.end_watch(watches[at]));
                return (ours, theirs);
            }
        }
        panic!("they never came together");
    }
}

#[test]
fn two_nodes_count_alike_at_a_cut_however_much_is_written_meanwhile() {
    for seed in 0..150 {
        let mut run = Run::new(seed, false, false);
        for nth in 0..3 {
            let (ours, theirs) = run.compare();
            assert_eq!((ours.unsure, theirs.unsure), (0, 0));
            assert_eq!(ours.sums, theirs.sums, "seed {seed}, comparison {nth}");
            assert_ne!(ours.total().contents, 0);
        }
    }
}

#[test]
fn cuts_are_clean_sooner_or_later_where_both_write_to_the_same_keys_or_deadlines_pass() {
    let clean = [(true, false), (false, true)].map(|(is_shared, with_deadlines)| {
        let is_clean = |seed: &u64| {
            let (ours, theirs) = Run::new(*seed, is_shared, with_deadlines).compare();
            ours.sums == theirs.sums
        };
        (0..60).filter(is_clean).count()
    });
    // With twelve keys, and deadlines a few steps ahead.
    assert!(clean.iter().all(|&clean| clean >= 15), "{clean:?}");
}

#[test]
fn damage_shows_at_a_cut() {
    use tutti::store::keyspace::damage::Damage;
    for damage in [Damage::Value, Damage::Stamp, Damage::Absence] {
        let mut run = Run::new(1, false, false);
        let name = format!("still:{{{}}}", tag(0));
        run.mesh.write(0, |shard, now| {
            let key = key_ref(shard, &name);
            shard.set(DB, &key, b"value", SetDeadline::Clear, now);
        });
        while run.mesh.pass(0, 1, 0) {}
        let shard = &mut run.mesh.nodes[1].shard;
        let key = key_ref(shard, &name);
        assert!(shard.keys.damage(DB, &key, damage));
        let slot = key.slot.0 - run.partition().first_slot().0;
        let (ours, theirs) = run.compare();
        let differing: Vec<usize> = (0..64).filter(|&at| ours.sums[at] != theirs.sums[at]).collect();
        assert_eq!(differing, [usize::from(slot)], "{damage:?}");
    }
}
