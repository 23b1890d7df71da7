//! The server as a whole: TIME, LOLWUT, DEBUG, SHUTDOWN, MEMORY, SAVE, LATENCY, CLUSTER, MODULE.

use super::super::Worker;
use super::super::control::{Answer, Ask, Then};
use super::super::session::Session;
use super::info::Sum;
use super::{help, subcommand, text, unknown_subcommand};
use crate::base::ids::ShardId;
use crate::base::slot::slot_of;
use crate::base::text::parse_f64;
use crate::base::time::Now;
use crate::command::args::Args;
use crate::command::error::CommandError;
use crate::command::spec::CONTAINER;
use crate::command::table;
use crate::resp::write::Reply;
use crate::store::keyspace::damage::Damage;

pub(super) fn time(reply: &mut Reply<'_>, now: Now) -> Result<(), CommandError> {
    reply.array(2);
    reply.integer_bulk((now.wall_ms / 1000) as i64);
    // The wall clock is read in milliseconds; the process' own clock fills in the rest.
    reply.integer_bulk((now.wall_ms % 1000 * 1000 + now.mono_us % 1000) as i64);
    Ok(())
}

pub(super) fn lolwut(reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let line = format!(
        "tutti: all together now. Redis ver. {}, Tutti ver. {}\n",
        super::connection::REDIS_VERSION,
        env!("CARGO_PKG_VERSION")
    );
    reply.verbatim(b"txt", line.as_bytes());
    Ok(())
}

pub(super) fn latency(args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let given = args.get(1).unwrap_or_default();
    match subcommand(args)?.as_str() {
        "latest" | "history" => reply.array(0),
        "histogram" => reply.map(0),
        "reset" => reply.integer(0),
        "doctor" => {
            reply.verbatim(b"txt", b"Dave, no latency spike was observed: events are not recorded. See SLOWLOG.\n")
        }
        "graph" => {
            let event = text(args.next()?);
            return Err(CommandError::Owned(format!("ERR No samples available for event '{event}'")));
        }
        "help" => {
            help(reply, "LATENCY", &["DOCTOR, GRAPH, HISTOGRAM, HISTORY, LATEST, RESET", "    No events are recorded."])
        }
        _ => return Err(unknown_subcommand("LATENCY", given)),
    }
    Ok(())
}

pub(super) fn module(args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let given = args.get(1).unwrap_or_default();
    match subcommand(args)?.as_str() {
        "list" => reply.array(0),
        "help" => help(reply, "MODULE", &["LIST", "    Return a list of loaded modules: always empty."]),
        _ => return Err(unknown_subcommand("MODULE", given)),
    }
    Ok(())
}

/// CLUSTER and its kin, as redis-server answers with `cluster-enabled no`.
pub(super) fn cluster(args: &Args<'_>) -> Result<(), CommandError> {
    let is_known = |given| table::resolve(b"cluster", Some(given)).is_none_or(|(_, spec)| !spec.flags.has(CONTAINER));
    match args.get(1).filter(|given| !is_known(given)) {
        Some(given) => Err(unknown_subcommand("CLUSTER", given)),
        None => Err(CommandError::Text("ERR This instance has cluster support disabled")),
    }
}

