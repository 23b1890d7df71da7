//! Hashes: fields by name. Walks over all of them by chance or by cursor are in `hash_random` and `scan`.

use super::Ctx;
use super::args::Args;
use super::error::CommandError;
use super::spec::{FAST, Flags, GROWS, Group, Keys, READ, Run, Spec, WRITE, spec};
use crate::base::text::{FloatBuffer, add_decimal, parse_f64};
use crate::merge::total::Total;
use crate::resp::write::Reply;
use crate::shard::hash::HashView;
use crate::shard::write::{NotAdded, Value};

const READ_FAST: Flags = READ.or(FAST);
const GROWS_FAST: Flags = WRITE.or(GROWS).or(FAST);

/// The rows of this file.
pub const FAMILY: &[Spec] = &[
    row("hset", -4, GROWS_FAST, Run::Owner(hset), "2.0.0", "Creates or modifies the value of a field in a hash."),
    row("hmset", -4, GROWS_FAST, Run::Owner(hmset), "2.0.0", "Sets the values of multiple fields."),
    row("hsetnx", 4, GROWS_FAST, Run::Owner(hsetnx), "2.0.0", "Sets the value of a field that does not exist."),
    row("hget", 3, READ_FAST, Run::Owner(hget), "2.0.0", "Returns the value of a field in a hash."),
    row("hmget", -3, READ_FAST, Run::Owner(hmget), "2.0.0", "Returns the values of fields in a hash."),
    row("hgetall", 2, READ, Run::Owner(hgetall), "2.0.0", "Returns all fields and values in a hash."),
    row("hkeys", 2, READ, Run::Owner(hkeys), "2.0.0", "Returns all fields in a hash."),
    row("hvals", 2, READ, Run::Owner(hvals), "2.0.0", "Returns all values in a hash."),
    row("hlen", 2, READ_FAST, Run::Owner(hlen), "2.0.0", "Returns the number of fields in a hash."),
    row("hstrlen", 3, READ_FAST, Run::Owner(hstrlen), "3.2.0", "Returns the length of the value of a field."),
    row("hexists", 3, READ_FAST, Run::Owner(hexists), "2.0.0", "Determines whether a field exists in a hash."),
    row("hdel", -3, WRITE.or(FAST), Run::Owner(hdel), "2.0.0", "Deletes fields of a hash."),
    row("hincrby", 4, GROWS_FAST, Run::Owner(hincrby), "2.0.0", "Adds an integer to a field of a hash."),
    row("hincrbyfloat", 4, GROWS_FAST, Run::Owner(hincrbyfloat), "2.6.0", "Adds a decimal to a field of a hash."),
];

const fn row(
    name: &'static str,
    arity: i16,
    flags: Flags,
    run: Run,
    since: &'static str,
    summary: &'static str,
) -> Spec {
    spec(name, arity, flags, Keys::ONE, run, Group::Hash, since, summary)
}

fn hset(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let added = set_pairs(ctx, args, "hset")?;
    reply.integer(added as i64);
    Ok(())
}

fn hmset(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    set_pairs(ctx, args, "hmset")?;
    reply.ok();
    Ok(())
}

fn set_pairs(ctx: &mut Ctx<'_>, args: &mut Args<'_>, name: &str) -> Result<usize, CommandError> {
    let key = ctx.key(args.next()?);
    if !args.left().is_multiple_of(2) {
        return Err(CommandError::Arity(name.into()));
    }
    let mut rest = args.rest();
    let pairs = (0..rest.len() / 2).map(|_| {
        let mut next = || rest.next().expect("the number of arguments is even");
        (next(), next())
    });
    ctx.hset(&key, pairs)
}

fn hsetnx(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (key, name, value) = (ctx.key(args.next()?), args.next()?, args.next()?);
    let exists = ctx.peek_hash(&key)?.is_some_and(|hash| hash.get(name).is_some());
    if !exists {
        ctx.hset(&key, [(name, value)].into_iter())?;
    }
    reply.integer(i64::from(!exists));
    Ok(())
}

fn hget(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (key, name) = (ctx.key(args.next()?), args.next()?);
    match ctx.read_hash(&key)?.and_then(|hash| hash.get(name)) {
        Some(value) => bulk(reply, value),
        None => reply.nil(),
    }
    Ok(())
}

