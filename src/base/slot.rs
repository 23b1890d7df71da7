//! Key -> slot -> partition -> shard.
//!
//! Slots are Redis Cluster's (CRC16 of the key, or of its hash tag), so `CLUSTER KEYSLOT` and every cluster
//! client agree with us. Shards own contiguous runs of partitions, computed from the number of cores alone.

use super::ids::{PARTITIONS, Partition, SLOTS_PER_PARTITION, ShardId, Slot};

/// The slot of a key: CRC16/XMODEM of the part between the first `{` and the next `}` when that part is not empty,
/// else of the whole key (Redis Cluster specification, "Hash tags").
#[inline]
pub fn slot_of(key: &[u8]) -> Slot {
    Slot(crc16(hash_tag(key)) & 0x3fff)
}

impl Slot {
    /// The partition this slot belongs to.
    pub fn partition(self) -> Partition {
        Partition((self.0 as usize / SLOTS_PER_PARTITION) as u8)
    }
}

impl Partition {
    /// The first of its 64 slots.
    pub fn first_slot(self) -> Slot {
        Slot(u16::from(self.0) * SLOTS_PER_PARTITION as u16)
    }
}

/// How the partitions are dealt to the cores of this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardMap {
    shards: u16,
}

impl ShardMap {
    /// A node with `shards` cores, 1 to 256.
    pub fn new(shards: u16) -> Self {
        assert!((1..=PARTITIONS as u16).contains(&shards), "{shards} shards, but a node has 1 to 256");
        Self { shards }
    }

    /// How many shards there are.
    pub fn count(self) -> u16 {
        self.shards
    }

    /// The shard that owns a partition.
    pub fn owner(self, partition: Partition) -> ShardId {
        ShardId((usize::from(partition.0) * usize::from(self.shards) / PARTITIONS) as u16)
    }

    /// The shard that owns a key.
    pub fn owner_of_key(self, key: &[u8]) -> ShardId {
        if self.shards == 1 {
            return ShardId(0);
        }
        self.owner(slot_of(key).partition())
    }

    /// The run of partitions a shard owns: first, and one past the last.
    pub fn range(self, shard: ShardId) -> (usize, usize) {
        let start = |s: usize| (s * PARTITIONS).div_ceil(usize::from(self.shards));
        (start(usize::from(shard.0)), start(usize::from(shard.0) + 1))
    }
}

#[inline]
fn hash_tag(key: &[u8]) -> &[u8] {
    if !has_brace(key) {
        return key;
    }
    let Some(open) = key.iter().position(|&b| b == b'{') else { return key };
    let rest = &key[open + 1..];
    match rest.iter().position(|&b| b == b'}') {
        Some(0) | None => key,
        Some(close) => &rest[..close],
    }
}

// Whether there may be a `{`: eight bytes at a time, because nearly no key has one.
#[inline]
fn has_brace(key: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (words, rest) = key.as_chunks::<8>();
    let is_in = |word: &[u8; 8]| {
        let zero_where_brace = u64::from_ne_bytes(*word) ^ (ONES * b'{' as u64);
        zero_where_brace.wrapping_sub(ONES) & !zero_where_brace & (ONES << 7) != 0
    };
    words.iter().any(is_in) || rest.contains(&b'{')
}

// Eight bytes a step, of which only the first two look-ups wait for the step before. Measured on 16-byte keys against
// two bytes a step: 6 ns instead of 20.
fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    let (words, rest) = bytes.as_chunks::<8>();
    for &[a, b, rest @ ..] in words {
        let head = TABLES[7][usize::from((crc >> 8) as u8 ^ a)] ^ TABLES[6][usize::from(crc as u8 ^ b)];
        crc = (0..6).fold(head, |crc, at| crc ^ TABLES[5 - at][usize::from(rest[at])]);
    }
    let (pairs, last) = rest.as_chunks::<2>();
    for &[a, b] in pairs {
        crc = TABLES[1][usize::from((crc >> 8) as u8 ^ a)] ^ TABLES[0][usize::from(crc as u8 ^ b)];
    }
    for &byte in last {
        crc = (crc << 8) ^ TABLES[0][usize::from((crc >> 8) as u8 ^ byte)];
    }
    crc
}

// The remainder of each byte followed by as many zero bytes as the table's index says.
static TABLES: [[u16; 256]; 8] = tables();

const fn tables() -> [[u16; 256]; 8] {
    let mut tables = [[0u16; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[zeros - 1][byte];
            tables[zeros][byte] = (crc << 8) ^ tables[0][(crc >> 8) as usize];
            byte += 1;
        }
        zeros += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"foo"), Slot(12182));
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
        assert_eq!(slot_of(b"foo{}{bar}"), Slot(crc16(b"foo{}{bar}") & 0x3fff));
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
        assert_eq!(slot_of(b""), Slot(0));
    }

    #[test]
    fn long_keys_give_the_same_remainder_as_byte_by_byte() {
        let key: Vec<u8> = (0..100u8).map(|n| n.wrapping_mul(37)).collect();
        for from in 0..9 {
            for to in from..key.len() {
                let slow = key[from..to]
                    .iter()
                    .fold(0u16, |crc, &byte| (crc << 8) ^ TABLES[0][usize::from((crc >> 8) as u8 ^ byte)]);
                assert_eq!(crc16(&key[from..to]), slow);
                assert_eq!(has_brace(&key[from..to]), key[from..to].contains(&b'{'));
            }
        }
    }

    #[test]
    fn every_partition_has_exactly_the_owner_whose_range_holds_it() {
        for shards in 1..=256u16 {
            let map = ShardMap::new(shards);
            for shard in 0..shards {
                let (from, to) = map.range(ShardId(shard));
                assert!(from < to);
                for partition in from..to {
                    assert_eq!(map.owner(Partition(partition as u8)), ShardId(shard));
                }
            }
            assert_eq!(map.range(ShardId(shards - 1)).1, PARTITIONS);
        }
    }
}
