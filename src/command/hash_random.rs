//! HRANDFIELD: fields picked by chance.

use super::Ctx;
use super::args::Args;
use super::error::CommandError;
use super::hash::bulk;
use super::spec::{Group, Keys, READ, Run, Spec, spec};
use crate::base::rng::Rng;
use crate::resp::write::{Reply, Version};
use crate::shard::hash::HashView;
use crate::shard::write::Value;

/// The rows of this file.
pub const FAMILY: &[Spec] = &[spec(
    "hrandfield",
    -2,
    READ,
    Keys::ONE,
    Run::Owner(hrandfield),
    Group::Hash,
    "6.2.0",
    "Returns one or more random fields from a hash.",
)];

/// A hash more than so many times the size of what is asked for is sampled; else all its fields are listed and some
/// of them drawn.
const SAMPLED_RATIO: usize = 4;

type Pair<'a> = (&'a [u8], Value<'a>);

fn hrandfield(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let key = ctx.key(args.next()?);
    let count = if args.left() > 0 { Some(args.integer()?) } else { None };
    if count == Some(i64::MIN) {
        return Err(CommandError::Text(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    let with_values = args.word("withvalues");
    args.finish()?;
    // The reply would be twice as long as the count.
    if with_values && count.is_some_and(|count| count.unsigned_abs() > i64::MAX as u64 / 2) {
        return Err(CommandError::Text("ERR value is out of range"));
    }
    // The generator is put back below; the hash borrows the shard meanwhile.
    let mut rng = ctx.shard.rng.clone();
    let hash = ctx.read_hash(&key)?;
    match (hash, count) {
        (None, None) => reply.nil(),
        (None, Some(_)) | (Some(_), Some(0)) => reply.array(0),
        (Some(hash), None) => reply.bulk(hash.sample(&mut rng).0),
        (Some(hash), Some(count)) if count < 0 => {
            let count = count.unsigned_abs() as usize;
            begin(reply, count, with_values);
            (0..count).for_each(|_| pair(reply, hash.sample(&mut rng), with_values));
        }
        (Some(hash), Some(count)) => {
            let picked = distinct(&hash, count as usize, &mut rng);
            begin(reply, picked.len(), with_values);
            picked.into_iter().for_each(|picked| pair(reply, picked, with_values));
        }
    }
    ctx.shard.rng = rng;
    Ok(())
}

fn distinct<'a>(hash: &HashView<'a>, count: usize, rng: &mut Rng) -> Vec<Pair<'a>> {
    if count >= hash.len() {
        return hash.iter().collect();
    }
    if hash.len() / SAMPLED_RATIO > count {
        let mut picked: Vec<Pair<'a>> = Vec::with_capacity(count);
        let mut seen = hashbrown::HashTable::with_capacity(count);
        while picked.len() < count {
            let (name, value) = hash.sample(rng);
            // A field does not move while the hash is borrowed: its address is its identity.
            let address = name.as_ptr() as usize;
            let mixed = |address: usize| (address as u64 >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let entry = seen.entry(mixed(address), |&other| other == address, |&other| mixed(other));
            if let hashbrown::hash_table::Entry::Vacant(vacant) = entry {
                vacant.insert(address);
                picked.push((name, value));
            }
        }
        return picked;
    }
    let mut all: Vec<Pair<'a>> = hash.iter().collect();
    for at in 0..count {
        let other = at + rng.below((all.len() - at) as u64) as usize;
        all.swap(at, other);
    }
    all.truncate(count);
    all
}

// RESP3 clients get pairs as arrays of two, RESP2 clients one flat array.
fn begin(reply: &mut Reply<'_>, count: usize, with_values: bool) {
    let flat = with_values && reply.version() == Version::Resp2;
    reply.array(if flat { count * 2 } else { count });
}

fn pair(reply: &mut Reply<'_>, (name, value): Pair<'_>, with_values: bool) {
    if !with_values {
        return reply.bulk(name);
    }
    if reply.version() == Version::Resp3 {
        reply.array(2);
    }
    reply.bulk(name);
    bulk(reply, value);
}
