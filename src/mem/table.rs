//! A hash table that grows in small steps and can be scanned without keeping state.
//!
//! It is extendible hashing over hashbrown sub-tables ("leaves"). Up to 896 elements there is one leaf and a look-up
//! costs what hashbrown costs, plus one branch. Beyond, leaves hang in directories of at most 256 places that are
//! indexed by successive bytes of a 32-bit **prefix** of the hash; a full leaf splits alone, a directory doubles
//! alone, and a leaf that needs more than its directory's 8 bits becomes a directory itself. One insertion therefore
//! moves at most about 1024 elements (or copies one directory of 10 KiB) however large the table is. Two levels hold
//! some 40 million elements; the first is nearly always in cache, so a look-up there costs one cache miss more.
//!
//! Measured on a busy 2-core virtual machine (`benches/table.rs`, best of 5 runs, no huge pages): the longest of 10
//! million insertions took 156 us into one table and 97 us into 16384.
//!
//! Promises:
//! - every scan cursor is a boundary in prefix space, and an element's prefix never changes; so an element present
//!   during a whole scan is returned exactly once, whatever grew, split or merged in between;
//! - an empty table owns no memory, and memory follows the elements down: leaves shrink and merge as they empty.
//!
//! The table must not know what it stores: callers bring hash and equality. Hashes must be well mixed over all 64
//! bits (ahash is): hashbrown uses the top 7 and the low bits, the prefix is bits 25 to 56. Elements that share all
//! of those bits share a leaf; it then grows like an ordinary hashbrown table.

use std::{iter::FusedIterator, mem, slice, vec};

use hashbrown::hash_table::{self, HashTable};

use crate::base::rng::Rng;

/// A leaf of this many buckets splits instead of growing.
const LEAF_BUCKETS: usize = 1024;

/// What hashbrown puts into [`LEAF_BUCKETS`] at most.
const LEAF_CAPACITY: usize = LEAF_BUCKETS / 8 * 7;

/// A full leaf with fewer elements than this is full of deletion marks: it is rebuilt instead of split.
const SPLIT_LEN_MIN: usize = LEAF_CAPACITY * 3 / 4;

/// Two sibling leaves that together hold no more merge. Far below half a leaf, so that no sequence of insertions and
/// removals around one size splits and merges all the time.
const MERGE_LEN_MAX: usize = LEAF_CAPACITY / 4;

/// Removals look for a merge once in this many.
const MERGE_CHECK_EVERY: usize = 8;

/// Prefix bits one directory consumes at most: 256 places of 40 bytes.
const DIR_BITS_MAX: u32 = 8;

/// Prefix bits all directories together consume at most: 16 million leaves.
const TREE_BITS_MAX: u32 = 24;

const PREFIX_BITS: u32 = 32;

/// Random picks [`ScanTable::sample`] tries before it takes what it finds.
const SAMPLE_TRIES: usize = 64;

/// Leaves and narrowed ranges one [`ScanTable::scan`] step looks at before it returns with what it has.
const SCAN_VISITS_MAX: usize = 64;

/// See the file's description. 32 bytes; nothing is allocated while it is empty.
pub struct ScanTable<T> {
    root: Root<T>,
}

enum Root<T> {
    Leaf(HashTable<T>),
    Tree(Box<Tree<T>>),
}

struct Tree<T> {
    len: usize,
    dir: Dir<T>,
}

/// `1 << bits` places. A leaf of depth `d < bits` owns `1 << (bits - d)` neighbouring places: it lives in the first,
/// the others are aliases.
struct Dir<T> {
    bits: u32,
    nodes: Vec<Node<T>>,
}

enum Node<T> {
    Leaf { depth: u8, table: HashTable<T> },
    Alias { depth: u8 },
    Dir(Box<Dir<T>>),
}

const _: () = assert!(size_of::<ScanTable<Box<u8>>>() == 32 && size_of::<Node<Box<u8>>>() == 40);

impl<T> ScanTable<T> {
    /// An empty table; allocates nothing.
    pub const fn new() -> Self {
        Self { root: Root::Leaf(HashTable::new()) }
    }

