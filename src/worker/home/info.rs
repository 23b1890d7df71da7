//! INFO: every core's figures added up, in Redis' words, so that what reads Redis reads this.

use std::fmt::{Display, Write};

use super::super::Worker;
use super::super::control::{Answer, Ask, CommandStats, CoreStats, Figures, Then};
use super::super::session::{Blocked, Kind, Pending, Session};
use super::connection::REDIS_VERSION;
use super::sections::Sections;
use crate::base::ids::{Db, ShardId};
use crate::base::time::Now;
use crate::command::args::Args;
use crate::command::error::CommandError;
use crate::command::table;
use crate::resp::write::Reply;
use crate::shard::Stats;

/// The figures of all cores as one.
pub(super) struct Sum {
    pub(super) all: Figures,
    /// One by core, in their order.
    pub(super) cores: Vec<Figures>,
}

impl Worker {
    pub(super) fn info(&mut self, session: &mut Session, args: &mut Args<'_>) -> Result<(), CommandError> {
        let sections = Sections::parse(args.rest());
        self.ask_everyone(session, &Ask::Figures, Then::Info(sections));
        Ok(())
    }

    /// This core's figures.
    pub fn figures(&self, now: Now) -> Figures {
        let mut figures = Figures {
            shard: self.shard.stats,
            keyspace: (0..self.shard.keys.databases() as u16)
                .map(|db| (self.shard.keys.len(Db(db)), self.shard.keys.deadlines(Db(db))))
                .collect(),
            tombstones: self.shard.keys.tombstones(),
            garbage: self.shard.keys.garbage_len(),
            backlog_bytes: self.shard.backlog.len(),
            core: self.stats,
            rates: self.observed.rates(),
            errors_by_code: self.observed.errors_by_code.iter().map(|(code, count)| (code.clone(), *count)).collect(),
            thread_us: (self.memory.measured.thread_user_us, self.memory.measured.thread_system_us),
            commands: table::all().map(|spec| spec.name).zip(self.command_stats.iter().copied()).collect(),
            peers: self.peer_figures(now),
            taken: self.taken_figures(now),
            fed: self.fed_figures(),
            loading_bytes: self.loading_bytes(),
            ..Figures::default()
        };
        for session in self.sessions.iter().filter(|session| !session.closing) {
            let ready = |pending: &Pending| if let Pending::Ready(bytes) = pending { bytes.len() } else { 0 };
            let output = session.output.len() + session.unsent + session.pending.iter().map(ready).sum::<usize>();
            match session.kind {
                Kind::Client => {
                    figures.clients += 1;
                    figures.client_bytes += session.input.capacity() + output + size_of::<Session>();
                    figures.blocked += usize::from(matches!(session.blocked, Some(Blocked::Reply | Blocked::Paused)));
                    figures.input_bytes_max = figures.input_bytes_max.max(session.input.capacity());
                    figures.output_bytes_max = figures.output_bytes_max.max(output);
                }
                Kind::Link(_) => figures.links_and_feeds.0 += 1,
                Kind::Feed(_) => {
                    figures.links_and_feeds.1 += 1;
                    figures.feed_bytes += output;
                }
            }
        }
        figures
    }

    pub(super) fn finish_info(
        &self,
        sections: &Sections,
        answers: Vec<(ShardId, Answer)>,
        reply: &mut Reply<'_>,
        now: Now,
    ) {
        let sum = Sum::of(answers);
        let mut out = String::with_capacity(8 << 10);
        for section in sections.iter() {
            if !out.is_empty() {
                out.push_str("\r\n");
            }
            let (first, rest) = section.split_at(1);
            let heading = match section {
                "cpu" => "CPU".into(),
                "keydb" => "KeyDB".into(),
                _ => format!("{}{rest}", first.to_ascii_uppercase()),
            };
            let _ = write!(out, "# {heading}\r\n");
            let mut lines = Lines(&mut out);
            match section {
                "server" => self.server_section(&mut lines, now),
                "clients" => self.clients_section(&sum, &mut lines),
                "memory" => self.memory_section(&sum, &mut lines),
                "persistence" => self.persistence_section(&sum, &mut lines, now),
                "stats" => stats_section(&sum.all, &mut lines),
                "replication" => self.replication_section(&sum, &mut lines),
                "cpu" => self.cpu_section(&mut lines),
                "commandstats" => commandstats_section(&sum.all, &mut lines),
                "errorstats" => errorstats_section(&sum.all, &mut lines),
                "cluster" => lines.put("cluster_enabled", 0),
                "keyspace" => keyspace_section(&sum.all, &mut lines),
                "keydb" => self.keydb_section(&sum, &mut lines, now),
                "tutti" => self.tutti_section(&sum, &mut lines),
                _ => {}
            }
        }
        reply.verbatim(b"txt", out.as_bytes());
    }

