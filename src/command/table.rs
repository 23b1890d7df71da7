//! All commands in one table, looked up by name in any case.

use std::sync::OnceLock;

use hashbrown::HashTable;

use super::spec::{CONTAINER, Spec};
use crate::resp::parse::Argv;

/// The families, in the order COMMAND lists them.
const FAMILIES: &[&[Spec]] = &[
    super::string::FAMILY,
    super::substring::FAMILY,
    super::counter::FAMILY,
    super::lcs::FAMILY,
    super::bitmap::FAMILY,
    super::bitfield::FAMILY,
    super::key::FAMILY,
    super::rename::FAMILY,
    super::expire::FAMILY,
    super::scan::FAMILY,
    super::flush::FAMILY,
    super::object::FAMILY,
    super::debug::FAMILY,
    super::hash::FAMILY,
    super::hash_random::FAMILY,
    super::home::CONNECTION,
    super::home::SERVER,
    super::cluster::FAMILY,
];

/// Every command, and every subcommand that has a row of its own (`object|encoding`).
pub fn all() -> impl Iterator<Item = &'static Spec> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// The command of that name, in any case, with its place in the table; `None` when there is none.
#[inline]
pub fn lookup(name: &[u8]) -> Option<(usize, &'static Spec)> {
    let mut lower = [0u8; NAME_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    index().find(hash(lower), |(_, spec)| spec.name.as_bytes() == &*lower).copied()
}

/// The row of a command by its name and first argument: that of the subcommand if there is one (OBJECT ENCODING, MEMORY
/// USAGE, DEBUG DIGEST, ...), whose arity and key positions count the command's name as 0 too.
#[inline]
pub fn resolve(name: &[u8], argument: Option<&[u8]>) -> Option<(usize, &'static Spec)> {
    let found = lookup(name);
    if found.is_some_and(|(_, spec)| !spec.flags.has(CONTAINER)) {
        return found;
    }
    argument.and_then(|argument| subcommand(name, argument)).or(found)
}

/// As [`resolve`], of a parsed command.
#[inline]
pub fn of_command(argv: &Argv, buf: &[u8]) -> Option<(usize, &'static Spec)> {
    let name = if argv.is_empty() { return None } else { argv.get(0, buf) };
    resolve(name, (argv.len() > 1).then(|| argv.get(1, buf)))
}

fn subcommand(name: &[u8], argument: &[u8]) -> Option<(usize, &'static Spec)> {
    let mut joined = [0u8; NAME_BYTES_MAX];
    let end = name.len() + 1 + argument.len();
    let joined = joined.get_mut(..end)?;
    joined[..name.len()].copy_from_slice(name);
    joined[name.len()] = b'|';
    joined[name.len() + 1..].copy_from_slice(argument);
    lookup(joined)
}

/// No command has a longer name.
const NAME_BYTES_MAX: usize = 32;

fn index() -> &'static HashTable<(usize, &'static Spec)> {
    static INDEX: OnceLock<HashTable<(usize, &'static Spec)>> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut index = HashTable::new();
        for (at, spec) in all().enumerate() {
            index.insert_unique(hash(spec.name.as_bytes()), (at, spec), |(_, spec)| hash(spec.name.as_bytes()));
        }
        index
    })
}

// FNV-1a: names are short, and the table is ours, so nobody can choose them to collide.
fn hash(name: &[u8]) -> u64 {
    let hash = name
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    hash ^ (hash << 32)
}

#[cfg(test)]
mod tests {
    use super::super::spec::{GROWS, READ, WRITE};
    use super::*;

    #[test]
    fn names_are_lower_case_unique_and_found_in_any_case() {
        let mut names: Vec<&str> = all().map(|spec| spec.name).collect();
        for name in &names {
            assert_eq!(*name, name.to_lowercase());
            assert!(name.len() <= NAME_BYTES_MAX);
            assert_eq!(lookup(name.to_uppercase().as_bytes()).map(|(_, spec)| spec.name), Some(*name));
        }
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn growing_is_writing_and_nothing_both_reads_and_writes() {
        for spec in all() {
            assert!(!spec.flags.has(GROWS) || spec.flags.has(WRITE), "{}", spec.name);
            assert!(!(spec.flags.has(READ) && spec.flags.has(WRITE)), "{}", spec.name);
        }
    }

    #[test]
    fn arity_leaves_room_for_the_keys() {
        for spec in all() {
            let least = spec.arity.unsigned_abs() as usize;
            // A list of keys that runs to the end may be empty (DEBUG DIGEST-VALUE).
            let needed =
                if spec.keys.last < 0 { usize::from(spec.keys.first) } else { usize::from(spec.keys.first) + 1 };
            assert!(needed <= least || spec.keys.first == 0, "{}", spec.name);
        }
    }
}
