//! Several owners: which arguments go to whom, and how their replies become one.

use std::collections::BTreeMap;

use crate::base::ids::ShardId;
use crate::base::rng::Rng;
use crate::base::slot::ShardMap;
use crate::command::spec::{Join, Spec};
use crate::resp::parse::Argv;
use crate::resp::value::{Value, decode};
use crate::resp::write::{Reply, Version, encode_command};

/// One owner's share of a split command.
pub(super) struct Part {
    /// Who runs it.
    pub(super) owner: ShardId,
    /// The command with this owner's keys (and what belongs to them) only, in RESP form.
    pub(super) command: Vec<u8>,
    /// The places of its keys among all keys of the command.
    pub(super) places: Vec<usize>,
}

// An owner, its arguments, and the places of its keys.
type Share<'a> = (ShardId, Vec<&'a [u8]>, Vec<usize>);

/// Deals a command's keys to their owners, in ascending order of owners. Arguments before the first key go to all.
pub(super) fn split(map: ShardMap, spec: &Spec, argv: &Argv, buf: &[u8]) -> Vec<Part> {
    let step = usize::from(spec.keys.step.max(1));
    let head: Vec<&[u8]> = argv.iter(buf).take(usize::from(spec.keys.first)).collect();
    let mut parts: Vec<Share<'_>> = Vec::new();
    for (place, at) in spec.keys.positions(argv.len()).enumerate() {
        let owner = map.owner_of_key(argv.get(at, buf));
        let index = match parts.binary_search_by_key(&owner, |part| part.0) {
            Ok(index) => index,
            Err(index) => {
                parts.insert(index, (owner, head.clone(), Vec::new()));
                index
            }
        };
        parts[index].1.extend((at..(at + step).min(argv.len())).map(|at| argv.get(at, buf)));
        parts[index].2.push(place);
    }
    let encode = |(owner, args, places): Share<'_>| {
        let mut command = Vec::new();
        encode_command(&mut command, &args);
        Part { owner, command, places }
    };
    parts.into_iter().map(encode).collect()
}

/// The same command for every core.
pub(super) fn copy_to_all(cores: usize, argv: &Argv, buf: &[u8]) -> Vec<Part> {
    let command = super::dispatch::command_bytes(argv, buf);
    let part = |core| Part { owner: ShardId(core as u16), command: command.clone(), places: Vec::new() };
    (0..cores).map(part).collect()
}

/// Joins whole replies (in the order of shards).
pub(super) fn join(join: Join, replies: Vec<Vec<u8>>, version: Version) -> Vec<u8> {
    if let Some(error) = replies.iter().find(|reply| reply.first() == Some(&b'-')) {
        return error.clone();
    }
    let mut out = Vec::new();
    let mut reply = Reply::new(&mut out, version);
    match join {
        Join::AllOk => return replies.into_iter().next().unwrap_or_default(),
        Join::Sum => {
            let number = |reply: &Vec<u8>| match decode(reply) {
                Some((Value::Integer(n), _)) => n,
                _ => 0,
            };
            reply.integer(replies.iter().map(number).sum());
        }
        Join::Order | Join::Concat => {
            let elements: Vec<&[u8]> = replies.iter().flat_map(|reply| elements(reply)).collect();
            reply.array(elements.len());
            elements.into_iter().for_each(|element| reply.raw(element));
        }
        Join::Xor => {
            let digest = |reply: &Vec<u8>| match decode(reply) {
                Some((Value::Simple(digest), _)) => Some(digest),
                _ => None,
            };
            reply.simple(&crate::command::debug::join(replies.iter().filter_map(digest)));
        }
        Join::Digests => {
            let text = |element: &[u8]| match decode(element) {
                Some((Value::Bulk(bytes), _)) => String::from_utf8_lossy(&bytes).into_owned(),
                _ => String::new(),
            };
            let mut named: BTreeMap<(usize, String), Vec<String>> = BTreeMap::new();
            for pair in replies.iter().flat_map(|reply| elements(reply)).collect::<Vec<_>>().chunks_exact(2) {
                let name = text(pair[0]);
                // db9 comes before db10.
                named.entry((name.len(), name)).or_default().push(text(pair[1]));
            }
            reply.map(named.len());
            for ((_, name), digests) in named {
                reply.text(&name);
                reply.text(&crate::command::debug::join(digests.into_iter()));
            }
        }
        Join::AnyOf => return replies.into_iter().find(|reply| !is_nil(reply)).unwrap_or_else(|| nil(version)),
    }
    out
}

/// Picks one of the replies that are not nil, each with the chance of the number beside it: how many it was taken from.
pub(super) fn pick(mut found: Vec<(Vec<u8>, usize)>, version: Version, rng: &mut Rng) -> Vec<u8> {
    found.retain(|(reply, _)| !is_nil(reply));
    let weight = |(_, count): &(Vec<u8>, usize)| (*count).max(1) as u64;
    let mut at = rng.below(found.iter().map(weight).sum::<u64>().max(1));
    for each in found {
        match at.checked_sub(weight(&each)) {
            Some(rest) => at = rest,
            None => return each.0,
        }
    }
    nil(version)
}

fn nil(version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    Reply::new(&mut out, version).nil();
    out
}

/// Puts the elements of split replies back into the client's order. `places[i]` are those of `replies[i]`.
pub(super) fn reorder(replies: &[(Vec<usize>, Vec<u8>)], version: Version) -> Vec<u8> {
    if let Some((_, error)) = replies.iter().find(|(_, reply)| reply.first() == Some(&b'-')) {
        return error.clone();
    }
    let count = replies.iter().map(|(places, _)| places.len()).sum();
    let mut ordered: Vec<&[u8]> = vec![b"$-1\r\n"; count];
    for (places, reply) in replies {
        for (place, element) in places.iter().zip(elements(reply)) {
            ordered[*place] = element;
        }
    }
    let mut out = Vec::new();
    let mut reply = Reply::new(&mut out, version);
    reply.array(count);
    ordered.into_iter().for_each(|element| reply.raw(element));
    out
}

fn is_nil(reply: &[u8]) -> bool {
    matches!(reply, b"$-1\r\n" | b"*-1\r\n" | b"_\r\n")
}

// The encoded elements of an array reply.
fn elements(reply: &[u8]) -> Vec<&[u8]> {
    let Some(end) = reply.iter().position(|&byte| byte == b'\n') else { return Vec::new() };
    let mut rest = &reply[end + 1..];
    let mut elements = Vec::new();
    while let Some((_, used)) = decode(rest) {
        elements.push(&rest[..used]);
        rest = &rest[used..];
    }
    elements
}
