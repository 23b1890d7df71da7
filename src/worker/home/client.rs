//! CLIENT: what a connection may say about itself, and what an administrator may do to others, on whatever core they
//! are.

use super::super::Worker;
use super::super::control::{Answer, Ask, ClientFilter, Tell, Then};
use super::super::session::{Blocked, Kind, Pending, Replies, Session};
use super::connection::valid_name;
use super::{help, subcommand, text, unknown_subcommand};
use crate::base::ids::ShardId;
use crate::base::text::{eq_ignore_case, parse_i64};
use crate::base::time::Now;
use crate::command::args::Args;
use crate::command::error::CommandError;
use crate::resp::write::{Reply, Version};

const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

impl Worker {
    pub(super) fn client(
        &mut self,
        session: &mut Session,
        args: &mut Args<'_>,
        reply: &mut Reply<'_>,
        now: Now,
    ) -> Result<(), CommandError> {
        let given = args.get(1).unwrap_or_default();
        match subcommand(args)?.as_str() {
            "id" => reply.integer(session.id as i64),
            "getname" => reply.bulk_or_nil((!session.name.is_empty()).then_some(session.name.as_bytes())),
            "setname" => {
                session.name = valid_name(args.next()?, BAD_NAME)?;
                reply.ok();
            }
            "setinfo" => set_info(session, args, reply)?,
            "info" => reply.verbatim(b"txt", client_line(session, now).as_bytes()),
            "list" => {
                let filter = list_filter(session, args)?;
                self.ask_everyone(session, &Ask::Clients(filter), Then::Clients);
            }
            "kill" => {
                let (filter, old_form) = self.kill_filter(session, args)?;
                self.ask_everyone(session, &Ask::Kill(filter), Then::Kill { old_form });
            }
            "pause" => {
                let tell = pause(args, now)?;
                self.ask_everyone(session, &Ask::Tell(tell), Then::Ok);
            }
            "unpause" => {
                let tell = Tell::Pause { until_us: 0, writes_only: false };
                self.ask_everyone(session, &Ask::Tell(tell), Then::Ok);
            }
            "reply" => {
                session.replies = match args.next()? {
                    mode if eq_ignore_case(mode, "ON") => Replies::On,
                    mode if eq_ignore_case(mode, "OFF") => Replies::Off,
                    // Without replies there is nothing to skip.
                    mode if eq_ignore_case(mode, "SKIP") && session.replies == Replies::Off => Replies::Off,
                    mode if eq_ignore_case(mode, "SKIP") => Replies::SkipNext,
                    _ => return Err(CommandError::Syntax),
                };
                reply.ok();
            }
            "no-evict" => {
                session.no_evict = on_or_off(args)?;
                reply.ok();
            }
            "no-touch" => {
                session.no_touch = on_or_off(args)?;
                reply.ok();
            }
            "tracking" => match on_or_off(args)? {
                false => reply.ok(),
                true => return Err(CommandError::Text("ERR client-side caching is not supported")),
            },
            "caching" => {
                return Err(CommandError::Text(
                    "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT \
                     mode enabled",
                ));
            }
            "getredir" => reply.integer(-1),
            "trackinginfo" => {
                reply.map(3);
                reply.text("flags");
                reply.set(1);
                reply.text("off");
                reply.text("redirect");
                reply.integer(-1);
                reply.text("prefixes");
                reply.array(0);
            }
            "unblock" => {
                args.integer()?;
                if args.left() > 0 && !args.word("TIMEOUT") && !args.word("ERROR") {
                    return Err(CommandError::Text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
                }
                args.finish()?;
                // No command blocks in the sense of CLIENT UNBLOCK yet.
                reply.integer(0);
            }
            "help" => help(reply, "CLIENT", HELP),
            _ => return Err(unknown_subcommand("CLIENT", given)),
        }
        Ok(())
    }

    fn kill_filter(&self, session: &Session, args: &mut Args<'_>) -> Result<(ClientFilter, bool), CommandError> {
        let mut filter = ClientFilter { asker: session.id, ..ClientFilter::default() };
        if args.left() == 1 {
            filter.addr = Some(text(args.next()?));
            return Ok((filter, true));
        }
        filter.skip_id = Some(session.id);
        while args.left() > 0 {
            if args.left() < 2 {
                return Err(CommandError::Syntax);
            }
            if args.word("ID") {
                let id = parse_i64(args.next()?).filter(|&id| id > 0);
                let id = id.ok_or(CommandError::Text("ERR client-id should be greater than 0"))?;
                filter.ids = Some(vec![id as u64]);
            } else if args.word("ADDR") {
                filter.addr = Some(text(args.next()?));
            } else if args.word("LADDR") {
                filter.laddr = Some(text(args.next()?));
            } else if args.word("TYPE") {
                filter.kind = Some(client_kind(args.next()?)?);
            } else if args.word("USER") {
                let user = text(args.next()?);
                if user != "default" && user != self.config.masteruser {
                    return Err(CommandError::Owned(format!("ERR No such user '{user}'")));
                }
                filter.user = Some(user);
            } else if args.word("SKIPME") {
                filter.skip_id = match args.next()? {
                    word if eq_ignore_case(word, "yes") => Some(session.id),
                    word if eq_ignore_case(word, "no") => None,
                    _ => return Err(CommandError::Syntax),
                };
            } else if args.word("MAXAGE") {
                let age = parse_i64(args.next()?).filter(|&age| age > 0);
                let age = age.ok_or(CommandError::Text("ERR maxage is not an integer or out of range"))?;
                filter.max_age_s = Some(age as u64);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok((filter, false))
    }

    /// CLIENT LIST of this core.
    pub(in super::super) fn client_lines(&self, filter: &ClientFilter, now: Now) -> String {
        let asked =
            self.sessions.iter().filter(|session| !session.closing && filter.matches(session, age_s(session, now)));
        asked.map(|session| client_line(session, now)).collect()
    }

    /// CLIENT KILL on this core; returns how many.
    pub(in super::super) fn kill(&mut self, filter: &ClientFilter, now: Now) -> usize {
        let asked = |session: &&Session| !session.closing && filter.matches(session, age_s(session, now));
        let doomed: Vec<_> = self.sessions.iter().filter(asked).map(|session| (session.conn, session.id)).collect();
        for &(conn, id) in &doomed {
            if id == filter.asker {
                // It still gets its reply, and nothing it sent behind is run.
                if let Some(session) = self.sessions.get_mut(conn) {
                    session.half_closed = true;
                    session.input.clear();
                }
            } else {
                self.drop_client(conn, now);
            }
        }
        doomed.len()
    }
}

fn age_s(session: &Session, now: Now) -> u64 {
    now.mono_us.saturating_sub(session.since.mono_us) / 1_000_000
}

/// One line as Redis 7.2 prints it, its end included.
fn client_line(session: &Session, now: Now) -> String {
    let mut flags = String::new();
    match session.kind {
        Kind::Client => {}
        Kind::Link(_) => flags.push('M'),
        Kind::Feed(_) => flags.push('S'),
    }
    if session.blocked == Some(Blocked::Reply) && session.last_command != "client|list" {
        flags.push('b');
    }
    if session.half_closed {
        flags.push('c');
    }
    if session.no_evict {
        flags.push('e');
    }
    if session.no_touch {
        flags.push('T');
    }
    if session.endpoint.remote.starts_with('/') {
        flags.push('U');
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let ready = |pending: &Pending| if let Pending::Ready(bytes) = pending { bytes.len() } else { 0 };
    let waiting: usize = session.pending.iter().map(ready).sum();
    let output = waiting + session.unsent;
    let buffers = session.input.capacity() + session.output.capacity() + output;
    format!(
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={flags} db={} sub=0 psub=0 ssub=0 multi=-1 qbuf={} \
         qbuf-free={} argv-mem=0 multi-mem=0 rbs={} rbp={} obl={} oll={} omem={output} tot-mem={} events={} cmd={} \
         user={} redir=-1 resp={} lib-name={} lib-ver={}\n",
        session.id,
        session.endpoint.remote,
        session.endpoint.local,
        session.endpoint.fd,
        session.name,
        age_s(session, now),
        now.mono_us.saturating_sub(session.last_input.mono_us) / 1_000_000,
        session.db.0,
        session.input.len(),
        session.input.capacity() - session.input.len(),
        session.output.capacity(),
        session.output.capacity(),
        session.output.len(),
        session.pending.len(),
        buffers + size_of::<Session>(),
        if output + session.output.len() > 0 { "rw" } else { "r" },
        session.last_command,
        session.user,
        if session.version == Version::Resp3 { 3 } else { 2 },
        session.library.0,
        session.library.1,
    )
}

/// All cores' lines, in the order of their ids.
pub(super) fn finish_list(answers: Vec<(ShardId, Answer)>, reply: &mut Reply<'_>) {
    let all: String = answers
        .into_iter()
        .map(|(_, answer)| if let Answer::Lines(lines) = answer { lines } else { String::new() })
        .collect();
    let id = |line: &&str| line[3..].split(' ').next().and_then(|id| id.parse::<u64>().ok()).unwrap_or(0);
    let mut lines: Vec<&str> = all.split_inclusive('\n').collect();
    lines.sort_by_key(id);
    reply.verbatim(b"txt", lines.concat().as_bytes());
}

pub(super) fn finish_kill(count: usize, old_form: bool, reply: &mut Reply<'_>) {
    match (old_form, count) {
        (false, _) => reply.integer(count as i64),
        (true, 0) => reply.error("ERR No such client"),
        (true, _) => reply.ok(),
    }
}

fn list_filter(session: &Session, args: &mut Args<'_>) -> Result<ClientFilter, CommandError> {
    let mut filter = ClientFilter { asker: session.id, ..ClientFilter::default() };
    if args.left() == 2 && args.word("TYPE") {
        filter.kind = Some(client_kind(args.next()?)?);
    } else if args.left() > 1 && args.word("ID") {
        let mut ids = Vec::new();
        for id in args.rest() {
            let id = parse_i64(id).filter(|&id| id > 0).ok_or(CommandError::Text("ERR Invalid client ID"))?;
            ids.push(id as u64);
        }
        filter.ids = Some(ids);
    }
    args.finish()?;
    Ok(filter)
}

fn client_kind(word: &[u8]) -> Result<String, CommandError> {
    match text(word).to_ascii_lowercase().as_str() {
        "slave" | "replica" => Ok("replica".into()),
        kind @ ("normal" | "master" | "pubsub") => Ok(kind.into()),
        _ => Err(CommandError::Owned(format!("ERR Unknown client type '{}'", text(word)))),
    }
}

fn set_info(session: &mut Session, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (option, value) = (args.next()?, args.next()?);
    let field = match text(option).to_ascii_lowercase().as_str() {
        "lib-name" => &mut session.library.0,
        "lib-ver" => &mut session.library.1,
        _ => return Err(CommandError::Owned(format!("ERR Unrecognized option '{}'", text(option)))),
    };
    let refusal = || format!("ERR {} cannot contain spaces, newlines or special characters.", text(option));
    *field = valid_name(value, BAD_NAME).map_err(|_| CommandError::Owned(refusal()))?;
    reply.ok();
    Ok(())
}

fn pause(args: &mut Args<'_>, now: Now) -> Result<Tell, CommandError> {
    let ms = parse_i64(args.next()?).ok_or(CommandError::Text("ERR timeout is not an integer or out of range"))?;
    if ms < 0 {
        return Err(CommandError::Text("ERR timeout is negative"));
    }
    let writes_only = match args.left() {
        0 => false,
        _ if args.word("WRITE") => true,
        _ if args.word("ALL") => false,
        _ => return Err(CommandError::Text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    args.finish()?;
    Ok(Tell::Pause { until_us: now.mono_us.saturating_add((ms as u64).saturating_mul(1000)), writes_only })
}

fn on_or_off(args: &mut Args<'_>) -> Result<bool, CommandError> {
    match args.next()? {
        word if eq_ignore_case(word, "ON") => Ok(true),
        word if eq_ignore_case(word, "OFF") => Ok(false),
        _ => Err(CommandError::Syntax),
    }
}

const HELP: &[&str] = &[
    "CACHING (YES|NO)",
    "    Not supported: there is no tracking.",
    "GETNAME",
    "    Return the name of the current connection.",
    "GETREDIR",
    "    Return -1: there is no tracking.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections. Options: ADDR, LADDR, TYPE, USER, SKIPME, ID, MAXAGE.",
    "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <id> [<id> ...]]",
    "    Return information about client connections, of all cores.",
    "NO-EVICT (ON|OFF)",
    "    Protect current client connection from eviction.",
    "NO-TOUCH (ON|OFF)",
    "    Do not touch access times with this connection's reads.",
    "PAUSE <timeout> [WRITE|ALL]",
    "    Suspend all, or just write, clients for <timeout> milliseconds.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETINFO <LIB-NAME|LIB-VER> <value>",
    "    Name the client's library.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "TRACKINGINFO",
    "    Report that tracking is off.",
    "UNPAUSE",
    "    Stop the current client pause, resuming traffic.",
];
