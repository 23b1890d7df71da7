//! Strings: whole values in and out. Parts of a string are in `substring`, numbers in `counter`, bits in `bitmap`.
//!
//! GET and SET are the commands everything is measured by: one hash, one look-up, one copy, no allocation.

use smallvec::SmallVec;

use super::Ctx;
use super::args::Args;
use super::error::CommandError;
use super::expiry::{Expiry, Form};
use super::spec::Run::{Gather, Owner, Split};
use super::spec::{FAST, Flags, GROWS, Group, Join, Keys, READ, Spec, WRITE, spec};
use crate::base::time::DeadlineMs;
use crate::merge::op::SetDeadline;
use crate::resp::write::Reply;
use crate::store::keyspace::KeyRef;

const READS: Flags = READ.or(FAST);
const SETS: Flags = WRITE.or(GROWS);
const STRING: Group = Group::String;

/// The rows of this file.
#[rustfmt::skip]
pub const FAMILY: &[Spec] = &[
    spec("get",    2,  READS,          Keys::ONE,   Owner(get),                STRING, "1.0.0", "Returns the string value of a key."),
    spec("set",    -3, SETS,           Keys::ONE,   Owner(set),                STRING, "1.0.0", "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist."),
    spec("setnx",  3,  SETS.or(FAST),  Keys::ONE,   Owner(setnx),              STRING, "1.0.0", "Sets the string value of a key only when the key doesn't exist."),
    spec("setex",  4,  SETS,           Keys::ONE,   Owner(setex),              STRING, "2.0.0", "Sets the string value and expiration time of a key. Creates the key if it doesn't exist."),
    spec("psetex", 4,  SETS,           Keys::ONE,   Owner(psetex),             STRING, "2.6.0", "Sets both string value and expiration time in milliseconds of a key. The key is created if it doesn't exist."),
    spec("getset", 3,  SETS.or(FAST),  Keys::ONE,   Owner(getset),             STRING, "1.0.0", "Returns the previous string value of a key after setting it to a new value."),
    spec("getdel", 2,  WRITE.or(FAST), Keys::ONE,   Owner(getdel),             STRING, "6.2.0", "Returns the string value of a key after deleting the key."),
    spec("getex",  -2, WRITE.or(FAST), Keys::ONE,   Owner(getex),              STRING, "6.2.0", "Returns the string value of a key after setting its expiration time."),
    spec("mget",   -2, READS,          Keys::ALL,   Split(mget, Join::Order),  STRING, "1.0.0", "Atomically returns the string values of one or more keys."),
    spec("mset",   -3, SETS,           Keys::PAIRS, Split(mset, Join::AllOk),  STRING, "1.0.1", "Atomically creates or modifies the string values of one or more keys."),
    spec("msetnx", -3, SETS,           Keys::PAIRS, Gather(msetnx),            STRING, "1.0.1", "Atomically modifies the string values of one or more keys only when all keys don't exist."),
];

fn get(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    reply.bulk_or_nil(ctx.string(&key)?);
    Ok(())
}

fn set(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (key, value) = (ctx.key(args.next()?), args.next()?);
    if args.left() > 0 {
        return set_with_options(ctx, &key, value, args, reply);
    }
    // Whatever was there is overwritten unseen.
    ctx.set(&key, value, SetDeadline::Clear);
    reply.ok();
    Ok(())
}

/// The options of SET.
#[derive(Default)]
struct SetOptions<'a> {
    only: Option<Only>,
    get: bool,
    keep_ttl: bool,
    expiry: Option<Expiry<'a>>,
}

/// When SET writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Only {
    IfAbsent,
    IfPresent,
}

impl<'a> SetOptions<'a> {
    // Words may be repeated, but not contradict each other.
    fn parse(args: &mut Args<'a>) -> Result<Self, CommandError> {
        let mut options = Self::default();
        while args.left() > 0 {
            if args.word("nx") && options.only != Some(Only::IfPresent) {
                options.only = Some(Only::IfAbsent);
            } else if args.word("xx") && options.only != Some(Only::IfAbsent) {
                options.only = Some(Only::IfPresent);
            } else if args.word("get") {
                options.get = true;
            } else if args.word("keepttl") && options.expiry.is_none() {
                options.keep_ttl = true;
            } else {
                let expiry = Expiry::take(args, options.expiry)?.filter(|_| !options.keep_ttl);
                options.expiry = Some(expiry.ok_or(CommandError::Syntax)?);
            }
        }
        Ok(options)
    }
}

