//! Whole databases: DBSIZE, FLUSHDB, FLUSHALL, SWAPDB.

use super::Ctx;
use super::args::Args;
use super::error::CommandError;
use super::spec::{FAST, Flags, Group, Join, Keys, READ, Run, Spec, WRITE, spec};
use crate::base::ids::Db;
use crate::resp::write::Reply;
use crate::shard::record::EVERY_DB;

/// The rows of this file.
pub const FAMILY: &[Spec] = &[
    row("dbsize", 1, READ.or(FAST), Run::Everywhere(dbsize, Join::Sum), "1.0.0", "Returns the number of keys."),
    row("flushdb", -1, WRITE, Run::Everywhere(flushdb, Join::AllOk), "1.0.0", "Removes all keys of the database."),
    row("flushall", -1, WRITE, Run::Everywhere(flushall, Join::AllOk), "1.0.0", "Removes all keys of all databases."),
    // Needs no key: it runs where the client is connected.
    row("swapdb", 3, WRITE.or(FAST), Run::Owner(swapdb), "4.0.0", "Refused: databases cannot be swapped here."),
];

const fn row(
    name: &'static str,
    arity: i16,
    flags: Flags,
    run: Run,
    since: &'static str,
    summary: &'static str,
) -> Spec {
    spec(name, arity, flags, Keys::NONE, run, Group::Server, since, summary)
}

fn dbsize(ctx: &mut Ctx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    reply.integer(ctx.shard.keys.len(ctx.db) as i64);
    Ok(())
}

fn flushdb(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let db = ctx.db;
    flush(ctx, args, reply, db)
}

fn flushall(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    flush(ctx, args, reply, EVERY_DB)
}

// Memory is always given back in the background: SYNC and ASYNC differ for a client in nothing but that.
fn flush(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>, db: Db) -> Result<(), CommandError> {
    if !(args.left() == 0 || args.word("async") || args.word("sync")) || args.left() > 0 {
        return Err(CommandError::Syntax);
    }
    ctx.shard.flush(db, ctx.now);
    reply.ok();
    Ok(())
}

fn swapdb(_: &mut Ctx<'_>, _: &mut Args<'_>, _: &mut Reply<'_>) -> Result<(), CommandError> {
    Err(CommandError::Text(
        "ERR SWAPDB is not supported: other masters write to both databases meanwhile, and a swap cannot be merged with that",
    ))
}
