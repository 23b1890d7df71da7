//! Records of an RDB file into shards: first everything is looked at, then each shard takes its keys.
//!
//! A file is refused before anything of it is used, and a refused file is never touched.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::read::{Damage, Key, Plain, Reader, Record};
use super::{FORMAT, aux, state};
use crate::base::ids::{Db, PARTITIONS, Uuid};
use crate::base::slot::slot_of;
use crate::base::text::parse_u64;
use crate::base::time::Now;
use crate::merge::key::KeyState;
use crate::merge::op::{FieldWrite, Observations, Op, SetDeadline, take_bytes, take_varint};
use crate::merge::origins::{OriginId, OriginIdx};
use crate::merge::realm::Realm;
use crate::merge::stamp::{Hlc, Stamp};
use crate::shard::Shard;
use crate::shard::standing::{self, Standing};
use crate::shard::state::{decode, take_stamp};
use crate::store::keyspace::KeyRef;

/// Fields of a foreign hash are written so many at a time.
const FIELDS_AT_ONCE: usize = 1024;

/// What a file says beside its keys, its origins as the file numbers them.
#[derive(Debug, Default)]
pub struct Facts {
    /// Who wrote it; `None`: not one of us.
    pub node: Option<OriginId>,
    /// By the file's index.
    pub origins: Vec<OriginId>,
    /// Which of them anything in the file is of. The others are forgotten: every start of every node is one.
    is_used: Vec<AtomicBool>,
    /// What is in it.
    pub versions: Vec<(u16, usize, Hlc)>,
    /// What may be besides, because full merges were under way.
    pub ahead: Vec<(u16, usize, Hlc)>,
    /// Database, partition and the last flush.
    pub flushed: Vec<(Db, usize, FileStamp)>,
    /// Partition and the latest stamp forgotten.
    pub forgotten: Vec<(usize, FileStamp)>,
    /// The latest clock of its shards.
    pub clock: Hlc,
    /// Before this, deadlines were final in all its shards.
    pub final_ms: Option<u64>,
    /// Who was a member of the writer's, and who was forgotten.
    pub members: Vec<Standing>,
    /// Keys a reader would see.
    pub keys: u64,
    /// Of these, keys that had expired by now.
    pub expired: u64,
    /// Things that were left out, by name.
    pub skipped: Vec<&'static str>,
}

/// A stamp whose origin is the file's index.
#[derive(Clone, Copy, Debug)]
pub struct FileStamp {
    /// The reading.
    pub hlc: Hlc,
    /// The file's index.
    pub origin: u16,
}

/// What was loaded into one shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loaded {
    /// Keys a reader sees.
    pub keys: u64,
    /// Keys of a foreign file that had expired and were left out.
    pub expired: u64,
}

/// Looks at everything in a file of `len` bytes. `databases`: how many there are here.
pub fn check(read: impl Read, len: u64, verify: bool, databases: usize, now: Now) -> Result<Facts, Damage> {
    // Origins get indices of their own here: whether the real dictionary has room is seen when it is filled.
    let realm = Realm::new(OriginId::default(), 0);
    let mut reader = Reader::new(read, len, verify)?;
    let mut facts = Facts::default();
    loop {
        let problem = match reader.next()? {
            None => return Ok(facts),
            Some(Record::Skipped(what)) => {
                if !facts.skipped.contains(&what) {
                    facts.skipped.push(what);
                }
                Ok(())
            }
            Some(Record::Aux { name, value }) => facts.aux(&realm, name, value, databases),
            Some(Record::Key(key)) => facts.key(&realm, &key, databases, now),
        };
        problem.map_err(|reason| reader.damage(reason))?;
    }
}

/// A file that [`check`] has passed, on its way into a shard.
pub struct Loading<R> {
    reader: Reader<R>,
    /// Ours, by the file's index.
    origins: Vec<Option<OriginIdx>>,
    loaded: Loaded,
    len: u64,
}

impl<R: Read> Loading<R> {
    /// Takes what the file says beside its keys. The error is one line.
    pub fn begin(read: R, len: u64, facts: &Facts, shard: &mut Shard) -> Result<Self, String> {
        let origins = facts.indices(shard.realm())?;
        facts.restore(shard, &origins);
        let reader = Reader::new(read, len, false).map_err(|damage| damage.to_string())?;
        Ok(Self { reader, origins, loaded: Loaded::default(), len })
    }

