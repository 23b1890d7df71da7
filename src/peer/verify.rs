//! What nodes say to each other to compare their data: payloads of `Kind::Verify` blocks, between nodes that both
//! announced the feature (`handshake::VERIFY`).
//!
//! The one that asks keeps all state; the one asked answers each message from what it holds at that moment. Every
//! message concerns one partition and begins with it, so that it can be dealt to its owner undecoded. Slots and keys go
//! by numbers of 64 bits (`merge::digest`). `None` from a reader: malformed.

use crate::base::ids::{Partition, Slot};
use crate::merge::op::{put_bytes, put_varint, take_bytes, take_varint};
use crate::merge::stamp::Hlc;
use crate::shard::compare::{Level, Listed, Weights};

/// Which comparison of the asking node a message belongs to: the core that began it, and its count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RunId {
    /// The core.
    pub core: u16,
    /// Its count.
    pub number: u64,
}

/// A message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Of which everything in it is.
    pub partition: Partition,
    /// For whom the answer is.
    pub run: RunId,
    /// What is asked or answered.
    pub body: Body,
}

/// On what terms keys are weighed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Deadlines up to this Unix millisecond are over.
    pub over_ms: u64,
    /// Only this many databases count: the least of what both have.
    pub databases: u16,
}

/// What one side holds of a key: database, key and state (`shard::state`).
pub type Held = (u16, Vec<u8>, Vec<u8>);

/// A key to be repaired.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repair {
    /// Which.
    pub id: u64,
    /// What the other side had counted for it when it was found to differ. If that has changed, nothing is done.
    pub expected: Weights,
    /// What we hold; `None`: nothing.
    pub ours: Option<Held>,
}

/// What a repair came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repaired {
    /// Which.
    pub id: u64,
    /// It was still as expected, ours has been joined, and this is what is there now.
    pub theirs: Option<Held>,
}

/// A place in what happens to a partition (`shard::compare::Position`), by the writer's indices of origins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// Writes up to these have been applied.
    pub versions: Vec<(u16, Hlc)>,
    /// Deadlines up to this Unix millisecond have passed.
    pub passed_ms: u64,
}

/// What do the slots of a partition count for?
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SumsAsked {
    /// Names the question.
    pub ask: u64,
    /// How closely.
    pub level: Level,
    /// Which slots.
    pub mask: u64,
    /// Only this many databases count.
    pub databases: u16,
    /// To be answered once this place has been reached.
    pub after: Place,
    /// Or after so many milliseconds.
    pub wait_ms: u64,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SumsTold {
    /// As asked.
    pub ask: u64,
    /// As asked.
    pub level: Level,
    /// Where the answering end was.
    pub at: Place,
    /// By slot asked for, or one for all ([`Level::Total`]).
    pub sums: Vec<Weights>,
    /// Slots of which the sums mean nothing.
    pub unsure: u64,
    /// How many slots' kept digests did not agree with their data.
    pub wrong: u64,
    /// How many databases were counted: what was asked for, or as many as there are.
    pub databases: u16,
}

/// See [`Message`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// What does the partition count for?
    AskSums(SumsAsked),
    /// Which keys does a slot hold whose ids are in this range (both ends included), and what do they count for?
    AskKeys(Terms, Slot, u64, u64),
    /// Join these states.
    AskRepair(Terms, Slot, Vec<Repair>),
    /// This.
    Sums(SumsTold),
    /// The keys.
    Keys {
        /// As asked.
        slot: Slot,
        /// As asked.
        from: u64,
        /// What was applied before the list was begun, by the writer's indices of origins.
        versions: Vec<(u16, Hlc)>,
        /// What beyond that may be in it.
        beyond: Vec<(u16, Hlc)>,
        /// The keys.
        keys: Vec<Listed>,
    },
    /// The ends of repairs.
    Repaired(Slot, Vec<Repaired>),
}

