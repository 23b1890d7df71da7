//! Strings and counters.

use super::Ctx;
use super::args::Args;
use super::error::CommandError;
use super::spec::{FAST, GROWS, Group, Join, Keys, READ, Run, Spec, WRITE};
use crate::merge::op::SetDeadline;
use crate::resp::write::Reply;

/// The rows of this file.
pub const FAMILY: &[Spec] = &[
    Spec {
        name: "get",
        arity: 2,
        flags: Flags(READ.0 | FAST.0),
        keys: Keys::ONE,
        run: Run::Owner(get),
        group: Group::String,
        summary: "Returns the string value of a key.",
        since: "1.0.0",
    },
    Spec {
        name: "mget",
        arity: -2,
        flags: Flags(READ.0 | FAST.0),
        keys: Keys::ALL,
        run: Run::Split(mget, Join::Order),
        group: Group::String,
        summary: "Returns the string values of one or more keys.",
        since: "1.0.0",
    },
    Spec {
        name: "mset",
        arity: -3,
        flags: Flags(WRITE.0 | GROWS.0),
        keys: Keys::PAIRS,
        run: Run::Split(mset, Join::AllOk),
        group: Group::String,
        summary: "Sets the string values of one or more keys.",
        since: "1.0.1",
    },
    Spec {
        name: "incr",
        arity: 2,
        flags: Flags(WRITE.0 | GROWS.0 | FAST.0),
        keys: Keys::ONE,
        run: Run::Owner(incr),
        group: Group::String,
        summary: "Adds one to the integer value of a key.",
        since: "1.0.0",
    },
];

use super::spec::Flags;

fn get(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    let mut scratch = std::mem::take(ctx.scratch);
    let result = match ctx.read(&key) {
        None => {
            reply.nil();
            Ok(())
        }
        Some(found) => match found.value.bytes(&mut scratch) {
            Some(bytes) => {
                reply.bulk(bytes);
                Ok(())
            }
            None => Err(CommandError::WrongType),
        },
    };
    *ctx.scratch = scratch;
    result
}

fn mget(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    reply.array(args.left());
    let mut scratch = Vec::new();
    for key in args.rest() {
        let key = ctx.key(key);
        // A key of another type is nil here, as in Redis.
        reply.bulk_or_nil(ctx.read(&key).and_then(|found| found.value.bytes(&mut scratch)));
    }
    Ok(())
}

fn mset(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    if args.left() % 2 != 0 {
        return Err(CommandError::Arity("mset".into()));
    }
    while args.left() > 0 {
        let (key, value) = (ctx.key(args.next()?), args.next()?);
        ctx.set(&key, value, SetDeadline::Clear);
    }
    reply.ok();
    Ok(())
}

fn incr(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    reply.integer(ctx.incr(&key, 1)?);
    Ok(())
}
