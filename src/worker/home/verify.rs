//! MULTIMASTER VERIFY: every shard compares its partitions with linked nodes; their reports become one text.

use std::fmt::Write;
use std::sync::Arc;

use super::super::Worker;
use super::super::control::{Answer, Ask, Then};
use super::super::peers::verify::report::{Report, SideReport, VerifyAsk};
use super::super::session::Session;
use crate::base::ids::{ConnId, ShardId};
use crate::base::text::parse_i64;
use crate::base::time::Now;
use crate::command::args::Args;
use crate::command::error::CommandError;
use crate::peer::mesh::Comparable;
use crate::resp::write::{Reply, Version};
use crate::shard::compare::Level;

/// With several peers a repair may bring what an earlier one still lacks: then all are compared again, so often at
/// most.
const ROUNDS_MAX: usize = 3;

/// A comparison while its reports come in.
#[derive(Clone, Debug)]
pub struct VerifyPlan {
    peers: Vec<Arc<Comparable>>,
    /// Linked, but too old for this.
    unable: Vec<Arc<Comparable>>,
    level: Level,
    began: Now,
    /// The last report counts; those before it had something to repair.
    earlier: Vec<Report>,
}

impl Worker {
    /// `MULTIMASTER VERIFY [host port] [DIGESTS]`.
    pub(super) fn verify(&mut self, session: &mut Session, args: &mut Args<'_>, now: Now) -> Result<(), CommandError> {
        let mut words: Vec<&[u8]> = args.rest().collect();
        let level = match words.last() {
            Some(word) if word.eq_ignore_ascii_case(b"digests") => {
                words.pop();
                Level::Kept
            }
            _ => Level::Data,
        };
        let mut peers = self.comparable();
        match words.as_slice() {
            [] if peers.is_empty() => return Err(CommandError::Text("ERR no other node is linked")),
            [] => {}
            [host, port] => {
                let port = parse_i64(port).and_then(|port| u16::try_from(port).ok()).ok_or(CommandError::NotInteger)?;
                let host = String::from_utf8_lossy(host);
                let named = |peer: &&Arc<Comparable>| peer.port == port && peer.host.eq_ignore_ascii_case(&host);
                // A node may be linked under several names; any of them will do.
                let Some(peer) = self.all_comparable().iter().find(named).cloned() else {
                    return Err(CommandError::Owned(format!("ERR no node is linked as {host}:{port}")));
                };
                if !peer.is_able {
                    return Err(CommandError::Text("ERR not supported by peer"));
                }
                peers = vec![peer];
            }
            _ => return Err(CommandError::Syntax),
        }
        let (peers, unable) = peers.into_iter().partition(|peer| peer.is_able);
        let plan = VerifyPlan { peers, unable, level, began: now, earlier: Vec::new() };
        let ask = self.verify_ask(&plan);
        self.ask_everyone(session, &ask, Then::Verify(Box::new(plan)));
        Ok(())
    }

    fn verify_ask(&mut self, plan: &VerifyPlan) -> Ask {
        let peers = plan.peers.iter().map(|peer| peer.peer).collect();
        Ask::Verify(VerifyAsk { run: self.next_verify(), peers, level: plan.level })
    }

    /// All shards have compared: again, or the reply.
    pub(in super::super) fn finish_verify(
        &mut self,
        conn: ConnId,
        place: u64,
        mut plan: VerifyPlan,
        answers: Vec<(ShardId, Answer)>,
        version: Version,
        now: Now,
    ) -> Option<Vec<u8>> {
        let reports = answers.into_iter().filter_map(|(_, answer)| match answer {
            Answer::Verified(report) => Some(*report),
            _ => None,
        });
        let report = joined(reports);
        let has_repaired = report.sides.iter().any(|side| side.repaired > 0);
        if has_repaired && plan.peers.len() > 1 && plan.earlier.len() + 1 < ROUNDS_MAX {
            plan.earlier.push(report);
            let ask = self.verify_ask(&plan);
            self.ask_all(conn, place, &ask, Then::Verify(Box::new(plan)));
            return None;
        }
        let mut out = Vec::new();
        Reply::new(&mut out, version).verbatim(b"txt", self.verify_text(&plan, &report, now).as_bytes());
        Some(out)
    }

