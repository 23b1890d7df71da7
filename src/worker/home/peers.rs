//! What concerns other nodes: REPLICAOF, ROLE, MULTIMASTER and the links' handshake; INFO replication and keydb.

use super::super::Worker;
use super::super::control::{Answer, Ask, Change, Then};
use super::super::session::Session;
use super::info::{Lines, Sum};
use super::{help, subcommand, unknown_subcommand};
use crate::base::ids::{ShardId, Uuid};
use crate::base::text::{eq_ignore_case, parse_i64};
use crate::base::time::Now;
use crate::command::args::Args;
use crate::command::error::CommandError;
use crate::command::spec::Home;
use crate::config::masters::Masters;
use crate::peer::mesh::{PeerFigures, Taken};
use crate::resp::write::Reply;

const NO_TRANSACTION: &str = "0000000000000000000000000000000000000000";

impl Worker {
    /// Commands of links and about links.
    pub(super) fn peer_command(
        &mut self,
        session: &mut Session,
        home: Home,
        args: &mut Args<'_>,
        reply: &mut Reply<'_>,
        now: Now,
    ) -> Result<(), CommandError> {
        match home {
            Home::Tutti => self.accept_feed(session, args, reply, now),
            Home::Replicaof => self.replicaof(session, args),
            Home::Multimaster => self.multimaster(session, args, reply, now),
            Home::Replconf => Err(CommandError::Text(
                "ERR replication of Redis, Valkey and KeyDB is not supported yet: connect nodes of this server with \
                 replicaof",
            )),
            _ => Err(CommandError::Text("ERR not supported yet")),
        }
    }

    fn multimaster(
        &mut self,
        session: &mut Session,
        args: &mut Args<'_>,
        reply: &mut Reply<'_>,
        now: Now,
    ) -> Result<(), CommandError> {
        let given = args.get(1).unwrap_or_default();
        match subcommand(args)?.as_str() {
            "verify" => self.verify(session, args, now)?,
            "forget" => {
                let node = std::str::from_utf8(args.next()?).ok().and_then(Uuid::parse);
                let node =
                    node.ok_or(CommandError::Text("ERR the UUID of a node is needed: see MULTIMASTER STATUS"))?;
                self.forget_node(node)?;
                reply.ok();
            }
            "status" => self.ask_everyone(session, &Ask::Figures, Then::MultimasterStatus),
            "help" => help(
                reply,
                "MULTIMASTER",
                &[
                    "DIGEST",
                    "    Return a digest of all keys and one of each database: equal on nodes that hold equal data.",
                    "FORGET <uuid>",
                    "    Wait no more for a node that has left for good: deletes need not be remembered for it.",
                    "STATUS",
                    "    Show the members, their links and what waits for them.",
                    "VERIFY [<host> <port>] [DIGESTS]",
                    "    Prove that linked nodes hold equal data, or name what differs and repair it. DIGESTS: by the",
                    "    books only, without reading the data.",
                ],
            ),
            _ => return Err(unknown_subcommand("MULTIMASTER", given)),
        }
        Ok(())
    }

    // KeyDB's forms: add a master (or replace the only one without multi-master), REMOVE one, NO ONE.
    fn replicaof(&mut self, session: &mut Session, args: &mut Args<'_>) -> Result<(), CommandError> {
        let words: Vec<&[u8]> = args.rest().collect();
        let change = match words.as_slice() {
            [no, one] if eq_ignore_case(no, "no") && eq_ignore_case(one, "one") => Masters::NoOne,
            [remove, host, port] if eq_ignore_case(remove, "remove") => {
                let (host, port) = master(host, port)?;
                Masters::Remove(host, port)
            }
            [host, port] => {
                let (host, port) = master(host, port)?;
                Masters::Add(host, port)
            }
            _ => return Err(CommandError::Text("ERR Invalid arguments")),
        };
        self.ask_change(session, Change::Masters(change));
        Ok(())
    }

