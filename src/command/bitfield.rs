//! BITFIELD: integers of 1 to 64 bits anywhere in a string.

use super::Ctx;
use super::args::Args;
use super::bitmap::{bit_offset, expect_offset};
use super::error::CommandError;
use super::spec::Run::Owner;
use super::spec::{FAST, GROWS, Group, Keys, READ, Spec, WRITE, spec};
use crate::base::text::parse_i64;
use crate::merge::op::SetDeadline;
use crate::resp::write::Reply;

const BITMAP: Group = Group::Bitmap;

/// The rows of this file.
#[rustfmt::skip]
pub const FAMILY: &[Spec] = &[
    spec("bitfield",    -2, WRITE.or(GROWS), Keys::ONE, Owner(bitfield),    BITMAP, "3.2.0", "Performs arbitrary bitfield integer operations on strings."),
    spec("bitfield_ro", -2, READ.or(FAST),   Keys::ONE, Owner(bitfield_ro), BITMAP, "6.0.0", "Performs arbitrary read-only bitfield integer operations on strings."),
];

fn bitfield(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    let steps = parse(ctx, args)?;

    let Some(end) = steps.iter().filter(|step| step.action.writes()).map(Step::end).max() else {
        read(&steps, ctx.string(&key)?.unwrap_or_default(), reply);
        return Ok(());
    };
    let mut value = ctx.string_copy(&key)?.unwrap_or_default();
    let bytes_min = end.div_ceil(8) as usize;
    // Room is made even when every write then fails, as in Redis.
    let mut changed = value.len() < bytes_min;
    if changed {
        value.resize(bytes_min, 0);
    }
    reply.array(steps.len());
    for step in &steps {
        changed |= step.run(&mut value, reply);
    }
    if changed {
        ctx.set(&key, &value, SetDeadline::Keep);
    }
    Ok(())
}