    fn server_section(&self, lines: &mut Lines<'_>, now: Now) {
        let config = &self.config;
        let uptime_s = now.mono_us.saturating_sub(self.node.started.mono_us) / 1_000_000;
        lines.put("redis_version", REDIS_VERSION);
        lines.put("tutti_version", env!("CARGO_PKG_VERSION"));
        lines.put("redis_git_sha1", "00000000");
        lines.put("redis_git_dirty", 0);
        lines.put("redis_build_id", "0");
        lines.put("redis_mode", "standalone");
        lines.put("os", format_args!("Linux {}", std::env::consts::ARCH));
        lines.put("arch_bits", usize::BITS);
        lines.put("monotonic_clock", "POSIX clock_gettime");
        lines.put("multiplexing_api", "io_uring");
        lines.put("atomicvar_api", "c11-builtin");
        lines.put("gcc_version", "0.0.0");
        lines.put("process_id", self.node.pid);
        lines.put("process_supervised", config.supervised.word());
        lines.put("run_id", &self.node.run_id);
        lines.put("tcp_port", config.port);
        lines.put("server_time_usec", now.wall_ms * 1000);
        lines.put("uptime_in_seconds", uptime_s);
        lines.put("uptime_in_days", uptime_s / 86_400);
        lines.put("hz", 10);
        lines.put("configured_hz", 10);
        lines.put("lru_clock", (now.wall_ms / 1000) & 0xff_ffff);
        lines.put("executable", &self.node.executable);
        lines.put("config_file", self.node.config_file.as_deref().unwrap_or_default());
        lines.put("io_threads_active", u8::from(self.cores() > 1));
        lines.put("server_threads", self.cores());
        lines.put("availability_zone", "");
    }

    fn clients_section(&self, sum: &Sum, lines: &mut Lines<'_>) {
        lines.put("connected_clients", sum.all.clients);
        lines.put("cluster_connections", 0);
        lines.put("maxclients", self.config.maxclients);
        lines.put("client_recent_max_input_buffer", sum.all.input_bytes_max);
        lines.put("client_recent_max_output_buffer", sum.all.output_bytes_max);
        lines.put("blocked_clients", sum.all.blocked.saturating_sub(1));
        lines.put("tracking_clients", 0);
        lines.put("pubsub_clients", 0);
        lines.put("watching_clients", 0);
        lines.put("clients_in_timeout_table", 0);
        lines.put("total_watched_keys", 0);
        lines.put("total_blocking_keys", 0);
        lines.put("total_blocking_keys_on_nokey", 0);
        for (core, figures) in sum.cores.iter().enumerate() {
            lines.put(&format!("thread_{core}_clients"), figures.clients);
        }
    }