fn hmget(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    let hash = ctx.read_hash(&key)?;
    reply.array(args.left());
    for name in args.rest() {
        match hash.and_then(|hash| hash.get(name)) {
            Some(value) => bulk(reply, value),
            None => reply.nil(),
        }
    }
    Ok(())
}

fn hgetall(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    let hash = ctx.read_hash(&key)?;
    reply.map(hash.map_or(0, |hash| hash.len()));
    for (name, value) in hash.iter().flat_map(HashView::iter) {
        reply.bulk(name);
        bulk(reply, value);
    }
    Ok(())
}

fn hkeys(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    let hash = ctx.read_hash(&key)?;
    reply.array(hash.map_or(0, |hash| hash.len()));
    hash.iter().flat_map(HashView::iter).for_each(|(name, _)| reply.bulk(name));
    Ok(())
}

fn hvals(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    let hash = ctx.read_hash(&key)?;
    reply.array(hash.map_or(0, |hash| hash.len()));
    hash.iter().flat_map(HashView::iter).for_each(|(_, value)| bulk(reply, value));
    Ok(())
}

fn hlen(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    reply.integer(ctx.read_hash(&key)?.map_or(0, |hash| hash.len()) as i64);
    Ok(())
}

fn hstrlen(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (key, name) = (ctx.key(args.next()?), args.next()?);
    let mut printed = Vec::new();
    let value = ctx.read_hash(&key)?.and_then(|hash| hash.get(name));
    let bytes = value.and_then(|value| value.bytes(&mut printed)).map_or(0, <[u8]>::len);
    reply.integer(bytes as i64);
    Ok(())
}

fn hexists(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (key, name) = (ctx.key(args.next()?), args.next()?);
    let exists = ctx.read_hash(&key)?.is_some_and(|hash| hash.get(name).is_some());
    reply.integer(i64::from(exists));
    Ok(())
}

fn hdel(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    let removed = ctx.shard.hdel(ctx.db, &key, args.rest(), ctx.now)?;
    reply.integer(removed as i64);
    Ok(())
}

fn hincrby(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (key, name, by) = (ctx.key(args.next()?), args.next()?, args.integer()?);
    let sum = ctx.shard.hincr(ctx.db, &key, name, by, ctx.now).map_err(|not| match not {
        NotAdded::NotANumber => CommandError::Text("ERR hash value is not an integer"),
        other => other.into(),
    })?;
    reply.integer(sum);
    Ok(())
}

fn hincrbyfloat(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (key, name, by) = (ctx.key(args.next()?), args.next()?, args.next()?);
    let increment = parse_f64(by).ok_or(CommandError::NotFloat)?;
    if !increment.is_finite() {
        return Err(CommandError::Text("ERR value is NaN or Infinity"));
    }
    let mut printed = Vec::new();
    let known = match ctx.peek_hash(&key)?.and_then(|hash| hash.get(name)) {
        None => 0.0,
        Some(value) => {
            value.bytes(&mut printed).and_then(parse_f64).ok_or(CommandError::Text("ERR hash value is not a float"))?
        }
    };
    // Decimals add exactly and merge with increments made elsewhere; what no exact sum can hold is written as a value.
    if let Some(by) = Total::parse(by)
        && let Some(sum) = ctx.shard.hincr_exact(ctx.db, &key, name, by, ctx.now)?
    {
        printed.clear();
        Total::print(sum, &mut printed);
        reply.bulk(&printed);
        return Ok(());
    }
    let sum = add_decimal(known, increment);
    if !sum.is_finite() {
        return Err(CommandError::Text("ERR increment would produce NaN or Infinity"));
    }
    let mut text = FloatBuffer::new();
    let text = text.format_f64(sum).as_bytes();
    ctx.hset(&key, [(name, text)].into_iter())?;
    reply.bulk(text);
    Ok(())
}

/// A value of a field; a counter is printed.
#[inline]
pub(super) fn bulk(reply: &mut Reply<'_>, value: Value<'_>) {
    match value.text() {
        Some(bytes) => reply.bulk(bytes),
        None => {
            let mut printed = Vec::new();
            reply.bulk_or_nil(value.bytes(&mut printed));
        }
    }
}
