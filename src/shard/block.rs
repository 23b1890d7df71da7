//! Frames of a link after its handshake.
//!
//! ```text
//! u32 length of kind and payload | u32 CRC-32 of them | u8 kind | payload
//! ```
//! TCP's own checksum misses about one damaged segment in 65,536; a block that does not match ends the link, and
//! everything not acknowledged is sent again.

/// Bytes before the kind.
pub const HEAD_BYTES: usize = 8;

/// No block is larger: a length beyond this is damage or a stranger. Larger than the largest value plus its key.
pub const BLOCK_BYTES_MAX: usize = 1 << 31;

/// What a block holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Origins behind the sender's indices.
    Dictionary = 1,
    /// Records, one after another.
    Records = 2,
    /// What a member has applied (the sender, or one it has heard of), and its promise.
    Versions = 3,
    /// All of the sender's versions were said; stream from here (reader to writer, once).
    Start = 4,
    /// Origins the reader hears directly and does not want here.
    Interest = 5,
    /// Partitions the writer cannot stream, because they fell behind its backlog.
    Behind = 6,
    /// A partition to be merged whole.
    Pull = 7,
    /// A whole partition begins.
    FullBegin = 8,
    /// Keys of it.
    FullKeys = 9,
    /// A slot of it is complete.
    FullSlot = 10,
    /// It is complete.
    FullEnd = 11,
    /// A sign of life: what the sender's clock says, a number to be said back, and the last such number it has heard.
    Heartbeat = 12,
    /// The members the sender knows.
    Members = 13,
    /// The reader shall say at once what it has applied of what came before this.
    Acknowledge = 14,
    /// Comparing data (`peer::verify`); only to ends that announced the feature.
    Verify = 15,
    /// Who was forgotten, and who is back (`shard::standing`).
    Standings = 16,
    /// The reader does not want this link after all (reader to writer, instead of `Start`): why, as text.
    Refused = 17,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        const KINDS: [Kind; 17] = [
            Kind::Dictionary,
            Kind::Records,
            Kind::Versions,
            Kind::Start,
            Kind::Interest,
            Kind::Behind,
            Kind::Pull,
            Kind::FullBegin,
            Kind::FullKeys,
            Kind::FullSlot,
            Kind::FullEnd,
            Kind::Heartbeat,
            Kind::Members,
            Kind::Acknowledge,
            Kind::Verify,
            Kind::Standings,
            Kind::Refused,
        ];
        KINDS.get(usize::from(byte).checked_sub(1)?).copied()
    }
}

/// Appends a block whose payload `write` appends.
pub fn put(out: &mut Vec<u8>, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    out.push(kind as u8);
    write(out);
    let body = &out[start + HEAD_BYTES..];
    let (length, crc) = (body.len() as u32, crc32fast::hash(body));
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// What the front of a buffer holds.
#[derive(PartialEq, Eq, Debug)]
pub enum Front<'a> {
    /// A whole block, and how many bytes it took.
    Block(Kind, &'a [u8], usize),
    /// Not all of it yet.
    Incomplete,
    /// Not a block of ours.
    Damaged,
}

/// Looks at the front of a buffer.
pub fn front(bytes: &[u8]) -> Front<'_> {
    let Some((head, _)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return Front::Incomplete };
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let crc = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    if length == 0 || length > BLOCK_BYTES_MAX {
        return Front::Damaged;
    }
    let Some(body) = bytes.get(HEAD_BYTES..HEAD_BYTES + length) else { return Front::Incomplete };
    match Kind::from_byte(body[0]) {
        Some(kind) if crc32fast::hash(body) == crc => Front::Block(kind, &body[1..], HEAD_BYTES + length),
        _ => Front::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_reads_back_and_damage_is_seen() {
        let mut bytes = Vec::new();
        put(&mut bytes, Kind::Records, |out| out.extend_from_slice(b"payload"));
        assert_eq!(front(&bytes), Front::Block(Kind::Records, b"payload", bytes.len()));
        for cut in 0..bytes.len() {
            assert_eq!(front(&bytes[..cut]), Front::Incomplete);
        }
        bytes[10] ^= 1;
        assert_eq!(front(&bytes), Front::Damaged);
    }
}
