//! Parts of strings: APPEND, SETRANGE, GETRANGE and STRLEN.
//!
//! A change of a part is a write of the whole value, because that is what a peer merges: it costs a copy of the value
//! each time. The deadline is kept.

use super::Ctx;
use super::args::Args;
use super::error::CommandError;
use super::spec::Run::Owner;
use super::spec::{FAST, GROWS, Group, Keys, READ, Spec, WRITE, spec};
use crate::merge::op::SetDeadline;
use crate::resp::write::Reply;

const STRING: Group = Group::String;

/// The rows of this file.
#[rustfmt::skip]
pub const FAMILY: &[Spec] = &[
    spec("strlen",   2, READ.or(FAST),            Keys::ONE, Owner(strlen),   STRING, "2.2.0", "Returns the length of a string value."),
    spec("append",   3, WRITE.or(GROWS).or(FAST), Keys::ONE, Owner(append),   STRING, "2.0.0", "Appends a string to the value of a key. Creates the key if it doesn't exist."),
    spec("setrange", 4, WRITE.or(GROWS),          Keys::ONE, Owner(setrange), STRING, "2.2.0", "Overwrites a part of a string value with another by an offset. Creates the key if it doesn't exist."),
    spec("getrange", 4, READ,                     Keys::ONE, Owner(getrange), STRING, "2.4.0", "Returns a substring of the string stored at a key."),
    spec("substr",   4, READ,                     Keys::ONE, Owner(getrange), STRING, "1.0.0", "Returns a substring from a string value."),
];

fn strlen(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    let bytes = ctx.string(&key)?.map_or(0, <[u8]>::len);
    reply.integer(bytes as i64);
    Ok(())
}

fn append(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (key, tail) = (ctx.key(args.next()?), args.next()?);

    let Some(mut value) = ctx.string_copy(&key)? else {
        // Appending nothing still creates the key.
        ctx.set(&key, tail, SetDeadline::Clear);
        reply.integer(tail.len() as i64);
        return Ok(());
    };
    expect_fitting(ctx, value.len(), tail.len())?;

    if !tail.is_empty() {
        value.extend_from_slice(tail);
        ctx.set(&key, &value, SetDeadline::Keep);
    }
    reply.integer(value.len() as i64);
    Ok(())
}

fn setrange(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (key, offset, part) = (ctx.key(args.next()?), args.integer()?, args.next()?);
    let offset = usize::try_from(offset).map_err(|_| CommandError::Text("ERR offset is out of range"))?;

    let mut value = ctx.string_copy(&key)?.unwrap_or_default();
    if part.is_empty() {
        reply.integer(value.len() as i64);
        return Ok(());
    }
    expect_fitting(ctx, offset, part.len())?;

    let end = offset + part.len();
    if value.len() < end {
        value.resize(end, 0);
    }
    value[offset..end].copy_from_slice(part);
    ctx.set(&key, &value, SetDeadline::Keep);
    reply.integer(value.len() as i64);
    Ok(())
}

fn getrange(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (key, start, end) = (ctx.key(args.next()?), args.integer()?, args.integer()?);
    let value = ctx.string(&key)?.unwrap_or_default();
    let range = clamped_range(start, end, value.len() as i64);
    reply.bulk(range.map_or(&[], |(first, last)| &value[first as usize..=last as usize]));
    Ok(())
}

/// What GETRANGE and BITCOUNT make of a range in which negative numbers count from the end: first and last, both
/// inside `0..len`; `None` when it is empty.
pub fn clamped_range(start: i64, end: i64, len: i64) -> Option<(i64, i64)> {
    // Two ends that are both before the start would be clamped to a range of one otherwise.
    if start < 0 && end < 0 && start > end { None } else { clamped_loosely(start, end, len) }
}

/// What BITPOS makes of a range: as [`clamped_range`], but two ends before the start are a range of one.
pub fn clamped_loosely(start: i64, end: i64, len: i64) -> Option<(i64, i64)> {
    let from_end = |at: i64| if at < 0 { at.saturating_add(len).max(0) } else { at };
    let (first, last) = (from_end(start), from_end(end).min(len - 1));
    (first <= last).then_some((first, last))
}

/// Refuses a string that would be longer than the configuration allows.
pub fn expect_fitting(ctx: &Ctx<'_>, bytes: usize, more: usize) -> Result<(), CommandError> {
    let total = bytes.checked_add(more);
    if total.is_some_and(|total| total <= ctx.limits.string_bytes_max) {
        return Ok(());
    }
    Err(CommandError::Text("ERR string exceeds maximum allowed size (proto-max-bulk-len)"))
}
