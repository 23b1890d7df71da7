//! Shards of one node, their file, and what is in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tutti::base::ids::{Db, PARTITIONS, ShardId, Slot, Uuid};
use tutti::base::slot::{ShardMap, slot_of};
use tutti::base::time::Now;
use tutti::merge::origins::{OriginId, OriginIdx};
use tutti::merge::realm::Realm;
use tutti::merge::stamp::Stamp;
use tutti::shard::state;
use tutti::shard::{Shard, ShardSettings};
use tutti::snapshot::crc64::crc64;
use tutti::snapshot::load::{self, Facts};
use tutti::snapshot::read::Damage;
use tutti::snapshot::scan::Scan;
use tutti::snapshot::{opcode, put};
use tutti::store::keyspace::weigh::Over;

pub const DATABASES: usize = 4;
pub const NOW: Now = Now { wall_ms: 1_770_000_000_000, mono_us: 1_000_000 };

/// All shards of a node, without sockets.
pub struct Shards {
    pub realm: Arc<Realm>,
    pub map: ShardMap,
    pub shards: Vec<Shard>,
}

impl Shards {
    pub fn new(own: OriginId, count: u16) -> Self {
        let realm = Arc::new(Realm::new(own, u64::from(count)));
        let map = ShardMap::new(count);
        let settings = |id| ShardSettings {
            id: ShardId(id),
            map,
            databases: DATABASES,
            backlog_bytes_max: 1 << 20,
            drift_ms_max: 1000,
            seed: 1,
        };
        let shards = (0..count).map(|id| Shard::new(Arc::clone(&realm), &settings(id))).collect();
        Self { realm, map, shards }
    }

    /// The shard of a key.
    pub fn of(&mut self, key: &[u8]) -> &mut Shard {
        let owner = self.map.owner(slot_of(key).partition());
        &mut self.shards[usize::from(owner.0)]
    }

    /// The file of all shards, `between` being called after every slice.
    pub fn save_while(&mut self, mut between: impl FnMut(&mut Self)) -> Vec<u8> {
        let mut file = Vec::new();
        let keys = vec![(3, 9); DATABASES];
        let own = self.realm.origins.own();
        put::head(&mut file, &put::Head { time_s: 1, memory_bytes: 1, own, keys: &keys });
        let mut named = 0;
        let mut scans: Vec<Scan> = self.shards.iter_mut().map(Scan::begin).collect();
        while scans.iter().any(|scan| !scan.is_over()) {
            for (scan, shard) in scans.iter_mut().zip(&mut self.shards) {
                scan.step(shard, NOW);
                let chunk = scan.take();
                named = put::origins(&mut file, &self.realm.origins, named);
                file.extend_from_slice(&chunk);
            }
            if scans.iter().any(|scan| !scan.is_over()) {
                between(self);
            }
        }
        file.push(opcode::EOF);
        let crc = crc64(0, &file);
        file.extend_from_slice(&crc.to_le_bytes());
        file
    }

    pub fn save(&mut self) -> Vec<u8> {
        self.save_while(|_| {})
    }

    /// A node that starts with a file.
    pub fn load(file: &[u8], own: OriginId, count: u16) -> Result<Self, Damage> {
        let facts = check(file)?;
        let mut shards = Self::new(own, count);
        for shard in &mut shards.shards {
            load::load(file, file.len() as u64, &facts, shard, NOW).expect("it was checked");
        }
        Ok(shards)
    }

    /// Everything that is kept, in a form that depends on neither shards nor local indices.
    pub fn dump(&self) -> Dump {
        let mut dump = Dump::default();
        for shard in &self.shards {
            let (first, end) = shard.keys.partitions();
            for db in (0..DATABASES as u16).map(Db) {
                for slot in first * 64..end * 64 {
                    let (mut kept, mut digest, slot) = (0u64, 0u64, Slot(slot as u16));
                    shard.keys.each_in_slot(db, slot, |entry| {
                        let state = tutti::store::keyspace::unpack(&self.realm, entry);
                        dump.keys.insert((db.0, entry.key().to_vec()), self.print(&state));
                        let writes = |over| shard.keys.weigh(db, slot, entry, over).writes;
                        kept = kept.wrapping_add(writes(Over::Passed));
                        digest = digest.wrapping_add(writes(Over::At(NOW.wall_ms)));
                    });
                    assert_eq!(shard.keys.digest(db, slot), kept, "the digest kept for {slot:?} is a walk's");
                    dump.digests.push((db.0, slot, digest));
                }
                dump.counts[usize::from(db.0)].0 += shard.keys.len(db);
                dump.counts[usize::from(db.0)].1 += shard.keys.deadlines(db);
                for partition in first..end {
                    dump.floors.push((db.0, partition, self.id(shard.keys.flushed(db, partition))));
                }
            }
            for partition in first..end {
                dump.forgotten.push((partition, self.id(shard.keys.forgotten(partition))));
            }
            for (origin, partition, hlc) in shard.versions.all() {
                dump.versions.insert((self.realm.origins.id(origin), partition), hlc.0);
            }
        }
        dump.floors.sort();
        dump.digests.sort();
        dump.forgotten.sort();
        dump
    }

