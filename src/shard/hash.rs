//! Hashes as commands see them: live fields only, and writes that build the effect a peer would be sent.
//!
//! A write looks the key up twice: once to decide (type, deadline, which fields exist, what their counters hold), once
//! to apply. HSET of one field first tries to do both at once (`keyspace::hot`).

use hashbrown::HashTable;
use smallvec::{SmallVec, smallvec};

use super::write::{Found, NotAdded, Value, visible};
use super::{Shard, mint};
use crate::base::ids::Db;
use crate::base::rng::Rng;
use crate::base::time::Now;
use crate::mem::entry::View;
use crate::merge::cell::Visible;
use crate::merge::hash::{Field, Hash};
use crate::merge::op::{FieldWrite, Observations, Op, SetDeadline};
use crate::merge::realm::Realm;
use crate::merge::total::Total;
use crate::store::keyspace::{KeyRef, Packed, deadline_of};

/// Up to so many fields of one command are compared one by one to find the same name twice.
const COMPARED_MAX: usize = 16;

/// The key holds another type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongType;

/// A hash that exists: what a reader sees of it.
#[derive(Clone, Copy)]
pub struct HashView<'a> {
    realm: &'a Realm,
    hash: &'a Hash,
}

type FieldWrites<'f> = SmallVec<[FieldWrite<'f>; 1]>;

impl<'a> HashView<'a> {
    /// How many fields there are; at least one.
    #[allow(clippy::len_without_is_empty, reason = "a hash without fields does not exist")]
    pub fn len(&self) -> usize {
        self.hash.len()
    }

    /// The value of a field.
    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<Value<'a>> {
        field_value(self.hash.find(self.realm, name)?)
    }

    /// All fields; small hashes in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> + use<'a> {
        self.hash.iter().filter_map(|field| Some((field.key(), field_value(field)?)))
    }

    /// One step of a scan, passing about `count` fields; see [`Hash::scan`].
    pub fn scan(&self, cursor: u64, count: usize, mut each: impl FnMut(&[u8], Value<'_>)) -> u64 {
        self.hash.scan(self.realm, cursor, count, |field| {
            if let Some(value) = field_value(field) {
                each(field.key(), value);
            }
        })
    }

    /// A field picked by chance, each about as likely as any other.
    pub fn sample(&self, rng: &mut Rng) -> (&'a [u8], Value<'a>) {
        // Memories of deleted fields may outnumber the live ones: then one walk is cheaper than many misses.
        for _ in 0..SAMPLE_TRIES {
            let Some(field) = self.hash.sample(rng) else { break };
            if let Some(value) = field_value(field) {
                return (field.key(), value);
            }
        }
        let at = rng.below(self.len() as u64) as usize;
        self.iter().nth(at).expect("a hash that exists has as many live fields as it counts")
    }

    /// Whether at most `entries_max` fields have names and values of at most `bytes_max` bytes: Redis would keep such
    /// a hash as a listpack.
    pub fn is_compact(&self, entries_max: usize, bytes_max: usize) -> bool {
        self.len() <= entries_max
            && self.iter().all(|(name, value)| {
                let value_bytes = match value {
                    Value::Bytes(bytes) => bytes.len(),
                    _ => 0,
                };
                name.len().max(value_bytes) <= bytes_max
            })
    }

    /// Heap bytes, estimated from the first `samples` fields (0: all).
    pub fn heap_bytes(&self, samples: usize) -> usize {
        size_of::<Hash>() + self.hash.heap_bytes_sampled(samples)
    }
}

/// Picks among live and deleted fields before [`HashView::sample`] walks.
const SAMPLE_TRIES: usize = 32;

