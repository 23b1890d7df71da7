//! Payloads of blocks. All numbers are varints unless said; `None` from a reader: malformed.

use crate::base::ids::Uuid;
use crate::merge::op::{put_varint, take_varint};
use crate::merge::origins::OriginId;
use crate::merge::stamp::Hlc;

/// One number of a version vector as it travels: origin by the sender's index.
pub type Entry = (u16, u8, Hlc);

/// What a member has applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The member, and which run of it says so: a node that has lost data says less than its last run had.
    pub of: OriginId,
    /// It has masters configured that it has not met yet.
    pub has_strangers: bool,
    /// Its later writes carry readings above this one.
    pub promise: Hlc,
    /// Deadlines before this Unix millisecond are final there (`Keyspace::final_ms`).
    pub final_ms: u64,
    /// What has changed since the last row; its own origins' entries first.
    pub entries: Vec<Entry>,
}

/// Appends origins from index `first` on.
pub fn put_dictionary(out: &mut Vec<u8>, first: u16, ids: &[OriginId]) {
    put_varint(out, u64::from(first));
    for id in ids {
        put_origin(out, *id);
    }
}

/// Reads what [`put_dictionary`] wrote.
pub fn take_dictionary(mut input: &[u8]) -> Option<(u16, Vec<OriginId>)> {
    let first = u16::try_from(take_varint(&mut input)?).ok()?;
    let mut ids = Vec::new();
    while !input.is_empty() {
        ids.push(take_origin(&mut input)?);
    }
    Some((first, ids))
}

/// Appends a list of origins.
pub fn put_origins(out: &mut Vec<u8>, ids: &[OriginId]) {
    ids.iter().for_each(|id| put_origin(out, *id));
}

/// Reads what [`put_origins`] wrote.
pub fn take_origins(mut input: &[u8]) -> Option<Vec<OriginId>> {
    let mut ids = Vec::new();
    while !input.is_empty() {
        ids.push(take_origin(&mut input)?);
    }
    Some(ids)
}

/// Appends a row.
pub fn put_row(out: &mut Vec<u8>, row: &Row) {
    put_origin(out, row.of);
    out.push(u8::from(row.has_strangers));
    put_varint(out, row.promise.0);
    put_varint(out, row.final_ms);
    for (origin, partition, hlc) in &row.entries {
        put_varint(out, u64::from(*origin));
        out.push(*partition);
        put_varint(out, hlc.0);
    }
}

/// Reads what [`put_row`] wrote.
pub fn take_row(mut input: &[u8]) -> Option<Row> {
    let of = take_origin(&mut input)?;
    let (&has_strangers, rest) = input.split_first()?;
    input = rest;
    let promise = Hlc(take_varint(&mut input)?);
    let final_ms = take_varint(&mut input)?;
    let mut entries = Vec::new();
    while !input.is_empty() {
        let origin = u16::try_from(take_varint(&mut input)?).ok()?;
        let (&partition, rest) = input.split_first()?;
        input = rest;
        entries.push((origin, partition, Hlc(take_varint(&mut input)?)));
    }
    Some(Row { of, has_strangers: has_strangers != 0, promise, final_ms, entries })
}

/// Appends node ids.
pub fn put_nodes(out: &mut Vec<u8>, nodes: &[Uuid]) {
    nodes.iter().for_each(|node| out.extend_from_slice(&node.0));
}

/// Reads what [`put_nodes`] wrote.
pub fn take_nodes(mut input: &[u8]) -> Option<Vec<Uuid>> {
    let mut nodes = Vec::new();
    while !input.is_empty() {
        nodes.push(take_uuid(&mut input)?);
    }
    Some(nodes)
}

fn put_origin(out: &mut Vec<u8>, id: OriginId) {
    out.extend_from_slice(&id.node.0);
    out.extend_from_slice(&id.incarnation.to_le_bytes());
}

fn take_origin(input: &mut &[u8]) -> Option<OriginId> {
    let node = take_uuid(input)?;
    let (incarnation, rest) = input.split_first_chunk::<8>()?;
    *input = rest;
    Some(OriginId { node, incarnation: u64::from_le_bytes(*incarnation) })
}

fn take_uuid(input: &mut &[u8]) -> Option<Uuid> {
    let (uuid, rest) = input.split_first_chunk::<16>()?;
    *input = rest;
    Some(Uuid(*uuid))
}
