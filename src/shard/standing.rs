//! Who is a member and who was forgotten: a small table on which all nodes come to agree.
//!
//! A node becomes a member by being met or named, and stays one, absent or not, until an operator forgets it
//! (MULTIMASTER FORGET). A forgotten node that connects again is a member again. Every such turn is a new epoch; the
//! later epoch is right everywhere, and within one forgetting wins. Nodes in epoch 0 were never forgotten and are not
//! listed.

use crate::base::ids::Uuid;
use crate::merge::op::{put_varint, take_varint};

/// What is known of one node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Standing {
    /// Who.
    pub node: Uuid,
    /// How often it was forgotten or came back.
    pub epoch: u64,
    /// Whether it is forgotten.
    pub forgotten: bool,
}

impl Standing {
    /// Whether this overrules what was known of the same node.
    fn beats(&self, known: &Self) -> bool {
        (self.epoch, self.forgotten) > (known.epoch, known.forgotten)
    }

    /// A member that was never forgotten.
    pub fn new(node: Uuid) -> Self {
        Self { node, epoch: 0, forgotten: false }
    }
}

/// See the file's head.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Standings(Vec<Standing>);

impl Standings {
    /// What is known of a node.
    pub fn of(&self, node: Uuid) -> Standing {
        self.0.iter().find(|known| known.node == node).copied().unwrap_or(Standing::new(node))
    }

    /// Those that ever were forgotten.
    pub fn all(&self) -> &[Standing] {
        &self.0
    }

    /// Takes what somebody says; whether it was news.
    pub fn hear(&mut self, said: Standing) -> bool {
        let is_news = said.beats(&self.of(said.node));
        if is_news {
            self.0.retain(|known| known.node != said.node);
            self.0.push(said);
            self.0.sort_unstable();
        }
        is_news
    }

    /// What there is to say when a node is to be forgotten (or is not any more).
    pub fn turned(&self, node: Uuid, forgotten: bool) -> Standing {
        let known = self.of(node);
        if known.forgotten == forgotten { known } else { Standing { node, epoch: known.epoch + 1, forgotten } }
    }
}

/// Appends standings.
pub fn put(out: &mut Vec<u8>, standings: &[Standing]) {
    for standing in standings {
        out.extend_from_slice(&standing.node.0);
        put_varint(out, standing.epoch << 1 | u64::from(standing.forgotten));
    }
}

/// Takes all of what [`put`] wrote. `None`: malformed.
pub fn take(mut input: &[u8]) -> Option<Vec<Standing>> {
    let mut standings = Vec::new();
    while let Some((uuid, rest)) = input.split_first_chunk::<16>() {
        input = rest;
        let word = take_varint(&mut input)?;
        standings.push(Standing { node: Uuid(*uuid), epoch: word >> 1, forgotten: word & 1 == 1 });
    }
    input.is_empty().then_some(standings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: Uuid = Uuid([7; 16]);

    #[test]
    fn whatever_is_heard_first_the_last_turn_is_believed() {
        let mut known = Standings::default();
        let forgotten = known.turned(X, true);
        known.hear(forgotten);
        let back = known.turned(X, false);
        assert_eq!(known.turned(X, true), forgotten, "forgetting twice is no turn");
        for order in [[forgotten, back], [back, forgotten]] {
            let mut other = Standings::default();
            order.iter().for_each(|said| _ = other.hear(*said));
            assert_eq!(other.of(X), back);
        }
        assert!(known.hear(back) && !known.hear(forgotten));
    }

    #[test]
    fn standings_read_back() {
        let said = [Standing { node: X, epoch: 300, forgotten: true }, Standing::new(Uuid([1; 16]))];
        let mut bytes = Vec::new();
        put(&mut bytes, &said);
        assert_eq!(take(&bytes), Some(said.to_vec()));
        assert_eq!(take(&bytes[..bytes.len() - 1]), None);
    }
}
