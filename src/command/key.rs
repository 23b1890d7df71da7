//! Keys of any type: DEL, EXISTS, TYPE and the like. RENAME, COPY and MOVE are in `rename`, deadlines in `expire`,
//! walks over many keys in `scan`.

use super::Ctx;
use super::args::Args;
use super::error::CommandError;
use super::spec::{FAST, Flags, Group, Join, Keys, READ, Run, Spec, WRITE, spec};
use crate::merge::key::Type;
use crate::resp::write::Reply;

const READ_FAST: Flags = READ.or(FAST);

/// The rows of this file.
pub const FAMILY: &[Spec] = &[
    row("del", -2, WRITE, Keys::ALL, Run::Split(del, Join::Sum), "1.0.0", "Deletes one or more keys."),
    row("unlink", -2, WRITE.or(FAST), Keys::ALL, Run::Split(del, Join::Sum), "4.0.0", "Deletes one or more keys."),
    row("exists", -2, READ_FAST, Keys::ALL, Run::Split(exists, Join::Sum), "1.0.0", "Counts the keys that exist."),
    row("touch", -2, READ_FAST, Keys::ALL, Run::Split(exists, Join::Sum), "3.2.1", "Counts the keys that exist."),
    row("type", 2, READ_FAST, Keys::ONE, Run::Owner(kind), "1.0.0", "Determines the type of value stored at a key."),
    row("randomkey", 1, READ, Keys::NONE, Run::Everywhere(randomkey, Join::AnyOf), "1.0.0", "Returns a random key."),
];

const fn row(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: Keys,
    run: Run,
    since: &'static str,
    summary: &'static str,
) -> Spec {
    spec(name, arity, flags, keys, run, Group::Generic, since, summary)
}

fn del(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let mut deleted = 0;
    for key in args.rest() {
        let key = ctx.key(key);
        deleted += i64::from(ctx.del(&key));
    }
    reply.integer(deleted);
    Ok(())
}

fn exists(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let mut found = 0;
    for key in args.rest() {
        let key = ctx.key(key);
        found += i64::from(ctx.read(&key).is_some());
    }
    reply.integer(found);
    Ok(())
}

fn kind(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    reply.simple(ctx.read(&key).map_or("none", |found| type_name(found.value.kind())));
    Ok(())
}

/// The type as TYPE and SCAN TYPE name it.
pub(super) fn type_name(kind: Type) -> &'static str {
    match kind {
        Type::String => "string",
        Type::Hash => "hash",
    }
}

fn randomkey(ctx: &mut Ctx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let mut rng = ctx.shard.rng.clone();
    reply.bulk_or_nil(ctx.shard.random_key(ctx.db, &mut rng, ctx.now));
    ctx.shard.rng = rng;
    Ok(())
}