fn bitfield_ro(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    let steps = parse(ctx, args)?;
    if steps.iter().any(|step| step.action.writes()) {
        return Err(CommandError::Text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    read(&steps, ctx.string(&key)?.unwrap_or_default(), reply);
    Ok(())
}

fn read(steps: &[Step], value: &[u8], reply: &mut Reply<'_>) {
    reply.array(steps.len());
    for step in steps {
        reply.integer(step.field.get(value, step.at) as i64);
    }
}

/// One GET, SET or INCRBY.
struct Step {
    action: Action,
    field: Field,
    at: u64,
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64, Overflow),
    Add(i64, Overflow),
}

/// What happens to a number that does not fit.
#[derive(Clone, Copy)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

/// The type of a number: `i1` to `i64`, `u1` to `u63`.
#[derive(Clone, Copy)]
struct Field {
    is_signed: bool,
    bits: u32,
}

fn parse(ctx: &Ctx<'_>, args: &mut Args<'_>) -> Result<Vec<Step>, CommandError> {
    let mut steps = Vec::new();
    let mut overflow = Overflow::Wrap;
    while args.left() > 0 {
        let left = args.left() - 1;
        if left >= 2 && args.word("get") {
            let (field, at) = (Field::parse(args.next()?)?, args.next()?);
            steps.push(Step { action: Action::Get, field, at: offset(ctx, at, field)? });
        } else if left >= 3 && args.word("set") {
            let (field, at) = (Field::parse(args.next()?)?, args.next()?);
            let at = offset(ctx, at, field)?;
            steps.push(Step { action: Action::Set(args.integer()?, overflow), field, at });
        } else if left >= 3 && args.word("incrby") {
            let (field, at) = (Field::parse(args.next()?)?, args.next()?);
            let at = offset(ctx, at, field)?;
            steps.push(Step { action: Action::Add(args.integer()?, overflow), field, at });
        } else if left >= 1 && args.word("overflow") {
            overflow = match () {
                () if args.word("wrap") => Overflow::Wrap,
                () if args.word("sat") => Overflow::Saturate,
                () if args.word("fail") => Overflow::Fail,
                () => return Err(CommandError::Text("ERR Invalid OVERFLOW type specified")),
            };
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok(steps)
}

// `#3` is the fourth number of this width.
fn offset(ctx: &Ctx<'_>, text: &[u8], field: Field) -> Result<u64, CommandError> {
    match text.strip_prefix(b"#") {
        None => bit_offset(ctx, text),
        Some(index) => expect_offset(ctx, parse_i64(index).and_then(|at| at.checked_mul(i64::from(field.bits)))),
    }
}

impl Action {
    fn writes(self) -> bool {
        !matches!(self, Self::Get)
    }
}

impl Step {
    // One past the last bit.
    fn end(&self) -> u64 {
        self.at + u64::from(self.field.bits)
    }

    // Replies and returns whether `value`, which is long enough for a write, changed.
    fn run(&self, value: &mut [u8], reply: &mut Reply<'_>) -> bool {
        let old = self.field.get(value, self.at);
        let (wanted, overflow) = match self.action {
            Action::Get => {
                reply.integer(old as i64);
                return false;
            }
            Action::Set(new, overflow) if self.field.is_signed => (i128::from(new), overflow),
            Action::Set(new, overflow) => (i128::from(new as u64), overflow),
            Action::Add(by, overflow) => (old + i128::from(by), overflow),
        };
        let Some(new) = self.field.fit(wanted, overflow) else {
            reply.nil();
            return false;
        };
        reply.integer(if matches!(self.action, Action::Set(..)) { old } else { new } as i64);
        self.field.put(value, self.at, new);
        new != old
    }
}

impl Field {
    fn parse(text: &[u8]) -> Result<Self, CommandError> {
        let (is_signed, bits_max) = match text.first() {
            Some(b'i') => (true, 64),
            Some(b'u') => (false, 63),
            _ => (false, 0),
        };
        match text.get(1..).and_then(parse_i64) {
            Some(bits) if bits >= 1 && bits <= bits_max => Ok(Self { is_signed, bits: bits as u32 }),
            _ => Err(CommandError::Text(
                "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
            )),
        }
    }

    // Bits beyond the string are zero.
    fn get(self, value: &[u8], at: u64) -> i128 {
        // Nine bytes hold 64 bits wherever they begin.
        let first = (at >> 3) as usize;
        let window = (first..first + 9).fold(0u128, |window, at| window << 8 | u128::from(byte(value, at)));
        let raw = window >> (72 - (at & 7) as u32 - self.bits) & ((1 << self.bits) - 1);
        if self.is_signed && raw >> (self.bits - 1) == 1 { raw as i128 - (1 << self.bits) } else { raw as i128 }
    }

    fn put(self, value: &mut [u8], at: u64, number: i128) {
        for bit in 0..u64::from(self.bits) {
            let (at, mask) = (at + bit, 0x80 >> ((at + bit) & 7));
            let byte = &mut value[(at >> 3) as usize];
            let is_on = number >> (u64::from(self.bits) - 1 - bit) & 1 == 1;
            *byte = if is_on { *byte | mask } else { *byte & !mask };
        }
    }

    // The number as it is kept; `None` when it does not fit and must not be changed to.
    fn fit(self, number: i128, overflow: Overflow) -> Option<i128> {
        let (min, max) = match self.is_signed {
            true => (-(1i128 << (self.bits - 1)), (1i128 << (self.bits - 1)) - 1),
            false => (0, (1i128 << self.bits) - 1),
        };
        if (min..=max).contains(&number) {
            return Some(number);
        }
        match overflow {
            Overflow::Wrap => Some((number - min).rem_euclid(1 << self.bits) + min),
            Overflow::Saturate => Some(number.clamp(min, max)),
            Overflow::Fail => None,
        }
    }
}

fn byte(value: &[u8], at: usize) -> u8 {
    value.get(at).copied().unwrap_or(0)
}
