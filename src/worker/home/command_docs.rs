//! COMMAND: the table of commands, told in Redis' form.

use super::{help, subcommand, text, unknown_subcommand};
use crate::base::text::glob_match;
use crate::command::args::Args;
use crate::command::categories;
use crate::command::error::CommandError;
use crate::command::spec::{CONTAINER, GROWS, Group, READ, Spec, WRITE};
use crate::command::table;
use crate::resp::write::Reply;

pub(super) fn command(args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    if args.left() == 0 {
        reply.array(tops().count());
        tops().for_each(|spec| describe(spec, reply));
        return Ok(());
    }
    let given = args.get(1).unwrap_or_default();
    match subcommand(args)?.as_str() {
        "count" => reply.integer(tops().count() as i64),
        "info" => info(args, reply),
        "docs" => docs(args, reply),
        "list" => list(args, reply)?,
        "getkeys" => get_keys(args, reply, false)?,
        "getkeysandflags" => get_keys(args, reply, true)?,
        "help" => help(
            reply,
            "COMMAND",
            &[
                "(no subcommand)",
                "    Return details about all commands.",
                "COUNT",
                "    Return the total number of commands in this server.",
                "LIST",
                "    Return a list of all commands in this server.",
                "INFO [<command-name> ...]",
                "    Return details about multiple commands.",
                "DOCS [<command-name> ...]",
                "    Return documentation details about multiple commands.",
                "GETKEYS <full-command>",
                "    Return the keys from a full command.",
                "GETKEYSANDFLAGS <full-command>",
                "    Return the keys and the access flags from a full command.",
            ],
        ),
        _ => return Err(unknown_subcommand("COMMAND", given)),
    }
    Ok(())
}

/// Commands that are not subcommands.
fn tops() -> impl Iterator<Item = &'static Spec> {
    table::all().filter(|spec| !spec.name.contains('|'))
}

fn subs(container: &Spec) -> Vec<&'static Spec> {
    let is_sub = |spec: &&Spec| spec.name.split_once('|').is_some_and(|(name, _)| name == container.name);
    if container.flags.has(CONTAINER) { table::all().filter(is_sub).collect() } else { Vec::new() }
}

fn info(args: &mut Args<'_>, reply: &mut Reply<'_>) {
    if args.left() == 0 {
        reply.array(tops().count());
        return tops().for_each(|spec| describe(spec, reply));
    }
    reply.array(args.left());
    for name in args.rest() {
        match table::lookup(name) {
            Some((_, spec)) => describe(spec, reply),
            None => reply.nil_array(),
        }
    }
}

/// Ten fields, as since Redis 7.
fn describe(spec: &Spec, reply: &mut Reply<'_>) {
    reply.array(10);
    reply.text(spec.name);
    reply.integer(i64::from(spec.arity));
    let flags: Vec<&str> = categories::flags_of(spec);
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.simple(flag));
    let keys = spec.keys;
    reply.integer(i64::from(keys.first));
    reply.integer(i64::from(keys.last));
    reply.integer(i64::from(keys.step));
    let categories = categories::of(spec);
    reply.set(categories.len());
    categories.iter().for_each(|category| reply.simple(&format!("@{category}")));
    reply.array(0);
    describe_keys(spec, reply);
    let subs = subs(spec);
    reply.array(subs.len());
    subs.iter().for_each(|sub| describe(sub, reply));
}

fn describe_keys(spec: &Spec, reply: &mut Reply<'_>) {
    let keys = spec.keys;
    if keys.first == 0 {
        return reply.set(0);
    }
    // Redis counts the last key from the first.
    let last = if keys.last < 0 { i64::from(keys.last) } else { i64::from(keys.last) - i64::from(keys.first) };
    reply.set(1);
    reply.map(3);
    reply.text("flags");
    let flags = key_flags(spec);
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.simple(flag));
    reply.text("begin_search");
    reply.map(2);
    reply.text("type");
    reply.text("index");
    reply.text("spec");
    reply.map(1);
    reply.text("index");
    reply.integer(i64::from(keys.first));
    reply.text("find_keys");
    reply.map(2);
    reply.text("type");
    reply.text("range");
    reply.text("spec");
    reply.map(3);
    reply.text("lastkey");
    reply.integer(last);
    reply.text("keystep");
    reply.integer(i64::from(keys.step));
    reply.text("limit");
    reply.integer(0);
}

