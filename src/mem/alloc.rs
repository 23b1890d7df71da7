//! The process' allocator: mimalloc, called so that its size classes hold.
//!
//! Not the `mimalloc` crate: it calls `mi_malloc_aligned` for everything, and mimalloc 3 then takes the next larger
//! class for every size that is not a power of two (96 bytes became 112). Measured with 16-byte keys and 64-byte
//! values: 134 bytes of resident memory per key through the crate, 120 this way. `mi_malloc` itself already aligns
//! whatever is at least 16 bytes long to 16.

use std::alloc::{GlobalAlloc, Layout};

use super::count;
use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};

/// To be declared `#[global_allocator]` by each program.
pub struct Mimalloc;

/// True when `mi_malloc` and its kin align a block of this layout well enough: blocks of 16 bytes and more to 16,
/// smaller ones to 8 (MI_MAX_ALIGN_SIZE in mimalloc's types.h).
#[inline]
fn is_aligned_anyway(layout: Layout) -> bool {
    layout.align() <= 8 || (layout.align() == 16 && layout.size() >= 16)
}

// SAFETY: mimalloc is thread-safe, never unwinds, answers null when out of memory, and each call asks for at least the
// size and alignment of the layout. Blocks of both kinds of calls may be freed and resized by either.
unsafe impl GlobalAlloc for Mimalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count::add(layout.size());
        // SAFETY: both calls take any size, and a layout's alignment is a power of two.
        unsafe {
            if is_aligned_anyway(layout) {
                mi_malloc(layout.size()).cast()
            } else {
                mi_malloc_aligned(layout.size(), layout.align()).cast()
            }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count::add(layout.size());
        // SAFETY: as in `alloc`.
        unsafe {
            if is_aligned_anyway(layout) {
                mi_zalloc(layout.size()).cast()
            } else {
                mi_zalloc_aligned(layout.size(), layout.align()).cast()
            }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count::subtract(layout.size());
        // SAFETY: the caller hands back a block of this allocator, once.
        unsafe { mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count::change(layout.size(), new_size);
        // SAFETY: the caller hands back a block of this allocator, and `new_size` makes a layout with this alignment.
        unsafe {
            if is_aligned_anyway(Layout::from_size_align_unchecked(new_size, layout.align())) {
                mi_realloc(block.cast(), new_size).cast()
            } else {
                mi_realloc_aligned(block.cast(), new_size, layout.align()).cast()
            }
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_aligned_and_keeps_its_bytes_when_resized() {
        for align in [1usize, 2, 4, 8, 16, 32, 64, 4096] {
            for size in [1usize, 3, 8, 15, 16, 24, 40, 96, 100, 1000, 5000, 100_000] {
                let layout = Layout::from_size_align(size, align).expect("small");
                // SAFETY: each block is used within its layout, resized and freed once.
                unsafe {
                    let block = Mimalloc.alloc(layout);
                    assert!(!block.is_null() && block.addr().is_multiple_of(align), "{layout:?}");
                    block.write_bytes(7, size);
                    for new_size in [size * 3, size.div_ceil(3)] {
                        let layout = Layout::from_size_align(size, align).expect("small");
                        let other = Mimalloc.alloc(layout);
                        other.write_bytes(9, size);
                        let moved = Mimalloc.realloc(other, layout, new_size);
                        assert!(!moved.is_null() && moved.addr().is_multiple_of(align), "{layout:?} to {new_size}");
                        assert_eq!((moved.read(), moved.add(size.min(new_size) - 1).read()), (9, 9));
                        Mimalloc.dealloc(moved, Layout::from_size_align(new_size, align).expect("small"));
                    }
                    assert_eq!((block.read(), block.add(size - 1).read()), (7, 7));
                    Mimalloc.dealloc(block, layout);
                    let zeroed = Mimalloc.alloc_zeroed(layout);
                    assert!(zeroed.addr().is_multiple_of(align) && zeroed.add(size - 1).read() == 0);
                    Mimalloc.dealloc(zeroed, layout);
                }
            }
        }
    }
}
