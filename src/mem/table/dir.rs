//! Directories of leaves: where a prefix lives, and how leaves split, merge and shrink.

use std::mem;

use hashbrown::hash_table::HashTable;

/// A leaf of this many buckets splits instead of growing.
pub(super) const LEAF_BUCKETS: usize = 1024;

/// What hashbrown puts into [`LEAF_BUCKETS`] at most.
pub(super) const LEAF_CAPACITY: usize = LEAF_BUCKETS / 8 * 7;

/// A full leaf with fewer elements than this is full of deletion marks: it is rebuilt instead of split.
pub(super) const SPLIT_LEN_MIN: usize = LEAF_CAPACITY * 3 / 4;

/// Two sibling leaves that together hold no more merge. Far below half a leaf, so that no sequence of insertions and
/// removals around one size splits and merges all the time.
const MERGE_LEN_MAX: usize = LEAF_CAPACITY / 4;

/// Removals look for a merge once in this many.
const MERGE_CHECK_EVERY: usize = 8;

/// Prefix bits one directory consumes at most: 256 places of 40 bytes.
pub(super) const DIR_BITS_MAX: u32 = 8;

/// Prefix bits all directories together consume at most: 16 million leaves.
pub(super) const TREE_BITS_MAX: u32 = 24;

pub(super) const PREFIX_BITS: u32 = 32;

/// `1 << bits` places. A leaf of depth `d < bits` owns `1 << (bits - d)` neighbouring places: it lives in the first,
/// the others are aliases.
pub(super) struct Dir<T> {
    pub(super) bits: u32,
    pub(super) nodes: Vec<Node<T>>,
}

pub(super) enum Node<T> {
    Leaf { depth: u8, table: HashTable<T> },
    Alias { depth: u8 },
    Dir(Box<Dir<T>>),
}

/// A leaf and the prefixes it is responsible for: `from..to`, a power of two wide and aligned to its width.
pub(super) struct Place<'a, T> {
    pub(super) leaf: &'a HashTable<T>,
    pub(super) from: u64,
    pub(super) to: u64,
}

pub(super) fn prefix_of(hash: u64) -> u32 {
    (hash >> 25) as u32
}

impl<T> Dir<T> {
    /// Two leaves out of one that is `used` bits deep.
    pub(super) fn split_of(leaf: HashTable<T>, used: u32, hasher: &impl Fn(&T) -> u64) -> Self {
        let (low, high) = split_leaf(leaf, used, hasher);
        Self { bits: 1, nodes: vec![Node::Leaf { depth: 1, table: low }, Node::Leaf { depth: 1, table: high }] }
    }

    /// Where the node lives that is responsible for a prefix whose bits above this directory are shifted out.
    #[inline]
    fn home(&self, prefix: u32) -> usize {
        let at = (prefix >> (PREFIX_BITS - self.bits)) as usize;
        match self.nodes[at] {
            Node::Alias { depth } => at & (usize::MAX << (self.bits - u32::from(depth))),
            _ => at,
        }
    }