    /// Takes the keys that belong to the shard out of about `bytes` more of the file. True: that was all.
    pub fn step(&mut self, shard: &mut Shard, bytes: u64, now: Now) -> Result<bool, String> {
        let Self { reader, origins, loaded, .. } = self;
        let origin = |index: u16| origins.get(usize::from(index)).copied().flatten();
        let end = reader.position().saturating_add(bytes);
        while reader.position() < end {
            match reader.next().map_err(|damage| damage.to_string())? {
                None => {
                    // Those past their deadline leave the counts now.
                    let time_ms = shard.time_ms(now);
                    while shard.keys.expire(time_ms, 0, 0, &|_, _| false, 10_000).1 {}
                    shard.stats = Default::default();
                    shard.end_loading(now);
                    return Ok(true);
                }
                Some(Record::Aux { name: aux::KEY, value }) => {
                    put_whole(shard, value, &origin).ok_or("malformed key")?;
                }
                Some(Record::Key(key)) => put_key(shard, &key, &origin, now, loaded).ok_or("malformed state")?,
                Some(_) => {}
            }
        }
        Ok(false)
    }

    /// How much of the file has been looked at, and how much there is, bytes.
    pub fn progress(&self) -> (u64, u64) {
        (self.reader.position(), self.len)
    }

    /// What has been taken so far.
    pub fn loaded(&self) -> Loaded {
        self.loaded
    }
}

/// Takes into a shard what belongs to it of a file that [`check`] has passed. The error is one line.
pub fn load(read: impl Read, len: u64, facts: &Facts, shard: &mut Shard, now: Now) -> Result<Loaded, String> {
    let mut loading = Loading::begin(read, len, facts, shard)?;
    while !loading.step(shard, u64::MAX, now)? {}
    Ok(loading.loaded())
}

impl Facts {
    fn aux(&mut self, realm: &Realm, name: &[u8], value: &[u8], databases: usize) -> Result<(), String> {
        let number = || parse_u64(value);
        let taken = match name {
            aux::FORMAT => match number() {
                Some(FORMAT) => Some(()),
                version => {
                    let version = version.unwrap_or_default();
                    return Err(format!("written by a later version: format {version}, known is {FORMAT}"));
                }
            },
            aux::NODE => parse_node(value).map(|node| self.node = Some(node)),
            aux::ORIGINS => self.take_origins(value),
            aux::VERSIONS => self.take_triples(value).map(|triples| self.versions.extend(triples)),
            aux::AHEAD => self.take_triples(value).map(|triples| self.ahead.extend(triples)),
            aux::FLUSHED => self.take_flushed(value, databases),
            aux::FORGOTTEN => self.take_forgotten(value),
            aux::CLOCK => number().map(Hlc).filter(|&clock| clock <= Hlc::MAX).map(|clock| {
                self.clock = self.clock.max(clock);
            }),
            aux::FINAL => number().map(|at| self.final_ms = Some(self.final_ms.map_or(at, |known| known.min(at)))),
            aux::MEMBERS => standing::take(value).map(|members| self.members.extend(members)),
            aux::KEY => take_whole(realm, value, &self.known(), databases).map(|_| ()),
            _ => Some(()),
        };
        taken.ok_or_else(|| format!("the field {} is malformed", String::from_utf8_lossy(name)))
    }

    fn key(&mut self, realm: &Realm, key: &Key<'_>, databases: usize, now: Now) -> Result<(), String> {
        let name = || String::from_utf8_lossy(&key.key[..key.key.len().min(64)]).into_owned();
        if usize::from(key.db.0) >= databases {
            return Err(format!("key '{}' is in database {}, but `databases` is {databases}", name(), key.db.0));
        }
        if let Some(state) = key.state
            && state::take(realm, state, &key.value, &self.known()).is_none()
        {
            return Err(format!("the state of key '{}' is malformed", name()));
        }
        self.keys += 1;
        self.expired += u64::from(key.deadline.is_some_and(|at| at <= now.wall_ms));
        Ok(())
    }

    // Origins of which we have been told, as they are.
    fn known(&self) -> impl Fn(u16) -> Option<OriginIdx> {
        |index| {
            self.is_used.get(usize::from(index))?.store(true, Ordering::Relaxed);
            Some(OriginIdx(index))
        }
    }

