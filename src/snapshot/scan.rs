//! A shard into chunks of an RDB file, in slices, while writes go on.

use super::{aux, kind, opcode, put, state};
use crate::base::ids::{Db, PARTITIONS, SLOTS, Slot};
use crate::base::time::Now;
use crate::merge::op::{put_bytes, put_varint};
use crate::merge::origins::OriginIdx;
use crate::merge::realm::Realm;
use crate::merge::stamp::{Hlc, Stamp};
use crate::shard::Shard;
use crate::shard::hash::field_value;
use crate::shard::standing;
use crate::shard::state::{encode, put_stamp};
use crate::shard::write::{Value, visible};
use crate::store::keyspace::Packed;

/// A slice looks at about so many keys.
const SLICE_KEYS: usize = 256;

/// A slice writes about so many bytes.
const SLICE_BYTES: usize = 64 * 1024;

/// An empty slot costs a slice a fraction of a key.
const SLOTS_PER_KEY: usize = 8;

/// As few late keys are written in one slice, with the version vectors.
const LAST_KEYS: usize = 512;

/// One shard's part of a snapshot under way.
#[derive(Debug)]
pub struct Scan {
    db: u16,
    slot: usize,
    cursor: u64,
    /// The slots have all been walked; now what changed meanwhile is written again.
    is_late: bool,
    /// Slices until the rest is written in one, however much it is: writers may be faster than we are.
    late_slices: usize,
    is_over: bool,
    chunk: Chunk,
    /// Keys written.
    pub keys: u64,
}

/// What is being filled.
#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    selected: Option<Db>,
    scratch: Vec<u8>,
}

impl Scan {
    /// Begins. Ended by a [`Scan::step`] that answers true, or by [`Scan::abandon`].
    pub fn begin(shard: &mut Shard) -> Self {
        shard.keys.begin_late();
        let (first, _) = shard.keys.partitions();
        Self {
            db: 0,
            slot: first * (SLOTS / PARTITIONS),
            cursor: 0,
            is_late: false,
            late_slices: 0,
            is_over: false,
            chunk: Chunk::default(),
            keys: 0,
        }
    }

    /// Gives up.
    pub fn abandon(self, shard: &mut Shard) {
        shard.keys.end_late();
    }

    /// How much is waiting to be taken, bytes.
    pub fn len(&self) -> usize {
        self.chunk.bytes.len()
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.chunk.bytes.is_empty()
    }

    /// Whether everything has been written.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// What was written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        self.chunk.selected = None;
        std::mem::take(&mut self.chunk.bytes)
    }

    /// One slice. True: everything is written.
    pub fn step(&mut self, shard: &mut Shard, now: Now) -> bool {
        if !self.is_over && !self.is_late {
            self.walk(shard, now);
        } else if !self.is_over {
            self.catch_up(shard);
        }
        self.is_over
    }

    fn walk(&mut self, shard: &mut Shard, now: Now) {
        let time_ms = shard.time_ms(now);
        let (first, end) = shard.keys.partitions();
        let (first, end) = (first * (SLOTS / PARTITIONS), end * (SLOTS / PARTITIONS));
        let (mut keys, mut slots, before) = (0, 0, self.len());
        let Self { chunk, .. } = self;
        while keys + slots / SLOTS_PER_KEY < SLICE_KEYS && chunk.bytes.len() < before + SLICE_BYTES {
            if usize::from(self.db) == shard.keys.databases() {
                let Some(late) = shard.keys.late() else { return };
                late.pass_all();
                self.late_slices = late.len() / SLICE_KEYS * 4 + 64;
                self.is_late = true;
                break;
            }
            let (db, slot) = (Db(self.db), Slot(self.slot as u16));
            if self.slot == end || !shard.keys.has_held(db) {
                (self.db, self.slot) = (self.db + 1, first);
                continue;
            }
            if let Some(late) = shard.keys.late() {
                late.pass(db, slot);
            }
            slots += 1;
            let realm = shard.realm();
            self.cursor = shard.keys.scan_slot(db, slot, self.cursor, SLOTS_PER_KEY, |entry| {
                keys += 1;
                chunk.put_key(realm, db, entry, time_ms);
            });
            self.slot += usize::from(self.cursor == 0);
        }
        self.keys += keys as u64;
    }

    fn catch_up(&mut self, shard: &mut Shard) {
        let left = shard.keys.late().map_or(0, |late| late.len());
        let is_last = left <= LAST_KEYS || self.late_slices == 0;
        let (mut keys, before) = (0, self.len());
        while is_last || keys < SLICE_KEYS && self.len() < before + SLICE_BYTES {
            let Some((db, names)) = shard.keys.late().and_then(|late| late.take()) else { break };
            for name in names {
                keys += 1;
                let key = shard.key(&name);
                self.chunk.put_whole(db, &name, shard.keys.find(db, &key));
            }
        }
        self.keys += keys as u64;
        if is_last {
            self.chunk.put_facts(shard);
            shard.keys.end_late();
            self.is_over = true;
        } else {
            self.late_slices -= 1;
        }
    }
}

