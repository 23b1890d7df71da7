//! The records of one shard, of every origin, in the order they were applied: what links read from.
//!
//! Bounded: when full, the oldest chunk goes and what it held is noted in `trimmed`; a link that was not there yet
//! gets a full merge of the partitions concerned. Appending never waits.

use std::collections::VecDeque;

use super::record;
use crate::merge::origins::OriginIdx;
use crate::merge::stamp::Stamp;
use crate::merge::version::Versions;

/// Chunks are cut at an eighth of the backlog, within these bounds; a larger record has a chunk of its own. The oldest
/// goes as one: were there few, much would be forgotten at once, some of it before anybody could have read it.
const CHUNK_BYTES_MIN: usize = 4 * 1024;
const CHUNK_BYTES_MAX: usize = 64 * 1024;
const CHUNKS: usize = 8;

/// A position in the backlog: bytes since the start of the process. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Position(pub u64);

/// See the file's head.
pub struct Backlog {
    chunks: VecDeque<Chunk>,
    /// Chunks that were emptied, kept for reuse (at most one).
    spare: Option<Vec<u8>>,
    end: Position,
    bytes: usize,
    bytes_max: usize,
    chunk_bytes: usize,
    trimmed: Versions,
}

struct Chunk {
    start: Position,
    bytes: Vec<u8>,
}

impl Backlog {
    /// An empty backlog for partitions `first..end` that keeps about `bytes_max` bytes.
    pub fn new(first: usize, end: usize, bytes_max: usize) -> Self {
        let trimmed = Versions::new(first, end);
        let (chunks, end) = (VecDeque::new(), Position(0));
        Self { chunks, spare: None, end, bytes: 0, bytes_max, chunk_bytes: chunk_bytes(bytes_max), trimmed }
    }

    /// Changes the bound; takes effect with the next record.
    pub fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.chunk_bytes = chunk_bytes(bytes_max);
    }

    /// Appends the record that `write` appends to the buffer it is given.
    #[inline]
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.chunks.back().is_none_or(|chunk| chunk.bytes.len() >= self.chunk_bytes) {
            self.cut();
        }
        let chunk = self.chunks.back_mut().expect("cut leaves a chunk");
        let before = chunk.bytes.len();
        write(&mut chunk.bytes);
        let added = chunk.bytes.len() - before;
        self.end.0 += added as u64;
        self.bytes += added;
    }

    /// One past the last byte.
    pub fn end(&self) -> Position {
        self.end
    }

    /// The oldest byte still here.
    pub fn start(&self) -> Position {
        self.chunks.front().map_or(self.end, |chunk| chunk.start)
    }

    /// Bytes kept.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The records from `from` to the end of its chunk; empty at the end. `None` when `from` is gone already.
    pub fn read(&self, from: Position) -> Option<&[u8]> {
        if from < self.start() {
            return None;
        }
        let at = self.chunks.partition_point(|chunk| chunk.start <= from);
        let Some(chunk) = at.checked_sub(1).and_then(|at| self.chunks.get(at)) else { return Some(&[]) };
        let skip = (from.0 - chunk.start.0) as usize;
        if skip == chunk.bytes.len() {
            return Some(self.chunks.get(at).map_or(&[], |next| &next.bytes));
        }
        Some(&chunk.bytes[skip..])
    }

    /// Per origin and partition, the last record that is not here any more (or never was: what a full merge or a
    /// snapshot brought).
    pub fn trimmed(&self) -> &Versions {
        &self.trimmed
    }

    /// Notes that everything of `origin` up to `stamp` cannot be read here.
    pub fn raise_trimmed(&mut self, partition: usize, stamp: Stamp) {
        self.trimmed.raise(stamp.origin(), partition, stamp.hlc());
    }

    fn cut(&mut self) {
        while self.bytes >= self.bytes_max.max(self.chunk_bytes) {
            let Some(mut chunk) = self.chunks.pop_front() else { break };
            self.bytes -= chunk.bytes.len();
            let mut rest = &chunk.bytes[..];
            while let Some(head) = record::head(rest) {
                self.trimmed.raise(OriginIdx(head.origin), usize::from(head.partition.0), head.hlc);
                rest = &rest[head.bytes..];
            }
            if chunk.bytes.capacity() <= 2 * CHUNK_BYTES_MAX {
                chunk.bytes.clear();
                self.spare = Some(chunk.bytes);
            }
        }
        // Room beyond the cut so that the record that crosses it does not move the chunk.
        let bytes = self.spare.take().unwrap_or_else(|| Vec::with_capacity(self.chunk_bytes + self.chunk_bytes / 8));
        self.chunks.push_back(Chunk { start: self.end, bytes });
    }
}

fn chunk_bytes(bytes_max: usize) -> usize {
    (bytes_max / CHUNKS).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX)
}
