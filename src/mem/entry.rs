//! One key with its value, in one allocation behind an 8-byte pointer.
//!
//! Layout, 8-byte aligned:
//!
//! ```text
//! 0      8 stamp of a plain value or tombstone
//! 8      4 value length
//! 12     2 key length (unless LONG_KEY)
//! 14     1 flags and slack
//! 15     1 access byte
//! 16     4 key length, only with LONG_KEY
//!        n key
//!       16 deadline register: its stamp, its deadline; only with DEADLINE
//!        n value; of a rich entry: its payload, aligned to 8
//! ```
//!
//! The key never moves while the allocation stays. The register follows it so that the key compared and the deadline
//! checked by every GET share cache lines. A plain 16-byte key with a 64-byte value takes 96 bytes, a size class.
//!
//! Allocations are rounded up to the size classes of mimalloc (four per doubling), so a value may change its length
//! within a class for free. The slack counts the classes between what the contents need and what was allocated: with
//! it the layout to free is known, and a value can shrink to about half before it is copied to a smaller place.
//!
//! The entry must not know what a rich value is, nor what stamps and deadlines mean. Copying to overwrite: once. No
//! allocation unless the class changes.

use super::prefetch::prefetch;
use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    fmt,
    marker::PhantomData,
    ptr::{self, NonNull},
    slice,
};

/// The deadline of a register that was written to say "no deadline": such a register must still win or lose merges.
pub const NO_DEADLINE_MS: u64 = u64::MAX;

/// What [`Entry::prefetch`] asks for: all of a short key with a value of 64 bytes, or most of its payload.
const PREFETCHED_BYTES: usize = 176;

const HEADER_BYTES: usize = 16;
const LONG_LENGTH_BYTES: usize = 4;
const REGISTER_BYTES: usize = 16;
const ALIGN: usize = 8;

const RICH: u8 = 1;
const TOMBSTONE: u8 = 2;
const DEADLINE: u8 = 4;
const LONG_KEY: u8 = 8;
const SLACK_SHIFT: u32 = 4;

/// Classes by which an allocation may exceed what is needed: three of the four steps of a doubling.
const SLACK_MAX: u32 = 3;

/// An owning pointer to a key and its value: a plain string, a tombstone, or an `R`. They lie together because what
/// is asked for together should arrive together: behind a pointer of its own an `R` cost a third wait for memory.
///
/// Keys and values hold up to `u32::MAX` bytes; more is a bug of the caller and asserted. `Option<Entry>` takes 8
/// bytes too.
pub struct Entry<R> {
    at: NonNull<u8>,
    owns: PhantomData<Box<R>>,
}

/// What an entry holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View<'a, R> {
    /// A string.
    Plain {
        /// Of the last write to the value.
        stamp: u64,
        /// Its bytes.
        value: &'a [u8],
        /// `(stamp, deadline in Unix milliseconds)` if the deadline was ever written; see [`NO_DEADLINE_MS`].
        deadline: Option<(u64, u64)>,
    },
    /// Everything else.
    Rich(&'a R),
    /// The key was deleted, and that must still be told to others.
    Tombstone {
        /// Of the deletion.
        stamp: u64,
    },
}

#[repr(C)]
struct Header {
    stamp: u64,
    value_len: u32,
    key_len: u16,
    kind: u8,
    access: u8,
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES && align_of::<Header>() == ALIGN);
const _: () = assert!(size_of::<Option<Entry<u8>>>() == 8);

// SAFETY: an entry owns its allocation and its payload alone, like a Box<R>.
unsafe impl<R: Send> Send for Entry<R> {}
// SAFETY: a shared entry gives out nothing but shared bytes and &R, like a Box<R>.
unsafe impl<R: Sync> Sync for Entry<R> {}

impl<R> Entry<R> {
    /// A string, with its deadline register `(stamp, deadline_ms)` if that was ever written.
    pub fn plain(key: &[u8], value: &[u8], stamp: u64, deadline: Option<(u64, u64)>) -> Self {
        let shape = Shape::new(key.len(), deadline.is_some(), value.len());
        let mut entry = Self::allocate(key, shape, stamp);
        entry.write_register(deadline);
        entry.write_value(value);
        entry
    }