impl Chunk {
    fn put_key(&mut self, realm: &Realm, db: Db, entry: &Packed, time_ms: u64) {
        let Some(found) = visible(realm, entry, time_ms) else { return self.put_whole(db, entry.key(), Some(entry)) };
        if self.selected != Some(db) {
            self.selected = Some(db);
            put::select(&mut self.bytes, db.0);
        }
        let Self { bytes: out, scratch, .. } = self;
        if let Some(at) = found.deadline {
            out.push(opcode::EXPIRETIME_MS);
            out.extend_from_slice(&at.to_le_bytes());
        }
        scratch.clear();
        state::put(entry, &found.value, scratch);
        put::aux(out, aux::STATE, scratch);
        match found.value {
            Value::Hash(hash) => {
                out.push(kind::HASH);
                put::string(out, entry.key());
                put::length(out, hash.len());
                for field in hash.iter() {
                    if let Some(bytes) = field_value(field).as_ref().and_then(|value| value.bytes(scratch)) {
                        put::string(out, field.key());
                        put::string(out, bytes);
                    }
                }
            }
            value => {
                out.push(kind::STRING);
                put::string(out, entry.key());
                put::string(out, value.bytes(scratch).unwrap_or_default());
            }
        }
    }

    fn put_whole(&mut self, db: Db, key: &[u8], entry: Option<&Packed>) {
        self.scratch.clear();
        put_varint(&mut self.scratch, u64::from(db.0));
        put_bytes(&mut self.scratch, key);
        // Nothing: not even a memory is left of it.
        if let Some(entry) = entry {
            encode(entry, &mut self.scratch);
        }
        put::aux(&mut self.bytes, aux::KEY, &self.scratch);
    }

    fn put_facts(&mut self, shard: &Shard) {
        let (mut flushed, mut forgotten) = (Vec::new(), Vec::new());
        let put_triples = |triples: &mut dyn Iterator<Item = (OriginIdx, usize, Hlc)>| {
            let mut out = Vec::new();
            for (origin, partition, hlc) in triples {
                put_varint(&mut out, u64::from(origin.0));
                put_varint(&mut out, partition as u64);
                put_varint(&mut out, hlc.0);
            }
            out
        };
        let (versions, ahead) = (put_triples(&mut shard.versions.all()), put_triples(&mut shard.all_ahead()));
        let (first, end) = shard.keys.partitions();
        let put_floor = |out: &mut Vec<u8>, db: Option<u16>, partition: usize, stamp: Stamp| {
            if !stamp.is_zero() {
                if let Some(db) = db {
                    put_varint(out, u64::from(db));
                }
                put_varint(out, partition as u64);
                put_stamp(out, stamp);
            }
        };
        for partition in first..end {
            for db in 0..shard.keys.databases() as u16 {
                put_floor(&mut flushed, Some(db), partition, shard.keys.flushed(Db(db), partition));
            }
            for stamp in shard.forgotten_of(partition) {
                put_floor(&mut forgotten, None, partition, stamp);
            }
        }
        put::aux(&mut self.bytes, aux::VERSIONS, &versions);
        if !ahead.is_empty() {
            put::aux(&mut self.bytes, aux::AHEAD, &ahead);
        }
        put::aux(&mut self.bytes, aux::FLUSHED, &flushed);
        put::aux(&mut self.bytes, aux::FORGOTTEN, &forgotten);
        put::aux(&mut self.bytes, aux::CLOCK, shard.last_hlc().0.to_string().as_bytes());
        put::aux(&mut self.bytes, aux::FINAL, shard.final_ms().to_string().as_bytes());
        let standings = shard.stability.standings();
        let members = shard.stability.members().map(|node| standings.of(node));
        let forgotten = standings.all().iter().copied().filter(|standing| standing.forgotten);
        self.scratch.clear();
        standing::put(&mut self.scratch, &members.chain(forgotten).collect::<Vec<_>>());
        put::aux(&mut self.bytes, aux::MEMBERS, &self.scratch);
    }
}