    fn memory_section(&self, sum: &Sum, lines: &mut Lines<'_>) {
        let memory = self.memory();
        let (used, rss) = (memory.used, memory.rss);
        let peak = memory.peak.max(used);
        let overhead = memory.startup + sum.all.client_bytes + sum.all.backlog_bytes + sum.all.feed_bytes;
        let dataset = used.saturating_sub(overhead);
        let net = used.saturating_sub(memory.startup).max(1);
        let ratio = |a: usize, b: usize| a as f64 / b.max(1) as f64;
        lines.bytes("used_memory", used);
        lines.bytes("used_memory_rss", rss);
        lines.bytes("used_memory_peak", peak);
        lines.put("used_memory_peak_perc", format_args!("{:.2}%", ratio(used, peak) * 100.0));
        lines.put("used_memory_overhead", overhead.min(used));
        lines.put("used_memory_startup", memory.startup);
        lines.put("used_memory_dataset", dataset);
        lines.put("used_memory_dataset_perc", format_args!("{:.2}%", (ratio(dataset, net) * 100.0).min(100.0)));
        lines.put("allocator_allocated", used);
        lines.put("allocator_active", rss);
        lines.put("allocator_resident", rss);
        lines.bytes("total_system_memory", memory.measured.system_bytes as usize);
        lines.bytes("used_memory_lua", 0);
        lines.put("used_memory_vm_eval", 0);
        lines.put("used_memory_scripts_eval", 0);
        lines.put("number_of_cached_scripts", 0);
        lines.put("number_of_functions", 0);
        lines.put("number_of_libraries", 0);
        lines.put("used_memory_vm_functions", 0);
        lines.bytes("used_memory_vm_total", 0);
        lines.put("used_memory_functions", 0);
        lines.bytes("used_memory_scripts", 0);
        lines.bytes("maxmemory", self.config.maxmemory as usize);
        lines.put("maxmemory_policy", self.config.maxmemory_policy.word());
        lines.put("allocator_frag_ratio", format_args!("{:.2}", ratio(rss, used)));
        lines.put("allocator_frag_bytes", rss as i64 - used as i64);
        lines.put("allocator_rss_ratio", "1.00");
        lines.put("allocator_rss_bytes", 0);
        lines.put("rss_overhead_ratio", "1.00");
        lines.put("rss_overhead_bytes", 0);
        lines.put("mem_fragmentation_ratio", format_args!("{:.2}", ratio(rss, used)));
        lines.put("mem_fragmentation_bytes", rss as i64 - used as i64);
        lines.put("mem_not_counted_for_evict", 0);
        lines.put("mem_replication_backlog", sum.all.backlog_bytes);
        lines.put("mem_total_replication_buffers", sum.all.backlog_bytes + sum.all.feed_bytes);
        lines.put("mem_clients_slaves", sum.all.feed_bytes);
        lines.put("mem_clients_normal", sum.all.client_bytes);
        lines.put("mem_cluster_links", 0);
        lines.put("mem_aof_buffer", 0);
        lines.put("mem_allocator", "mimalloc");
        lines.put("active_defrag_running", 0);
        lines.put("lazyfree_pending_objects", 0);
        lines.put("lazyfreed_objects", 0);
    }

    fn cpu_section(&self, lines: &mut Lines<'_>) {
        let seconds = |us: u64| format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
        let measured = &self.memory.measured;
        lines.put("used_cpu_sys", seconds(measured.cpu_system_us));
        lines.put("used_cpu_user", seconds(measured.cpu_user_us));
        lines.put("used_cpu_sys_children", seconds(0));
        lines.put("used_cpu_user_children", seconds(0));
        lines.put("used_cpu_sys_main_thread", seconds(measured.thread_system_us));
        lines.put("used_cpu_user_main_thread", seconds(measured.thread_user_us));
    }

    fn tutti_section(&self, sum: &Sum, lines: &mut Lines<'_>) {
        let all = &sum.all;
        lines.put("tombstones", all.tombstones);
        lines.put("garbage_keys", all.garbage);
        lines.put("merged_won", all.shard.merged_won);
        lines.put("merged_lost", all.shard.merged_lost);
        lines.put("merged_duplicates", all.shard.duplicates);
        lines.put("merged_drifted", all.shard.drifted);
        lines.put("merged_malformed", all.shard.malformed);
        lines.put("hops", all.core.hops);
        lines.put("mesh_batches", all.core.batches);
        for (core, figures) in sum.cores.iter().enumerate() {
            let keys: usize = figures.keyspace.iter().map(|(keys, _)| keys).sum();
            let (user, system) = figures.thread_us;
            let cpu = (user + system) as f64 / 1e6;
            let name = format!("core{core}");
            lines.put(
                &name,
                format_args!(
                    "keys={keys},clients={},ops_per_sec={},commands={},hops={},cpu={cpu:.3}",
                    figures.clients, figures.rates[0], figures.core.commands, figures.core.hops
                ),
            );
        }
    }
}

