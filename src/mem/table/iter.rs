//! Walks over all elements of a table.

use std::{iter::FusedIterator, slice, vec};

use hashbrown::hash_table::{self, HashTable};

use super::dir::Node;
use super::{Root, ScanTable};

/// See [`ScanTable::iter`].
pub struct Iter<'a, T> {
    pub(super) leaf: hash_table::Iter<'a, T>,
    pub(super) dirs: Vec<slice::Iter<'a, Node<T>>>,
    pub(super) left: usize,
}

/// See [`ScanTable::iter_mut`].
pub struct IterMut<'a, T> {
    pub(super) leaf: hash_table::IterMut<'a, T>,
    pub(super) dirs: Vec<slice::IterMut<'a, Node<T>>>,
    pub(super) left: usize,
}

/// See [`ScanTable::drain`].
pub struct IntoIter<T> {
    pub(super) leaf: hash_table::IntoIter<T>,
    pub(super) dirs: Vec<vec::IntoIter<Node<T>>>,
    pub(super) left: usize,
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
