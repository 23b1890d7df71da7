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

mod dir;
mod iter;
#[cfg(test)]
mod tests;

use std::mem;

use hashbrown::hash_table::HashTable;

use crate::base::rng::Rng;
use dir::{
    Dir, Node, PREFIX_BITS, Place, SPLIT_LEN_MIN, is_crowded, prefix_of, rebuild_leaf, remove_from_leaf, retain_in_leaf,
};
pub use iter::{IntoIter, Iter, IterMut};

/// Random picks [`ScanTable::sample`] tries before it takes what it finds.
const SAMPLE_TRIES: usize = 64;

/// Leaves and narrowed ranges one [`ScanTable::scan`] step looks at before it returns with what it has.
const SCAN_VISITS_MAX: usize = 64;

/// Whether a scan whose next cursor is `cursor` has passed an element of this hash.
#[inline]
pub fn is_passed(cursor: u64, hash: u64) -> bool {
    u64::from(prefix_of(hash)) < cursor
}

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

#[cold]
fn enlarged<T>(mut leaf: HashTable<T>, hasher: &impl Fn(&T) -> u64) -> Root<T> {
    if leaf.len() < SPLIT_LEN_MIN {
        rebuild_leaf(&mut leaf, hasher);
        return Root::Leaf(leaf);
    }
    Root::Tree(Box::new(Tree { len: leaf.len(), dir: Dir::split_of(leaf, 0, hasher) }))
}