    // Gives every origin its index here.
    fn indices(&self, realm: &Realm) -> Result<Vec<Option<OriginIdx>>, String> {
        let index = |id: OriginId| match realm.origins.index(id) {
            None => Err("it names more origins than can be told apart".to_owned()),
            some => Ok(some),
        };
        let used = self.is_used.iter().map(|is_used| is_used.load(Ordering::Relaxed));
        self.origins.iter().zip(used).map(|(&id, is_used)| if is_used { index(id) } else { Ok(None) }).collect()
    }

    fn restore(&self, shard: &mut Shard, origins: &[Option<OriginIdx>]) {
        let (first, end) = shard.keys.partitions();
        let ours = |partition: usize| (first..end).contains(&partition);
        let index = |index: u16| origins[usize::from(index)].expect("the check has seen it used");
        let stamp = |stamp: FileStamp| Stamp::new(stamp.hlc, index(stamp.origin));
        for &(partition, forgotten) in self.forgotten.iter().filter(|(partition, _)| ours(*partition)) {
            shard.keys.raise_forgotten(partition, stamp(forgotten));
        }
        for &(db, partition, flushed) in self.flushed.iter().filter(|(_, partition, _)| ours(*partition)) {
            shard.keys.flush(db, partition, stamp(flushed), Stamp::ZERO);
        }
        for &(origin, partition, hlc) in self.versions.iter().filter(|(_, partition, _)| ours(*partition)) {
            let origin = index(origin);
            shard.versions.raise(origin, partition, hlc);
            shard.backlog.raise_trimmed(partition, Stamp::new(hlc, origin));
        }
        for &(origin, partition, hlc) in self.ahead.iter().filter(|(_, partition, _)| ours(*partition)) {
            shard.raise_ahead(partition, index(origin), hlc);
        }
        shard.restore_clock(self.clock);
        shard.keys.raise_final_ms(self.final_ms.unwrap_or(0));
        // Absent or not, whoever was a member must hear of a delete before it is forgotten. The members of another node,
        // whose file was copied here, may never have heard of us.
        let own = shard.realm().origins.own().node;
        if self.node.is_some_and(|writer| writer.node == own) {
            shard.note_forgotten();
            for &member in self.members.iter().filter(|member| member.node != own) {
                shard.stability.judge(member, false);
                shard.stability.add(member.node);
            }
        }
    }

    fn take_origins(&mut self, mut value: &[u8]) -> Option<()> {
        let input = &mut value;
        let first = usize::try_from(take_varint(input)?).ok()?;
        if first != self.origins.len() {
            return None;
        }
        for _ in 0..take_varint(input)? {
            let (uuid, rest) = input.split_first_chunk::<16>()?;
            *input = rest;
            self.origins.push(OriginId { node: Uuid(*uuid), incarnation: take_varint(input)? });
            self.is_used.push(AtomicBool::new(false));
        }
        (value.is_empty() && self.origins.len() <= crate::merge::origins::ORIGINS_MAX).then_some(())
    }

    fn take_triples(&self, mut value: &[u8]) -> Option<Vec<(u16, usize, Hlc)>> {
        let input = &mut value;
        let mut triples = Vec::new();
        while !input.is_empty() {
            let origin = u16::try_from(take_varint(input)?).ok()?;
            let partition = take_partition(input)?;
            let hlc = Hlc(take_varint(input)?);
            self.known()(origin).filter(|_| hlc <= Hlc::MAX)?;
            triples.push((origin, partition, hlc));
        }
        Some(triples)
    }

    fn take_flushed(&mut self, mut value: &[u8], databases: usize) -> Option<()> {
        let input = &mut value;
        while !input.is_empty() {
            let db = Db(u16::try_from(take_varint(input)?).ok()?);
            let (partition, stamp) = (take_partition(input)?, self.take_file_stamp(input)?);
            // A database we no longer have needs no floor.
            if usize::from(db.0) < databases {
                self.flushed.push((db, partition, stamp));
            }
        }
        Some(())
    }

    fn take_forgotten(&mut self, mut value: &[u8]) -> Option<()> {
        let input = &mut value;
        while !input.is_empty() {
            let forgotten = (take_partition(input)?, self.take_file_stamp(input)?);
            self.forgotten.push(forgotten);
        }
        Some(())
    }

