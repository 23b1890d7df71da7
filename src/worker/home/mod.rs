//! Commands that run where the client is connected, with its session at hand.
//!
//! Reading order: this file (which command is where), then `connection`, `client`, `info`, `config`, `server`,
//! `peers` (what concerns other nodes), `verify` (MULTIMASTER VERIFY), `command_docs`; `limits` (who may connect and stay), `observe` (counting and
//! timing), `later` (replies that wait for time),
//! `wait` (replies that wait for members), `rename` (`rename-command`).

mod acl;
mod client;
mod command_docs;
mod config;
mod connection;
pub(super) mod info;
pub mod later;
mod limits;
pub mod observe;
mod peers;
mod rename;
pub mod sections;
mod server;
mod slowlog;
pub mod verify;
pub mod wait;

use super::Worker;
use super::control::{Answer, Ask, Gathering, Then};
use super::session::{Blocked, Replies, Session};
use crate::base::ids::ShardId;
use crate::base::time::Now;
use crate::command::args::Args;
use crate::command::error::CommandError;
use crate::command::spec::Home;
use crate::resp::parse::Argv;
use crate::resp::write::{Reply, Version};
use crate::worker::batch::Message;

impl Worker {
    /// Runs a command of this core's client here.
    pub(super) fn run_home(&mut self, session: &mut Session, home: Home, argv: &Argv, buf: &[u8], now: Now) {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, session.version);
        let mut args = Args::new(argv, buf);
        if let Err(error) = self.home(session, home, &mut args, &mut reply, now) {
            let text = error.to_string();
            out.clear();
            Reply::new(&mut out, session.version).error(&text);
            self.count_error(&text);
        }
        if session.replies == Replies::On {
            session.write(|into| into.extend_from_slice(&out));
        }
    }

    fn home(
        &mut self,
        session: &mut Session,
        home: Home,
        args: &mut Args<'_>,
        reply: &mut Reply<'_>,
        now: Now,
    ) -> Result<(), CommandError> {
        match home {
            Home::Ping => connection::ping(args, reply),
            Home::Echo => connection::echo(args, reply),
            Home::Auth => self.auth(session, args, reply),
            Home::Hello => self.hello(session, args, reply),
            Home::Select => self.select(session, args, reply),
            Home::Quit => connection::quit(session, reply),
            Home::Reset => self.reset(session, reply),
            Home::Client => self.client(session, args, reply, now),
            Home::Info => self.info(session, args),
            Home::Config => self.config_command(session, args, reply, now),
            Home::Command => command_docs::command(args, reply),
            Home::Time => server::time(reply, now),
            Home::Lolwut => server::lolwut(reply),
            Home::Debug => self.debug(session, args, reply, now),
            Home::Memory => self.memory_command(session, args, reply),
            Home::Save | Home::Bgsave | Home::Lastsave | Home::Shutdown => self.run_saving(session, home, args, reply),
            Home::Slowlog => self.slowlog(session, args, reply),
            Home::Latency => server::latency(args, reply),
            Home::Cluster => server::cluster(args),
            Home::Acl => self.acl(session, args, reply),
            Home::Module => server::module(args, reply),
            Home::Monitor => Err(CommandError::Text("ERR MONITOR is not supported: use SLOWLOG or a proxy")),
            Home::Role => self.role(session),
            Home::Wait => self.wait(session, args, reply, now),
            Home::Tutti => self.accept_feed(session, args, reply, now),
            Home::Replicaof | Home::Replconf | Home::Multimaster => self.peer_command(session, home, args, reply, now),
        }
    }

    /// Asks every core for a client of this one; the reply comes with the last answer.
    fn ask_everyone(&mut self, session: &mut Session, ask: &Ask, then: Then) {
        let place = session.reserve();
        session.blocked = Some(Blocked::Reply);
        self.ask_all(session.conn, place, ask, then);
    }

    /// Asks one core for a client of this one.
    fn ask_one(&mut self, session: &mut Session, to: ShardId, ask: Ask, then: Then) {
        use super::Owed;
        let place = session.reserve();
        session.blocked = Some(Blocked::Reply);
        let ticket = self.ticket();
        let gathering = Box::new(Gathering { left: 1, answers: Vec::new(), then });
        self.tickets.insert(ticket, Owed::Gathering { conn: session.conn, place, gathering });
        self.send(to, Message::Ask { ticket, ask });
    }

    /// Makes one reply of all cores' answers.
    pub(super) fn finish_home(
        &mut self,
        then: Then,
        answers: Vec<(ShardId, Answer)>,
        version: Version,
        now: Now,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, version);
        match then {
            Then::Info(sections) => self.finish_info(&sections, answers, &mut reply, now),
            Then::MemoryStats => self.finish_memory_stats(answers, &mut reply),
            Then::Clients => client::finish_list(answers, &mut reply),
            Then::Kill { old_form } => client::finish_kill(count(&answers), old_form, &mut reply),
            Then::SlowlogGet(most) => slowlog::finish_get(answers, most, &mut reply),
            Then::Count => reply.integer(count(&answers) as i64),
            Then::Ok => reply.ok(),
            Then::Role => self.finish_role(answers, &mut reply),
            Then::MultimasterStatus => self.finish_multimaster_status(answers, &mut reply),
            Then::Pick | Then::Wait { .. } | Then::Adopt | Then::Verify(_) => {
                reply.error("ERR internal error: joined elsewhere")
            }
        }
        if out.first() == Some(&b'-') {
            let text = String::from_utf8_lossy(&out[1..]).into_owned();
            self.count_error(&text);
        }
        out
    }
}

fn count(answers: &[(ShardId, Answer)]) -> usize {
    answers.iter().map(|(_, answer)| if let Answer::Count(count) = answer { *count } else { 0 }).sum()
}

/// The subcommand of a container, in lower case. Those with rows in the table have had their arity checked.
fn subcommand(args: &mut Args<'_>) -> Result<String, CommandError> {
    Ok(text(args.next()?).to_ascii_lowercase())
}

/// Redis' line for a subcommand nobody knows.
fn unknown_subcommand(container: &str, given: &[u8]) -> CommandError {
    let shown = text(&given[..given.len().min(128)]);
    CommandError::Owned(format!("ERR unknown subcommand '{shown}'. Try {container} HELP."))
}

/// Redis' form of help: a heading, the lines, and HELP itself.
fn help(reply: &mut Reply<'_>, container: &str, lines: &[&str]) {
    reply.array(lines.len() + 3);
    reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().for_each(|line| reply.simple(line));
    reply.simple("HELP");
    reply.simple("    Print this help.");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
