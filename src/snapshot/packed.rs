//! Redis' packed forms, read only: compressed strings, and the small hashes of redis-server's own files.

use super::read::FieldsBuf;

/// Appends what an LZF string of `len` bytes stands for. `None`: malformed.
pub fn lzf(packed: &[u8], len: usize, out: &mut Vec<u8>) -> Option<()> {
    let end = out.len().checked_add(len)?;
    let start = out.len();
    let mut rest = packed;
    while let Some((&control, tail)) = rest.split_first() {
        let control = usize::from(control);
        if control < 32 {
            let (literal, tail) = tail.split_at_checked(control + 1)?;
            out.extend_from_slice(literal);
            rest = tail;
        } else {
            let (more, tail) = if control >> 5 == 7 { tail.split_first()? } else { (&0, tail) };
            let (&low, tail) = tail.split_first()?;
            let length = (control >> 5) + usize::from(*more) + 2;
            let back = ((control & 0x1f) << 8 | usize::from(low)) + 1;
            let from = out.len().checked_sub(back).filter(|&from| from >= start)?;
            // It may overlap what it writes.
            for at in from..from + length {
                out.push(out[at]);
            }
            rest = tail;
        }
        if out.len() > end {
            return None;
        }
    }
    (out.len() == end).then_some(())
}

/// The elements of a listpack. `None`: malformed.
pub fn listpack(bytes: &[u8], into: &mut FieldsBuf) -> Option<()> {
    let mut rest = bytes.get(6..)?;
    loop {
        let (&first, tail) = rest.split_first()?;
        let size = match first {
            0xff => return tail.is_empty().then_some(()),
            0x00..=0x7f => {
                into.push_integer(i64::from(first));
                1
            }
            0x80..=0xbf => push_text(into, tail, 0, usize::from(first & 0x3f))? + 1,
            0xc0..=0xdf => {
                let raw = i64::from(first & 0x1f) << 8 | i64::from(*tail.first()?);
                into.push_integer(if raw >= 1 << 12 { raw - (1 << 13) } else { raw });
                2
            }
            0xe0..=0xef => {
                let len = usize::from(first & 0x0f) << 8 | usize::from(*tail.first()?);
                push_text(into, tail, 1, len)? + 1
            }
            0xf0 => {
                let len = u32::from_le_bytes(*tail.first_chunk()?) as usize;
                push_text(into, tail, 4, len)? + 1
            }
            0xf1..=0xf4 => push_signed(into, tail, [2, 3, 4, 8][usize::from(first - 0xf1)])? + 1,
            _ => return None,
        };
        let back = match size {
            0..=127 => 1,
            128..16383 => 2,
            16383..2_097_151 => 3,
            2_097_151..268_435_455 => 4,
            _ => 5,
        };
        rest = rest.get(size + back..)?;
    }
}

/// The elements of a ziplist. `None`: malformed.
pub fn ziplist(bytes: &[u8], into: &mut FieldsBuf) -> Option<()> {
    let mut rest = bytes.get(10..)?;
    loop {
        let (&previous, tail) = rest.split_first()?;
        let tail = match previous {
            0xff => return tail.is_empty().then_some(()),
            0xfe => tail.get(4..)?,
            _ => tail,
        };
        let (&first, tail) = tail.split_first()?;
        let used = match first {
            0x00..=0x3f => push_text(into, tail, 0, usize::from(first))?,
            0x40..=0x7f => {
                let len = usize::from(first & 0x3f) << 8 | usize::from(*tail.first()?);
                push_text(into, tail, 1, len)?
            }
            0x80..=0xbf => {
                let len = u32::from_be_bytes(*tail.first_chunk()?) as usize;
                push_text(into, tail, 4, len)?
            }
            0xc0 => push_signed(into, tail, 2)?,
            0xd0 => push_signed(into, tail, 4)?,
            0xe0 => push_signed(into, tail, 8)?,
            0xf0 => push_signed(into, tail, 3)?,
            0xfe => push_signed(into, tail, 1)?,
            0xf1..=0xfd => {
                into.push_integer(i64::from(first & 0x0f) - 1);
                0
            }
            _ => return None,
        };
        rest = tail.get(used..)?;
    }
}

/// The names and values of a zipmap. `None`: malformed.
pub fn zipmap(bytes: &[u8], into: &mut FieldsBuf) -> Option<()> {
    let mut rest = bytes.get(1..)?;
    loop {
        if *rest.first()? == 0xff {
            return (rest.len() == 1).then_some(());
        }
        let (len, tail) = zipmap_length(rest)?;
        let (name, tail) = tail.split_at_checked(len)?;
        let (len, tail) = zipmap_length(tail)?;
        let (&free, tail) = tail.split_first()?;
        let (value, tail) = tail.split_at_checked(len)?;
        into.push(name);
        into.push(value);
        rest = tail.get(usize::from(free)..)?;
    }
}

fn zipmap_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes.split_first()? {
        (&254, tail) => {
            let (len, tail) = tail.split_first_chunk()?;
            Some((u32::from_le_bytes(*len) as usize, tail))
        }
        (&255, _) => None,
        (&len, tail) => Some((usize::from(len), tail)),
    }
}

// A text of `len` bytes behind `skip` bytes; returns how many bytes both take.
fn push_text(into: &mut FieldsBuf, tail: &[u8], skip: usize, len: usize) -> Option<usize> {
    let end = skip.checked_add(len)?;
    into.push(tail.get(skip..end)?);
    Some(end)
}

// A little-endian signed number of `width` bytes.
fn push_signed(into: &mut FieldsBuf, tail: &[u8], width: usize) -> Option<usize> {
    let mut bytes = [0u8; 8];
    bytes[8 - width..].copy_from_slice(tail.get(..width)?);
    into.push_integer(i64::from_le_bytes(bytes) >> (8 * (8 - width)));
    Some(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_string_may_overlap_itself() {
        let mut out = b"before".to_vec();
        // Literal "ab", then 10 bytes from 2 back.
        assert_eq!(lzf(&[1, b'a', b'b', 0xe0, 1, 1], 12, &mut out), Some(()));
        assert_eq!(out, b"beforeabababababab");
        assert_eq!(lzf(&[1, b'a', b'b', 0xe0, 1, 9], 12, &mut Vec::from(*b"before")), None);
        assert_eq!(lzf(&[1, b'a'], 2, &mut Vec::new()), None);
    }
}
