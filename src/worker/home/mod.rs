//! Commands that run where the client is connected, with its session at hand.

use super::Worker;
use super::control::{Answer, Figures, KillFilter, Then};
use super::port::{Action, Endpoint};
use super::session::Session;
use crate::base::ids::{ConnId, Db, ShardId};
use crate::base::time::Now;
use crate::command::args::Args;
use crate::command::error::CommandError;
use crate::command::spec::Home;
use crate::resp::parse::Argv;
use crate::resp::write::{Reply, Version};

impl Worker {
    /// Runs a command of this core's client here.
    pub(super) fn run_home(&mut self, session: &mut Session, home: Home, argv: &Argv, buf: &[u8], now: Now) {
        let version = session.version;
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, version);
        let mut args = Args::new(argv, buf);
        let result = self.home(session, home, &mut args, &mut reply, now);
        if let Err(error) = result {
            out.clear();
            Reply::new(&mut out, session.version).error(&error.to_string());
            self.stats.errors += 1;
        }
        session.write(|into| into.extend_from_slice(&out));
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
            Home::Ping => match args.next_if_any() {
                None => reply.pong(),
                Some(message) => reply.bulk(message),
            },
            Home::Echo => reply.bulk(args.next()?),
            Home::Select => {
                let db = args.integer()?;
                if !(0..i64::from(self.config.databases)).contains(&db) {
                    return Err(CommandError::Text("ERR DB index is out of range"));
                }
                session.db = Db(db as u16);
                reply.ok();
            }
            Home::Quit => {
                reply.ok();
                session.closing = true;
                self.act(Action::CloseAfterFlush(session.conn));
            }
            Home::Tutti => return self.accept_feed(session, args, reply, now),
            _ => return Err(CommandError::Text("ERR not here yet")),
        }
        Ok(())
    }

    pub(super) fn finish_home(
        &mut self,
        _conn: ConnId,
        _then: Then,
        _answers: Vec<(ShardId, Answer)>,
        _version: Version,
        _now: Now,
    ) -> Vec<u8> {
        Vec::new()
    }

    pub(super) fn figures(&self) -> Figures {
        Figures::default()
    }

    pub(super) fn client_lines(&self, _now: Now) -> String {
        String::new()
    }

    pub(super) fn kill(&mut self, _filter: &KillFilter, _now: Now) -> usize {
        0
    }

    pub(super) fn check_clients(&mut self, _now: Now) {}

    pub(super) fn refuses(&self, _peer: &Endpoint) -> Option<&'static [u8]> {
        None
    }
}
