//! Who a node is over its starts: a small file beside the snapshot, and what is made of it.

use crate::base::ids::Uuid;
use crate::merge::origins::OriginId;

/// The name of the identity's file: the snapshot's with this behind it. Nodes may share a folder.
pub const SUFFIX: &str = ".node";

/// The text of the file.
pub fn print(id: OriginId) -> String {
    format!(
        "# This node's identity. Keep it with the data; never copy it to another node.\nuuid {}\nincarnation {}\n",
        id.node, id.incarnation
    )
}

/// Reads [`print()`]'s text; `None`: it is something else.
pub fn parse(text: &str) -> Option<OriginId> {
    let word = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Some(OriginId { node: Uuid::parse(word("uuid")?.trim())?, incarnation: word("incarnation")?.trim().parse().ok()? })
}

/// The identity of this start. `kept`: of the file beside the snapshot; `snapshot`: of the snapshot; `fresh`: if
/// there is neither. The kept one wins: a snapshot of another node is one that was copied here.
///
/// The incarnation is above every one of this node known, so a node that comes back with an old copy of its data
/// never reuses a stamp. If its clock has been set back besides, nothing here tells which starts came after that copy:
/// then chance keeps the incarnation apart from theirs, and members that know a later one do not count what this run
/// acknowledges until the next start.
pub fn decide(kept: Option<OriginId>, snapshot: Option<OriginId>, fresh: Uuid, wall_ms: u64) -> OriginId {
    let node = kept.or(snapshot).map_or(fresh, |id| id.node);
    let known = [kept, snapshot].into_iter().flatten().filter(|id| id.node == node);
    let least = known.map(|id| id.incarnation.saturating_add(1)).fold(wall_ms, u64::max);
    let incarnation = if least > wall_ms { least.saturating_add(chance(fresh)) } else { wall_ms };
    OriginId { node, incarnation }
}

// Up to a quarter of an hour, in milliseconds.
fn chance(fresh: Uuid) -> u64 {
    let [.., a, b, c] = fresh.0;
    u64::from(u32::from_be_bytes([0, a & 0xf, b, c]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid([1; 16]);
    const B: Uuid = Uuid([2; 16]);
    const FRESH: Uuid = Uuid([9; 16]);

    fn id(node: Uuid, incarnation: u64) -> OriginId {
        OriginId { node, incarnation }
    }

    #[test]
    fn the_text_reads_back() {
        let own = id(A, 1_770_000_000_000);
        assert_eq!(parse(&print(own)), Some(own));
        assert_eq!(parse("uuid x\nincarnation 1\n"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn an_incarnation_is_above_all_that_are_known() {
        assert_eq!(decide(None, None, FRESH, 100), id(FRESH, 100));
        assert_eq!(decide(Some(id(A, 50)), None, FRESH, 100), id(A, 100));
        let chance = 0x90909;
        assert_eq!(decide(Some(id(A, 100)), None, FRESH, 100), id(A, 101 + chance));
        assert_eq!(decide(None, Some(id(A, 500)), FRESH, 100), id(A, 501 + chance));
        assert_eq!(decide(Some(id(A, 500)), Some(id(A, 700)), FRESH, 100), id(A, 701 + chance));
    }

    // Found by the simulator's run 6166.
    #[test]
    fn two_starts_from_the_same_copy_are_told_apart_though_the_clock_was_set_back() {
        let copy = Some(id(A, 500));
        assert_ne!(decide(copy, copy, Uuid([1; 16]), 100), decide(copy, copy, Uuid([2; 16]), 100));
    }

    #[test]
    fn a_copied_snapshot_does_not_change_who_we_are() {
        assert_eq!(decide(Some(id(A, 5)), Some(id(B, 700)), FRESH, 100), id(A, 100));
    }
}