impl Worker {
    pub(super) fn debug(
        &mut self,
        session: &mut Session,
        args: &mut Args<'_>,
        reply: &mut Reply<'_>,
        now: Now,
    ) -> Result<(), CommandError> {
        if !self.config.enable_debug_command.admits(session.endpoint.is_local) {
            return Err(CommandError::Text(
                "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it \
                 from a local connection, otherwise you need to set this option in the configuration file, and then \
                 restart the server.",
            ));
        }
        let given = args.get(1).unwrap_or_default();
        match subcommand(args)?.as_str() {
            "sleep" => {
                let seconds =
                    parse_f64(args.next()?).filter(|seconds| *seconds >= 0.0).ok_or(CommandError::NotFloat)?;
                args.finish()?;
                // In Redis everybody sleeps; here a core is shared with others, so only this client waits.
                let at_us = now.mono_us.saturating_add((seconds * 1e6) as u64);
                self.reply_later(session, at_us, b"+OK\r\n".to_vec());
            }
            "damage" => {
                let damage = match text(args.next()?).to_ascii_lowercase().as_str() {
                    "value" => Damage::Value,
                    "stamp" => Damage::Stamp,
                    "absence" => Damage::Absence,
                    _ => return Err(CommandError::Syntax),
                };
                let key = args.next()?.to_vec();
                args.finish()?;
                let owner = self.shard.map.owner(slot_of(&key).partition());
                self.ask_one(session, owner, Ask::Damage(session.db, key, damage), Then::Count);
            }
            "slot-digests" => {
                let on = match text(args.next()?).to_ascii_lowercase().as_str() {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(CommandError::Syntax),
                };
                args.finish()?;
                self.ask_everyone(session, &Ask::SlotDigests(on), Then::Ok);
            }
            // What test suites send to Redis before they begin; nothing here depends on them.
            "set-active-expire" | "jmap" | "quicklist-packed-threshold" | "stringmatch-len" => reply.ok(),
            "help" => help(
                reply,
                "DEBUG",
                &[
                    "DAMAGE VALUE|STAMP|ABSENCE <key>",
                    "    Change a bit of the key's value, or when it was written, or lose it, and tell nobody.",
                    "DIGEST",
                    "    Output a hex signature representing the current DB content.",
                    "DIGEST-VALUE <key> [<key> ...]",
                    "    Output a hex signature of the values of all the specified keys.",
                    "OBJECT <key>",
                    "    Show low level info about `key` and associated value.",
                    "SLOT-DIGESTS yes|no",
                    "    Keep the digests of slots or not, to measure what they cost. Without, nodes cannot compare.",
                    "SLEEP <seconds>",
                    "    Answer after <seconds>. Decimals allowed.",
                ],
            ),
            _ => return Err(unknown_subcommand("DEBUG", given)),
        }
        Ok(())
    }

    pub(super) fn memory_command(
        &mut self,
        session: &mut Session,
        args: &mut Args<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), CommandError> {
        let given = args.get(1).unwrap_or_default();
        match subcommand(args)?.as_str() {
            "doctor" => reply.verbatim(b"txt", self.memory_report().as_bytes()),
            "stats" => self.ask_everyone(session, &Ask::Figures, Then::MemoryStats),
            "malloc-stats" => {
                let memory = self.memory();
                let line = format!("mimalloc: allocated {} bytes, resident {} bytes\n", memory.used, memory.rss);
                reply.verbatim(b"txt", line.as_bytes());
            }
            // mimalloc gives pages back by itself.
            "purge" => reply.ok(),
            "help" => help(
                reply,
                "MEMORY",
                &[
                    "DOCTOR",
                    "    Return memory problems reports.",
                    "MALLOC-STATS",
                    "    Return internal statistics report from the memory allocator.",
                    "PURGE",
                    "    Attempt to purge dirty pages for reclamation by the allocator.",
                    "STATS",
                    "    Return information about the memory usage of the server.",
                    "USAGE <key> [SAMPLES <count>]",
                    "    Return memory in bytes used by <key> and its value.",
                ],
            ),
            _ => return Err(unknown_subcommand("MEMORY", given)),
        }
        Ok(())
    }

    fn memory_report(&self) -> String {
        let memory = self.memory();
        if memory.used < 5 << 20 {
            return "Hi Sam, this instance is empty or is using very little memory.\n".into();
        }
        match memory.rss as f64 / memory.used as f64 {
            ratio if ratio > 1.4 => {
                format!("Sam, I have spotted that the process holds {ratio:.1} times the memory it has allocated.\n")
            }
            _ => "Hi Sam, I can't find any memory issue in your instance.\n".into(),
        }
    }

