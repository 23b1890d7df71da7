//! Asking for memory ahead of its use.

/// Bytes that come from memory together.
const LINE_BYTES: usize = 64;

/// Asks for the cache lines of `bytes` at `at`, without waiting for them. Any address will do.
#[inline(always)]
pub fn prefetch<T>(at: *const T, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let at = at.cast::<i8>();
        let before = at.addr() % LINE_BYTES;
        for line in 0..(before + bytes).div_ceil(LINE_BYTES) {
            // SAFETY: a prefetch reads nothing and faults on no address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(line * LINE_BYTES).wrapping_sub(before)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, bytes, LINE_BYTES);
}
