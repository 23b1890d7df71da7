//! The bytes of an RDB file, appended to a buffer.

use super::{RDB_VERSION, aux, opcode};
use crate::merge::op::put_varint;
use crate::merge::origins::{OriginId, OriginIdx, Origins};

/// Appends a length as Redis packs it.
pub fn length(out: &mut Vec<u8>, length: usize) {
    match length {
        0..64 => out.push(length as u8),
        64..16384 => out.extend_from_slice(&[0x40 | (length >> 8) as u8, length as u8]),
        _ => match u32::try_from(length) {
            Ok(length) => {
                out.push(0x80);
                out.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                out.push(0x81);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        },
    }
}

/// Appends a string.
pub fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends an AUX field.
pub fn aux(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(opcode::AUX);
    string(out, name);
    string(out, value);
}

/// Appends the choice of a database.
pub fn select(out: &mut Vec<u8>, db: u16) {
    out.push(opcode::SELECTDB);
    length(out, usize::from(db));
}

/// What a file's head says of the node.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    /// Seconds since 1970.
    pub time_s: u64,
    /// Bytes in use.
    pub memory_bytes: usize,
    /// The run that writes.
    pub own: OriginId,
    /// Keys, and keys with a deadline, by database.
    pub keys: &'a [(usize, usize)],
}

/// Appends the head of a file, without origins.
pub fn head(out: &mut Vec<u8>, head: &Head<'_>) {
    out.extend_from_slice(format!("REDIS{RDB_VERSION:04}").as_bytes());
    // redis-server only logs it.
    aux(out, b"redis-ver", b"7.0.15");
    aux(out, b"redis-bits", b"64");
    aux(out, b"ctime", head.time_s.to_string().as_bytes());
    aux(out, b"used-mem", head.memory_bytes.to_string().as_bytes());
    aux(out, b"aof-base", b"0");
    aux(out, aux::FORMAT, super::FORMAT.to_string().as_bytes());
    aux(out, aux::NODE, format!("{} {}", head.own.node, head.own.incarnation).as_bytes());
    for (db, &(keys, deadlines)) in head.keys.iter().enumerate().filter(|(_, (keys, _))| *keys > 0) {
        select(out, db as u16);
        out.push(opcode::RESIZEDB);
        length(out, keys);
        length(out, deadlines.min(keys));
    }
}

/// Appends the origins from index `from` on; returns how many are known now.
pub fn origins(out: &mut Vec<u8>, origins: &Origins, from: usize) -> usize {
    let end = origins.count();
    if end > from {
        let mut value = Vec::new();
        put_varint(&mut value, from as u64);
        put_varint(&mut value, (end - from) as u64);
        for index in from..end {
            let id = origins.id(OriginIdx(index as u16));
            value.extend_from_slice(&id.node.0);
            put_varint(&mut value, id.incarnation);
        }
        aux(out, aux::ORIGINS, &value);
    }
    end.max(from)
}