    /// Any other value.
    pub fn rich(key: &[u8], payload: R) -> Self {
        let padding = padding_after(Shape::new(key.len(), false, 0).register_at());
        let mut entry = Self::allocate(key, Shape::new(key.len(), false, padding + size_of::<R>()), 0);
        entry.put_payload(payload);
        entry
    }

    /// A deleted key.
    pub fn tombstone(key: &[u8], stamp: u64) -> Self {
        let mut entry = Self::allocate(key, Shape::new(key.len(), false, 0), stamp);
        entry.header_mut().kind |= TOMBSTONE;
        entry
    }

    /// Asks for the entry without waiting for it: its key, and a payload or the front of a value.
    #[inline]
    pub fn prefetch(&self) {
        prefetch(self.at.as_ptr(), PREFETCHED_BYTES);
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        let (key_at, key_len) = self.key_range();
        self.bytes(key_at, key_len)
    }

    /// What the entry holds.
    #[inline]
    pub fn view(&self) -> View<'_, R> {
        let header = self.header();
        if header.kind & (RICH | TOMBSTONE) == 0 {
            let (value_at, deadline) = self.value_at_and_register();
            let value = self.bytes(value_at, header.value_len as usize);
            View::Plain { stamp: header.stamp, value, deadline }
        } else if header.kind & RICH != 0 {
            // SAFETY: with RICH an initialised payload lies there, aligned, and lives as long as `&self`.
            View::Rich(unsafe { self.payload_at().as_ref() })
        } else {
            View::Tombstone { stamp: header.stamp }
        }
    }

    /// The payload of a rich entry.
    #[inline]
    pub fn rich_mut(&mut self) -> Option<&mut R> {
        // SAFETY: with RICH an initialised payload lies there, aligned, and `&mut self` makes the borrow unique.
        self.is_rich().then(|| unsafe { self.payload_at().as_mut() })
    }

    /// Takes the payload out of a rich entry and frees the rest; gives other entries back.
    pub fn take_rich(mut self) -> Result<R, Self> {
        self.detach_payload().ok_or(self)
    }

    /// True for a deleted key.
    #[inline]
    pub fn is_tombstone(&self) -> bool {
        self.header().kind & TOMBSTONE != 0
    }

    /// True when the value is an `R`.
    #[inline]
    pub fn is_rich(&self) -> bool {
        self.header().kind & RICH != 0
    }

    /// The stamp of a string or tombstone. A rich entry has none of its own: asking is a bug.
    #[inline]
    pub fn stamp(&self) -> u64 {
        assert!(!self.is_rich(), "a rich entry keeps its stamps in its payload");
        self.header().stamp
    }

    /// The deadline register `(stamp, deadline_ms)` of a string, None if it was never written. None for the others.
    #[inline]
    pub fn deadline(&self) -> Option<(u64, u64)> {
        self.value_at_and_register().1
    }

    /// Makes this a string with this value, stamp and deadline register, whatever it was before (a payload is
    /// dropped). Keeps the key and the access byte. Reuses the allocation while its size class suffices and is not
    /// about twice too large.
    #[inline]
    pub fn set_plain(&mut self, value: &[u8], stamp: u64, deadline: Option<(u64, u64)>) {
        let header = self.header();
        let register = if deadline.is_some() { DEADLINE } else { 0 };
        let is_same_shape =
            header.kind & (RICH | TOMBSTONE | DEADLINE) == register && header.value_len as usize == value.len();
        // The payload is dropped last: its code must not run while the value is half written.
        let mut _payload = None;
        if !is_same_shape {
            _payload = self.detach_payload();
            self.reshape(deadline.is_some(), value.len(), 0);
        }
        self.header_mut().stamp = stamp;
        self.write_register(deadline);
        self.write_value(value);
    }

    /// Makes this a deleted key, whatever it was before (a payload is dropped).
    pub fn set_tombstone(&mut self, stamp: u64) {
        let _payload = self.detach_payload();
        self.reshape(false, 0, 0);
        let header = self.header_mut();
        header.kind |= TOMBSTONE;
        header.stamp = stamp;
    }

    /// Makes this a rich entry, whatever it was before (an earlier payload is dropped).
    pub fn set_rich(&mut self, payload: R) {
        let _old = self.detach_payload();
        // Room for the payload wherever the key ends.
        let padding = padding_after(self.shape().register_at());
        self.reshape(false, padding + size_of::<R>(), 0);
        self.put_payload(payload);
    }

    /// A string's bytes, to be changed in place.
    pub fn value_mut(&mut self) -> Option<&mut [u8]> {
        if !self.is_plain() {
            return None;
        }
        let shape = self.shape();
        // SAFETY: the value lies inside the allocation and is initialised, as `bytes` says; `&mut self` makes the
        // borrow unique.
        Some(unsafe { slice::from_raw_parts_mut(self.at.add(shape.value_at()).as_ptr(), shape.value_len) })
    }

    /// Cuts a string, or extends it with zero bytes, in place while the size class allows. Repeated small extensions
    /// copy each byte a constant number of times on average.
    pub fn resize_value(&mut self, len: usize) {
        assert!(self.is_plain(), "only a string has a length to change");
        let old_len = self.header().value_len as usize;
        self.reshape(self.header().kind & DEADLINE != 0, len, old_len.min(len));
        if len > old_len {
            let added_at = self.shape().value_at() + old_len;
            // SAFETY: `reshape` made the value `len` bytes long, and the bytes after the kept ones are ours to write.
            unsafe { self.at.add(added_at).write_bytes(0, len - old_len) }
        }
    }

    /// Replaces the stamp of a string or tombstone.
    pub fn set_stamp(&mut self, stamp: u64) {
        assert!(!self.is_rich(), "a rich entry keeps its stamps in its payload");
        self.header_mut().stamp = stamp;
    }

    /// Replaces, adds or removes the deadline register of a string.
    pub fn set_deadline(&mut self, deadline: Option<(u64, u64)>) {
        assert!(self.is_plain(), "only a string has a deadline register of its own");
        if deadline.is_some() != (self.header().kind & DEADLINE != 0) {
            let len = self.header().value_len as usize;
            self.reshape(deadline.is_some(), len, len);
        }
        self.write_register(deadline);
    }

    /// The access byte: 0 at first, for whatever eviction counts.
    #[inline]
    pub fn access(&self) -> u8 {
        self.header().access
    }

    /// Replaces the access byte.
    #[inline]
    pub fn set_access(&mut self, access: u8) {
        self.header_mut().access = access;
    }

    /// Bytes allocated for the entry, without what a payload owns.
    pub fn heap_bytes(&self) -> usize {
        class_bytes(self.class())
    }

    fn is_plain(&self) -> bool {
        self.header().kind & (RICH | TOMBSTONE) == 0
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: the allocation begins with an initialised, aligned header from `allocate` on until drop.
        unsafe { self.at.cast::<Header>().as_ref() }
    }

    #[inline]
    fn header_mut(&mut self) -> &mut Header {
        // SAFETY: as in `header`; `&mut self` makes the borrow unique.
        unsafe { self.at.cast::<Header>().as_mut() }
    }

    /// Offset and length of the key.
    #[inline]
    fn key_range(&self) -> (usize, usize) {
        let header = self.header();
        if header.kind & LONG_KEY == 0 {
            return (HEADER_BYTES, usize::from(header.key_len));
        }
        // SAFETY: with LONG_KEY an initialised u32 follows the header, aligned to 4.
        let len = unsafe { self.at.add(HEADER_BYTES).cast::<u32>().read() };
        (HEADER_BYTES + LONG_LENGTH_BYTES, len as usize)
    }

    #[inline]
    fn shape(&self) -> Shape {
        let header = self.header();
        let (_, key_len) = self.key_range();
        Shape { key_len, has_register: header.kind & DEADLINE != 0, value_len: header.value_len as usize }
    }

    /// The size class of the allocation.
    fn class(&self) -> u32 {
        class_of(self.shape().total()) + u32::from(self.header().kind >> SLACK_SHIFT)
    }

    /// `len` bytes from offset `from`, which the caller took from this entry's own shape.
    #[inline]
    fn bytes(&self, from: usize, len: usize) -> &[u8] {
        // SAFETY: key and value lie inside the allocation at the offsets that the shape gives, and all their bytes
        // are initialised: the key by `allocate`, the value by whoever called `allocate` or `reshape`.
        unsafe { slice::from_raw_parts(self.at.add(from).as_ptr(), len) }
    }

    #[inline]
    fn value_at_and_register(&self) -> (usize, Option<(u64, u64)>) {
        let (key_at, key_len) = self.key_range();
        let register_at = key_at + key_len;
        if self.header().kind & DEADLINE == 0 {
            return (register_at, None);
        }
        // SAFETY: with DEADLINE 16 initialised bytes follow the key; they need not be aligned.
        let register = unsafe { self.at.add(register_at).cast::<[u64; 2]>().read_unaligned() };
        (register_at + REGISTER_BYTES, Some((register[0], register[1])))
    }

    /// Stores the register; whether there is one was decided by the shape.
    #[inline]
    fn write_register(&mut self, deadline: Option<(u64, u64)>) {
        debug_assert_eq!(deadline.is_some(), self.shape().has_register);
        let Some((stamp, deadline_ms)) = deadline else { return };
        let (key_at, key_len) = self.key_range();
        // SAFETY: the shape has a register: 16 bytes after the key belong to it, aligned or not.
        unsafe { self.at.add(key_at + key_len).cast::<[u64; 2]>().write_unaligned([stamp, deadline_ms]) }
    }

    /// Stores the whole value; its length was decided by the shape.
    #[inline]
    fn write_value(&mut self, value: &[u8]) {
        let shape = self.shape();
        assert_eq!(value.len(), shape.value_len);
        // SAFETY: the shape has this many bytes of value at this offset inside the allocation; `value` cannot overlap
        // them because `&mut self` is unique. The bytes need not be initialised before.
        unsafe { ptr::copy_nonoverlapping(value.as_ptr(), self.at.add(shape.value_at()).as_ptr(), value.len()) }
    }

    /// A new allocation of the smallest class that holds `shape`. Register and value are not initialised: the caller
    /// writes them before anything else happens.
    fn allocate(key: &[u8], shape: Shape, stamp: u64) -> Self {
        let class = class_of(shape.total());
        let layout = layout_of(class);
        // SAFETY: no class has zero bytes.
        let at = unsafe { alloc(layout) };
        let Some(at) = NonNull::new(at) else { handle_alloc_error(layout) };
        let is_long = shape.flags() & LONG_KEY != 0;
        let header = Header {
            stamp,
            value_len: shape.value_len as u32,
            key_len: if is_long { 0 } else { shape.key_len as u16 },
            kind: shape.flags(),
            access: 0,
        };
        // SAFETY: the allocation has at least `shape.total()` bytes, which counts header, extension, key, register
        // and value at these offsets, and is aligned for a header. Nothing else refers to it yet.
        unsafe {
            at.cast::<Header>().write(header);
            if is_long {
                at.add(HEADER_BYTES).cast::<u32>().write(shape.key_len as u32);
            }
            ptr::copy_nonoverlapping(key.as_ptr(), at.add(shape.key_at()).as_ptr(), shape.key_len);
        }
        Self { at, owns: PhantomData }
    }

    /// Makes room for a register or not and for `value_len` bytes of value, of which the first `keep` are kept. A
    /// register present before and after is kept. Everything else is not initialised: the caller writes it before
    /// anything else happens. Afterwards this is a string. There must be no payload inside.
    fn reshape(&mut self, has_register: bool, value_len: usize, keep: usize) {
        let old = self.shape();
        let new = Shape::new(old.key_len, has_register, value_len);
        let (class, needed) = (self.class(), class_of(new.total()));
        if needed > class || class - needed > SLACK_MAX {
            return self.reallocate(new, keep);
        }
        assert!(keep <= old.value_len.min(new.value_len));
        // SAFETY: both ranges of `keep` bytes lie inside values, the old one inside the contents and the new one
        // inside the `class` bytes that were allocated; they may overlap.
        unsafe { ptr::copy(self.at.add(old.value_at()).as_ptr(), self.at.add(new.value_at()).as_ptr(), keep) }
        let header = self.header_mut();
        header.value_len = value_len as u32;
        header.kind = new.flags() | ((class - needed) as u8) << SLACK_SHIFT;
    }

    #[cold]
    fn reallocate(&mut self, new: Shape, keep: usize) {
        let mut moved = Self::allocate(self.key(), new, self.stamp());
        moved.set_access(self.access());
        let register = self.deadline();
        if new.has_register && register.is_some() {
            moved.write_register(register);
        }
        let kept = self.bytes(self.shape().value_at(), keep);
        assert!(keep <= self.shape().value_len.min(new.value_len));
        // SAFETY: the new value has at least `keep` bytes, in another allocation than the old one.
        unsafe { ptr::copy_nonoverlapping(kept.as_ptr(), moved.at.add(new.value_at()).as_ptr(), keep) }
        *self = moved;
    }

    /// Leaves a tombstone without meaning where a payload was.
    fn detach_payload(&mut self) -> Option<R> {
        if !self.is_rich() {
            return None;
        }
        // SAFETY: with RICH an initialised payload lies there, aligned; the lines below forget it.
        let payload = unsafe { self.payload_at().read() };
        let header = self.header_mut();
        header.kind = header.kind & !RICH | TOMBSTONE;
        header.stamp = 0;
        Some(payload)
    }

    /// Makes a string whose value is as long as padding and payload a rich entry.
    fn put_payload(&mut self, payload: R) {
        assert!(self.is_plain() && self.payload_offset() + size_of::<R>() <= self.shape().total());
        // SAFETY: inside the allocation, as just seen, and aligned; nothing refers to it, and a string's bytes need no
        // dropping.
        unsafe { self.payload_at().write(payload) }
        self.header_mut().kind |= RICH;
    }

    /// Where the payload of a rich entry lies: after the key, aligned.
    #[inline]
    fn payload_at(&self) -> NonNull<R> {
        const { assert!(align_of::<R>() <= ALIGN, "allocations are aligned to 8") };
        // SAFETY: `put_payload` checked that this lies inside the allocation.
        unsafe { self.at.add(self.payload_offset()).cast() }
    }

    #[inline]
    fn payload_offset(&self) -> usize {
        let (key_at, key_len) = self.key_range();
        (key_at + key_len).next_multiple_of(ALIGN)
    }
}

