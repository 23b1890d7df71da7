//! What concerns other nodes: REPLICAOF, ROLE, WAIT, REPLCONF and the links' handshake; INFO replication.
//!
//! Without links this is what a node alone says; `peer` knows the rest.

use super::super::Worker;
use super::super::session::Session;
use super::info::{Lines, Sum};
use crate::base::time::Now;
use crate::command::args::Args;
use crate::command::error::CommandError;
use crate::command::spec::Home;
use crate::resp::write::Reply;

const NO_TRANSACTION: &str = "0000000000000000000000000000000000000000";

impl Worker {
    /// Commands of links and about links.
    pub(super) fn peer_command(
        &mut self,
        _session: &mut Session,
        home: Home,
        _args: &mut Args<'_>,
        _reply: &mut Reply<'_>,
        _now: Now,
    ) -> Result<(), CommandError> {
        Err(match home {
            Home::Replconf => CommandError::Text(
                "ERR replication of Redis, Valkey and KeyDB is not supported yet: connect nodes of this server with \
                 replicaof",
            ),
            _ => CommandError::Text("ERR not supported yet"),
        })
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

    /// ROLE in KeyDB's shape: one master is a flat array, several are an array of such.
    pub(super) fn role(&self, reply: &mut Reply<'_>) -> Result<(), CommandError> {
        let masters = &self.config.replicaof;
        match masters.len() {
            0 => {
                reply.array(3);
                reply.text("master");
                reply.integer(0);
                reply.array(0);
                return Ok(());
            }
            1 => {}
            count => reply.array(count),
        }
        for (host, port) in masters {
            reply.array(5);
            reply.text(self.role_word());
            reply.text(host);
            reply.integer(i64::from(*port));
            reply.text("connect");
            reply.integer(-1);
        }
        Ok(())
    }

    /// WAIT numreplicas timeout: without peers it waits in vain.
    pub(super) fn wait(&mut self, session: &mut Session, args: &mut Args<'_>, now: Now) -> Result<(), CommandError> {
        let wanted = args.integer()?;
        let timeout_ms = crate::base::text::parse_i64(args.next()?)
            .ok_or(CommandError::Text("ERR timeout is not an integer or out of range"))?;
        if timeout_ms < 0 {
            return Err(CommandError::Text("ERR timeout is negative"));
        }
        let at_us = match (wanted, timeout_ms) {
            (..=0, _) => now.mono_us,
            (_, 0) => u64::MAX,
            (_, ms) => now.mono_us.saturating_add((ms as u64).saturating_mul(1000)),
        };
        self.reply_later(session, at_us, b":0\r\n".to_vec());
        Ok(())
    }

    /// INFO replication in KeyDB's shape.
    pub(super) fn replication_section(&self, sum: &Sum, lines: &mut Lines<'_>, _now: Now) {
        let config = &self.config;
        let masters = &config.replicaof;
        lines.put("role", self.role_word());
        if !masters.is_empty() {
            lines.put("master_global_link_status", "down");
            lines.put("connected_masters", 0);
            for (at, (host, port)) in masters.iter().enumerate() {
                // The first master has no number: KeyDB's shape.
                let prefix = if at == 0 { "master".to_owned() } else { format!("master_{at}") };
                lines.put(&format!("{prefix}_host"), host);
                lines.put(&format!("{prefix}_port"), port);
                lines.put(&format!("{prefix}_link_status"), "down");
                lines.put(&format!("{prefix}_last_io_seconds_ago"), -1);
                lines.put(&format!("{prefix}_sync_in_progress"), 0);
                lines.put("slave_read_repl_offset", 0);
                lines.put("slave_repl_offset", 0);
            }
            lines.put("slave_priority", config.replica_priority);
            lines.put("slave_read_only", u8::from(config.refuses_writes()));
            lines.put("replica_announced", 1);
        }
        lines.put("connected_slaves", sum.all.links_and_feeds.1);
        lines.put("master_failover_state", "no-failover");
        lines.put("master_replid", &self.node.run_id);
        lines.put("master_replid2", NO_TRANSACTION);
        lines.put("master_repl_offset", 0);
        lines.put("second_repl_offset", -1);
        lines.put("repl_backlog_active", u8::from(sum.all.backlog_bytes > 0));
        lines.put("repl_backlog_size", config.repl_backlog_size);
        lines.put("repl_backlog_first_byte_offset", 0);
        lines.put("repl_backlog_histlen", sum.all.backlog_bytes);
    }

    /// INFO keydb.
    pub(super) fn keydb_section(&self, _sum: &Sum, lines: &mut Lines<'_>, _now: Now) {
        lines.put("mvcc_depth", 0);
    }
}
