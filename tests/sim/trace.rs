//! What a run was: a hash over everything that happened, and, when asked for, lines about chosen keys.

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
}

impl Trace {
    pub fn wants(&self, key: Option<&[u8]>) -> bool {
        self.is_on && (self.keys.is_empty() || key.is_none_or(|key| self.keys.iter().any(|wanted| wanted == key)))
    }
}

impl World {
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