fn key_flags(spec: &Spec) -> &'static [&'static str] {
    match () {
        () if spec.flags.has(READ) => &["RO", "access"],
        () if spec.flags.has(WRITE) && !spec.flags.has(GROWS) => &["RW", "delete"],
        () => &["RW", "update"],
    }
}

fn docs(args: &mut Args<'_>, reply: &mut Reply<'_>) {
    let wanted: Vec<&Spec> = match args.left() {
        0 => tops().collect(),
        // Unknown names are left out, as in Redis.
        _ => args.rest().filter_map(|name| table::lookup(name).map(|(_, spec)| spec)).collect(),
    };
    reply.map(wanted.len());
    for spec in wanted {
        reply.text(spec.name);
        document(spec, reply);
    }
}

fn document(spec: &Spec, reply: &mut Reply<'_>) {
    let subs = subs(spec);
    reply.map(if subs.is_empty() { 3 } else { 4 });
    for (name, value) in [("summary", spec.summary), ("since", spec.since), ("group", group(spec.group))] {
        reply.text(name);
        reply.text(value);
    }
    if !subs.is_empty() {
        reply.text("subcommands");
        reply.map(subs.len());
        for sub in subs {
            reply.text(sub.name);
            document(sub, reply);
        }
    }
}

fn group(group: Group) -> &'static str {
    match group {
        Group::Generic => "generic",
        Group::String => "string",
        Group::Bitmap => "bitmap",
        Group::Hash => "hash",
        Group::Connection => "connection",
        Group::Server | Group::Replication => "server",
        Group::Cluster => "cluster",
    }
}

fn list(args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let mut names: Vec<&str> = tops().map(|spec| spec.name).collect();
    if args.left() > 0 {
        if args.left() != 3 || !args.word("FILTERBY") {
            return Err(CommandError::Syntax);
        }
        let (kind, pattern) = (text(args.next()?).to_ascii_lowercase(), args.next()?);
        let fits: Box<dyn Fn(&Spec) -> bool> = match kind.as_str() {
            "module" => Box::new(|_| false),
            "aclcat" => {
                let category = text(pattern).to_ascii_lowercase();
                Box::new(move |spec| categories::of(spec).contains(&category.as_str()))
            }
            "pattern" => Box::new(|spec| glob_match(pattern, spec.name.as_bytes(), true)),
            _ => return Err(CommandError::Syntax),
        };
        names = table::all().filter(|spec| fits(spec)).map(|spec| spec.name).collect();
    }
    reply.array(names.len());
    names.iter().for_each(|name| reply.text(name));
    Ok(())
}

fn get_keys(args: &mut Args<'_>, reply: &mut Reply<'_>, with_flags: bool) -> Result<(), CommandError> {
    let words: Vec<&[u8]> = args.rest().collect();
    let spec = words.first().and_then(|name| table::resolve(name, words.get(1).copied()));
    let (_, spec) = spec.ok_or(CommandError::Text("ERR Invalid command specified"))?;
    if spec.keys.first == 0 && spec.keys.numkeys == 0 {
        return Err(CommandError::Text("ERR The command has no key arguments"));
    }
    let least = usize::from(spec.arity.unsigned_abs());
    if words.len() < least || spec.arity > 0 && words.len() != least {
        return Err(CommandError::Text("ERR Invalid number of arguments specified for command"));
    }
    let keys: Vec<&[u8]> = spec.keys.positions(words.len()).map(|at| words[at]).collect();
    if keys.is_empty() {
        return Err(CommandError::Text("ERR Invalid arguments specified for command"));
    }
    reply.array(keys.len());
    for key in keys {
        if with_flags {
            reply.array(2);
        }
        reply.bulk(key);
        if with_flags {
            let flags = key_flags(spec);
            reply.set(flags.len());
            flags.iter().for_each(|flag| reply.simple(flag));
        }
    }
    Ok(())
}