impl<R> Drop for Entry<R> {
    fn drop(&mut self) {
        let payload = self.detach_payload();
        // SAFETY: `allocate` used the layout of this class; `reshape` keeps the slack so that the class stays known.
        unsafe { dealloc(self.at.as_ptr(), layout_of(self.class())) }
        drop(payload);
    }
}

impl<R> fmt::Debug for Entry<R> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.view() {
            View::Plain { .. } => "plain",
            View::Rich(_) => "rich",
            View::Tombstone { .. } => "tombstone",
        };
        write!(out, "Entry({what} \"{}\")", self.key().escape_ascii())
    }
}

/// Bytes from an offset to the next that is aligned.
#[inline]
fn padding_after(offset: usize) -> usize {
    offset.next_multiple_of(ALIGN) - offset
}

/// What decides where everything lies.
#[derive(Clone, Copy)]
struct Shape {
    key_len: usize,
    has_register: bool,
    value_len: usize,
}

impl Shape {
    fn new(key_len: usize, has_register: bool, value_len: usize) -> Self {
        let max = u32::MAX as usize;
        assert!(key_len <= max, "a key of {key_len} bytes, at most {max} fit");
        assert!(value_len <= max, "a value of {value_len} bytes, at most {max} fit");
        Self { key_len, has_register, value_len }
    }

