//! PING, ECHO, AUTH, HELLO, SELECT, QUIT, RESET.

use super::super::Worker;
use super::super::session::{Replies, Session};
use super::text;
use crate::base::ids::Db;
use crate::base::text::parse_i64;
use crate::command::args::Args;
use crate::command::error::CommandError;
use crate::resp::write::{Reply, Version};

/// The version of Redis whose behaviour clients may count on.
pub(super) const REDIS_VERSION: &str = "7.2.5";

const WRONG_PASSWORD: CommandError =
    CommandError::Text("WRONGPASS invalid username-password pair or user is disabled.");

pub(super) fn ping(args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    match args.count() {
        1 => reply.pong(),
        2 => reply.bulk(args.next()?),
        _ => return Err(CommandError::Arity("ping".into())),
    }
    Ok(())
}

pub(super) fn echo(args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    reply.bulk(args.next()?);
    Ok(())
}

/// Replies that are pending still go out; see `settle`.
pub(super) fn quit(session: &mut Session, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    reply.ok();
    session.half_closed = true;
    Ok(())
}

impl Worker {
    pub(super) fn auth(
        &mut self,
        session: &mut Session,
        args: &mut Args<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), CommandError> {
        let (user, password) = match args.left() {
            1 if !self.config.requirepass.is_set() => {
                return Err(CommandError::Text(
                    "ERR AUTH <password> called without any password configured for the default user. Are you sure \
                     your configuration is correct?",
                ));
            }
            1 => (&b"default"[..], args.next()?),
            2 => (args.next()?, args.next()?),
            _ => return Err(CommandError::Syntax),
        };
        self.authenticate(session, user, password)?;
        reply.ok();
        Ok(())
    }

    fn authenticate(&mut self, session: &mut Session, user: &[u8], password: &[u8]) -> Result<(), CommandError> {
        if !self.admits(user, password) {
            self.stats.auth_failures += 1;
            tracing::debug!(client = session.endpoint.remote, user = %text(user), "authentication failed");
            return Err(WRONG_PASSWORD);
        }
        session.authenticated = true;
        session.user = text(user);
        Ok(())
    }

    // Other nodes come as `masteruser` with `masterauth`; everyone else is the default user.
    fn admits(&self, user: &[u8], password: &[u8]) -> bool {
        let config = &self.config;
        let is_default = user == b"default" && (!config.requirepass.is_set() || config.requirepass.is(password));
        let is_peer = !config.masteruser.is_empty()
            && user == config.masteruser.as_bytes()
            && (config.masterauth.is_set() && config.masterauth.is(password)
                || config.requirepass.is_set() && config.requirepass.is(password));
        is_default || is_peer
    }

    pub(super) fn hello(
        &mut self,
        session: &mut Session,
        args: &mut Args<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), CommandError> {
        let version = match args.next_if_any().map(parse_i64) {
            None => session.version,
            Some(Some(2)) => Version::Resp2,
            Some(Some(3)) => Version::Resp3,
            Some(Some(_)) => return Err(CommandError::Text("NOPROTO unsupported protocol version")),
            Some(None) => {
                return Err(CommandError::Text("ERR Protocol version is not an integer or out of range"));
            }
        };
        let (mut login, mut name) = (None, None);
        while args.left() > 0 {
            if args.left() > 2 && args.word("AUTH") {
                login = Some((args.next()?, args.next()?));
            } else if args.left() > 1 && args.word("SETNAME") {
                name = Some(valid_name(
                    args.next()?,
                    "ERR Client names cannot contain spaces, newlines or special characters.",
                )?);
            } else {
                let option = text(args.next()?);
                return Err(CommandError::Owned(format!("ERR Syntax error in HELLO option '{option}'")));
            }
        }
        if let Some((user, password)) = login {
            self.authenticate(session, user, password)?;
        }
        if !session.authenticated {
            return Err(CommandError::Text(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
                 <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
                 the same time",
            ));
        }
        if let Some(name) = name {
            session.name = name;
        }
        session.version = version;
        reply.set_version(version);
        reply.map(7);
        for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
            reply.text(key);
            reply.text(value);
        }
        reply.text("proto");
        reply.integer(if version == Version::Resp3 { 3 } else { 2 });
        reply.text("id");
        reply.integer(session.id as i64);
        reply.text("mode");
        reply.text("standalone");
        reply.text("role");
        reply.text(self.hello_role());
        reply.text("modules");
        reply.array(0);
        Ok(())
    }

    pub(super) fn select(
        &mut self,
        session: &mut Session,
        args: &mut Args<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), CommandError> {
        let db = args.integer()?;
        if !(0..i64::from(self.config.databases)).contains(&db) {
            return Err(CommandError::Text("ERR DB index is out of range"));
        }
        session.db = Db(db as u16);
        reply.ok();
        Ok(())
    }

    pub(super) fn reset(&mut self, session: &mut Session, reply: &mut Reply<'_>) -> Result<(), CommandError> {
        session.db = Db(0);
        session.version = Version::Resp2;
        session.name.clear();
        session.user = "default".into();
        session.authenticated = !self.config.requirepass.is_set();
        session.replies = Replies::On;
        session.no_evict = false;
        session.no_touch = false;
        reply.set_version(Version::Resp2);
        reply.simple("RESET");
        Ok(())
    }
}

/// A name without bytes that would spoil CLIENT LIST.
pub(super) fn valid_name(name: &[u8], refusal: &'static str) -> Result<String, CommandError> {
    match name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        true => Ok(text(name)),
        false => Err(CommandError::Text(refusal)),
    }
}
