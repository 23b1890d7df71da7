//! How often each kind of fault, each change of a link and each merge rule was really exercised.

use std::collections::BTreeMap;

/// Everything a full run must have seen, and how often at least. What is not listed here is shown, not judged.
pub const RULES: &[&str] = &[
    "fault: connection reset",
    "fault: partition both ways",
    "fault: partition one way",
    "fault: partition heals",
    "fault: slow link",
    "fault: node stopped and continued",
    "fault: crash, process",
    "fault: crash, machine",
    "fault: graceful stop",
    "fault: restart with the stored state",
    "fault: restart with an older copy",
    "fault: restart with nothing",
    "fault: restart with other cores",
    "fault: clock jumps forward",
    "fault: clock jumps back",
    "fault: clients dropped",
    "fault: disk full",
    "fault: follow",
    "fault: unfollow",
    "fault: node joins",
    "fault: node removed",
    "fault: nodes forgotten",
    "fault: removed node returns",
    "fault: a member is let go",
    "fault: two names for one master",
    "fault: snapshot",
    "cut: bytes under way are lost",
    "dial failed",
    "mesh ring full",
    "link: up",
    "link: lost",
    "link: full merge of a partition",
    "record: applied elsewhere",
    "record: seen before",
    "record: beyond the clock limit",
    "rule: register, later stamp wins",
    "rule: register, delete against write",
    "rule: equal readings, origin decides",
    "rule: increments add up",
    "rule: increment survives a reset that had not seen it",
    "rule: increment wiped by a reset that had seen it",
    "rule: fields of a hash, concurrent",
    "rule: field against delete of the key",
    "rule: deadline against write",
    "rule: clash of types",
    "rule: flush against write",
    "rule: tombstone forgotten",
    "rule: multi-key write over several shards",
    "VERIFY: equal",
];

/// How often each must be seen in a full run.
pub const LEAST: u64 = 100;

/// Counters by name.
#[derive(Clone, Default, Debug)]
pub struct Coverage(pub BTreeMap<&'static str, u64>);

impl Coverage {
    pub fn hit(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    pub fn add(&mut self, what: &'static str, count: u64) {
        if count > 0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    pub fn join(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            self.add(what, *count);
        }
    }

    /// What was seen less often than it must be.
    pub fn missing(&self) -> Vec<&'static str> {
        RULES.iter().copied().filter(|rule| self.0.get(rule).copied().unwrap_or(0) < LEAST).collect()
    }

    /// A table, one row a rule.
    pub fn table(&self) -> String {
        let mut rows: Vec<(&str, u64)> =
            RULES.iter().map(|rule| (*rule, self.0.get(rule).copied().unwrap_or(0))).collect();
        rows.extend(self.0.iter().filter(|(what, _)| !RULES.contains(what)).map(|(what, count)| (*what, *count)));
        rows.iter().map(|(what, count)| format!("  {what:<58} {count:>12}\n")).collect()
    }
}