    #[inline]
    fn flags(self) -> u8 {
        let long = if self.key_len > usize::from(u16::MAX) { LONG_KEY } else { 0 };
        long | if self.has_register { DEADLINE } else { 0 }
    }

    #[inline]
    fn key_at(self) -> usize {
        HEADER_BYTES + if self.key_len > usize::from(u16::MAX) { LONG_LENGTH_BYTES } else { 0 }
    }

    #[inline]
    fn register_at(self) -> usize {
        self.key_at() + self.key_len
    }

    #[inline]
    fn value_at(self) -> usize {
        self.register_at() + if self.has_register { REGISTER_BYTES } else { 0 }
    }

    #[inline]
    fn total(self) -> usize {
        self.value_at() + self.value_len
    }
}

/// Numbers mimalloc's size classes: 16, 32, 48, 64, then four per doubling: 80, 96, 112, 128, 160, 192, ...
#[inline]
fn class_of(bytes: usize) -> u32 {
    let last = bytes.max(1) - 1;
    if last < 64 {
        return (last / 16) as u32;
    }
    let log = last.ilog2();
    4 + (log - 6) * 4 + (last >> (log - 2)) as u32 % 4
}

/// The largest size of a class.
#[inline]
fn class_bytes(class: u32) -> usize {
    match class.checked_sub(4) {
        None => 16 * (class as usize + 1),
        Some(step) => (step as usize % 4 + 5) << (step / 4 + 4),
    }
}