impl Sum {
    pub(super) fn of(answers: Vec<(ShardId, Answer)>) -> Self {
        let figures = |(_, answer)| if let Answer::Figures(figures) = answer { Some(*figures) } else { None };
        let cores: Vec<Figures> = answers.into_iter().filter_map(figures).collect();
        let mut all = Figures::default();
        for one in &cores {
            add_shard(&mut all.shard, &one.shard);
            add_core(&mut all.core, &one.core);
            all.keyspace.resize(one.keyspace.len().max(all.keyspace.len()), (0, 0));
            for (sum, (keys, deadlines)) in all.keyspace.iter_mut().zip(&one.keyspace) {
                *sum = (sum.0 + keys, sum.1 + deadlines);
            }
            for (sum, rate) in all.rates.iter_mut().zip(one.rates) {
                *sum += rate;
            }
            if all.commands.is_empty() {
                all.commands = one.commands.iter().map(|(name, _)| (*name, CommandStats::default())).collect();
            }
            for ((_, sum), (_, stats)) in all.commands.iter_mut().zip(&one.commands) {
                sum.calls += stats.calls;
                sum.rejected += stats.rejected;
                sum.failed += stats.failed;
                sum.us += stats.us;
            }
            for (code, count) in &one.errors_by_code {
                match all.errors_by_code.iter_mut().find(|(known, _)| known == code) {
                    Some((_, sum)) => *sum += count,
                    None => all.errors_by_code.push((code.clone(), *count)),
                }
            }
            all.tombstones += one.tombstones;
            all.garbage += one.garbage;
            all.backlog_bytes += one.backlog_bytes;
            all.clients += one.clients;
            all.blocked += one.blocked;
            all.client_bytes += one.client_bytes;
            all.feed_bytes += one.feed_bytes;
            all.loading_bytes += one.loading_bytes;
            for (node, taken) in &one.taken {
                match all.taken.iter_mut().find(|(known, _)| known == node) {
                    Some((_, sum)) => sum.add(taken),
                    None => all.taken.push((*node, *taken)),
                }
            }
            all.input_bytes_max = all.input_bytes_max.max(one.input_bytes_max);
            all.output_bytes_max = all.output_bytes_max.max(one.output_bytes_max);
            all.links_and_feeds.0 += one.links_and_feeds.0;
            all.links_and_feeds.1 += one.links_and_feeds.1;
            all.peers.extend(one.peers.iter().cloned());
            all.fed.extend_from_slice(&one.fed);
        }
        all.errors_by_code.sort();
        Self { all, cores }
    }
}

fn add_shard(sum: &mut Stats, one: &Stats) {
    sum.hits += one.hits;
    sum.misses += one.misses;
    sum.expired += one.expired;
    sum.dirty += one.dirty;
    sum.merged_won += one.merged_won;
    sum.merged_lost += one.merged_lost;
    sum.duplicates += one.duplicates;
    sum.drifted += one.drifted;
    sum.malformed += one.malformed;
    sum.digest_comparisons += one.digest_comparisons;
    sum.digest_mismatches += one.digest_mismatches;
    sum.digest_repairs += one.digest_repairs;
}

fn add_core(sum: &mut CoreStats, one: &CoreStats) {
    sum.connections += one.connections;
    sum.rejected += one.rejected;
    sum.commands += one.commands;
    sum.net_in += one.net_in;
    sum.net_out += one.net_out;
    sum.repl_in += one.repl_in;
    sum.repl_out += one.repl_out;
    sum.hops += one.hops;
    sum.batches += one.batches;
    sum.errors += one.errors;
    sum.output_disconnects += one.output_disconnects;
    sum.query_disconnects += one.query_disconnects;
    sum.idle_disconnects += one.idle_disconnects;
    sum.auth_failures += one.auth_failures;
}

