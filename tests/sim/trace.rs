//! What a run was: a hash over everything that happened, and, when asked for, lines about chosen keys.

use std::collections::BTreeMap;

use tutti::store::keyspace::unpack;

use crate::world::World;

/// FNV-like over words; the same seed must give the same value twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hash(pub u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    pub fn add(&mut self, words: &[u64]) {
        for word in words {
            self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
    }

    pub fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(&[bytes.len() as u64, u64::from(crc32fast::hash(bytes))]);
    }
}

/// Lines of a replay.
#[derive(Clone, Default, Debug)]
pub struct Trace {
    pub is_on: bool,
    /// Only what concerns these keys, faults and lives apart. Empty: all.
    pub keys: Vec<Vec<u8>>,
    /// What nodes kept of them when last looked at.
    pub kept: BTreeMap<(usize, Vec<u8>), String>,
}

impl Trace {
    pub fn wants(&self, key: Option<&[u8]>) -> bool {
        self.is_on && (self.keys.is_empty() || key.is_none_or(|key| self.keys.iter().any(|wanted| wanted == key)))
    }
}

impl World {
    /// In a trace of few keys: what a node keeps of them, whenever that changes.
    pub fn look(&mut self, node: usize) {
        if !self.trace.is_on || self.trace.keys.is_empty() || self.nodes[node].process.is_none() {
            return;
        }
        for key in self.trace.keys.clone() {
            let kept = self.kept(node, &key);
            let known = self.trace.kept.entry((node, key.clone())).or_default();
            if *known != kept {
                eprintln!(
                    "{:>11.6} s      node {node} keeps {}: {kept}",
                    self.now_us as f64 / 1e6,
                    crate::ledger::show(&key)
                );
                *known = kept;
            }
        }
    }

    fn kept(&self, node: usize, key: &[u8]) -> String {
        let Some(process) = &self.nodes[node].process else { return String::new() };
        let owner = process.cores[0].worker.shard.map.owner_of_key(key);
        let shard = &process.cores[usize::from(owner.0)].worker.shard;
        let key = shard.key(key);
        let Some(entry) = shard.keys.find(tutti::base::ids::Db(0), &key) else { return "nothing".into() };
        let state = unpack(shard.realm(), entry);
        let hash = state.hash.as_ref().map_or(0, |hash| hash.iter().count());
        let (clear, cell) = (state.clear.hlc().0, &state.string);
        let shown = cell.value.as_deref().map(crate::ledger::show);
        let counts = (cell.slots.len(), cell.observed.len());
        format!(
            "clear {clear}, deadline {:?}, text {shown:?}, (slots, observed) {counts:?}, {hash} fields, garbage {}",
            state.deadline_at(),
            state.has_garbage()
        )
    }

    /// At the end of a trace: what every node says of itself.
    pub fn tell_status(&mut self) {
        if !self.trace.is_on {
            return;
        }
        let broken = self.broken.take();
        for node in 0..self.nodes.len() {
            self.operate(node, &[b"MULTIMASTER", b"STATUS"]);
        }
        self.run_until(self.now_us + 1_000_000);
        self.broken = broken;
    }

    /// A line of the trace; `key`: whom it concerns.
    pub fn note(&self, key: Option<&[u8]>, line: impl FnOnce() -> String) {
        if self.trace.wants(key) {
            eprintln!("{:>11.6} s  {}", self.now_us as f64 / 1e6, line());
        }
    }
}