    fn verify_text(&self, plan: &VerifyPlan, report: &Report, now: Now) -> String {
        let rounds = || plan.earlier.iter().chain([report]);
        let sum = |of: fn(&SideReport) -> u64| -> u64 { rounds().flat_map(|round| &round.sides).map(of).sum() };
        let is_incomplete =
            |side: &SideReport| side.problem.is_some() || side.is_behind() || side.differing > side.repaired;
        let result = if report.sides.iter().any(is_incomplete) {
            "incomplete"
        } else if sum(|side| side.repaired) > 0 {
            "repaired"
        } else if plan.peers.is_empty() {
            "not supported by peer"
        } else {
            "equal"
        };
        let mut text = String::new();
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            let _ = write!(text, "{name}:{value}\r\n");
        };
        line("result", &result);
        line("compared", &if plan.level == Level::Data { "data" } else { "digests" });
        line("took_ms", &(now.mono_us.saturating_sub(plan.began.mono_us) / 1000));
        line("peers", &plan.peers.len());
        line("keys_differing", &sum(|side| side.differing));
        line("keys_repaired", &sum(|side| side.repaired));
        line("wrong_digests", &rounds().map(|round| round.wrong).sum::<u64>());
        line("version_vector", &format_args!("{:016x}", report.versions));
        for (origin, hlc) in &report.newest {
            let id = self.node.realm.origins.id(*origin);
            line("origin", &format_args!("node={},start={},up_to_ms={}", id.node, id.incarnation, hlc.wall_ms()));
        }
        for (at, peer) in plan.peers.iter().enumerate() {
            let all = || rounds().filter_map(|round| round.sides.get(at));
            let total = |of: fn(&SideReport) -> u64| all().map(of).sum::<u64>();
            let last = report.sides.get(at).cloned().unwrap_or_default();
            let result = match last.problem {
                Some(problem) => problem,
                None if last.is_behind() => "some writes did not arrive",
                None if last.differing > last.repaired => "some keys cannot be repaired",
                None if total(|side| side.repaired) > 0 => "repaired",
                None => "equal",
            };
            let (slots, differing) = (total(|side| side.slots), total(|side| side.differing));
            let (repaired, wrong) = (total(|side| side.repaired), total(|side| side.wrong));
            line(
                "peer",
                &format_args!(
                    "addr={}:{},node={},result={result},slots_differing={slots},keys_differing={differing},\
                     keys_repaired={repaired},keys_changing={},keys_behind={},slots_behind={},\
                     wrong_digests={wrong}",
                    peer.host, peer.port, peer.origin.node, last.changing, last.behind, last.slots_behind
                ),
            );
        }
        for peer in &plan.unable {
            let node = peer.origin.node;
            line("peer", &format_args!("addr={}:{},node={node},result=not supported by peer", peer.host, peer.port));
        }
        for (peer, side) in rounds().flat_map(|round| plan.peers.iter().zip(&round.sides)) {
            for found in &side.differences {
                let (slot, db, how, key) = (found.slot.0, found.db, found.how, found.key.escape_ascii());
                let addr = format_args!("addr={}:{}", peer.host, peer.port).to_string();
                line("difference", &format_args!("{addr},slot={slot},db={db},how={how},key={key}"));
            }
        }
        text
    }
}

// What all shards found, as one.
fn joined(reports: impl Iterator<Item = Report>) -> Report {
    reports
        .reduce(|mut all, one| {
            all.wrong += one.wrong;
            all.versions = all.versions.wrapping_add(one.versions);
            for (origin, hlc) in one.newest {
                match all.newest.iter_mut().find(|(known, _)| *known == origin) {
                    Some((_, newest)) => *newest = hlc.max(*newest),
                    None => all.newest.push((origin, hlc)),
                }
            }
            for (sum, side) in all.sides.iter_mut().zip(one.sides) {
                sum.problem = sum.problem.or(side.problem);
                sum.slots += side.slots;
                sum.differing += side.differing;
                sum.repaired += side.repaired;
                sum.changing += side.changing;
                sum.behind += side.behind;
                sum.slots_behind += side.slots_behind;
                sum.wrong += side.wrong;
                sum.differences.extend(side.differences);
            }
            all
        })
        .unwrap_or_default()
}