    #[inline]
    pub(super) fn place(&self, prefix: u32) -> Place<'_, T> {
        let (mut dir, mut used) = (self, 0);
        loop {
            match &dir.nodes[dir.home(prefix << used)] {
                Node::Leaf { depth, table } => {
                    let width = 1u64 << (PREFIX_BITS - used - u32::from(*depth));
                    let from = u64::from(prefix) & !(width - 1);
                    return Place { leaf: table, from, to: from + width };
                }
                Node::Dir(inner) => (dir, used) = (inner, used + DIR_BITS_MAX),
                Node::Alias { .. } => unreachable!("home() resolves aliases"),
            }
        }
    }

    #[inline]
    pub(super) fn leaf_mut(&mut self, prefix: u32) -> &mut HashTable<T> {
        let (mut dir, mut used) = (self, 0);
        loop {
            let at = dir.home(prefix << used);
            match &mut dir.nodes[at] {
                Node::Leaf { table, .. } => return table,
                Node::Dir(inner) => (dir, used) = (inner, used + DIR_BITS_MAX),
                Node::Alias { .. } => unreachable!("home() resolves aliases"),
            }
        }
    }

    pub(super) fn insert(&mut self, hash: u64, value: T, hasher: &impl Fn(&T) -> u64) -> &mut T {
        let prefix = prefix_of(hash);
        let (mut dir, mut used) = (self, 0);
        loop {
            let mut at = dir.home(prefix << used);
            // Once per level: if all elements went to the same half, hashbrown grows that half.
            if matches!(&dir.nodes[at], Node::Leaf { table, .. } if is_crowded(table)) {
                dir.make_room(at, used, hasher);
                at = dir.home(prefix << used);
            }
            match &mut dir.nodes[at] {
                Node::Leaf { table, .. } => return table.insert_unique(hash, value, hasher).into_mut(),
                Node::Dir(inner) => (dir, used) = (inner, used + DIR_BITS_MAX),
                Node::Alias { .. } => unreachable!("home() resolves aliases"),
            }
        }
    }

    /// Rebuilds or splits the full leaf at `at`. One at the last level is left to grow.
    fn make_room(&mut self, mut at: usize, used: u32, hasher: &impl Fn(&T) -> u64) {
        let Node::Leaf { depth, table } = &mut self.nodes[at] else { unreachable!("the caller found a leaf") };
        let depth = u32::from(*depth);
        if table.len() < SPLIT_LEN_MIN {
            rebuild_leaf(table, hasher);
        } else if depth < DIR_BITS_MAX {
            let (low, high) = split_leaf(mem::take(table), used + depth, hasher);
            if depth == self.bits {
                self.double();
                at *= 2;
            }
            let half = 1 << (self.bits - depth - 1);
            self.put_leaf(at, depth + 1, low);
            self.put_leaf(at + half, depth + 1, high);
        } else if used + DIR_BITS_MAX < TREE_BITS_MAX {
            let leaf = mem::take(table);
            self.nodes[at] = Node::Dir(Box::new(Self::split_of(leaf, used + DIR_BITS_MAX, hasher)));
        }
    }

    fn double(&mut self) {
        let nodes = Vec::with_capacity(self.nodes.len() * 2);
        for node in mem::replace(&mut self.nodes, nodes) {
            let (Node::Leaf { depth, .. } | Node::Alias { depth }) = node else {
                unreachable!("only a directory of full size holds directories")
            };
            self.nodes.push(node);
            self.nodes.push(Node::Alias { depth });
        }
        self.bits += 1;
    }

    /// Puts a leaf into all places that belong to its depth, the first of which is `at`.
    fn put_leaf(&mut self, at: usize, depth: u32, table: HashTable<T>) {
        let (span, depth) = (1 << (self.bits - depth), depth as u8);
        self.nodes[at] = Node::Leaf { depth, table };
        for alias in &mut self.nodes[at + 1..at + span] {
            *alias = Node::Alias { depth };
        }
    }

    /// `prefix` has the bits above this directory shifted out.
    pub(super) fn remove(
        &mut self,
        prefix: u32,
        hash: u64,
        eq: &mut impl FnMut(&T) -> bool,
        hasher: &impl Fn(&T) -> u64,
    ) -> Option<T> {
        let at = self.home(prefix);
        match &mut self.nodes[at] {
            Node::Leaf { table, .. } => {
                let removed = remove_from_leaf(table, hash, eq, hasher)?;
                if table.len() <= MERGE_LEN_MAX && table.len().is_multiple_of(MERGE_CHECK_EVERY) {
                    self.merge(at, hasher);
                }
                Some(removed)
            }
            Node::Dir(inner) => {
                let removed = inner.remove(prefix << DIR_BITS_MAX, hash, eq, hasher)?;
                if let Some(leaf) = inner.take_only_leaf() {
                    self.put_leaf(at, DIR_BITS_MAX, leaf);
                    self.merge(at, hasher);
                }
                Some(removed)
            }
            Node::Alias { .. } => unreachable!("home() resolves aliases"),
        }
    }

    /// Merges the leaf at `at` with its sibling, and the result with its own, as long as they are small: together
    /// they move fewer than [`MERGE_LEN_MAX`] elements per level.
    fn merge(&mut self, mut at: usize, hasher: &impl Fn(&T) -> u64) {
        while let Node::Leaf { depth, table } = &self.nodes[at] {
            let (depth, len) = (u32::from(*depth), table.len());
            if depth == 0 {
                return;
            }
            let sibling = at ^ (1 << (self.bits - depth));
            match &self.nodes[sibling] {
                Node::Leaf { depth: d, table: t } if u32::from(*d) == depth && len + t.len() <= MERGE_LEN_MAX => {}
                _ => return,
            }
            let merged = join_leaves(self.take_leaf(at), self.take_leaf(sibling), hasher);
            at = at.min(sibling);
            self.put_leaf(at, depth - 1, merged);
        }
    }

    /// The caller puts another leaf over this place.
    fn take_leaf(&mut self, at: usize) -> HashTable<T> {
        match &mut self.nodes[at] {
            Node::Leaf { table, .. } => mem::take(table),
            _ => unreachable!("the caller found a leaf"),
        }
    }

    /// The leaf that owns every place, if all others have merged into it. The caller drops the directory.
    pub(super) fn take_only_leaf(&mut self) -> Option<HashTable<T>> {
        match &mut self.nodes[0] {
            Node::Leaf { depth: 0, table } => Some(mem::take(table)),
            _ => None,
        }
    }

    /// Answers how many elements are left.
    pub(super) fn retain(&mut self, keep: &mut impl FnMut(&mut T) -> bool) -> usize {
        let mut left = 0;
        for node in &mut self.nodes {
            left += match node {
                Node::Leaf { table, .. } => {
                    retain_in_leaf(table, keep);
                    table.len()
                }
                Node::Dir(inner) => inner.retain(keep),
                Node::Alias { .. } => 0,
            };
        }
        left
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let nodes = self.nodes.iter().map(|node| match node {
            Node::Leaf { table, .. } => table.allocation_size(),
            Node::Dir(inner) => size_of::<Self>() + inner.heap_bytes(),
            Node::Alias { .. } => 0,
        });
        self.nodes.capacity() * size_of::<Node<T>>() + nodes.sum::<usize>()
    }
}