    /// How many elements there are.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.root {
            Root::Leaf(leaf) => leaf.len(),
            Root::Tree(tree) => tree.len,
        }
    }

    /// True when there is no element.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element with this hash that `eq` accepts.
    #[inline]
    pub fn find(&self, hash: u64, eq: impl FnMut(&T) -> bool) -> Option<&T> {
        match &self.root {
            Root::Leaf(leaf) => leaf.find(hash, eq),
            Root::Tree(tree) => tree.dir.place(prefix_of(hash)).leaf.find(hash, eq),
        }
    }

    /// As [`Self::find`]. The element must keep its hash and stay equal to itself.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, eq: impl FnMut(&T) -> bool) -> Option<&mut T> {
        match &mut self.root {
            Root::Leaf(leaf) => leaf.find_mut(hash, eq),
            Root::Tree(tree) => tree.dir.leaf_mut(prefix_of(hash)).find_mut(hash, eq),
        }
    }

    /// Adds an element that the caller knows to be absent. Calls `hasher` at most about 1024 times.
    #[inline]
    pub fn insert_unique(&mut self, hash: u64, value: T, hasher: impl Fn(&T) -> u64) -> &mut T {
        if let Root::Leaf(leaf) = &mut self.root
            && is_crowded(leaf)
        {
            self.root = enlarged(mem::take(leaf), &hasher);
        }
        match &mut self.root {
            Root::Leaf(leaf) => leaf.insert_unique(hash, value, hasher).into_mut(),
            Root::Tree(tree) => {
                tree.len += 1;
                tree.dir.insert(hash, value, &hasher)
            }
        }
    }

    /// Takes the element with this hash that `eq` accepts. May shrink or merge what it leaves behind: calls `hasher`
    /// at most a few hundred times.
    #[inline]
    pub fn remove(&mut self, hash: u64, mut eq: impl FnMut(&T) -> bool, hasher: impl Fn(&T) -> u64) -> Option<T> {
        let tree = match &mut self.root {
            Root::Leaf(leaf) => return remove_from_leaf(leaf, hash, &mut eq, &hasher),
            Root::Tree(tree) => tree,
        };
        let removed = tree.dir.remove(prefix_of(hash), hash, &mut eq, &hasher)?;
        tree.len -= 1;
        if let Some(leaf) = tree.dir.take_only_leaf() {
            self.root = Root::Leaf(leaf);
        }
        Some(removed)
    }

    /// One step of a scan: calls `each` for about `count` elements and returns the cursor of the next step.
    ///
    /// Cursor 0 starts, a returned 0 means the end; others are below 2^32, and any number is a valid cursor. Every
    /// element present from the first step to the last is passed exactly once, across insertions, removals, growth
    /// and shrinking. A step hashes at most about 1024 elements more than it passes, and may pass none.
    pub fn scan(&self, cursor: u64, count: usize, hasher: impl Fn(&T) -> u64, mut each: impl FnMut(&T)) -> u64 {
        let count = count.max(1);
        let mut from = cursor;
        let mut passed = 0;
        for _ in 0..SCAN_VISITS_MAX {
            let Ok(prefix) = u32::try_from(from) else { return 0 };
            let place = self.place(prefix);
            let wanted = count - passed;
            let is_narrowed = place.leaf.len() / 2 > wanted;
            let to = if is_narrowed {
                // Equal parts of the leaf's range, as many as it takes to find about `wanted` in each.
                let parts = (place.leaf.len() / wanted).next_power_of_two() as u64;
                let part_width = ((place.to - place.from) / parts).max(1);
                (from / part_width + 1) * part_width
            } else {
                place.to
            };
            if from == place.from && to == place.to {
                place.leaf.iter().for_each(&mut each);
                passed += place.leaf.len();
            } else {
                for element in place.leaf {
                    if (from..to).contains(&u64::from(prefix_of(hasher(element)))) {
                        each(element);
                        passed += 1;
                    }
                }
            }
            from = to;
            // A narrowed look costs a walk over the whole leaf: a few elements less than asked for are cheaper.
            if passed >= count || (is_narrowed && passed > 0) {
                break;
            }
        }
        if from >> PREFIX_BITS == 0 { from } else { 0 }
    }

    /// All elements, in no useful order.
    pub fn iter(&self) -> Iter<'_, T> {
        let (leaf, dirs) = match &self.root {
            Root::Leaf(leaf) => (leaf.iter(), Vec::new()),
            Root::Tree(tree) => (Default::default(), vec![tree.dir.nodes.iter()]),
        };
        Iter { leaf, dirs, left: self.len() }
    }

    /// As [`Self::iter`]. Elements must keep their hash and stay equal to themselves.
    pub fn iter_mut(&mut self) -> IterMut<'_, T> {
        let left = self.len();
        let (leaf, dirs) = match &mut self.root {
            Root::Leaf(leaf) => (leaf.iter_mut(), Vec::new()),
            Root::Tree(tree) => (Default::default(), vec![tree.dir.nodes.iter_mut()]),
        };
        IterMut { leaf, dirs, left }
    }

    /// Keeps the elements for which `keep` is true. Unbounded work. Memory comes back only for leaves that become
    /// empty; [`Self::compact`] returns the rest.
    pub fn retain(&mut self, mut keep: impl FnMut(&mut T) -> bool) {
        match &mut self.root {
            Root::Leaf(leaf) => retain_in_leaf(leaf, &mut keep),
            Root::Tree(tree) => tree.len = tree.dir.retain(&mut keep),
        }
        if self.is_empty() {
            self.clear();
        }
    }

    /// Rebuilds the table at the size its elements need. Unbounded work.
    pub fn compact(&mut self, hasher: impl Fn(&T) -> u64) {
        for element in mem::take(self) {
            self.insert_unique(hasher(&element), element, &hasher);
        }
    }

    /// Drops all elements and all memory. Unbounded work; to spread it, `drain` and drop a few elements at a time.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Leaves the table empty and gives its elements one by one, freeing memory as it goes. What is not taken from
    /// the iterator is dropped with it.
    pub fn drain(&mut self) -> IntoIter<T> {
        mem::take(self).into_iter()
    }

    /// Some element, each about as likely as any other (within the few per cent by which leaves differ in size).
    /// None only when the table is empty. Bounded: 64 picks; only a table thinned out by [`Self::retain`] may then
    /// have to be walked to its first element.
    pub fn sample(&self, rng: &mut Rng) -> Option<&T> {
        if self.is_empty() {
            return None;
        }
        for _ in 0..SAMPLE_TRIES {
            let leaf = self.place(rng.next_u64() as u32).leaf;
            // Buckets are equally likely, and removals keep at least about one in eight of them occupied.
            let bucket = rng.below(leaf.num_buckets() as u64) as usize;
            if let Some(element) = leaf.get_bucket(bucket) {
                return Some(element);
            }
        }
        self.iter().next()
    }

    /// Bytes allocated for the table itself, without what elements own. Looks at every leaf: about one per 600
    /// elements.
    pub fn heap_bytes(&self) -> usize {
        match &self.root {
            Root::Leaf(leaf) => leaf.allocation_size(),
            Root::Tree(tree) => size_of::<Tree<T>>() + tree.dir.heap_bytes(),
        }
    }

    fn place(&self, prefix: u32) -> Place<'_, T> {
        match &self.root {
            Root::Leaf(leaf) => Place { leaf, from: 0, to: 1 << PREFIX_BITS },
            Root::Tree(tree) => tree.dir.place(prefix),
        }
    }
}

