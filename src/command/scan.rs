//! Walks over many keys or fields: KEYS, SCAN, HSCAN.
//!
//! A SCAN cursor is `(position in the slot's table << 14) | slot`. Its low 14 bits name the slot, hence the shard that
//! runs the next step; a shard walks its own slots, then answers the first slot of the next shard, and 0 after the
//! last slot of all. Tables keep Redis' promise for a position, and slots come one after the other, so the whole scan
//! keeps it: a key that stays from beginning to end is returned.

use super::Ctx;
use super::args::Args;
use super::error::CommandError;
use super::hash::bulk;
use super::key::type_name;
use super::spec::{Group, Join, Keys, READ, Run, Spec, spec};
use crate::base::ids::{SLOTS, Slot};
use crate::base::text::{glob_match, parse_u64};
use crate::resp::write::Reply;

/// The rows of this file.
pub const FAMILY: &[Spec] = &[
    spec(
        "keys",
        2,
        READ,
        Keys::NONE,
        Run::Everywhere(keys, Join::Concat),
        Group::Generic,
        "1.0.0",
        "Returns all keys that match a pattern.",
    ),
    spec("scan", -2, READ, Keys::NONE, Run::Cursor(scan), Group::Generic, "2.8.0", "Walks over the keys in steps."),
    spec("hscan", -3, READ, Keys::ONE, Run::Owner(hscan), Group::Hash, "2.8.0", "Walks over a hash in steps."),
];

const SLOT_BITS: u32 = SLOTS.trailing_zeros();

const INVALID_CURSOR: CommandError = CommandError::Text("ERR invalid cursor");

/// The slot a SCAN cursor points into; `None`: not a cursor, any shard refuses it.
pub fn cursor_slot(cursor: &[u8]) -> Option<Slot> {
    parse_u64(cursor).map(|cursor| Slot((cursor % SLOTS as u64) as u16))
}

fn keys(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let pattern = args.next()?;
    let every = pattern == b"*";
    let hole = reply.array_later();
    let mut count = 0;
    ctx.shard.each_key(ctx.db, ctx.now, |key, _| {
        if every || glob_match(pattern, key, false) {
            reply.bulk(key);
            count += 1;
        }
    });
    reply.fill(hole, count);
    Ok(())
}

fn scan(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let cursor = parse_u64(args.next()?).ok_or(INVALID_CURSOR)?;
    let options = Options::parse(args, Of::Keys)?;

    let (first, end) = ctx.shard.slots();
    let slot = (cursor % SLOTS as u64) as usize;
    let (mut slot, mut position) = if slot < first { (first, 0) } else { (slot, cursor >> SLOT_BITS) };
    let mut found: Vec<Vec<u8>> = Vec::new();
    let mut looked = 0;
    // Empty slots cost a look each, and a shard has at most 16384 of them: a call is bounded by that and COUNT.
    while slot < end && looked < options.count {
        let at = Slot(slot as u16);
        let (more, next) = ctx.shard.scan_slot(ctx.db, at, position, options.count - looked, ctx.now, |key, seen| {
            let of_type =
                options.kind.is_none_or(|kind| kind.eq_ignore_ascii_case(type_name(seen.value.kind()).as_bytes()));
            if of_type && options.matches(key) {
                found.push(key.to_vec());
            }
        });
        looked += more;
        position = next;
        slot += usize::from(next == 0);
    }

    // Slot 16384 is the end of all, cursor 0.
    let next = if slot == SLOTS { 0 } else { (position << SLOT_BITS) | slot as u64 };
    reply.array(2);
    reply.bulk(next.to_string().as_bytes());
    reply.array(found.len());
    found.iter().for_each(|key| reply.bulk(key));
    Ok(())
}

fn hscan(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    let cursor = parse_u64(args.next()?).ok_or(INVALID_CURSOR)?;
    // Redis looks the key up before it reads the options.
    let Some(hash) = ctx.read_hash(&key)? else {
        reply.array(2);
        reply.bulk(b"0");
        reply.array(0);
        return Ok(());
    };
    let options = Options::parse(args, Of::Fields)?;

    // The cursor comes before the fields but is known after them.
    let mut fields = Vec::new();
    let mut listed = Reply::new(&mut fields, reply.version());
    let mut count = 0;
    let next = hash.scan(cursor, options.count, |name, value| {
        if options.matches(name) {
            listed.bulk(name);
            bulk(&mut listed, value);
            count += 1;
        }
    });
    reply.array(2);
    reply.bulk(next.to_string().as_bytes());
    reply.array(2 * count);
    reply.raw(&fields);
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Keys,
    Fields,
}

/// What SCAN and its kin take after the cursor.
struct Options<'a> {
    /// How much one call looks at, roughly.
    count: usize,
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(args: &mut Args<'a>, of: Of) -> Result<Self, CommandError> {
        let mut options = Self { count: 10, pattern: None, kind: None };
        while args.left() > 1 {
            if args.word("count") {
                let count = args.integer()?;
                options.count = usize::try_from(count).ok().filter(|&count| count > 0).ok_or(CommandError::Syntax)?;
            } else if args.word("match") {
                options.pattern = Some(args.next()?).filter(|&pattern| pattern != b"*");
            } else if of == Of::Keys && args.word("type") {
                options.kind = Some(args.next()?);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        args.finish()?;
        Ok(options)
    }

    fn matches(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob_match(pattern, name, false))
    }
}