    pub(super) fn finish_memory_stats(&self, answers: Vec<(ShardId, Answer)>, reply: &mut Reply<'_>) {
        let all = Sum::of(answers).all;
        let memory = self.memory();
        let keys: usize = all.keyspace.iter().map(|(keys, _)| keys).sum();
        let overhead = (memory.startup + all.client_bytes + all.backlog_bytes).min(memory.used);
        let dataset = memory.used - overhead;
        let net = memory.used.saturating_sub(memory.startup).max(1);
        let numbers = [
            ("peak.allocated", memory.peak),
            ("total.allocated", memory.used),
            ("startup.allocated", memory.startup),
            ("replication.backlog", all.backlog_bytes),
            ("clients.slaves", all.feed_bytes),
            ("clients.normal", all.client_bytes),
            ("cluster.links", 0),
            ("aof.buffer", 0),
            ("overhead.total", overhead),
            ("keys.count", keys),
            ("keys.bytes-per-key", net / keys.max(1)),
            ("dataset.bytes", dataset),
            ("allocator.allocated", memory.used),
            ("allocator.active", memory.rss),
            ("allocator.resident", memory.rss),
        ];
        let percent = |part: usize, whole: usize| part as f64 * 100.0 / whole.max(1) as f64;
        let ratios = [
            ("dataset.percentage", percent(dataset, net).min(100.0)),
            ("peak.percentage", percent(memory.used, memory.peak)),
            ("fragmentation", memory.rss as f64 / memory.used.max(1) as f64),
        ];
        reply.map(numbers.len() + ratios.len());
        for (name, number) in numbers {
            reply.text(name);
            reply.integer(number as i64);
        }
        for (name, ratio) in ratios {
            reply.text(name);
            reply.double(ratio);
        }
    }

    /// INFO persistence.
    pub(super) fn persistence_section(&self, sum: &Sum, lines: &mut super::info::Lines<'_>, now: Now) {
        let state = self.persistence();
        let seconds = |seconds: Option<u64>| seconds.map_or(-1, |seconds| seconds as i64);
        lines.put("loading", u8::from(self.is_loading()));
        lines.put("async_loading", 0);
        for name in ["current_cow_peak", "current_cow_size", "current_cow_size_age"] {
            lines.put(name, 0);
        }
        lines.put("current_fork_perc", "0.00");
        lines.put("current_save_keys_processed", if state.is_saving { state.keys_written } else { 0 });
        lines.put("current_save_keys_total", 0);
        lines.put("rdb_changes_since_last_save", sum.all.shard.dirty.saturating_sub(state.dirty_saved));
        lines.put("rdb_bgsave_in_progress", u8::from(state.is_saving));
        lines.put("rdb_last_save_time", state.last_save_s);
        lines.put("rdb_last_bgsave_status", if state.last_ok { "ok" } else { "err" });
        lines.put("rdb_last_bgsave_time_sec", seconds(state.last_took_s));
        let running_s = now.mono_us.saturating_sub(state.began_us) / 1_000_000;
        lines.put("rdb_current_bgsave_time_sec", seconds(state.is_saving.then_some(running_s)));
        lines.put("rdb_saves", state.saves);
        lines.put("rdb_last_cow_size", 0);
        lines.put("rdb_last_load_keys_expired", state.keys_expired);
        lines.put("rdb_last_load_keys_loaded", state.keys_loaded);
        for name in ["aof_enabled", "aof_rewrite_in_progress", "aof_rewrite_scheduled"] {
            lines.put(name, 0);
        }
        lines.put("aof_last_rewrite_time_sec", -1);
        lines.put("aof_current_rewrite_time_sec", -1);
        lines.put("aof_last_bgrewrite_status", "ok");
        lines.put("aof_rewrites", 0);
        lines.put("aof_rewrites_consecutive_failures", 0);
        lines.put("aof_last_write_status", "ok");
        for name in ["aof_last_cow_size", "module_fork_in_progress", "module_fork_last_cow_size"] {
            lines.put(name, 0);
        }
        if self.is_loading() {
            self.loading_lines(&sum.all, lines, now);
        }
    }
}