fn layout_of(class: u32) -> Layout {
    Layout::from_size_align(class_bytes(class), ALIGN).expect("two lengths below 2^32 cannot overflow a layout")
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use proptest::prelude::*;

    use super::*;

    type Plain = Entry<u8>;

    const SIZES: [usize; 14] = [0, 1, 7, 15, 16, 17, 48, 64, 65, 1000, 4096, 65535, 65536, 70_001];

    fn bytes(len: usize, salt: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 31 + salt) as u8).collect()
    }

    #[track_caller]
    fn check<R>(entry: &Entry<R>, key: &[u8], value: &[u8], stamp: u64, deadline: Option<(u64, u64)>) {
        assert_eq!(entry.key(), key);
        let View::Plain { stamp: s, value: v, deadline: d } = entry.view() else { panic!("{entry:?} is not plain") };
        assert_eq!((s, v, d), (stamp, value, deadline));
        assert_eq!((entry.stamp(), entry.deadline()), (stamp, deadline));
        let needed = HEADER_BYTES + key.len() + value.len() + if deadline.is_some() { 16 } else { 0 };
        assert!(entry.heap_bytes() >= needed && (entry.heap_bytes() < 2 * needed + 32));
    }

    #[test]
    fn size_classes_are_those_of_mimalloc_and_round_trip() {
        let sizes: Vec<usize> = (0..14).map(class_bytes).collect();
        assert_eq!(sizes, [16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384]);
        for class in 0..130 {
            assert_eq!(class_of(class_bytes(class)), class);
            assert_eq!(class_of(class_bytes(class) + 1), class + 1);
        }
        assert_eq!(class_of(0), 0);
    }

    #[test]
    fn key_of_16_and_value_of_64_bytes_take_96() {
        assert_eq!(Plain::plain(&[1; 16], &[2; 64], 3, None).heap_bytes(), 96);
        assert_eq!(Plain::plain(&[1; 16], &[2; 64], 3, Some((4, 5))).heap_bytes(), 112);
        assert_eq!(Plain::tombstone(&[1; 16], 3).heap_bytes(), 32);
        assert_eq!(Entry::rich(&[1; 16], 7u64).heap_bytes(), 48);
    }

    #[test]
    fn plain_entries_of_all_sizes_round_trip() {
        let sizes: Vec<usize> =
            SIZES.into_iter().filter(|len| !cfg!(miri) || [0, 1, 65535, 65536].contains(len)).collect();
        for &key_len in &sizes {
            for &value_len in &sizes {
                let (key, value) = (bytes(key_len, 1), bytes(value_len, 2));
                for deadline in [None, Some((8, 9)), Some((8, NO_DEADLINE_MS))] {
                    check(&Plain::plain(&key, &value, 7, deadline), &key, &value, 7, deadline);
                }
            }
        }
    }

    #[test]
    fn equal_size_overwrite_keeps_the_allocation() {
        let mut entry = Plain::plain(b"key", &bytes(64, 1), 1, None);
        let at = entry.at;
        entry.set_plain(&bytes(64, 2), 2, None);
        assert_eq!(entry.at, at);
        check(&entry, b"key", &bytes(64, 2), 2, None);
    }

    #[test]
    fn value_moves_only_when_its_class_grows_or_it_shrinks_below_about_half() {
        let mut entry = Plain::plain(&[0; 16], &[1; 225], 1, None); // 257 bytes, class 320
        let at = entry.at;
        for len in [288, 225, 200, 150, 288] {
            entry.set_plain(&bytes(len, 3), 2, None);
            assert_eq!((entry.at, entry.heap_bytes()), (at, 320));
            check(&entry, &[0; 16], &bytes(len, 3), 2, None);
        }
        entry.set_plain(&[1; 289], 3, None);
        assert_eq!(entry.heap_bytes(), 384);
        entry.set_plain(&[1; 10], 4, None);
        assert_eq!(entry.heap_bytes(), 48);
    }

    #[test]
    fn payload_is_dropped_once_however_it_leaves() {
        let drops = Rc::new(Cell::new(0));
        struct Counted(Rc<Cell<u32>>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
            }
        }
        let rich = || Entry::rich(b"k", Box::new(Counted(drops.clone())));
        drop(rich());
        assert_eq!(drops.get(), 1);
        let payload = rich().take_rich().expect("it is rich");
        assert_eq!(drops.get(), 1);
        let mut entry = rich();
        entry.set_rich(payload);
        assert_eq!(drops.get(), 2);
        assert!(entry.rich_mut().is_some() && entry.value_mut().is_none());
        entry.set_plain(&[5; 100], 9, None);
        assert_eq!(drops.get(), 3);
        check(&entry, b"k", &[5; 100], 9, None);
        let mut entry = rich();
        entry.set_tombstone(4);
        assert_eq!(drops.get(), 4);
        assert!(matches!(entry.view(), View::Tombstone { stamp: 4 }));
        assert!(entry.take_rich().is_err());
        assert_eq!(drops.get(), 4);
    }

    #[test]
    fn resizing_keeps_the_head_and_adds_zeros() {
        let mut entry = Plain::plain(b"key", b"abcdef", 1, Some((2, 3)));
        entry.resize_value(3);
        check(&entry, b"key", b"abc", 1, Some((2, 3)));
        entry.resize_value(1000);
        let mut expected = b"abc".to_vec();
        expected.resize(1000, 0);
        check(&entry, b"key", &expected, 1, Some((2, 3)));
        entry.resize_value(5);
        check(&entry, b"key", b"abc\0\0", 1, Some((2, 3)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        SetPlain(usize, Option<(u64, u64)>),
        SetDeadline(Option<(u64, u64)>),
        Resize(usize),
        Tombstone,
        Rich,
        Write,
    }

    fn step() -> impl Strategy<Value = Step> {
        let len = || prop_oneof![0usize..40, 0usize..400, 60_000usize..70_000];
        let deadline = || proptest::option::of((any::<u64>(), any::<u64>()));
        prop_oneof![
            (len(), deadline()).prop_map(|(len, deadline)| Step::SetPlain(len, deadline)),
            deadline().prop_map(Step::SetDeadline),
            len().prop_map(Step::Resize),
            Just(Step::Tombstone),
            Just(Step::Rich),
            Just(Step::Write),
        ]
    }

    #[derive(Clone, PartialEq, Debug)]
    enum Model {
        Plain(Vec<u8>, Option<(u64, u64)>),
        Rich(u64),
        Tombstone,
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn prop_any_sequence_of_changes_reads_back(
            key_len in prop_oneof![0usize..40, Just(65535), Just(65536)],
            steps in proptest::collection::vec(step(), 1..40),
        ) {
            let key = bytes(key_len, 5);
            let mut entry = Entry::<u64>::tombstone(&key, 0);
            entry.set_access(77);
            let mut model = Model::Tombstone;
            for (at, step) in steps.into_iter().enumerate() {
                let stamp = at as u64 + 1;
                match step {
                    Step::SetPlain(len, deadline) => {
                        entry.set_plain(&bytes(len, at), stamp, deadline);
                        model = Model::Plain(bytes(len, at), deadline);
                    }
                    Step::Tombstone => {
                        entry.set_tombstone(stamp);
                        model = Model::Tombstone;
                    }
                    Step::Rich => {
                        entry.set_rich(stamp);
                        model = Model::Rich(stamp);
                    }
                    other => {
                        let Model::Plain(value, deadline) = &mut model else { continue };
                        match other {
                            Step::SetDeadline(new) => {
                                entry.set_deadline(new);
                                *deadline = new;
                            }
                            Step::Resize(len) => {
                                entry.resize_value(len);
                                value.resize(len, 0);
                            }
                            _ => {
                                value.fill(at as u8);
                                entry.value_mut().expect("it is plain").fill(at as u8);
                            }
                        }
                        entry.set_stamp(stamp);
                    }
                }
                let (seen, seen_stamp) = match entry.view() {
                    View::Plain { stamp, value, deadline } => (Model::Plain(value.to_vec(), deadline), stamp),
                    View::Rich(payload) => (Model::Rich(*payload), *payload),
                    View::Tombstone { stamp } => (Model::Tombstone, stamp),
                };
                prop_assert_eq!(&seen, &model);
                prop_assert_eq!(seen_stamp, stamp);
                prop_assert_eq!(entry.key(), &key[..]);
                prop_assert_eq!(entry.access(), 77);
            }
        }
    }
}