    /// As HELLO says it.
    pub(super) fn hello_role(&self) -> &'static str {
        match (self.config.replicaof.is_empty(), self.config.active_replica) {
            (true, _) => "master",
            (false, true) => "active-replica",
            (false, false) => "replica",
        }
    }

    /// As INFO and ROLE say it.
    fn role_word(&self) -> &'static str {
        match self.hello_role() {
            "replica" => "slave",
            role => role,
        }
    }

    /// ROLE: every core knows its own links.
    pub(super) fn role(&mut self, session: &mut Session) -> Result<(), CommandError> {
        self.ask_everyone(session, &Ask::Figures, Then::Role);
        Ok(())
    }

    /// ROLE in KeyDB's shape: one master is a flat array, several are an array of such.
    pub(super) fn finish_role(&self, answers: Vec<(ShardId, Answer)>, reply: &mut Reply<'_>) {
        let sum = Sum::of(answers);
        let masters = self.masters(&sum);
        match masters.len() {
            0 => {
                reply.array(3);
                reply.text("master");
                reply.integer(0);
                let readers: Vec<&PeerFigures> = readers(&sum).collect();
                reply.array(readers.len());
                for reader in readers {
                    reply.array(3);
                    reply.text(&reader.host);
                    reply.text(&reader.port.to_string());
                    reply.text("0");
                }
                return;
            }
            1 => {}
            count => reply.array(count),
        }
        for (host, port, figures) in masters {
            reply.array(5);
            reply.text(self.role_word());
            reply.text(host);
            reply.integer(i64::from(port));
            reply.text(figures.map_or("connect", |figures| figures.state));
            reply.integer(if figures.is_some_and(is_up) { 0 } else { -1 });
        }
    }

    /// INFO replication in KeyDB's shape, and per link what KeyDB does not say.
    pub(super) fn replication_section(&self, sum: &Sum, lines: &mut Lines<'_>) {
        let config = &self.config;
        let masters = self.masters(sum);
        lines.put("role", self.role_word());
        if !masters.is_empty() {
            let up = masters.iter().filter(|(.., figures)| figures.is_some_and(is_up)).count();
            lines.put("master_global_link_status", up_or_down(self.has_quorum()));
            lines.put("connected_masters", up);
            for (at, (host, port, figures)) in masters.iter().enumerate() {
                // The first master has no number: KeyDB's shape.
                let prefix = if at == 0 { "master".to_owned() } else { format!("master_{at}") };
                let mut put = |name: &str, value: &dyn std::fmt::Display| lines.put(&format!("{prefix}_{name}"), value);
                let found = figures.cloned().unwrap_or_default();
                put("host", host);
                put("port", port);
                put("link_status", &up_or_down(is_up(&found)));
                put("last_io_seconds_ago", &found.idle_s.map_or(-1, |seconds| seconds as i64));
                put("sync_in_progress", &u8::from(found.left.is_some()));
                if let Some(left) = found.left {
                    put("sync_streams_left", &left);
                }
                if let Some(seconds) = found.down_s {
                    put("link_down_since_seconds", &seconds);
                    put("link_down_reason", &found.reason);
                }
                put("link_state", &found.state);
                put("node", &found.node.map(|origin| origin.node.to_string()).unwrap_or_default());
                put("bytes_in", &found.bytes_in);
                put("bytes_out", &found.bytes_out);
                let (taken, lag_ms) = taken_from(sum, &found);
                put("records_in", &taken.records());
                put("duplicates", &taken.duplicates);
                put("full_merges", &found.full_merges);
                put("resumes", &found.resumes);
                put("clock_offset_ms", &found.clock_offset_ms);
                put("lag_ms", &lag_ms);
                put("conflicts_won", &taken.won);
                put("conflicts_lost", &taken.lost);
                lines.put("slave_read_repl_offset", found.bytes_in);
                lines.put("slave_repl_offset", found.bytes_in);
            }
            lines.put("slave_priority", config.replica_priority);
            lines.put("slave_read_only", u8::from(config.refuses_writes()));
            lines.put("replica_announced", 1);
        }
        let readers: Vec<&PeerFigures> = readers(sum).collect();
        lines.put("connected_slaves", readers.len());
        for (at, reader) in readers.iter().enumerate() {
            let value = format!(
                "ip={},port={},state={},offset={},lag={}",
                reader.host,
                reader.port,
                reader.state,
                reader.bytes_out,
                reader.idle_s.unwrap_or(0)
            );
            lines.put(&format!("slave{at}"), value);
        }
        lines.put("master_failover_state", "no-failover");
        lines.put("master_replid", &self.node.run_id);
        lines.put("master_replid2", NO_TRANSACTION);
        lines.put("master_repl_offset", sum.all.core.repl_out);
        lines.put("second_repl_offset", -1);
        lines.put("repl_backlog_active", u8::from(sum.all.backlog_bytes > 0));
        lines.put("repl_backlog_size", config.repl_backlog_size);
        lines.put("repl_backlog_first_byte_offset", 0);
        lines.put("repl_backlog_histlen", sum.all.backlog_bytes);
        lines.put("mm_node", self.node.realm.origins.own().node);
        lines.put("mm_members", self.members());
        lines.put("mm_conflicts_won", sum.all.shard.merged_won);
        lines.put("mm_conflicts_lost", sum.all.shard.merged_lost);
        lines.put("mm_duplicates", sum.all.shard.duplicates);
        lines.put(
            "mm_clock_offset_ms_max",
            sum.all.peers.iter().map(|peer| peer.clock_offset_ms.abs()).max().unwrap_or(0),
        );
        lines.put("mm_clocks_beyond_drift", sum.all.peers.iter().filter(|peer| peer.is_beyond_drift).count());
        lines.put("mm_beyond_max_clock_drift", sum.all.shard.drifted);
        lines.put("digest_comparisons", sum.all.shard.digest_comparisons);
        lines.put("digest_mismatches", sum.all.shard.digest_mismatches);
        lines.put("digest_repairs", sum.all.shard.digest_repairs);
        lines.put("mm_tombstones", sum.all.tombstones);
        lines.put("mm_waiting_for_stability", sum.all.garbage);
    }

    /// MULTIMASTER STATUS: members, links and what waits, as INFO lines.
    pub(super) fn finish_multimaster_status(&self, answers: Vec<(ShardId, Answer)>, reply: &mut Reply<'_>) {
        let sum = Sum::of(answers);
        let mut text = format!("node:{}\r\nmembers:{}\r\n", self.node.realm.origins.own().node, self.members());
        for row in self.member_rows() {
            text.push_str(&row);
        }
        for peer in &sum.all.peers {
            let kind = if peer.is_link { "master" } else { "reader" };
            let node = peer.node.map(|origin| origin.node.to_string()).unwrap_or_default();
            text.push_str(&format!("{kind}:addr={}:{},state={},node={node}", peer.host, peer.port, peer.state));
            text.push_str(&format!(",bytes_in={},bytes_out={}", peer.bytes_in, peer.bytes_out));
            if peer.is_link {
                let (taken, lag_ms) = taken_from(&sum, peer);
                let (merges, resumes) = (peer.full_merges, peer.resumes);
                text.push_str(&format!(",lag_ms={lag_ms}"));
                text.push_str(&format!(",records_in={},duplicates={}", taken.records(), taken.duplicates));
                text.push_str(&format!(",full_merges={merges},resumes={resumes}"));
                text.push_str(&format!(",conflicts_won={},conflicts_lost={}", taken.won, taken.lost));
            } else {
                let fed = sum.all.fed.iter().filter(|(feed, _)| Some(*feed) == peer.id);
                text.push_str(&format!(",records_out={}", fed.map(|(_, records)| records).sum::<u64>()));
            }
            text.push_str(&format!(",clock_offset_ms={},reason={}\r\n", peer.clock_offset_ms, peer.reason));
        }
        text.push_str(&format!("tombstones:{}\r\nwaiting_for_stability:{}\r\n", sum.all.tombstones, sum.all.garbage));
        text.push_str(&format!("backlog_bytes:{}\r\n", sum.all.backlog_bytes));
        reply.verbatim(b"txt", text.as_bytes());
    }

    /// INFO keydb.
    pub(super) fn keydb_section(&self, _sum: &Sum, lines: &mut Lines<'_>, _now: Now) {
        lines.put("mvcc_depth", 0);
    }

    // The configured masters in their order, with what the core that dials each knows.
    fn masters<'a>(&'a self, sum: &'a Sum) -> Vec<(&'a str, u16, Option<&'a PeerFigures>)> {
        let find = |host: &str, port: u16| {
            let mut links = sum.all.peers.iter().filter(|peer| peer.is_link);
            links.find(|peer| peer.host.eq_ignore_ascii_case(host) && peer.port == port)
        };
        self.config.replicaof.iter().map(|(host, port)| (host.as_str(), *port, find(host, *port))).collect()
    }
}