    fn take_file_stamp(&self, input: &mut &[u8]) -> Option<FileStamp> {
        let stamp = take_stamp(input, &self.known())?;
        Some(FileStamp { hlc: stamp.hlc(), origin: stamp.origin().0 }).filter(|_| !stamp.is_zero())
    }
}

fn parse_node(value: &[u8]) -> Option<OriginId> {
    let (node, incarnation) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    Some(OriginId { node: Uuid::parse(node)?, incarnation: incarnation.parse().ok()? })
}

fn take_partition(input: &mut &[u8]) -> Option<usize> {
    usize::try_from(take_varint(input)?).ok().filter(|&partition| partition < PARTITIONS)
}

// A whole key: database, name and state; no state: nothing is left of it.
fn take_whole<'a>(
    realm: &Realm,
    mut value: &'a [u8],
    origin: &impl Fn(u16) -> Option<OriginIdx>,
    databases: usize,
) -> Option<(Db, &'a [u8], KeyState)> {
    let input = &mut value;
    let db = Db(u16::try_from(take_varint(input)?).ok().filter(|&db| usize::from(db) < databases)?);
    let key = take_bytes(input)?;
    let state = if input.is_empty() { KeyState::default() } else { decode(realm, input, origin)? };
    value.is_empty().then_some((db, key, state))
}

fn put_whole(shard: &mut Shard, value: &[u8], origin: &impl Fn(u16) -> Option<OriginIdx>) -> Option<()> {
    let mut input = value;
    take_varint(&mut input)?;
    if owns(shard, take_bytes(&mut input)?) {
        let realm = Arc::clone(shard.realm());
        let (db, key, state) = take_whole(&realm, value, origin, shard.keys.databases())?;
        replace(shard, &realm, db, key, state);
    }
    Some(())
}

fn put_key(
    shard: &mut Shard,
    key: &Key<'_>,
    origin: &impl Fn(u16) -> Option<OriginIdx>,
    now: Now,
    loaded: &mut Loaded,
) -> Option<()> {
    if !owns(shard, key.key) {
        return Some(());
    }
    if let Some(bytes) = key.state {
        let realm = Arc::clone(shard.realm());
        let state = state::take(&realm, bytes, &key.value, origin)?;
        replace(shard, &realm, key.db, key.key, state);
    } else if key.deadline.is_some_and(|at| at <= now.wall_ms) {
        loaded.expired += 1;
        return Some(());
    } else {
        put_foreign(shard, key, now);
    }
    loaded.keys += 1;
    Some(())
}

fn owns(shard: &Shard, key: &[u8]) -> bool {
    shard.map.owner(slot_of(key).partition()) == shard.id
}

// What comes later in a file is the whole truth about a key; joining it with what came before could revive what was
// forgotten between the two.
fn replace(shard: &mut Shard, realm: &Realm, db: Db, key: &[u8], mut state: KeyState) {
    let key = KeyRef::new(realm, key);
    let floor = shard.keys.flushed(db, usize::from(key.slot.partition().0));
    if !floor.is_zero() {
        state.flush(realm, floor);
    }
    shard.keys.update(db, &key, |known| {
        *known = state;
        true
    });
}

// Data without stamps is stamped on arrival.
fn put_foreign(shard: &mut Shard, key: &Key<'_>, now: Now) {
    let name = shard.key(key.key);
    let fields = match key.value {
        Plain::String(value) => {
            let deadline = key.deadline.map_or(SetDeadline::Clear, SetDeadline::At);
            return shard.set(key.db, &name, value, deadline, now);
        }
        Plain::Hash(fields) => fields,
    };
    let mut writes = smallvec::SmallVec::new();
    for (at, (field, value)) in fields.iter().enumerate() {
        writes.push(FieldWrite { name: field, value: Some(value), observed: Observations::new() });
        if writes.len() == FIELDS_AT_ONCE || at + 1 == fields.len() {
            shard.apply_local(key.db, &name, &Op::Fields { fields: std::mem::take(&mut writes) }, now);
        }
    }
    if let Some(at) = key.deadline {
        shard.set_deadline(key.db, &name, Some(at), now);
    }
}
