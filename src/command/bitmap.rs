//! Strings as rows of bits, the highest bit of a byte first: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP. Integers of any
//! width are in `bitfield`.

use super::Ctx;
use super::args::Args;
use super::error::CommandError;
use super::spec::Run::{Gather, Owner};
use super::spec::{FAST, GROWS, Group, Keys, READ, Spec, WRITE, spec};
use super::substring::{clamped_loosely, clamped_range};
use crate::base::text::{eq_ignore_case, parse_i64};
use crate::merge::op::SetDeadline;
use crate::resp::write::Reply;

const BITMAP: Group = Group::Bitmap;

/// The rows of this file.
#[rustfmt::skip]
pub const FAMILY: &[Spec] = &[
    spec("setbit",   4,  WRITE.or(GROWS), Keys::ONE,     Owner(setbit),   BITMAP, "2.2.0", "Sets or clears the bit at offset of the string value. Creates the key if it doesn't exist."),
    spec("getbit",   3,  READ.or(FAST),   Keys::ONE,     Owner(getbit),   BITMAP, "2.2.0", "Returns a bit value by offset."),
    spec("bitcount", -2, READ,            Keys::ONE,     Owner(bitcount), BITMAP, "2.6.0", "Counts the number of set bits (population counting) in a string."),
    spec("bitpos",   -3, READ,            Keys::ONE,     Owner(bitpos),   BITMAP, "2.8.7", "Finds the first set (1) or clear (0) bit in a string."),
    spec("bitop",    -4, WRITE.or(GROWS), Keys::from(2), Gather(bitop),   BITMAP, "2.6.0", "Performs bitwise operations on multiple strings, and stores the result."),
];

fn setbit(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (key, at) = (ctx.key(args.next()?), bit_offset(ctx, args.next()?)?);
    let on = match parse_i64(args.next()?) {
        Some(bit @ (0 | 1)) => bit == 1,
        _ => return Err(CommandError::Text("ERR bit is not an integer or out of range")),
    };

    let mut value = ctx.string_copy(&key)?.unwrap_or_default();
    let byte = (at >> 3) as usize;
    let mask = 0x80 >> (at & 7);
    let grows = byte >= value.len();
    if grows {
        value.resize(byte + 1, 0);
    }
    let was_on = value[byte] & mask != 0;
    if grows || was_on != on {
        value[byte] ^= if was_on == on { 0 } else { mask };
        ctx.set(&key, &value, SetDeadline::Keep);
    }
    reply.integer(i64::from(was_on));
    Ok(())
}

fn getbit(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (key, at) = (ctx.key(args.next()?), bit_offset(ctx, args.next()?)?);
    let value = ctx.string(&key)?.unwrap_or_default();
    reply.integer(i64::from(bit(value, at)));
    Ok(())
}

fn bitcount(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    let range = match args.left() {
        0 => None,
        2 | 3 => Some((args.integer()?, args.integer()?, Unit::parse(args)?)),
        _ => return Err(CommandError::Syntax),
    };

    let value = ctx.string(&key)?.unwrap_or_default();
    let (start, end, unit) = range.unwrap_or((0, -1, Unit::Byte));
    let bits = clamped_range(start, end, unit.length_of(value)).map(|range| unit.bits(range));
    reply.integer(bits.map_or(0, |(first, last)| count_ones(value, first, last)));
    Ok(())
}

fn bitpos(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    let wanted = match args.integer()? {
        bit @ (0 | 1) => bit == 1,
        _ => return Err(CommandError::Text("ERR The bit argument must be 1 or 0.")),
    };
    let start = if args.left() > 0 { args.integer()? } else { 0 };
    let end = if args.left() > 0 { Some(args.integer()?) } else { None };
    let unit = Unit::parse(args)?;

    let Some(value) = ctx.string(&key)? else {
        // An absent key is endless zeros.
        reply.integer(if wanted { -1 } else { 0 });
        return Ok(());
    };
    let range = clamped_loosely(start, end.unwrap_or(-1), unit.length_of(value)).map(|range| unit.bits(range));
    let found = range.and_then(|(first, last)| match find_bit(value, first, last, wanted) {
        // Unless an end was given, zeros follow the string.
        None if !wanted && end.is_none() => Some(value.len() as i64 * 8),
        found => found,
    });
    reply.integer(found.unwrap_or(-1));
    Ok(())
}

