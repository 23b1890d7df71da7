//! How many bytes the process has allocated, counted by thread so that no two threads write to one cache line.
//!
//! A block counts as the size class mimalloc takes it from (four classes for each doubling), because that is what it
//! costs. A thread may free what another allocated, so single counters may be negative; only their sum means anything.

use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

/// Threads beyond this many share the last counter.
const COUNTERS: usize = 64;

#[repr(align(128))]
struct Counter(AtomicIsize);

static COUNTED: [Counter; COUNTERS] = [const { Counter(AtomicIsize::new(0)) }; COUNTERS];
static TAKEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    // No destructor and no lazy start: an allocator must not allocate.
    static OWN: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Bytes allocated and not freed, by all threads.
pub fn used_bytes() -> usize {
    let sum: isize = COUNTED.iter().map(|counter| counter.0.load(Ordering::Relaxed)).sum();
    sum.max(0) as usize
}

/// A block of `size` bytes was allocated.
#[inline]
pub(super) fn add(size: usize) {
    count(class_bytes(size) as isize);
}

/// A block of `size` bytes was freed.
#[inline]
pub(super) fn subtract(size: usize) {
    count(-(class_bytes(size) as isize));
}

/// A block changed its size.
#[inline]
pub(super) fn change(from: usize, to: usize) {
    count(class_bytes(to) as isize - class_bytes(from) as isize);
}

#[inline]
fn count(bytes: isize) {
    // While a thread ends its own counter may be gone: the shared one will do.
    let own = OWN.try_with(|own| if own.get() == usize::MAX { take(own) } else { own.get() }).unwrap_or(COUNTERS - 1);
    let counter = &COUNTED[own].0;
    if own < COUNTERS - 1 {
        // Nobody else writes here.
        counter.store(counter.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
    } else {
        counter.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[cold]
fn take(own: &Cell<usize>) -> usize {
    let mine = TAKEN.fetch_add(1, Ordering::Relaxed).min(COUNTERS - 1);
    own.set(mine);
    mine
}

// The class mimalloc serves a size from; beyond 128 KiB whole pages.
#[inline]
fn class_bytes(size: usize) -> usize {
    match size {
        0..=64 => (size + 7) & !7,
        65..=131_072 => {
            let step = 1usize << ((size - 1).ilog2() - 2);
            (size + step - 1) & !(step - 1)
        }
        _ => (size + 4095) & !4095,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_mimalloc() {
        let classes: Vec<usize> = [1, 8, 9, 64, 65, 80, 81, 96, 100, 128, 129, 1000, 1025].map(class_bytes).to_vec();
        assert_eq!(classes, [8, 8, 16, 64, 80, 80, 96, 96, 112, 128, 160, 1024, 1280]);
    }

    #[test]
    fn what_is_allocated_and_freed_cancels_out() {
        // Other tests count at the same time when the allocator is in use, but not in blocks like these.
        const BLOCK: usize = 1 << 40;
        let before = used_bytes();
        add(BLOCK);
        assert!(used_bytes() >= before + BLOCK / 2);
        change(BLOCK, 2 * BLOCK);
        assert!(used_bytes() >= before + BLOCK + BLOCK / 2);
        subtract(2 * BLOCK);
        assert!(used_bytes() < before + BLOCK / 2);
    }
}