/// True when one more element would make hashbrown rehash a leaf of full size.
#[inline]
pub(super) fn is_crowded<T>(leaf: &HashTable<T>) -> bool {
    leaf.len() == leaf.capacity() && leaf.num_buckets() >= LEAF_BUCKETS
}

/// Sorts a leaf's elements by the prefix bit after the first `used`.
fn split_leaf<T>(mut leaf: HashTable<T>, used: u32, hasher: &impl Fn(&T) -> u64) -> (HashTable<T>, HashTable<T>) {
    let bit = 1 << (PREFIX_BITS - 1 - used);
    // Both halves get their final size at once: half full they would outgrow a smaller one with the next insertion.
    let mut high = HashTable::with_capacity(LEAF_CAPACITY);
    let elements: Vec<(u64, T)> = leaf.drain().map(|element| (hasher(&element), element)).collect();
    for (hash, element) in elements {
        let half = if prefix_of(hash) & bit == 0 { &mut leaf } else { &mut high };
        half.insert_unique(hash, element, hasher);
    }
    (leaf, high)
}

/// Gets rid of deletion marks.
pub(super) fn rebuild_leaf<T>(leaf: &mut HashTable<T>, hasher: &impl Fn(&T) -> u64) {
    let elements: Vec<T> = leaf.drain().collect();
    for element in elements {
        leaf.insert_unique(hasher(&element), element, hasher);
    }
}

fn join_leaves<T>(a: HashTable<T>, b: HashTable<T>, hasher: &impl Fn(&T) -> u64) -> HashTable<T> {
    let (mut larger, smaller) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    for element in smaller {
        larger.insert_unique(hasher(&element), element, hasher);
    }
    larger
}

#[inline]
pub(super) fn remove_from_leaf<T>(
    leaf: &mut HashTable<T>,
    hash: u64,
    eq: &mut impl FnMut(&T) -> bool,
    hasher: &impl Fn(&T) -> u64,
) -> Option<T> {
    let (removed, _) = leaf.find_entry(hash, eq).ok()?.remove();
    if leaf.len() * 8 <= leaf.num_buckets() {
        shrink_leaf(leaf, hasher);
    }
    Some(removed)
}

#[cold]
fn shrink_leaf<T>(leaf: &mut HashTable<T>, hasher: &impl Fn(&T) -> u64) {
    // To about a quarter full: half of what is left must go before it shrinks again. Zero frees everything.
    leaf.shrink_to(leaf.len() * 2, hasher);
}

pub(super) fn retain_in_leaf<T>(leaf: &mut HashTable<T>, keep: &mut impl FnMut(&mut T) -> bool) {
    leaf.retain(keep);
    if leaf.is_empty() {
        *leaf = HashTable::new();
    }
}