// What was taken from a master, and how late its newest write was: by its clock, which may not be ours. -1: not linked.
fn taken_from(sum: &Sum, link: &PeerFigures) -> (Taken, i64) {
    let is_its = |(node, _): &&(Uuid, Taken)| link.node.is_some_and(|origin| origin.node == *node);
    let taken = sum.all.taken.iter().find(is_its).map(|(_, taken)| *taken).unwrap_or_default();
    let age_ms = taken.age_ms.map_or(0, |age_ms| age_ms + link.clock_offset_ms);
    (taken, if is_up(link) { age_ms.max(link.silent_ms as i64) } else { -1 })
}

fn readers(sum: &Sum) -> impl Iterator<Item = &PeerFigures> {
    sum.all.peers.iter().filter(|peer| !peer.is_link)
}

fn is_up(figures: &PeerFigures) -> bool {
    figures.state == "connected"
}

fn up_or_down(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

fn master(host: &[u8], port: &[u8]) -> Result<(String, u16), CommandError> {
    let port = parse_i64(port).and_then(|port| u16::try_from(port).ok());
    let port = port.ok_or(CommandError::Text("ERR Invalid master port"))?;
    let host = std::str::from_utf8(host).map_err(|_| CommandError::Text("ERR Invalid master host"))?;
    Ok((host.to_owned(), port))
}
