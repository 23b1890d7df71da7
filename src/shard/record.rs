//! One write as it is logged and sent: who, when, where, what.
//!
//! ```text
//! u32 length of what follows | u64 partition << 56 | reading | u16 origin | varint db | key | op
//! ```
//! Numbers are little-endian; `key` is a varint length and the bytes. The origin (and those inside an op) are local
//! indices of the node that wrote the bytes; a link's dictionary turns them into the receiver's. The head can be read
//! without the body, so a receiver deals records to their owners undecoded.

use crate::base::ids::{Db, Partition};
use crate::merge::op::{Op, put_bytes, put_varint, take_bytes, take_varint};
use crate::merge::origins::OriginIdx;
use crate::merge::stamp::{Hlc, Stamp};

/// Bytes before the body.
pub const HEAD_BYTES: usize = 14;

/// A flush of every database names this one.
pub const EVERY_DB: Db = Db(u16::MAX);

const PARTITION_SHIFT: u32 = 56;

/// What can be read of a record without decoding it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Length of the whole record.
    pub bytes: usize,
    /// Which stream.
    pub partition: Partition,
    /// The writer's index of the origin.
    pub origin: u16,
    /// When.
    pub hlc: Hlc,
}

/// The body of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Body<'a> {
    /// Which database.
    pub db: Db,
    /// Empty for a flush.
    pub key: &'a [u8],
    /// What happened to it.
    pub op: Op<'a>,
}

/// Appends a record.
pub fn encode(out: &mut Vec<u8>, partition: Partition, stamp: Stamp, db: Db, key: &[u8], op: &Op<'_>) {
    let start = out.len();
    let mut head = [0u8; HEAD_BYTES];
    let word = (u64::from(partition.0) << PARTITION_SHIFT) | stamp.hlc().0;
    head[4..12].copy_from_slice(&word.to_le_bytes());
    head[12..14].copy_from_slice(&stamp.origin().0.to_le_bytes());
    out.extend_from_slice(&head);
    put_varint(out, u64::from(db.0));
    put_bytes(out, key);
    op.encode(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Reads the head of the first record in `bytes`; `None` when the whole record is not there.
#[inline]
pub fn head(bytes: &[u8]) -> Option<Head> {
    let (head, _) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize + 4;
    if length < HEAD_BYTES || length > bytes.len() {
        return None;
    }
    let word = u64::from_le_bytes([head[4], head[5], head[6], head[7], head[8], head[9], head[10], head[11]]);
    if word & ((1 << PARTITION_SHIFT) - 1) > Hlc::MAX.0 {
        return None;
    }
    Some(Head {
        bytes: length,
        partition: Partition((word >> PARTITION_SHIFT) as u8),
        origin: u16::from_le_bytes([head[12], head[13]]),
        hlc: Hlc(word & ((1 << PARTITION_SHIFT) - 1)),
    })
}

/// Reads no further than the key of a whole record. `None`: malformed.
#[inline]
pub fn key(record: &[u8]) -> Option<(Db, &[u8])> {
    let mut input = record.get(HEAD_BYTES..)?;
    let db = Db(u16::try_from(take_varint(&mut input)?).ok()?);
    Some((db, take_bytes(&mut input)?))
}

/// Reads the body of a whole record. `origin` turns the writer's origin indices into ours. `None`: malformed.
pub fn body<'a>(record: &'a [u8], origin: &impl Fn(u16) -> Option<OriginIdx>) -> Option<Body<'a>> {
    let mut input = record.get(HEAD_BYTES..)?;
    let db = Db(u16::try_from(take_varint(&mut input)?).ok()?);
    let key = take_bytes(&mut input)?;
    Some(Body { db, key, op: Op::decode(input, origin)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back() {
        let mut bytes = Vec::new();
        let stamp = Stamp::new(Hlc(0x000f_ffff_ffff_fff0), OriginIdx(7));
        encode(&mut bytes, Partition(255), stamp, Db(3), b"key", &Op::set(b"value"));
        let read = head(&bytes).expect("whole");
        assert_eq!((read.bytes, read.partition, read.origin, read.hlc), (bytes.len(), Partition(255), 7, stamp.hlc()));
        let read = body(&bytes, &|index| Some(OriginIdx(index))).expect("well formed");
        assert_eq!(read, Body { db: Db(3), key: b"key", op: Op::set(b"value") });
        assert_eq!(key(&bytes), Some((Db(3), &b"key"[..])));
        assert_eq!(head(&bytes[..bytes.len() - 1]), None);
    }
}