impl Shard {
    /// The hash at `key`; counts a hit or a miss.
    #[inline]
    pub fn read_hash(&mut self, db: Db, key: &KeyRef<'_>, now: Now) -> Result<Option<HashView<'_>>, WrongType> {
        let time_ms = self.time_ms(now);
        let Self { keys, realm, stats, .. } = self;
        let found = keys.find(db, key).and_then(|entry| visible(realm, entry, time_ms));
        match found {
            Some(_) => stats.hits += 1,
            None => stats.misses += 1,
        }
        as_hash(realm, found)
    }

    /// The hash at `key`, without counting.
    pub fn peek_hash(&self, db: Db, key: &KeyRef<'_>, now: Now) -> Result<Option<HashView<'_>>, WrongType> {
        as_hash(&self.realm, self.peek(db, key, now))
    }

    /// HSET: writes fields of a key that is absent or a hash; a name given twice gets its last value. Returns how
    /// many did not exist.
    pub fn hset<'f>(
        &mut self,
        db: Db,
        key: &KeyRef<'_>,
        mut fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])>,
        now: Now,
    ) -> Result<usize, WrongType> {
        if fields.len() != 1 {
            return self.hset_after_look(db, key, fields, now);
        }
        let field = fields.next().expect("there is one");
        let last = self.last_of(key);
        match self.keys.set_field_over(db, key, field, mint(&mut self.clock, now, last, self.drift_ms_max)) {
            Some((stamp, is_new)) => {
                let (name, value) = field;
                let write = FieldWrite { name, value: Some(value), observed: Observations::new() };
                self.applied(db, key, stamp, &Op::Fields { fields: smallvec![write] });
                Ok(usize::from(is_new))
            }
            None => self.hset_after_look(db, key, std::iter::once(field), now),
        }
    }

    // HSET of several fields, or of a key of which something must be observed.
    fn hset_after_look<'f>(
        &mut self,
        db: Db,
        key: &KeyRef<'_>,
        fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])>,
        now: Now,
    ) -> Result<usize, WrongType> {
        let mut found = self.keys.find(db, key);
        if found.is_some_and(|entry| deadline_of(entry).is_some()) {
            self.start_over_if_gone(db, key, now);
            found = self.keys.find(db, key);
        }
        let (known, exists) = writable(&self.realm, found, self.time_ms(now))?;
        let mut writes = Writes::new(&self.realm, fields.len());
        let mut added = 0;
        for (name, value) in fields {
            if let Some(twice) = writes.find(name) {
                twice.value = Some(value);
                continue;
            }
            let field = known.and_then(|hash| hash.find(&self.realm, name));
            added += usize::from(!exists || field.and_then(field_value).is_none());
            writes.push(FieldWrite { name, value: Some(value), observed: observations(field) });
        }
        let op = Op::Fields { fields: writes.list };
        self.apply_local(db, key, &op, now);
        Ok(added)
    }

    /// HDEL: deletes those of the fields that exist. Returns how many; no write is made for none. A hash that loses
    /// its last field no longer exists.
    pub fn hdel<'f>(
        &mut self,
        db: Db,
        key: &KeyRef<'_>,
        names: impl ExactSizeIterator<Item = &'f [u8]>,
        now: Now,
    ) -> Result<usize, WrongType> {
        let Some(known) = self.peek_hash(db, key, now)? else { return Ok(0) };
        let mut writes = Writes::new(&self.realm, names.len());
        for name in names {
            let field = known.hash.find(&self.realm, name);
            if field.and_then(field_value).is_some() && writes.find(name).is_none() {
                writes.push(FieldWrite { name, value: None, observed: observations(field) });
            }
        }
        let removed = writes.list.len();
        if removed == 0 {
            return Ok(0);
        }
        let emptied = known.len() == removed;
        let op = Op::Fields { fields: writes.list };
        self.apply_local(db, key, &op, now);
        // What a lost clash of types left behind must not come to light.
        if emptied && self.peek(db, key, now).is_some() {
            self.clear(db, key, now);
        } else if emptied && self.keys.find(db, key).and_then(deadline_of).is_some_and(|known| known.at.is_some()) {
            // The deadline ends with the key. Only it is taken back: others may have added fields meanwhile.
            self.set_deadline(db, key, None, now);
        }
        Ok(removed)
    }

    /// HINCRBY: adds to a field that is absent or holds an integer. Returns the new value.
    pub fn hincr(&mut self, db: Db, key: &KeyRef<'_>, name: &[u8], by: i64, now: Now) -> Result<i64, NotAdded> {
        self.start_over_if_gone(db, key, now);
        let found = self.peek_hash(db, key, now).map_err(|WrongType| NotAdded::WrongType)?;
        let known = match found.and_then(|hash| hash.get(name)) {
            // Adding nothing to what exists changes nothing.
            Some(value) if by == 0 => return value.as_integer().ok_or(NotAdded::NotANumber),
            Some(value) => value.as_integer().ok_or(NotAdded::NotANumber)?,
            None => 0,
        };
        let sum = known.checked_add(by).ok_or(NotAdded::Overflow)?;
        if !self.add(db, key, Some(name), Total::Int(by), now) {
            let mut text = itoa::Buffer::new();
            let field = [(name, text.format(sum).as_bytes())];
            self.hset(db, key, field.into_iter(), now).map_err(|WrongType| NotAdded::WrongType)?;
        }
        Ok(sum)
    }

    /// HINCRBYFLOAT: adds exactly to a field that is absent or holds a decimal. Returns the new value in units of
    /// 10^-17. `None`: the numbers are beyond exact decimals; the caller computes and calls [`Shard::hset`].
    pub fn hincr_exact(
        &mut self,
        db: Db,
        key: &KeyRef<'_>,
        name: &[u8],
        by: Total,
        now: Now,
    ) -> Result<Option<i128>, WrongType> {
        self.start_over_if_gone(db, key, now);
        let known = match self.peek_hash(db, key, now)?.and_then(|hash| hash.get(name)) {
            None => 0,
            Some(Value::Number(fixed)) => fixed,
            Some(value) => match value.text().and_then(Total::parse) {
                Some(total) => total.fixed(),
                None => return Ok(None),
            },
        };
        let sum = known.saturating_add(by.fixed());
        Ok((Total::in_range(sum) && self.add(db, key, Some(name), by, now)).then_some(sum))
    }

    /// Writes a hash with these fields where nothing is to be seen, with its deadline: how RENAME and COPY move one.
    pub fn set_hash(
        &mut self,
        db: Db,
        key: &KeyRef<'_>,
        fields: &[(Vec<u8>, Vec<u8>)],
        deadline: SetDeadline,
        now: Now,
    ) {
        /// Bounds a record; a link applies one without a pause.
        const FIELDS_MAX: usize = 1024;
        self.del(db, key, now);
        for chunk in fields.chunks(FIELDS_MAX) {
            let fields = chunk.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
            self.hset(db, key, fields, now).expect("what was there has been deleted");
        }
        if let SetDeadline::At(at) = deadline {
            self.set_deadline(db, key, Some(at), now);
        }
    }
}

