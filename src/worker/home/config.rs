//! CONFIG. Changes (REPLICAOF's too) are made on core 0, so that no two of them meet, and reach every core before the client hears OK.

use std::sync::Arc;

use super::super::Worker;
use super::super::control::{Answer, Ask, Change, Configured, Tell, Then};
use super::super::port::Action;
use super::super::session::{Blocked, Session};
use super::{help, subcommand, unknown_subcommand};
use crate::base::ids::{ConnId, ShardId};
use crate::base::time::Now;
use crate::command::args::Args;
use crate::command::error::CommandError;
use crate::config::masters::Outcome;
use crate::config::{Config, get_set};
use crate::resp::write::{Reply, Version};

impl Worker {
    pub(super) fn config_command(
        &mut self,
        session: &mut Session,
        args: &mut Args<'_>,
        reply: &mut Reply<'_>,
        _now: Now,
    ) -> Result<(), CommandError> {
        let given = args.get(1).unwrap_or_default();
        match subcommand(args)?.as_str() {
            "get" => {
                let patterns: Vec<&[u8]> = args.rest().collect();
                let pairs = get_set::get(&self.config, &patterns);
                reply.map(pairs.len());
                for (name, value) in pairs {
                    reply.text(name);
                    reply.bulk(&value);
                }
            }
            "set" => {
                if !args.left().is_multiple_of(2) {
                    return Err(CommandError::Arity("config|set".into()));
                }
                let mut pairs = Vec::with_capacity(args.left() / 2);
                while let (Some(name), Some(value)) = (args.next_if_any(), args.next_if_any()) {
                    pairs.push((name.to_vec(), value.to_vec()));
                }
                self.ask_change(session, Change::Set { pairs: pairs.into(), is_local: session.endpoint.is_local });
            }
            "rewrite" => {
                if self.config.config_file.is_empty() {
                    return Err(CommandError::Text("ERR The server is running without a config file"));
                }
                let place = session.reserve();
                session.blocked = Some(Blocked::Reply);
                self.rewriting.push((session.conn, place));
                // One at a time: whoever asks meanwhile is answered by the next.
                if self.rewriting.len() == 1 {
                    self.act(Action::RewriteConfig(Arc::clone(&self.config)));
                }
            }
            "resetstat" => self.ask_everyone(session, &Ask::Tell(Tell::ResetStats), Then::Ok),
            "help" => help(
                reply,
                "CONFIG",
                &[
                    "GET <pattern>",
                    "    Return parameters matching the glob-like <pattern> and their values.",
                    "SET <directive> <value>",
                    "    Set the configuration <directive> to <value>.",
                    "RESETSTAT",
                    "    Reset statistics reported by the INFO command.",
                    "REWRITE",
                    "    Rewrite the configuration file.",
                ],
            ),
            _ => return Err(unknown_subcommand("CONFIG", given)),
        }
        Ok(())
    }

    /// Asks core 0 for a change of the configuration; the client's reply comes when it is in force on every core.
    pub(super) fn ask_change(&mut self, session: &mut Session, change: Change) {
        self.ask_one(session, ShardId(0), Ask::Configure(change), Then::Adopt);
    }

    /// On core 0: takes a change into force here and answers what the other cores are to adopt.
    pub(in super::super) fn change_config(&mut self, change: &Change) -> Configured {
        let config = match change {
            Change::Set { pairs, is_local } => {
                let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|(name, value)| (&name[..], &value[..])).collect();
                match get_set::set(&self.config, &pairs, *is_local) {
                    Err(refusal) => return Configured::Refused(format!("ERR {refusal}")),
                    Ok(changes) => {
                        changes.notes.iter().for_each(|note| tracing::info!("{}", note.text));
                        if !changes.names.is_empty() {
                            tracing::info!("CONFIG SET changed {}", changes.names.join(", "));
                        }
                        changes.config
                    }
                }
            }
            Change::Masters(masters) => match masters.change(&self.config) {
                Outcome::Refused(text) => return Configured::Refused(text.into()),
                Outcome::Already(text) => return Configured::Already(text),
                Outcome::Changed(config) => {
                    tracing::info!("REPLICAOF: {masters:?}");
                    *config
                }
            },
        };
        let config = Arc::new(config);
        self.config_count += 1;
        self.adopt(self.config_count, Arc::clone(&config));
        self.act(Action::Reconfigured(Arc::clone(&config)));
        Configured::Changed { count: self.config_count, config }
    }

    /// Takes a configuration into force unless a later one already is.
    pub(in super::super) fn adopt(&mut self, count: u64, config: Arc<Config>) {
        if count >= self.config_count {
            self.config_count = count;
            self.configure(config);
        }
    }

    /// Core 0 has answered: tell everyone, or the client of the refusal. `None`: the reply comes later.
    pub(in super::super) fn finish_change(
        &mut self,
        conn: ConnId,
        place: u64,
        answers: Vec<(ShardId, Answer)>,
        version: Version,
    ) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match answers.into_iter().next() {
            Some((_, Answer::Configured(Configured::Changed { count, config }))) => {
                self.ask_all(conn, place, &Ask::Tell(Tell::Adopt { count, config }), Then::Ok);
                return None;
            }
            Some((_, Answer::Configured(Configured::Already(text)))) => Reply::new(&mut out, version).simple(text),
            Some((_, Answer::Configured(Configured::Refused(text)))) => {
                self.count_error(&text);
                Reply::new(&mut out, version).error(&text);
            }
            _ => Reply::new(&mut out, version).error("ERR internal error: no answer to a change of the configuration"),
        }
        Some(out)
    }

    /// The file is written, or is not.
    pub(in super::super) fn end_rewrite(&mut self, result: &Result<(), String>, now: Now) {
        if self.rewriting.is_empty() {
            return;
        }
        let (conn, place) = self.rewriting.remove(0);
        let version = self.sessions.get(conn).map_or(Version::Resp2, |session| session.version);
        let mut out = Vec::new();
        match result {
            Ok(()) => {
                tracing::info!("CONFIG REWRITE executed with success");
                Reply::new(&mut out, version).ok();
            }
            Err(reason) => {
                tracing::warn!("CONFIG REWRITE failed: {reason}");
                let text = format!("ERR Rewriting config file: {reason}");
                self.count_error(&text);
                Reply::new(&mut out, version).error(&text);
            }
        }
        self.complete(conn, place, &out, now);
        if !self.rewriting.is_empty() {
            self.act(Action::RewriteConfig(Arc::clone(&self.config)));
        }
    }
}