fn stats_section(all: &Figures, lines: &mut Lines<'_>) {
    let core = &all.core;
    let kbps = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    lines.put("total_connections_received", core.connections);
    lines.put("total_commands_processed", core.commands);
    lines.put("instantaneous_ops_per_sec", all.rates[0]);
    lines.put("total_net_input_bytes", core.net_in);
    lines.put("total_net_output_bytes", core.net_out);
    lines.put("total_net_repl_input_bytes", core.repl_in);
    lines.put("total_net_repl_output_bytes", core.repl_out);
    lines.put("instantaneous_input_kbps", kbps(all.rates[1]));
    lines.put("instantaneous_output_kbps", kbps(all.rates[2]));
    lines.put("instantaneous_input_repl_kbps", kbps(all.rates[3]));
    lines.put("instantaneous_output_repl_kbps", kbps(all.rates[4]));
    lines.put("rejected_connections", core.rejected);
    for name in ["sync_full", "sync_partial_ok", "sync_partial_err"] {
        lines.put(name, 0);
    }
    lines.put("expired_keys", all.shard.expired);
    lines.put("expired_stale_perc", "0.00");
    for name in [
        "expired_time_cap_reached_count",
        "expire_cycle_cpu_milliseconds",
        "evicted_keys",
        "evicted_clients",
        "evicted_scripts",
        "total_eviction_exceeded_time",
        "current_eviction_exceeded_time",
    ] {
        lines.put(name, 0);
    }
    lines.put("keyspace_hits", all.shard.hits);
    lines.put("keyspace_misses", all.shard.misses);
    for name in [
        "pubsub_channels",
        "pubsub_patterns",
        "pubsubshard_channels",
        "latest_fork_usec",
        "total_forks",
        "migrate_cached_sockets",
        "slave_expires_tracked_keys",
        "active_defrag_hits",
        "active_defrag_misses",
        "active_defrag_key_hits",
        "active_defrag_key_misses",
        "total_active_defrag_time",
        "current_active_defrag_time",
        "tracking_total_keys",
        "tracking_total_items",
        "tracking_total_prefixes",
        "unexpected_error_replies",
    ] {
        lines.put(name, 0);
    }
    lines.put("total_error_replies", core.errors);
    lines.put("dump_payload_sanitizations", 0);
    lines.put("acl_access_denied_auth", core.auth_failures);
    for name in ["acl_access_denied_cmd", "acl_access_denied_key", "acl_access_denied_channel"] {
        lines.put(name, 0);
    }
    lines.put("client_query_buffer_limit_disconnections", core.query_disconnects);
    lines.put("client_output_buffer_limit_disconnections", core.output_disconnects);
    lines.put("client_idle_disconnections", core.idle_disconnects);
}

fn commandstats_section(all: &Figures, lines: &mut Lines<'_>) {
    for (name, stats) in all.commands.iter().filter(|(_, stats)| stats.calls + stats.rejected > 0) {
        let each = stats.us as f64 / stats.calls.max(1) as f64;
        lines.put(
            &format!("cmdstat_{name}"),
            format_args!(
                "calls={},usec={},usec_per_call={each:.2},rejected_calls={},failed_calls={}",
                stats.calls, stats.us, stats.rejected, stats.failed
            ),
        );
    }
}

fn errorstats_section(all: &Figures, lines: &mut Lines<'_>) {
    for (code, count) in &all.errors_by_code {
        lines.put(&format!("errorstat_{code}"), format_args!("count={count}"));
    }
}

fn keyspace_section(all: &Figures, lines: &mut Lines<'_>) {
    for (db, (keys, deadlines)) in all.keyspace.iter().enumerate().filter(|(_, (keys, _))| *keys > 0) {
        lines.put(&format!("db{db}"), format_args!("keys={keys},expires={deadlines},avg_ttl=0"));
    }
}

/// Lines of `name:value`.
pub(in super::super) struct Lines<'a>(&'a mut String);

impl Lines<'_> {
    pub(in super::super) fn put(&mut self, name: &str, value: impl Display) {
        let _ = write!(self.0, "{name}:{value}\r\n");
    }

    /// A number of bytes, and the same for humans as Redis writes it.
    fn bytes(&mut self, name: &str, bytes: usize) {
        self.put(name, bytes);
        self.put(&format!("{name}_human"), human(bytes));
    }
}

fn human(bytes: usize) -> String {
    let n = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes}B"),
        1024..1_048_576 => format!("{:.2}K", n / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.2}M", n / 1_048_576.0),
        _ => format!("{:.2}G", n / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_to_humans_as_redis_does() {
        assert_eq!([0, 1023, 1024, 965_536, 25_276_502_016].map(human), ["0B", "1023B", "1.00K", "942.91K", "23.54G"]);
    }
}