/// The fields one command writes, each name once.
struct Writes<'r, 'f> {
    realm: &'r Realm,
    list: FieldWrites<'f>,
    /// Places in the list by name, for long lists only.
    index: Option<HashTable<usize>>,
}

impl<'r, 'f> Writes<'r, 'f> {
    fn new(realm: &'r Realm, count: usize) -> Self {
        let index = (count > COMPARED_MAX).then(|| HashTable::with_capacity(count));
        Self { realm, list: SmallVec::with_capacity(count), index }
    }

    fn find(&mut self, name: &[u8]) -> Option<&mut FieldWrite<'f>> {
        let at = match &self.index {
            None => self.list.iter().position(|write| write.name == name)?,
            Some(index) => *index.find(self.realm.hash(name), |&at| self.list[at].name == name)?,
        };
        Some(&mut self.list[at])
    }

    fn push(&mut self, write: FieldWrite<'f>) {
        let (realm, list) = (self.realm, &self.list);
        if let Some(index) = &mut self.index {
            index.insert_unique(realm.hash(write.name), list.len(), |&at| realm.hash(list[at].name));
        }
        self.list.push(write);
    }
}

/// What a reader sees of a packed hash field; `None` when it is deleted.
#[inline]
pub fn field_value(field: &Field) -> Option<Value<'_>> {
    match field.view() {
        View::Plain { value, .. } => Some(Value::Bytes(value)),
        View::Tombstone { .. } => None,
        View::Rich(cell) => match cell.visible() {
            Visible::Absent => None,
            Visible::Bytes(bytes) => Some(Value::Bytes(bytes)),
            Visible::Number(fixed) => Some(Value::Number(fixed)),
        },
    }
}

#[inline]
fn as_hash<'a>(realm: &'a Realm, found: Option<Found<'a>>) -> Result<Option<HashView<'a>>, WrongType> {
    match found.map(|found| found.value) {
        None => Ok(None),
        Some(Value::Hash(hash)) => Ok(Some(HashView { realm, hash })),
        Some(_) => Err(WrongType),
    }
}

// The fields kept at a key that a hash command may write, deleted ones included, and whether a reader sees any.
#[inline]
fn writable<'a>(realm: &Realm, entry: Option<&'a Packed>, time_ms: u64) -> Result<(Option<&'a Hash>, bool), WrongType> {
    let Some(entry) = entry else { return Ok((None, false)) };
    match (visible(realm, entry, time_ms).map(|found| found.value), entry.view()) {
        (Some(Value::Hash(hash)), _) => Ok((Some(hash), true)),
        (Some(_), _) => Err(WrongType),
        (None, View::Rich(state)) => Ok((state.hash.as_deref(), false)),
        (None, _) => Ok((None, false)),
    }
}

// What a write of the field has seen of its counters.
fn observations(field: Option<&Field>) -> Observations {
    match field.map(|field| field.view()) {
        Some(View::Rich(cell)) => cell.observations(),
        _ => Observations::new(),
    }
}
