//! Numbers: the INCR family. Increments of different nodes add up, so they are written as such wherever they can be.

use super::Ctx;
use super::args::Args;
use super::error::CommandError;
use super::spec::Run::Owner;
use super::spec::{FAST, Flags, GROWS, Group, Keys, Spec, WRITE, spec};
use crate::base::text::{add_decimal, format_f64, parse_f64};
use crate::merge::op::SetDeadline;
use crate::merge::total::Total;
use crate::resp::write::Reply;
use crate::store::keyspace::KeyRef;

const ADDS: Flags = WRITE.or(GROWS).or(FAST);
const STRING: Group = Group::String;

/// The rows of this file.
#[rustfmt::skip]
pub const FAMILY: &[Spec] = &[
    spec("incr",        2, ADDS, Keys::ONE, Owner(incr),        STRING, "1.0.0", "Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't exist."),
    spec("decr",        2, ADDS, Keys::ONE, Owner(decr),        STRING, "1.0.0", "Decrements the integer value of a key by one. Uses 0 as initial value if the key doesn't exist."),
    spec("incrby",      3, ADDS, Keys::ONE, Owner(incrby),      STRING, "1.0.0", "Increments the integer value of a key by a number. Uses 0 as initial value if the key doesn't exist."),
    spec("decrby",      3, ADDS, Keys::ONE, Owner(decrby),      STRING, "1.0.0", "Decrements a number from the integer value of a key. Uses 0 as initial value if the key doesn't exist."),
    spec("incrbyfloat", 3, ADDS, Keys::ONE, Owner(incrbyfloat), STRING, "2.6.0", "Increments the floating point value of a key by a number. Uses 0 as initial value if the key doesn't exist."),
];

fn incr(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    add(ctx, args.next()?, 1, reply)
}

fn decr(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    add(ctx, args.next()?, -1, reply)
}

fn incrby(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (key, by) = (args.next()?, args.integer()?);
    add(ctx, key, by, reply)
}

fn decrby(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (key, by) = (args.next()?, args.integer()?);
    let by = by.checked_neg().ok_or(CommandError::Text("ERR decrement would overflow"))?;
    add(ctx, key, by, reply)
}

#[inline]
fn add(ctx: &mut Ctx<'_>, key: &[u8], by: i64, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(key);
    reply.integer(ctx.incr(&key, by)?);
    Ok(())
}

fn incrbyfloat(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (key, by) = (ctx.key(args.next()?), args.next()?);
    // Redis complains of the key's type before it looks at the number.
    ctx.expect_string(&key)?;
    if let Some(by) = Total::parse(by)
        && let Some(sum) = ctx.incr_exact(&key, by)?
    {
        ctx.scratch.clear();
        Total::print(sum, ctx.scratch);
        reply.bulk(ctx.scratch);
        return Ok(());
    }
    let text = add_inexactly(ctx, &key, by)?;
    ctx.set(&key, text.as_bytes(), SetDeadline::Keep);
    reply.bulk(text.as_bytes());
    Ok(())
}

// Numbers beyond exact decimals: the sum is one node's view, and the last one written wins.
fn add_inexactly(ctx: &mut Ctx<'_>, key: &KeyRef<'_>, by: &[u8]) -> Result<String, CommandError> {
    let known = match ctx.string(key)? {
        None => 0.0,
        Some(text) => parse_f64(text).ok_or(CommandError::NotFloat)?,
    };
    let by = parse_f64(by).ok_or(CommandError::NotFloat)?;
    let sum = add_decimal(known, by);
    if !sum.is_finite() {
        return Err(CommandError::Text("ERR increment would produce NaN or Infinity"));
    }
    Ok(format_f64(sum))
}