fn set_with_options(
    ctx: &mut Ctx<'_>,
    key: &KeyRef<'_>,
    value: &[u8],
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), CommandError> {
    let options = SetOptions::parse(args)?;
    let deadline = options.expiry.map(|expiry| expiry.deadline(ctx, "set")).transpose()?;

    let exists = if options.get {
        let old = ctx.string(key)?;
        reply.bulk_or_nil(old);
        old.is_some()
    } else {
        options.only.is_some() && ctx.peek(key).is_some()
    };
    let refused = match options.only {
        None => false,
        Some(Only::IfAbsent) => exists,
        Some(Only::IfPresent) => !exists,
    };
    if refused {
        if !options.get {
            reply.nil();
        }
        return Ok(());
    }

    match deadline {
        Some(at) => set_until(ctx, key, value, at),
        None if options.keep_ttl => ctx.set(key, value, SetDeadline::Keep),
        None => ctx.set(key, value, SetDeadline::Clear),
    }
    if !options.get {
        reply.ok();
    }
    Ok(())
}

// A value whose deadline has passed already is never seen: all that is left of the write is that the old one goes.
fn set_until(ctx: &mut Ctx<'_>, key: &KeyRef<'_>, value: &[u8], at: DeadlineMs) {
    if at <= ctx.time_ms() {
        ctx.del(key);
    } else {
        ctx.set(key, value, SetDeadline::At(at));
    }
}

fn setnx(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (key, value) = (ctx.key(args.next()?), args.next()?);
    let absent = ctx.peek(&key).is_none();
    if absent {
        ctx.set(&key, value, SetDeadline::Clear);
    }
    reply.integer(i64::from(absent));
    Ok(())
}

fn setex(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    set_expiring(ctx, args, reply, Form::Ex, "setex")
}

fn psetex(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    set_expiring(ctx, args, reply, Form::Px, "psetex")
}

fn set_expiring(
    ctx: &mut Ctx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    form: Form,
    command: &str,
) -> Result<(), CommandError> {
    let (key, expiry, value) = (ctx.key(args.next()?), Expiry::new(args.next()?, form), args.next()?);
    let at = expiry.deadline(ctx, command)?;
    set_until(ctx, &key, value, at);
    reply.ok();
    Ok(())
}

fn getset(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (key, value) = (ctx.key(args.next()?), args.next()?);
    reply.bulk_or_nil(ctx.string(&key)?);
    ctx.set(&key, value, SetDeadline::Clear);
    Ok(())
}

fn getdel(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    reply.bulk_or_nil(ctx.string(&key)?);
    ctx.del(&key);
    Ok(())
}

fn getex(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    let (mut persist, mut expiry) = (false, None);
    while args.left() > 0 {
        if args.word("persist") && expiry.is_none() {
            persist = true;
        } else {
            let next = Expiry::take(args, expiry)?.filter(|_| !persist);
            expiry = Some(next.ok_or(CommandError::Syntax)?);
        }
    }

    let Some(value) = ctx.string(&key)? else {
        reply.nil();
        return Ok(());
    };
    reply.bulk(value);
    let Some(expiry) = expiry else {
        let has_deadline = ctx.peek(&key).is_some_and(|found| found.deadline.is_some());
        if persist && has_deadline {
            ctx.set_deadline(&key, None);
        }
        return Ok(());
    };
    let at = expiry.deadline(ctx, "getex")?;
    if at <= ctx.time_ms() {
        ctx.del(&key);
    } else {
        ctx.set_deadline(&key, Some(at));
    }
    Ok(())
}

fn mget(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    reply.array(args.left());
    let mut rest = args.rest();
    while rest.len() > 0 {
        let keys: Batch<KeyRef<'_>> = rest.by_ref().take(BATCH).map(|key| ctx.key_soon(key)).collect();
        for key in &keys {
            // A key of another type is nil here, as in Redis.
            reply.bulk_or_nil(ctx.string(key).ok().flatten());
        }
    }
    Ok(())
}

fn mset(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    expect_pairs(args, "mset")?;
    set_all(ctx, args);
    reply.ok();
    Ok(())
}

// Keys are fetched from memory this many at a time: enough to hide the wait, few enough to stay in cache.
const BATCH: usize = 16;

type Batch<T> = SmallVec<[T; BATCH]>;

// Key, value, key, value.
fn set_all(ctx: &mut Ctx<'_>, args: &mut Args<'_>) {
    let mut rest = args.rest();
    while rest.len() > 0 {
        let pair = || Some((rest.next()?, rest.next()?));
        let pairs = std::iter::from_fn(pair).take(BATCH);
        let pairs: Batch<(KeyRef<'_>, &[u8])> = pairs.map(|(key, value)| (ctx.key_soon(key), value)).collect();
        for (key, value) in &pairs {
            ctx.set(key, value, SetDeadline::Clear);
        }
    }
}

fn msetnx(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    expect_pairs(args, "msetnx")?;
    let exists = { *args }.rest().step_by(2).any(|key| ctx.peek(&ctx.key(key)).is_some());
    if exists {
        reply.integer(0);
        return Ok(());
    }

    set_all(ctx, args);
    reply.integer(1);
    Ok(())
}

fn expect_pairs(args: &Args<'_>, command: &str) -> Result<(), CommandError> {
    if args.left().is_multiple_of(2) { Ok(()) } else { Err(CommandError::Arity(command.into())) }
}