    fn id(&self, stamp: Stamp) -> (u64, OriginId) {
        if stamp.is_zero() { Default::default() } else { (stamp.hlc().0, self.realm.origins.id(stamp.origin())) }
    }

    fn print(&self, key: &tutti::merge::key::KeyState) -> String {
        let stamp = |stamp: Stamp| format!("{:?}", self.id(stamp));
        let cell = |cell: &tutti::merge::cell::Cell| {
            let slot = |slot: &tutti::merge::cell::SlotCount| {
                format!("{}/{}/{:?}", stamp(slot.dot()), slot.epoch.0, slot.total.fixed())
            };
            let mut slots: Vec<String> = cell.slots.iter().map(slot).collect();
            slots.sort();
            let mut seen: Vec<String> =
                cell.observed.iter().map(|seen| format!("{} by {}", slot(&seen.slot), stamp(seen.by))).collect();
            seen.sort();
            format!("{} {:?} {slots:?} {seen:?}", stamp(cell.stamp), cell.value)
        };
        let mut fields: Vec<String> = key
            .hash
            .iter()
            .flat_map(|hash| hash.iter())
            .map(|field| format!("{:?}: {}", field.key(), cell(&tutti::merge::hash::unpack(field))))
            .collect();
        fields.sort();
        let deadline = key.deadline.map(|deadline| (stamp(deadline.stamp), deadline.at));
        format!("clear {} deadline {deadline:?} string {} fields {fields:?}", stamp(key.clear), cell(&key.string))
    }
}

/// See [`Shards::dump`].
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Dump {
    pub keys: BTreeMap<(u16, Vec<u8>), String>,
    pub counts: [(usize, usize); DATABASES],
    pub floors: Vec<(u16, usize, (u64, OriginId))>,
    pub forgotten: Vec<(usize, (u64, OriginId))>,
    pub digests: Vec<(u16, Slot, u64)>,
    pub versions: BTreeMap<(OriginId, usize), u64>,
}

pub fn check(file: &[u8]) -> Result<Facts, Damage> {
    load::check(file, file.len() as u64, true, DATABASES, NOW)
}

pub fn node(number: u8, incarnation: u64) -> OriginId {
    OriginId { node: Uuid([number; 16]), incarnation }
}

/// Everything of one shard set applied to another as records of a peer.
pub fn send_states(from: &Shards, to: &mut Shards) {
    for shard in &from.shards {
        let (first, end) = shard.keys.partitions();
        for db in (0..DATABASES as u16).map(Db) {
            for slot in first * (tutti::base::ids::SLOTS / PARTITIONS)..end * (tutti::base::ids::SLOTS / PARTITIONS) {
                let mut found = Vec::new();
                shard.keys.each_in_slot(db, Slot(slot as u16), |entry| {
                    let mut bytes = Vec::new();
                    state::encode(entry, &mut bytes);
                    found.push((entry.key().to_vec(), bytes));
                });
                for (key, bytes) in found {
                    let index = |index: u16| to.realm.origins.index(from.realm.origins.id(OriginIdx(index)));
                    let state = state::decode(&to.realm, &mut &bytes[..], &index).expect("well formed");
                    let target = to.of(&key);
                    let name = target.key(&key);
                    target.keys.join(db, &name, state);
                }
            }
        }
        for (origin, partition, hlc) in shard.versions.all() {
            let origin = to.realm.origins.index(from.realm.origins.id(origin)).expect("few");
            let owner = to.map.owner(tutti::base::ids::Partition(partition as u8));
            to.shards[usize::from(owner.0)].versions.raise(origin, partition, hlc);
        }
    }
}
