//! What a key is kept as: OBJECT, MEMORY USAGE, DEBUG OBJECT. Encodings are the names Redis would use for such a value;
//! this server keeps keys in its own way.

use super::Ctx;
use super::args::Args;
use super::error::CommandError;
use super::spec::{CONTAINER, Flags, Group, Keys, READ, Run, Spec, spec};
use crate::base::text::parse_i64;
use crate::mem::entry::View;
use crate::resp::write::Reply;
use crate::shard::hash::HashView;
use crate::shard::write::Value;
use crate::store::keyspace::{KeyRef, Packed};

/// The rows of this file.
pub const FAMILY: &[Spec] = &[
    // HELP and mistakes; needs no key, so it runs where the client is connected.
    row("object", -2, CONTAINER, Keys::NONE, help, Group::Generic, "2.2.3", "Introspects a key."),
    row("object|encoding", 3, READ, Keys::at(2), encoding, Group::Generic, "2.2.3", "Returns how a key is encoded."),
    row("object|freq", 3, READ, Keys::at(2), freq, Group::Generic, "4.0.0", "Returns how often a key is accessed."),
    row("object|idletime", 3, READ, Keys::at(2), idletime, Group::Generic, "2.2.3", "Returns since when a key idles."),
    row("object|refcount", 3, READ, Keys::at(2), refcount, Group::Generic, "2.2.3", "Returns a key's references."),
    row("memory|usage", -3, READ, Keys::at(2), memory_usage, Group::Server, "4.0.0", "Estimates the memory of a key."),
    row("debug|object", 3, READ, Keys::at(2), debug_object, Group::Server, "1.0.0", "Shows how a key is kept."),
];

#[allow(clippy::too_many_arguments, reason = "a row of a table; each column has its own type")]
const fn row(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: Keys,
    handler: super::Handler,
    group: Group,
    since: &'static str,
    summary: &'static str,
) -> Spec {
    spec(name, arity, flags, keys, Run::Owner(handler), group, since, summary)
}

/// Longer strings have an allocation of their own in Redis.
const EMBSTR_BYTES_MAX: usize = 44;

const HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Print this help.",
];

fn help(_: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let word = args.next()?;
    if !word.eq_ignore_ascii_case(b"help") {
        let word = String::from_utf8_lossy(&word[..word.len().min(128)]).into_owned();
        return Err(CommandError::Owned(format!("ERR unknown subcommand '{word}'. Try OBJECT HELP.")));
    }
    if args.left() > 0 {
        return Err(CommandError::Arity("object|help".into()));
    }
    reply.array(HELP.len());
    HELP.iter().for_each(|line| reply.simple(line));
    Ok(())
}

fn encoding(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = key_of(ctx, args)?;
    match encoding_name(ctx, &key) {
        Some(name) => reply.text(name),
        None => reply.nil(),
    }
    Ok(())
}

fn freq(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = key_of(ctx, args)?;
    if ctx.peek(&key).is_none() {
        reply.nil();
        return Ok(());
    }
    Err(CommandError::Text(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
         between policies at runtime LRU and LFU data will take some time to adjust.",
    ))
}

fn idletime(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    // Accesses are not tracked yet: every key was accessed just now.
    integer_if_any(ctx, args, reply, 0)
}

fn refcount(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    integer_if_any(ctx, args, reply, 1)
}

fn integer_if_any(
    ctx: &mut Ctx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    number: i64,
) -> Result<(), CommandError> {
    let key = key_of(ctx, args)?;
    match ctx.peek(&key) {
        Some(_) => reply.integer(number),
        None => reply.nil(),
    }
    Ok(())
}

/// MEMORY USAGE key [SAMPLES count].
fn memory_usage(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = key_of(ctx, args)?;
    let mut samples = 5;
    while args.left() > 0 {
        if !args.word("samples") {
            return Err(CommandError::Syntax);
        }
        samples = usize::try_from(args.integer()?).map_err(|_| CommandError::Syntax)?;
    }
    let Some(packed) = ctx.peek(&key).map(|found| found.packed) else {
        reply.nil();
        return Ok(());
    };
    let hash = hash_of(ctx, &key);
    reply.integer(bytes_of(packed, hash, samples) as i64);
    Ok(())
}

/// DEBUG OBJECT key.
fn debug_object(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = key_of(ctx, args)?;
    let Some(packed) = ctx.peek(&key).map(|found| found.packed) else {
        return Err(CommandError::Text("ERR no such key"));
    };
    let encoding = encoding_name(ctx, &key).expect("the key exists");
    let bytes = bytes_of(packed, hash_of(ctx, &key), 0);
    reply.simple(&format!(
        "Value at:0x0 refcount:1 encoding:{encoding} serializedlength:{bytes} lru:0 lru_seconds_idle:0"
    ));
    Ok(())
}

// The key behind the name of a subcommand.
fn key_of<'a>(ctx: &Ctx<'_>, args: &mut Args<'a>) -> Result<KeyRef<'a>, CommandError> {
    args.next()?;
    Ok(ctx.key(args.next()?))
}

fn hash_of<'a>(ctx: &'a Ctx<'_>, key: &KeyRef<'_>) -> Option<HashView<'a>> {
    ctx.shard.peek_hash(ctx.db, key, ctx.now).ok().flatten()
}

fn encoding_name(ctx: &Ctx<'_>, key: &KeyRef<'_>) -> Option<&'static str> {
    let found = ctx.peek(key)?;
    let mut printed = Vec::new();
    Some(match (found.value, found.value.bytes(&mut printed)) {
        (Value::Hash(_), _) => {
            let (entries_max, bytes_max) =
                (ctx.limits.hash_listpack_entries_max, ctx.limits.hash_listpack_value_bytes_max);
            let is_compact = hash_of(ctx, key).is_some_and(|hash| hash.is_compact(entries_max, bytes_max));
            if is_compact { "listpack" } else { "hashtable" }
        }
        (_, Some(bytes)) if parse_i64(bytes).is_some() => "int",
        (_, Some(bytes)) if bytes.len() > EMBSTR_BYTES_MAX => "raw",
        _ => "embstr",
    })
}

// The entry, what it points to, and its place in the table (8 bytes and a control byte, at 7/8 of the load at most).
fn bytes_of(packed: &Packed, hash: Option<HashView<'_>>, samples: usize) -> usize {
    const PLACE_BYTES: usize = 12;
    let beyond = match (packed.view(), hash) {
        (View::Rich(state), Some(hash)) => state.string.heap_bytes() + hash.heap_bytes(samples),
        (View::Rich(state), None) => state.heap_bytes(),
        _ => 0,
    };
    packed.heap_bytes() + beyond + PLACE_BYTES
}
