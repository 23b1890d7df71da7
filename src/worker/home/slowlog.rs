//! SLOWLOG: every core keeps its own slow commands; the newest of all are shown.

use super::super::Worker;
use super::super::control::{Answer, Ask, SlowEntry, SlowlogAsk, Then};
use super::super::session::Session;
use super::{help, subcommand, unknown_subcommand};
use crate::base::ids::ShardId;
use crate::command::args::Args;
use crate::command::error::CommandError;
use crate::resp::write::Reply;

impl Worker {
    pub(super) fn slowlog(
        &mut self,
        session: &mut Session,
        args: &mut Args<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), CommandError> {
        let given = args.get(1).unwrap_or_default();
        match subcommand(args)?.as_str() {
            "get" => {
                let most = if args.left() > 0 { args.integer()? } else { 10 };
                args.finish()?;
                if most < -1 {
                    return Err(CommandError::Text("ERR count should be greater than or equal to -1"));
                }
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                self.ask_everyone(session, &Ask::Slowlog(SlowlogAsk::Get), Then::SlowlogGet(most));
            }
            "len" => self.ask_everyone(session, &Ask::Slowlog(SlowlogAsk::Len), Then::Count),
            "reset" => self.ask_everyone(session, &Ask::Slowlog(SlowlogAsk::Reset), Then::Ok),
            "help" => help(
                reply,
                "SLOWLOG",
                &[
                    "GET [<count>]",
                    "    Return top <count> entries from the slowlog (default: 10, -1 means all).",
                    "LEN",
                    "    Return the length of the slowlog.",
                    "RESET",
                    "    Reset the slowlog.",
                ],
            ),
            _ => return Err(unknown_subcommand("SLOWLOG", given)),
        }
        Ok(())
    }

    pub(in super::super) fn answer_slowlog(&mut self, ask: SlowlogAsk) -> Answer {
        match ask {
            SlowlogAsk::Get => Answer::Slow(self.observed.slow.iter().cloned().collect()),
            SlowlogAsk::Len => Answer::Count(self.observed.slow.len()),
            SlowlogAsk::Reset => {
                self.observed.keep_slow(0);
                Answer::Count(0)
            }
        }
    }
}

pub(super) fn finish_get(answers: Vec<(ShardId, Answer)>, most: usize, reply: &mut Reply<'_>) {
    let entries = |(_, answer)| if let Answer::Slow(entries) = answer { entries } else { Vec::new() };
    let mut entries: Vec<SlowEntry> = answers.into_iter().flat_map(entries).collect();
    entries.sort_by_key(|entry| std::cmp::Reverse((entry.at_s, entry.id)));
    entries.truncate(most);
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        reply.integer(entry.id as i64);
        reply.integer(entry.at_s as i64);
        reply.integer(entry.duration_us as i64);
        reply.array(entry.args.len());
        entry.args.iter().for_each(|arg| reply.bulk(arg));
        reply.text(&entry.addr);
        reply.text(&entry.name);
    }
}
