//! Deadlines: EXPIRE and its kin write them, TTL and its kin read them. A deadline in the past deletes the key.

use super::Ctx;
use super::args::Args;
use super::error::CommandError;
use super::spec::{FAST, Flags, Group, Keys, READ, Run, Spec, WRITE, spec};
use crate::resp::write::Reply;

const WRITE_FAST: Flags = WRITE.or(FAST);
const READ_FAST: Flags = READ.or(FAST);

/// The rows of this file.
pub const FAMILY: &[Spec] = &[
    row("expire", -3, WRITE_FAST, Run::Owner(expire), "1.0.0", "Sets the time to live of a key in seconds."),
    row("pexpire", -3, WRITE_FAST, Run::Owner(pexpire), "2.6.0", "Sets the time to live of a key in milliseconds."),
    row("expireat", -3, WRITE_FAST, Run::Owner(expireat), "1.2.0", "Sets when a key expires, in Unix seconds."),
    row("pexpireat", -3, WRITE_FAST, Run::Owner(pexpireat), "2.6.0", "Sets when a key expires, in Unix milliseconds."),
    row("persist", 2, WRITE_FAST, Run::Owner(persist), "2.2.0", "Removes the deadline of a key."),
    row("ttl", 2, READ_FAST, Run::Owner(ttl), "1.0.0", "Returns the time to live of a key in seconds."),
    row("pttl", 2, READ_FAST, Run::Owner(pttl), "2.6.0", "Returns the time to live of a key in milliseconds."),
    row("expiretime", 2, READ_FAST, Run::Owner(expiretime), "7.0.0", "Returns when a key expires, in Unix seconds."),
    row("pexpiretime", 2, READ_FAST, Run::Owner(pexpiretime), "7.0.0", "Returns when a key expires, in Unix ms."),
];

const fn row(
    name: &'static str,
    arity: i16,
    flags: Flags,
    run: Run,
    since: &'static str,
    summary: &'static str,
) -> Spec {
    spec(name, arity, flags, Keys::ONE, run, Group::Generic, since, summary)
}

fn expire(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let from_ms = ctx.time_ms() as i64;
    write_deadline(ctx, args, reply, &Unit { ms: 1000, from_ms, name: "expire" })
}

fn pexpire(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let from_ms = ctx.time_ms() as i64;
    write_deadline(ctx, args, reply, &Unit { ms: 1, from_ms, name: "pexpire" })
}

fn expireat(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    write_deadline(ctx, args, reply, &Unit { ms: 1000, from_ms: 0, name: "expireat" })
}

fn pexpireat(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    write_deadline(ctx, args, reply, &Unit { ms: 1, from_ms: 0, name: "pexpireat" })
}

/// How a command counts time.
struct Unit {
    ms: i64,
    /// Since when, Unix milliseconds.
    from_ms: i64,
    name: &'static str,
}

fn write_deadline(
    ctx: &mut Ctx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    unit: &Unit,
) -> Result<(), CommandError> {
    let (key, mut number) = (ctx.key(args.next()?), *args);
    args.next()?;
    // Redis reads the options before the number.
    let only = Only::parse(args)?;
    let count = number.integer()?;
    let at_ms = count.checked_mul(unit.ms).and_then(|ms| ms.checked_add(unit.from_ms));
    let at_ms =
        at_ms.ok_or_else(|| CommandError::Owned(format!("ERR invalid expire time in '{}' command", unit.name)))?;

    let time_ms = ctx.time_ms();
    let known = ctx.read(&key).map(|found| found.deadline.map(|at| at as i64));
    let Some(known_ms) = known.filter(|&known_ms| only.allows(known_ms, at_ms)) else {
        reply.integer(0);
        return Ok(());
    };
    debug_assert!(known_ms.is_none_or(|at| at as u64 > time_ms));

    match u64::try_from(at_ms) {
        Ok(at_ms) if at_ms > time_ms => ctx.set_deadline(&key, Some(at_ms)),
        _ => {
            ctx.del(&key);
        }
    }
    reply.integer(1);
    Ok(())
}

/// Under which conditions a deadline is written.
#[derive(Clone, Copy, Default)]
struct Only {
    without: bool,
    with: bool,
    later: bool,
    earlier: bool,
}

impl Only {
    fn parse(args: &mut Args<'_>) -> Result<Self, CommandError> {
        let mut only = Self::default();
        while args.left() > 0 {
            if args.word("nx") {
                only.without = true;
            } else if args.word("xx") {
                only.with = true;
            } else if args.word("gt") {
                only.later = true;
            } else if args.word("lt") {
                only.earlier = true;
            } else {
                let unknown = String::from_utf8_lossy(args.next()?).into_owned();
                return Err(CommandError::Owned(format!("ERR Unsupported option {unknown}")));
            }
        }
        if only.without && (only.with || only.later || only.earlier) {
            let text = "ERR NX and XX, GT or LT options at the same time are not compatible";
            return Err(CommandError::Text(text));
        }
        if only.later && only.earlier {
            return Err(CommandError::Text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(only)
    }

    // A key without a deadline lives for ever: nothing is later than that, everything is earlier.
    fn allows(self, known_ms: Option<i64>, at_ms: i64) -> bool {
        !(self.without && known_ms.is_some()
            || self.with && known_ms.is_none()
            || self.later && known_ms.is_none_or(|known| at_ms <= known)
            || self.earlier && known_ms.is_some_and(|known| at_ms >= known))
    }
}

fn persist(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    let has_deadline = ctx.read(&key).is_some_and(|found| found.deadline.is_some());
    if has_deadline {
        ctx.set_deadline(&key, None);
    }
    reply.integer(i64::from(has_deadline));
    Ok(())
}

fn ttl(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let time_ms = ctx.time_ms();
    // Rounded to the nearest second, as Redis does.
    read_deadline(ctx, args, reply, |at| (at - time_ms + 500) / 1000)
}

fn pttl(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let time_ms = ctx.time_ms();
    read_deadline(ctx, args, reply, |at| at - time_ms)
}

fn expiretime(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    read_deadline(ctx, args, reply, |at| (at + 500) / 1000)
}

fn pexpiretime(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    read_deadline(ctx, args, reply, |at| at)
}

fn read_deadline(
    ctx: &mut Ctx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    shown: impl Fn(u64) -> u64,
) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    // Redis answers -2 for "no key" and -1 for "no deadline"; client libraries rely on both.
    reply.integer(match ctx.read(&key).map(|found| found.deadline) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => shown(at) as i64,
    });
    Ok(())
}
