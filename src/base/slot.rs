//! Key -> slot -> partition -> shard.
//!
//! Slots are Redis Cluster's (CRC16 of the key, or of its hash tag), so `CLUSTER KEYSLOT` and every cluster
//! client agree with us. Shards own contiguous runs of partitions, computed from the number of cores alone.

use super::ids::{PARTITIONS, Partition, SLOTS_PER_PARTITION, ShardId, Slot};

/// The slot of a key: CRC16/XMODEM of the part between the first `{` and the next `}` when that part is not empty,
/// else of the whole key (Redis Cluster specification, "Hash tags").
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

fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&b| b == b'{') else { return key };
    let rest = &key[open + 1..];
    match rest.iter().position(|&b| b == b'}') {
        Some(0) | None => key,
        Some(close) => &rest[..close],
    }
}

// Two table look-ups per two bytes instead of one dependent look-up per byte: measured shorter than the bytewise loop.
fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    let mut pairs = bytes.chunks_exact(2);
    for pair in &mut pairs {
        crc = TABLES[1][usize::from((crc >> 8) as u8 ^ pair[0])] ^ TABLES[0][usize::from(crc as u8 ^ pair[1])];
    }
    for &byte in pairs.remainder() {
        crc = (crc << 8) ^ TABLES[0][usize::from((crc >> 8) as u8 ^ byte)];
    }
    crc
}

static TABLES: [[u16; 256]; 2] = tables();

const fn tables() -> [[u16; 256]; 2] {
    let mut tables = [[0u16; 256]; 2];
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
    let mut byte = 0;
    while byte < 256 {
        let crc = tables[0][byte];
        tables[1][byte] = (crc << 8) ^ tables[0][(crc >> 8) as usize];
        byte += 1;
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
