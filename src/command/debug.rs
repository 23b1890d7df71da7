//! DEBUG DIGEST, DEBUG DIGEST-VALUE and MULTIMASTER DIGEST: equal for equal data, whatever the order it came in, how it is packed, and how
//! many cores there are. Not the numbers Redis gives: compare nodes of this server with each other.
//!
//! A key's digest is the SHA-1 of its database, name, type, deadline and value; a database's is the exclusive or of its
//! keys'. Fields of a hash are joined likewise. Every part is preceded by its length, so no two keys read alike.

use super::Ctx;
use super::args::Args;
use super::error::CommandError;
use super::key::type_name;
use super::spec::{Group, Join, Keys, READ, Run, Spec, spec};
use crate::base::ids::Db;
use crate::base::sha1::Sha1;
use crate::resp::write::Reply;
use crate::shard::Shard;
use crate::shard::hash::field_value;
use crate::shard::write::{Found, Value};

/// The rows of this file.
pub const FAMILY: &[Spec] = &[
    spec(
        "debug|digest",
        2,
        READ,
        Keys::NONE,
        Run::Everywhere(digest, Join::Xor),
        Group::Server,
        "1.0.0",
        "Returns a digest of all keys.",
    ),
    spec(
        "debug|digest-value",
        -3,
        READ,
        Keys::from(2),
        Run::Split(digest_value, Join::Order),
        Group::Server,
        "4.0.0",
        "Returns digests of values.",
    ),
    spec(
        "multimaster|digest",
        2,
        READ,
        Keys::NONE,
        Run::Everywhere(digests, Join::Digests),
        Group::Server,
        "7.2.0",
        "Returns a digest of all keys and one of each database: equal on nodes that hold equal data.",
    ),
];

/// 160 bits.
type Digest = [u8; 20];

fn digest(ctx: &mut Ctx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let mut sum = Digest::default();
    (0..ctx.shard.keys.databases() as u16).for_each(|db| xor(&mut sum, &of_database(ctx, Db(db))));
    reply.simple(&hex(&sum));
    Ok(())
}

// What `Join::Digests` joins: the digest of everything, and of every database that holds a key.
fn digests(ctx: &mut Ctx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let held = (0..ctx.shard.keys.databases() as u16).filter(|&db| ctx.shard.keys.len(Db(db)) > 0);
    let digests: Vec<(String, Digest)> = held.map(|db| (format!("db{db}"), of_database(ctx, Db(db)))).collect();
    let mut all = Digest::default();
    digests.iter().for_each(|(_, digest)| xor(&mut all, digest));
    reply.map(digests.len() + 1);
    for (name, digest) in std::iter::once(("all".to_owned(), all)).chain(digests) {
        reply.text(&name);
        reply.text(&hex(&digest));
    }
    Ok(())
}

fn of_database(ctx: &Ctx<'_>, db: Db) -> Digest {
    let mut sum = Digest::default();
    ctx.shard.each_key(db, ctx.now, |key, found| xor(&mut sum, &of_key(db, key, &found)));
    sum
}

fn digest_value(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    args.next()?;
    reply.array(args.left());
    for key in args.rest() {
        let key = ctx.key(key);
        let digest = ctx.peek(&key).map_or(Digest::default(), |found| of_value(&found));
        reply.simple(&hex(&digest));
    }
    Ok(())
}

impl Shard {
    /// The digest of one key as DEBUG DIGEST counts it; `None` when a reader does not see it.
    pub fn digest(&self, db: Db, key: &[u8], now: crate::base::time::Now) -> Option<[u8; 20]> {
        Some(of_key(db, key, &self.peek(db, &self.key(key), now)?))
    }
}

/// Joins the digests of several shards, as hexadecimal: the other shards' answers to DEBUG DIGEST.
pub fn join(digests: impl Iterator<Item = String>) -> String {
    let mut sum = Digest::default();
    for digest in digests {
        for (byte, pair) in sum.iter_mut().zip(digest.as_bytes().chunks_exact(2)) {
            let value = |digit: u8| (digit as char).to_digit(16).unwrap_or(0) as u8;
            *byte ^= value(pair[0]) << 4 | value(pair[1]);
        }
    }
    hex(&sum)
}

fn of_key(db: Db, key: &[u8], found: &Found<'_>) -> Digest {
    let mut sha = Sha1::new();
    part(&mut sha, &db.0.to_le_bytes());
    part(&mut sha, key);
    sha.update(&of_value(found));
    sha.finish()
}

fn of_value(found: &Found<'_>) -> Digest {
    let mut sha = Sha1::new();
    part(&mut sha, type_name(found.value.kind()).as_bytes());
    part(&mut sha, &found.deadline.map_or([0; 8], u64::to_le_bytes));
    match found.value {
        Value::Hash(hash) => {
            let mut fields = Digest::default();
            for field in hash.iter() {
                let Some(value) = field_value(field) else { continue };
                let mut of_field = Sha1::new();
                part(&mut of_field, field.key());
                text(&mut of_field, value);
                xor(&mut fields, &of_field.finish());
            }
            sha.update(&fields);
        }
        string => text(&mut sha, string),
    }
    sha.finish()
}

fn text(sha: &mut Sha1, value: Value<'_>) {
    let mut printed = Vec::new();
    part(sha, value.bytes(&mut printed).unwrap_or_default());
}

fn part(sha: &mut Sha1, bytes: &[u8]) {
    sha.update(&(bytes.len() as u64).to_le_bytes());
    sha.update(bytes);
}

fn xor(sum: &mut Digest, other: &Digest) {
    sum.iter_mut().zip(other).for_each(|(sum, other)| *sum ^= other);
}

fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
