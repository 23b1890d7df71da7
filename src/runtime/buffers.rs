//! Receive buffers that the kernel picks from by itself: the provided-buffer ring of one core.
//!
//! Bytes are parsed where the kernel put them and the buffer goes straight back, so a few hundred buffers serve any
//! number of connections. None of this is locked memory except the descriptor page(s) themselves: 16 bytes a buffer.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{IoUring, types::BufRingEntry};

/// How many buffers a core has unless the settings say otherwise. When more connections than this have unread data at once, the kernel
/// answers ENOBUFS to the rest and they are armed again after the round.
pub(crate) const BUFFER_COUNT: u16 = 512;

/// Size of one buffer: a whole pipeline of small commands, and few completions for a large value.
pub(crate) const BUFFER_BYTES: usize = 16 * 1024;

/// So many buffers are lent at first; each time the kernel finds none, as many again as are lent. The kernel takes
/// them in turn, so those that are lent are what the caches must hold.
const WINDOW: u16 = 64;

/// From one buffer to the next: a cache line more than a buffer, or the fronts of all would compete for the same
/// places in the caches.
const GAP: usize = 64;

/// The only buffer group of a ring.
pub(crate) const BUFFER_GROUP: u16 = 0;

const PAGE: usize = 4096;

/// The buffers and the descriptor ring that lends them to the kernel.
pub(crate) struct Buffers {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    bytes: usize,
    /// Our end of the descriptor ring; the kernel sees it after `publish`.
    tail: u16,
    /// So many are lent or were filled and not given back; those after them wait to be needed.
    window: u16,
}

impl Buffers {
    /// Allocates `count` buffers (a power of two) of `bytes` and registers them with `ring`, which must be dropped
    /// before the answer is.
    pub(crate) fn register(ring: &IoUring, count: u16, bytes: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "{count} buffers, but the kernel wants a power of two");
        let entries = allocate(entries_layout(count)).cast();
        let memory = allocate(memory_layout(count, bytes));
        let mut buffers = Self { entries, memory, count, bytes, tail: 0, window: 0 };
        // SAFETY: the descriptor ring is page aligned, holds `count` entries and lives as long as `buffers`, which
        // the caller drops after the ring.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, count, BUFFER_GROUP, 0)?;
        }
        buffers.widen(WINDOW);
        buffers.publish();
        Ok(buffers)
    }

    /// The kernel found no buffer: lends more, if there are any.
    pub(crate) fn starved(&mut self) {
        self.widen(self.window);
    }

    fn widen(&mut self, by: u16) {
        let from = self.window;
        self.window = from.saturating_add(by).min(self.count);
        for buffer in from..self.window {
            self.give_back(buffer);
        }
    }

    /// The first `len` bytes of a buffer that a completion named and that has not been given back.
    pub(crate) fn filled(&self, buffer: u16, len: usize) -> &[u8] {
        assert!(buffer < self.count && len <= self.bytes, "kernel named buffer {buffer} with {len} bytes");
        // SAFETY: in bounds by the line above; the memory was zeroed at allocation, so it is initialised; the kernel
        // does not write to a buffer between its completion and our giving it back, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(usize::from(buffer) * (self.bytes + GAP)), len) }
    }

    /// Lends a buffer to the kernel again, once [`Buffers::publish`] is called.
    pub(crate) fn give_back(&mut self, buffer: u16) {
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: `slot` is below `count`, so the entry is inside the allocation; the kernel reads entries only up
        // to the published tail, and this one lies beyond it; setting fields of entry 0 leaves the tail, which
        // overlaps its reserved field, alone.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(slot);
            entry.set_addr(self.memory.as_ptr().add(usize::from(buffer) * (self.bytes + GAP)) as u64);
            entry.set_len(self.bytes as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel everything given back so far. Once per round is enough: it takes buffers only inside our
    /// own calls into the ring.
    pub(crate) fn publish(&mut self) {
        // SAFETY: the tail lies inside the first entry, is two-byte aligned and only ever accessed atomically.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()) as *const AtomicU16;
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: allocated in `register` with the same layouts; the ring that used them is gone (its owner drops
        // it first).
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries_layout(self.count));
            dealloc(self.memory.as_ptr(), memory_layout(self.count, self.bytes));
        }
    }
}

fn entries_layout(count: u16) -> Layout {
    let bytes = (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(PAGE);
    Layout::from_size_align(bytes, PAGE).expect("a page is a power of two")
}

fn memory_layout(count: u16, bytes: usize) -> Layout {
    Layout::from_size_align(usize::from(count) * (bytes + GAP), PAGE).expect("a page is a power of two")
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: both layouts have a size above zero: `count` is at least one.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}