impl Message {
    /// Appends the payload.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.push(self.partition.0);
        let code = match &self.body {
            Body::AskSums(..) => 1,
            Body::AskKeys(..) => 2,
            Body::AskRepair(..) => 3,
            Body::Sums(..) => 4,
            Body::Keys { .. } => 5,
            Body::Repaired(..) => 6,
        };
        out.push(code);
        put_varint(out, u64::from(self.run.core));
        put_varint(out, self.run.number);
        match &self.body {
            Body::AskSums(asked) => {
                put_varint(out, asked.ask);
                out.push(asked.level as u8);
                put_word(out, asked.mask);
                put_varint(out, u64::from(asked.databases));
                put_varint(out, asked.wait_ms);
                put_place(out, &asked.after);
            }
            Body::AskKeys(terms, slot, from, to) => {
                put_terms(out, *terms);
                put_varint(out, u64::from(slot.0));
                put_word(out, *from);
                put_word(out, *to);
            }
            Body::AskRepair(terms, slot, repairs) => {
                put_terms(out, *terms);
                put_varint(out, u64::from(slot.0));
                for repair in repairs {
                    put_word(out, repair.id);
                    put_weights(out, repair.expected);
                    put_held(out, repair.ours.as_ref());
                }
            }
            Body::Sums(told) => {
                put_varint(out, told.ask);
                out.push(told.level as u8);
                put_word(out, told.unsure);
                put_varint(out, told.wrong);
                put_varint(out, u64::from(told.databases));
                put_place(out, &told.at);
                for sum in &told.sums {
                    put_word(out, sum.writes);
                    if told.level == Level::Data {
                        put_word(out, sum.contents);
                    }
                }
            }
            Body::Keys { slot, from, versions, beyond, keys } => {
                put_varint(out, u64::from(slot.0));
                put_word(out, *from);
                put_versions(out, versions);
                put_versions(out, beyond);
                for key in keys {
                    put_word(out, key.id);
                    put_weights(out, key.weights);
                }
            }
            Body::Repaired(slot, repaired) => {
                put_varint(out, u64::from(slot.0));
                for repaired in repaired {
                    put_word(out, repaired.id);
                    put_held(out, repaired.theirs.as_ref());
                }
            }
        }
    }

    /// Reads what [`Message::put`] wrote.
    pub fn take(mut input: &[u8]) -> Option<Self> {
        let input = &mut input;
        let partition = Partition(take_byte(input)?);
        let code = take_byte(input)?;
        let run = RunId { core: take_u16(input)?, number: take_varint(input)? };
        let body = match code {
            1 => Body::AskSums(SumsAsked {
                ask: take_varint(input)?,
                level: Level::from_byte(take_byte(input)?)?,
                mask: take_word(input)?,
                databases: take_u16(input)?,
                wait_ms: take_varint(input)?,
                after: take_place(input)?,
            }),
            2 => Body::AskKeys(take_terms(input)?, take_slot(input, partition)?, take_word(input)?, take_word(input)?),
            3 => {
                let (terms, slot) = (take_terms(input)?, take_slot(input, partition)?);
                let mut repairs = Vec::new();
                while !input.is_empty() {
                    let (id, expected) = (take_word(input)?, take_weights(input)?);
                    repairs.push(Repair { id, expected, ours: take_held(input)? });
                }
                Body::AskRepair(terms, slot, repairs)
            }
            4 => {
                let (ask, level) = (take_varint(input)?, Level::from_byte(take_byte(input)?)?);
                let (unsure, wrong, databases) = (take_word(input)?, take_varint(input)?, take_u16(input)?);
                let at = take_place(input)?;
                let mut sums = Vec::new();
                while !input.is_empty() {
                    let writes = take_word(input)?;
                    let contents = if level == Level::Data { take_word(input)? } else { 0 };
                    sums.push(Weights { writes, contents });
                }
                Body::Sums(SumsTold { ask, level, at, sums, unsure, wrong, databases })
            }
            5 => {
                let (slot, from) = (take_slot(input, partition)?, take_word(input)?);
                let (versions, beyond) = (take_versions(input)?, take_versions(input)?);
                let mut keys = Vec::with_capacity(input.len() / 24);
                while !input.is_empty() {
                    keys.push(Listed { id: take_word(input)?, weights: take_weights(input)? });
                }
                Body::Keys { slot, from, versions, beyond, keys }
            }
            6 => {
                let slot = take_slot(input, partition)?;
                let mut repaired = Vec::new();
                while !input.is_empty() {
                    repaired.push(Repaired { id: take_word(input)?, theirs: take_held(input)? });
                }
                Body::Repaired(slot, repaired)
            }
            _ => return None,
        };
        input.is_empty().then_some(Self { partition, run, body })
    }
}

fn put_word(out: &mut Vec<u8>, word: u64) {
    out.extend_from_slice(&word.to_le_bytes());
}

fn take_word(input: &mut &[u8]) -> Option<u64> {
    let (word, rest) = input.split_first_chunk::<8>()?;
    *input = rest;
    Some(u64::from_le_bytes(*word))
}

fn take_byte(input: &mut &[u8]) -> Option<u8> {
    let (&byte, rest) = input.split_first()?;
    *input = rest;
    Some(byte)
}

fn take_u16(input: &mut &[u8]) -> Option<u16> {
    u16::try_from(take_varint(input)?).ok()
}

fn take_slot(input: &mut &[u8], partition: Partition) -> Option<Slot> {
    let slot = Slot(take_u16(input)?);
    (usize::from(slot.0) < crate::base::ids::SLOTS && slot.partition() == partition).then_some(slot)
}