impl<T> Default for ScanTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A leaf and the prefixes it is responsible for: `from..to`, a power of two wide and aligned to its width.
struct Place<'a, T> {
    leaf: &'a HashTable<T>,
    from: u64,
    to: u64,
}

fn prefix_of(hash: u64) -> u32 {
    (hash >> 25) as u32
}

impl<T> Dir<T> {
    /// Two leaves out of one that is `used` bits deep.
    fn split_of(leaf: HashTable<T>, used: u32, hasher: &impl Fn(&T) -> u64) -> Self {
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
    fn place(&self, prefix: u32) -> Place<'_, T> {
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
    fn leaf_mut(&mut self, prefix: u32) -> &mut HashTable<T> {
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

    fn insert(&mut self, hash: u64, value: T, hasher: &impl Fn(&T) -> u64) -> &mut T {
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
    fn remove(
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
    fn take_only_leaf(&mut self) -> Option<HashTable<T>> {
        match &mut self.nodes[0] {
            Node::Leaf { depth: 0, table } => Some(mem::take(table)),
            _ => None,
        }
    }

    /// Answers how many elements are left.
    fn retain(&mut self, keep: &mut impl FnMut(&mut T) -> bool) -> usize {
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

    fn heap_bytes(&self) -> usize {
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
fn is_crowded<T>(leaf: &HashTable<T>) -> bool {
    leaf.len() == leaf.capacity() && leaf.num_buckets() >= LEAF_BUCKETS
}

#[cold]
fn enlarged<T>(mut leaf: HashTable<T>, hasher: &impl Fn(&T) -> u64) -> Root<T> {
    if leaf.len() < SPLIT_LEN_MIN {
        rebuild_leaf(&mut leaf, hasher);
        return Root::Leaf(leaf);
    }
    Root::Tree(Box::new(Tree { len: leaf.len(), dir: Dir::split_of(leaf, 0, hasher) }))
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
fn rebuild_leaf<T>(leaf: &mut HashTable<T>, hasher: &impl Fn(&T) -> u64) {
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
fn remove_from_leaf<T>(
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

fn retain_in_leaf<T>(leaf: &mut HashTable<T>, keep: &mut impl FnMut(&mut T) -> bool) {
    leaf.retain(keep);
    if leaf.is_empty() {
        *leaf = HashTable::new();
    }
}

/// See [`ScanTable::iter`].
pub struct Iter<'a, T> {
    leaf: hash_table::Iter<'a, T>,
    dirs: Vec<slice::Iter<'a, Node<T>>>,
    left: usize,
}

/// See [`ScanTable::iter_mut`].
pub struct IterMut<'a, T> {
    leaf: hash_table::IterMut<'a, T>,
    dirs: Vec<slice::IterMut<'a, Node<T>>>,
    left: usize,
}

/// See [`ScanTable::drain`].
pub struct IntoIter<T> {
    leaf: hash_table::IntoIter<T>,
    dirs: Vec<vec::IntoIter<Node<T>>>,
    left: usize,
}

// The three differ only in how they reach into a node; the walk is the same.
macro_rules! walk {
    ($iter:ty, $item:ty, $walk:ident, $($generics:tt)*) => {
        impl<$($generics)*> Iterator for $iter {
            type Item = $item;

            #[inline]
            fn next(&mut self) -> Option<Self::Item> {
                loop {
                    if let Some(element) = self.leaf.next() {
                        self.left -= 1;
                        return Some(element);
                    }
                    match self.dirs.last_mut()?.next() {
                        Some(Node::Leaf { table, .. }) => self.leaf = table.$walk(),
                        Some(Node::Dir(inner)) => self.dirs.push(inner.nodes.$walk()),
                        Some(Node::Alias { .. }) => {}
                        None => drop(self.dirs.pop()),
                    }
                }
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                (self.left, Some(self.left))
            }
        }

        impl<$($generics)*> ExactSizeIterator for $iter {}
        impl<$($generics)*> FusedIterator for $iter {}
    };
}

walk!(Iter<'a, T>, &'a T, iter, 'a, T);
walk!(IterMut<'a, T>, &'a mut T, iter_mut, 'a, T);
walk!(IntoIter<T>, T, into_iter, T);

impl<T> IntoIterator for ScanTable<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        let left = self.len();
        let (leaf, dirs) = match self.root {
            Root::Leaf(leaf) => (leaf.into_iter(), Vec::new()),
            Root::Tree(tree) => (HashTable::new().into_iter(), vec![tree.dir.nodes.into_iter()]),
        };
        IntoIter { leaf, dirs, left }
    }
}

impl<'a, T> IntoIterator for &'a ScanTable<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        collections::{HashMap, HashSet},
        rc::Rc,
    };

    use proptest::{
        prelude::{ProptestConfig, Strategy},
        prop_assert_eq, proptest,
    };

    use super::*;

    /// Miri is a few thousand times slower.
    const SCALE: u64 = if cfg!(miri) { 100 } else { 1 };

    fn hash(key: &u64) -> u64 {
        Rng::new(*key).next_u64()
    }

    /// Inserts 0..len.
    fn filled(len: u64) -> ScanTable<u64> {
        let mut table = ScanTable::new();
        for key in 0..len {
            table.insert_unique(hash(&key), key, hash);
        }
        table
    }

    fn remove(table: &mut ScanTable<u64>, key: u64) -> Option<u64> {
        table.remove(hash(&key), |k| *k == key, hash)
    }

    /// Every place leads to the leaf responsible for it, and every element is where it is looked for.
    fn assert_sound<T>(table: &ScanTable<T>, hasher: impl Fn(&T) -> u64) {
        fn walk<T>(dir: &Dir<T>, used: u32, above: u64, hasher: &impl Fn(&T) -> u64) -> usize {
            assert!(dir.nodes.len() == 1 << dir.bits && dir.bits <= DIR_BITS_MAX && used < TREE_BITS_MAX);
            let (mut at, mut len) = (0, 0);
            while at < dir.nodes.len() {
                let from = above | (at as u64) << (PREFIX_BITS - used - dir.bits);
                match &dir.nodes[at] {
                    Node::Leaf { depth, table } => {
                        let span = 1 << (dir.bits - u32::from(*depth));
                        assert_eq!(at % span, 0);
                        for alias in &dir.nodes[at + 1..at + span] {
                            assert!(matches!(alias, Node::Alias { depth: d } if d == depth));
                        }
                        let to = from + (1 << (PREFIX_BITS - used - u32::from(*depth)));
                        assert!(table.iter().all(|v| (from..to).contains(&u64::from(prefix_of(hasher(v))))));
                        len += table.len();
                        at += span;
                    }
                    Node::Dir(inner) => {
                        assert_eq!(dir.bits, DIR_BITS_MAX);
                        len += walk(inner, used + DIR_BITS_MAX, from, hasher);
                        at += 1;
                    }
                    Node::Alias { .. } => panic!("an alias without a leaf at {at}"),
                }
            }
            len
        }
        if let Root::Tree(tree) = &table.root {
            assert_eq!(walk(&tree.dir, 0, 0, &hasher), tree.len);
        }
        assert_eq!(table.iter().len(), table.iter().count());
    }

    #[test]
    fn empty_table_owns_no_memory_and_finds_nothing() {
        let mut table = ScanTable::<u64>::new();
        assert_eq!((table.len(), table.heap_bytes(), table.scan(0, 10, hash, |_| panic!())), (0, 0, 0));
        assert_eq!(table.find(5, |_| true), None);
        assert_eq!(table.sample(&mut Rng::new(1)), None);
        assert_eq!(remove(&mut table, 5), None);
        assert_eq!(table.iter().next(), None);
    }

    #[test]
    fn table_gives_all_memory_back_when_emptied() {
        for len in [1, 50, 896, 897, 5_000, 250_000 / SCALE] {
            let mut table = filled(len);
            assert_sound(&table, hash);
            let full = table.heap_bytes();
            for key in 0..len {
                assert_eq!(remove(&mut table, key), Some(key));
                if key == len - len / 10 {
                    assert_sound(&table, hash);
                    assert!(table.heap_bytes() < full / 2 || len < 5_000, "{} of {full}", table.heap_bytes());
                }
            }
            assert_eq!((table.len(), table.heap_bytes()), (0, 0));
            assert!(matches!(table.root, Root::Leaf(_)));
        }
    }

    #[test]
    fn no_insertion_or_removal_hashes_more_than_about_a_leaf() {
        let calls = Cell::new(0);
        let counted = |key: &u64| {
            calls.set(calls.get() + 1);
            hash(key)
        };
        let mut table = ScanTable::new();
        let (len, mut most) = (250_000 / SCALE, 0);
        for key in 0..len {
            table.insert_unique(hash(&key), key, counted);
            most = most.max(calls.replace(0));
        }
        // Churn, so that leaves fill up with deletion marks.
        for key in len..3 * len {
            table.insert_unique(hash(&key), key, counted);
            most = most.max(calls.replace(0));
            let old = key - len;
            assert_eq!(table.remove(hash(&old), |k| *k == old, counted), Some(old));
            most = most.max(calls.replace(0));
        }
        for key in 2 * len..3 * len {
            table.remove(hash(&key), |k| *k == key, counted);
            most = most.max(calls.replace(0));
        }
        assert!(table.is_empty());
        assert!(most <= LEAF_BUCKETS, "{most} hashes in one step");
    }

    #[test]
    fn elements_of_equal_hash_share_one_growing_leaf() {
        let same = |_: &u64| 0x1234_5678_9abc_def0;
        let mut table = ScanTable::new();
        for key in 0..3_000 / SCALE {
            table.insert_unique(same(&key), key, same);
        }
        assert_sound(&table, same);
        for key in 0..3_000 / SCALE {
            assert_eq!(table.find(same(&key), |k| *k == key), Some(&key));
        }
        let mut seen = 0;
        assert_eq!(table.scan(0, usize::MAX, same, |_| seen += 1), 0);
        assert_eq!(seen, table.len());
        for key in 0..3_000 / SCALE {
            assert_eq!(table.remove(same(&key), |k| *k == key, same), Some(key));
        }
        assert_eq!(table.heap_bytes(), 0);
    }

    #[test]
    fn iterators_visit_everything_once() {
        for len in [0, 10, 896, 200_000 / SCALE] {
            let mut table = filled(len);
            let all: HashSet<u64> = (0..len).collect();
            assert_eq!(table.iter().copied().collect::<HashSet<_>>(), all);
            assert_eq!(table.iter().count() as u64, len);
            for key in table.iter_mut() {
                *key += 0;
            }
            let kept = table.iter().filter(|k| **k % 3 == 0).count();
            table.retain(|key| *key % 3 == 0);
            assert_eq!(table.len(), kept);
            assert_sound(&table, hash);
            let before = table.heap_bytes();
            table.compact(hash);
            assert_sound(&table, hash);
            assert!(table.heap_bytes() <= before && table.len() == kept);
            let mut drained = table.drain();
            assert_eq!(drained.by_ref().take(5).count(), kept.min(5));
            assert_eq!((drained.len(), table.len(), table.heap_bytes()), (kept.saturating_sub(5), 0, 0));
        }
    }

    #[test]
    fn every_element_is_dropped_once() {
        struct Counted(u64, Rc<Cell<u64>>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.1.set(self.1.get() + 1);
            }
        }
        let drops = Rc::new(Cell::new(0));
        let len = 20_000 / SCALE;
        let mut table = ScanTable::new();
        for key in 0..len {
            table.insert_unique(hash(&key), Counted(key, drops.clone()), |c| hash(&c.0));
        }
        assert_eq!(drops.get(), 0);
        for key in 0..10 {
            drop(table.remove(hash(&key), |c| c.0 == key, |c| hash(&c.0)));
        }
        assert_eq!(drops.get(), 10);
        table.retain(|c| c.0 >= 20);
        assert_eq!(drops.get(), 20);
        let mut drained = table.drain();
        drained.by_ref().take(30).for_each(drop);
        assert_eq!(drops.get(), 50);
        drop(drained);
        assert_eq!(drops.get(), len);
    }

    #[test]
    fn scan_steps_return_about_as_many_as_asked() {
        for len in [100, 896, 50_000 / SCALE] {
            let table = filled(len);
            for count in [1, 10, 100, 1000] {
                let (mut cursor, mut steps, mut most) = (0, 0, 0);
                loop {
                    let mut seen = 0;
                    cursor = table.scan(cursor, count, hash, |_| seen += 1);
                    (steps, most) = (steps + 1, most.max(seen));
                    if cursor == 0 {
                        break;
                    }
                    assert!(cursor < 1 << 32);
                }
                assert!(most <= 4 * count + 20, "{most} elements in one step, {count} asked of {len}");
                assert!(steps <= 4 * (len as usize / count + 1), "{steps} steps of {count} for {len}");
            }
        }
    }

    #[test]
    fn any_number_is_a_valid_cursor() {
        let table = filled(5_000);
        let mut rng = Rng::new(3);
        for shift in 0..64 {
            let cursor = rng.next_u64() >> shift;
            let next = table.scan(cursor, 10, hash, |_| ());
            assert!(next == 0 || (next > cursor && next < 1 << 32));
        }
        assert_eq!(table.scan(1 << 32, 10, hash, |_| panic!()), 0);
    }

    #[test]
    fn samples_are_close_to_uniform() {
        for len in [5, 500, 5_000 / SCALE] {
            let table = filled(len);
            let mut rng = Rng::new(9);
            let rounds = 100 / SCALE;
            let mut hits: HashMap<u64, u64> = HashMap::new();
            for _ in 0..len * rounds {
                *hits.entry(*table.sample(&mut rng).expect("it is not empty")).or_default() += 1;
            }
            assert_eq!(hits.len() as u64, len);
            let (least, most) = (hits.values().min().expect("some"), hits.values().max().expect("some"));
            assert!(cfg!(miri) || (*least > rounds / 2 && *most < rounds * 2), "{least} to {most} of {rounds}");
        }
    }

    /// Phases of many random operations each: how likely (in 16) an insertion is, and among how many keys.
    fn phases() -> impl Strategy<Value = Vec<(u64, u64)>> {
        let keys = if cfg!(miri) { 1000..3000u64 } else { 100..30_000u64 };
        proptest::collection::vec((0..16u64, keys), 1..5)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 12 }, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn prop_table_agrees_with_std(seed: u64, phases in phases()) {
            let mut rng = Rng::new(seed);
            let mut table = ScanTable::new();
            let mut model = HashMap::new();
            let hasher = |pair: &(u64, u64)| hash(&pair.0);
            for (inserts, keys) in phases {
                for step in 0..2 * keys {
                    let key = rng.below(keys);
                    let found = table.find_mut(hash(&key), |pair: &(u64, u64)| pair.0 == key);
                    prop_assert_eq!(found.as_ref().map(|pair| pair.1), model.get(&key).copied());
                    match found {
                        _ if rng.below(16) >= inserts => {
                            let removed = table.remove(hash(&key), |pair| pair.0 == key, hasher);
                            prop_assert_eq!(removed.map(|pair| pair.1), model.remove(&key));
                        }
                        Some(pair) => {
                            pair.1 = step;
                            model.insert(key, step);
                        }
                        None => {
                            let pair = table.insert_unique(hash(&key), (key, step), hasher);
                            prop_assert_eq!(*pair, (key, step));
                            model.insert(key, step);
                        }
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                assert_sound(&table, hasher);
                prop_assert_eq!(table.iter().copied().collect::<HashMap<_, _>>(), model.clone());
            }
        }

        #[test]
        fn prop_scan_returns_what_stays_exactly_once(seed: u64, phases in phases(), count in 1..200usize) {
            let mut rng = Rng::new(seed);
            let mut table = ScanTable::new();
            // Even keys stay, odd ones come and go between the steps.
            let stay = phases[0].1;
            for key in 0..stay {
                table.insert_unique(hash(&(2 * key)), 2 * key, hash);
            }
            let mut present = HashSet::new();
            let mut seen: HashMap<u64, u32> = HashMap::new();
            let (mut cursor, mut step) = (0, 0);
            loop {
                cursor = table.scan(cursor, count, hash, |key| *seen.entry(*key).or_default() += 1);
                if cursor == 0 {
                    break;
                }
                step += 1;
                let (inserts, keys) = phases[step / 8 % phases.len()];
                for _ in 0..rng.below(500) {
                    let key = 2 * rng.below(keys) + 1;
                    if rng.below(16) < inserts {
                        if present.insert(key) {
                            table.insert_unique(hash(&key), key, hash);
                        }
                    } else if present.remove(&key) {
                        prop_assert_eq!(remove(&mut table, key), Some(key));
                    }
                }
            }
            for key in 0..stay {
                prop_assert_eq!(seen.get(&(2 * key)), Some(&1));
            }
            assert_sound(&table, hash);
        }
    }
}
