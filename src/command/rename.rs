//! RENAME, COPY and MOVE: a key's visible state written elsewhere, as a client would write it. Counters arrive as the
//! value they show: increments that are still on their way stay with the old name.

use super::Ctx;
use super::args::Args;
use super::error::CommandError;
use super::spec::{FAST, Flags, GROWS, Group, Keys, OTHER_DB, Run, Spec, WRITE, spec};
use crate::base::ids::Db;
use crate::merge::op::SetDeadline;
use crate::resp::write::Reply;
use crate::shard::write::Value;
use crate::store::keyspace::KeyRef;

/// The rows of this file.
pub const FAMILY: &[Spec] = &[
    row("rename", 3, WRITE, Keys::TWO, Run::Gather(rename), "1.0.0", "Renames a key and overwrites the destination."),
    row("renamenx", 3, WRITE.or(FAST), Keys::TWO, Run::Gather(renamenx), "1.0.0", "Renames a key to an unused name."),
    row(
        "copy",
        -3,
        WRITE.or(GROWS).or(OTHER_DB),
        Keys::TWO,
        Run::Gather(copy),
        "6.2.0",
        "Copies the value of a key to a new key.",
    ),
    // One name has one slot in every database, so both ends are on one shard.
    row(
        "move",
        3,
        WRITE.or(FAST).or(OTHER_DB),
        Keys::ONE,
        Run::Owner(move_key),
        "1.0.0",
        "Moves a key to another database.",
    ),
];

const SAME_OBJECT: CommandError = CommandError::Text("ERR source and destination objects are the same");
const NO_SUCH_KEY: CommandError = CommandError::Text("ERR no such key");

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

fn rename(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (from, to) = (ctx.key(args.next()?), ctx.key(args.next()?));
    let state = take_copy(ctx, &from).ok_or(NO_SUCH_KEY)?;
    if from.bytes != to.bytes {
        put(ctx, ctx.db, &to, &state);
        ctx.del(&from);
    }
    reply.ok();
    Ok(())
}

fn renamenx(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (from, to) = (ctx.key(args.next()?), ctx.key(args.next()?));
    if ctx.peek(&from).is_none() {
        return Err(NO_SUCH_KEY);
    }
    let is_free = ctx.peek(&to).is_none();
    if is_free && let Some(state) = take_copy(ctx, &from) {
        put(ctx, ctx.db, &to, &state);
        ctx.del(&from);
    }
    reply.integer(i64::from(is_free));
    Ok(())
}

fn copy(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (from, to) = (ctx.key(args.next()?), ctx.key(args.next()?));
    let (mut db, mut replace) = (ctx.db, false);
    while args.left() > 0 {
        if args.word("replace") {
            replace = true;
        } else if args.left() > 1 && args.word("db") {
            db = database(ctx, args)?;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if db == ctx.db && from.bytes == to.bytes {
        return Err(SAME_OBJECT);
    }
    let is_free = replace || ctx.shard.peek(db, &to, ctx.now).is_none();
    let state = take_copy(ctx, &from).filter(|_| is_free);
    if let Some(state) = &state {
        put(ctx, db, &to, state);
    }
    reply.integer(i64::from(state.is_some()));
    Ok(())
}

fn move_key(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    let db = database(ctx, args)?;
    if db == ctx.db {
        return Err(SAME_OBJECT);
    }
    let is_free = ctx.shard.peek(db, &key, ctx.now).is_none();
    let state = take_copy(ctx, &key).filter(|_| is_free);
    if let Some(state) = &state {
        put(ctx, db, &key, state);
        ctx.del(&key);
    }
    reply.integer(i64::from(state.is_some()));
    Ok(())
}

/// The databases in which a command touches its keys: `own`, and the one that COPY or MOVE names.
pub fn databases_of(spec: &Spec, args: Args<'_>, own: Db, databases: usize) -> impl Iterator<Item = Db> + use<> {
    let other = if spec.flags.has(OTHER_DB) { named_database(args, databases) } else { None };
    std::iter::once(own).chain(other.filter(|other| *other != own))
}

// COPY a b [REPLACE] [DB n], MOVE a n. What is no database is refused by the handler.
fn named_database(args: Args<'_>, databases: usize) -> Option<Db> {
    let at = match (3..args.count()).find(|&at| args.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(b"db"))) {
        Some(word) => word + 1,
        None if args.count() == 3 => 2,
        None => return None,
    };
    let number = crate::base::text::parse_i64(args.get(at)?)?;
    (0..databases as i64).contains(&number).then_some(Db(number as u16))
}

fn database(ctx: &Ctx<'_>, args: &mut Args<'_>) -> Result<Db, CommandError> {
    let number = args.integer()?;
    if i32::try_from(number).is_err() {
        return Err(CommandError::Text("ERR value is out of range, value must between -2147483648 and 2147483647"));
    }
    if !(0..ctx.shard.keys.databases() as i64).contains(&number) {
        return Err(CommandError::Text("ERR DB index is out of range"));
    }
    Ok(Db(number as u16))
}

struct State {
    value: Copied,
    deadline: SetDeadline,
}

enum Copied {
    String(Vec<u8>),
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
}

fn take_copy(ctx: &Ctx<'_>, key: &KeyRef<'_>) -> Option<State> {
    let found = ctx.peek(key)?;
    let value = match found.value {
        Value::Hash(_) => {
            let hash = ctx.shard.peek_hash(ctx.db, key, ctx.now).ok().flatten()?;
            Copied::Hash(hash.iter().map(|(name, value)| (name.to_vec(), text_of(value))).collect())
        }
        string => Copied::String(text_of(string)),
    };
    Some(State { value, deadline: found.deadline.map_or(SetDeadline::Clear, SetDeadline::At) })
}

fn put(ctx: &mut Ctx<'_>, db: Db, key: &KeyRef<'_>, state: &State) {
    match &state.value {
        Copied::String(bytes) => ctx.shard.set(db, key, bytes, state.deadline, ctx.now),
        Copied::Hash(fields) => ctx.shard.set_hash(db, key, fields, state.deadline, ctx.now),
    }
}

fn text_of(value: Value<'_>) -> Vec<u8> {
    let mut printed = Vec::new();
    value.bytes(&mut printed).map(<[u8]>::to_vec).unwrap_or_default()
}