fn put_terms(out: &mut Vec<u8>, terms: Terms) {
    put_varint(out, terms.over_ms);
    put_varint(out, u64::from(terms.databases));
}

fn take_terms(input: &mut &[u8]) -> Option<Terms> {
    Some(Terms { over_ms: take_varint(input)?, databases: take_u16(input)? })
}

fn put_weights(out: &mut Vec<u8>, weights: Weights) {
    put_word(out, weights.writes);
    put_word(out, weights.contents);
}

fn take_weights(input: &mut &[u8]) -> Option<Weights> {
    Some(Weights { writes: take_word(input)?, contents: take_word(input)? })
}

fn put_versions(out: &mut Vec<u8>, versions: &[(u16, Hlc)]) {
    put_varint(out, versions.len() as u64);
    for (origin, hlc) in versions {
        put_varint(out, u64::from(*origin));
        put_varint(out, hlc.0);
    }
}

fn take_versions(input: &mut &[u8]) -> Option<Vec<(u16, Hlc)>> {
    let count = take_varint(input)?;
    (0..count).map(|_| Some((take_u16(input)?, Hlc(take_varint(input)?)))).collect()
}

fn put_place(out: &mut Vec<u8>, place: &Place) {
    put_versions(out, &place.versions);
    put_varint(out, place.passed_ms);
}

fn take_place(input: &mut &[u8]) -> Option<Place> {
    Some(Place { versions: take_versions(input)?, passed_ms: take_varint(input)? })
}

fn put_held(out: &mut Vec<u8>, held: Option<&Held>) {
    out.push(u8::from(held.is_some()));
    if let Some((db, key, state)) = held {
        put_varint(out, u64::from(*db));
        put_bytes(out, key);
        put_bytes(out, state);
    }
}

fn take_held(input: &mut &[u8]) -> Option<Option<Held>> {
    match take_byte(input)? {
        0 => Some(None),
        1 => Some(Some((take_u16(input)?, take_bytes(input)?.to_vec(), take_bytes(input)?.to_vec()))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> Vec<Message> {
        let (terms, weights) =
            (Terms { over_ms: 1_770_000_000_000, databases: 16 }, Weights { writes: u64::MAX, contents: 7 });
        let held = || Some((3, b"key".to_vec(), b"state".to_vec()));
        let versions = vec![(0, Hlc(1 << 50)), (4095, Hlc(1))];
        let at = Place { versions: versions.clone(), passed_ms: 1_770_000_000_000 };
        let (sums, level) = (vec![weights, weights], Level::Data);
        let told = SumsTold { ask: 300, level, at: at.clone(), sums, unsure: 1 << 9, wrong: 1, databases: 16 };
        let bodies = vec![
            Body::AskSums(SumsAsked {
                ask: 300,
                level: Level::Total,
                mask: 1 << 63 | 5,
                databases: 16,
                after: at.clone(),
                wait_ms: 2000,
            }),
            Body::AskKeys(terms, Slot(130), 1, u64::MAX),
            Body::AskRepair(
                terms,
                Slot(130),
                vec![
                    Repair { id: 1, expected: weights, ours: held() },
                    Repair { id: 2, expected: weights, ours: None },
                ],
            ),
            Body::Sums(SumsTold { level: Level::Kept, sums: vec![Weights { writes: 9, contents: 0 }], ..told.clone() }),
            Body::Sums(told),
            Body::Keys {
                slot: Slot(191),
                from: 5,
                beyond: versions[1..].to_vec(),
                versions,
                keys: vec![Listed { id: 6, weights }],
            },
            Body::Repaired(Slot(128), vec![Repaired { id: 1, theirs: held() }, Repaired { id: 2, theirs: None }]),
        ];
        let run = RunId { core: 3, number: 1 << 40 };
        bodies.into_iter().map(|body| Message { partition: Partition(2), run, body }).collect()
    }

    #[test]
    fn messages_read_back_and_what_is_cut_short_is_malformed() {
        for message in messages() {
            let mut bytes = Vec::new();
            message.put(&mut bytes);
            assert_eq!(Message::take(&bytes).as_ref(), Some(&message));
            for cut in 0..bytes.len() {
                assert_ne!(Message::take(&bytes[..cut]).as_ref(), Some(&message), "{message:?} at {cut}");
            }
        }
    }

    #[test]
    fn a_slot_of_another_partition_is_malformed() {
        let mut message = messages().remove(1);
        message.partition = Partition(3);
        let mut bytes = Vec::new();
        message.put(&mut bytes);
        assert_eq!(Message::take(&bytes), None);
    }
}