fn bitop(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let operation = args.next()?;
    let named = |name| eq_ignore_case(operation, name);
    let combine: fn(u8, u8) -> u8 = match () {
        () if named("and") => |a, b| a & b,
        () if named("or") => |a, b| a | b,
        () if named("xor") => |a, b| a ^ b,
        () if named("not") => |a, _| !a,
        () => return Err(CommandError::Syntax),
    };
    let target = ctx.key(args.next()?);
    if named("not") && args.left() != 1 {
        return Err(CommandError::Text("ERR BITOP NOT must be called with a single source key."));
    }

    let mut sources = Vec::with_capacity(args.left());
    for source in args.rest() {
        let source = ctx.key(source);
        sources.push(ctx.string_copy(&source)?.unwrap_or_default());
    }
    let mut sources = sources.into_iter();
    let mut result = sources.next().unwrap_or_default();
    if named("not") {
        result.iter_mut().for_each(|byte| *byte = combine(*byte, 0));
    }
    for source in sources {
        // Shorter strings count as followed by zeros.
        if result.len() < source.len() {
            result.resize(source.len(), 0);
        }
        let (common, rest) = result.split_at_mut(source.len());
        common.iter_mut().zip(&source).for_each(|(byte, &other)| *byte = combine(*byte, other));
        rest.iter_mut().for_each(|byte| *byte = combine(*byte, 0));
    }

    if result.is_empty() {
        ctx.del(&target);
    } else {
        ctx.set(&target, &result, SetDeadline::Clear);
    }
    reply.integer(result.len() as i64);
    Ok(())
}

/// An offset in bits, within what a string may hold.
pub fn bit_offset(ctx: &Ctx<'_>, text: &[u8]) -> Result<u64, CommandError> {
    expect_offset(ctx, parse_i64(text))
}

/// Refuses offsets outside what a string may hold.
pub fn expect_offset(ctx: &Ctx<'_>, at: Option<i64>) -> Result<u64, CommandError> {
    at.and_then(|at| u64::try_from(at).ok())
        .filter(|at| at >> 3 < ctx.limits.string_bytes_max as u64)
        .ok_or(CommandError::Text("ERR bit offset is not an integer or out of range"))
}

/// What the numbers of a range count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Byte,
    Bit,
}

impl Unit {
    // The last argument of a range; bytes when absent.
    fn parse(args: &mut Args<'_>) -> Result<Self, CommandError> {
        let unit = if args.word("bit") {
            Self::Bit
        } else {
            args.word("byte");
            Self::Byte
        };
        args.finish()?;
        Ok(unit)
    }

    fn length_of(self, value: &[u8]) -> i64 {
        let bytes = value.len() as i64;
        if self == Self::Bit { bytes * 8 } else { bytes }
    }

    // First and last bit of a range in this unit.
    fn bits(self, (first, last): (i64, i64)) -> (u64, u64) {
        let (first, last) = (first as u64, last as u64);
        if self == Self::Bit { (first, last) } else { (first * 8, last * 8 + 7) }
    }
}

fn bit(value: &[u8], at: u64) -> bool {
    value.get((at >> 3) as usize).is_some_and(|byte| byte & (0x80 >> (at & 7)) != 0)
}

// Bits `first..=last` of a byte whose first bit is `from`.
fn mask(from: u64, first: u64, last: u64) -> u8 {
    let head = 0xff >> first.saturating_sub(from).min(7);
    let tail = 0xff << (from + 7).saturating_sub(last).min(7);
    head & tail
}

fn count_ones(value: &[u8], first: u64, last: u64) -> i64 {
    let (from, to) = ((first >> 3) as usize, (last >> 3) as usize);
    let edge = |at: usize| value[at] & mask(at as u64 * 8, first, last);
    if from == to {
        return i64::from(edge(from).count_ones());
    }
    let mut words = value[from + 1..to].chunks_exact(8);
    let whole: u64 = words
        .by_ref()
        .map(|word| u64::from(u64::from_ne_bytes(word.try_into().expect("eight bytes")).count_ones()))
        .sum();
    let rest: u32 = words.remainder().iter().map(|byte| byte.count_ones()).sum();
    (whole + u64::from(rest + edge(from).count_ones() + edge(to).count_ones())) as i64
}

fn find_bit(value: &[u8], first: u64, last: u64, wanted: bool) -> Option<i64> {
    // Bytes are turned so that a set bit is what is sought.
    let turn = if wanted { 0 } else { 0xff };
    let (from, to) = ((first >> 3) as usize, (last >> 3) as usize);
    let edge = |at: usize| (value[at] ^ turn) & mask(at as u64 * 8, first, last);
    let position = |at: usize, byte: u8| Some(at as i64 * 8 + i64::from(byte.leading_zeros()));
    match edge(from) {
        0 => {}
        byte => return position(from, byte),
    }
    if from == to {
        return None;
    }
    if let Some(skip) = value[from + 1..to].iter().position(|&byte| byte != turn) {
        let at = from + 1 + skip;
        return position(at, value[at] ^ turn);
    }
    match edge(to) {
        0 => None,
        byte => position(to, byte),
    }
}
