//! What COMMAND and ACL CAT say of a command: its flags and categories by Redis' names.

use super::spec::{
    ADMIN, ALLOW_BUSY, FAST, GROWS, Group, LOADING, MOVABLE, NO_ASYNC_LOADING, NO_AUTH, NO_MULTI, NO_SCRIPT, PUBSUB,
    READ, STALE, Spec, WRITE,
};

/// Redis' categories, in the order ACL CAT lists them.
pub const CATEGORIES: &[&str] = &[
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// The categories of a command, in that order.
pub fn of(spec: &Spec) -> Vec<&'static str> {
    CATEGORIES.iter().copied().filter(|category| is_in(spec, category)).collect()
}

fn is_in(spec: &Spec, category: &str) -> bool {
    let flags = spec.flags;
    let name = spec.name;
    match category {
        "read" => flags.has(READ),
        "write" => flags.has(WRITE),
        "admin" => flags.has(ADMIN) || matches!(name, "role" | "lastsave"),
        "fast" => flags.has(FAST),
        "slow" => !flags.has(FAST),
        "dangerous" => {
            flags.has(ADMIN)
                || matches!(name, "role" | "lastsave" | "info" | "swapdb" | "keys" | "flushall" | "flushdb")
        }
        "connection" => {
            spec.group == Group::Connection && name != "client"
                || matches!(name.split('|').next(), Some("command" | "wait" | "readonly" | "readwrite" | "asking"))
        }
        "keyspace" => {
            spec.group == Group::Generic && !matches!(name, "wait" | "object" | "object|help")
                || matches!(name, "swapdb" | "flushall" | "flushdb" | "dbsize")
        }
        "string" => spec.group == Group::String,
        "bitmap" => spec.group == Group::Bitmap,
        "hash" => spec.group == Group::Hash,
        "pubsub" => flags.has(PUBSUB),
        _ => false,
    }
}

/// The flags of a command by Redis' names.
pub fn flags_of(spec: &Spec) -> Vec<&'static str> {
    let names = [
        (WRITE, "write"),
        (READ, "readonly"),
        (GROWS, "denyoom"),
        (ADMIN, "admin"),
        (PUBSUB, "pubsub"),
        (NO_SCRIPT, "noscript"),
        (LOADING, "loading"),
        (STALE, "stale"),
        (FAST, "fast"),
        (NO_AUTH, "no_auth"),
        (NO_ASYNC_LOADING, "no_async_loading"),
        (NO_MULTI, "no_multi"),
        (MOVABLE, "movablekeys"),
        (ALLOW_BUSY, "allow_busy"),
    ];
    names.iter().filter(|(flag, _)| spec.flags.has(*flag)).map(|(_, name)| *name).collect()
}
