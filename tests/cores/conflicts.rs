//! What becomes of two commands on two nodes that have not heard of each other: what wins, what adds up, what is lost.
//! The pairs are those in which nodes of KeyDB were seen to swap their values, or to drop one side's, for good.

use crate::nodes::{Nodes, WAYS, meet};

/// Deadlines that no test reaches, Unix milliseconds.
const SOON: &str = "1770000500000";
const LATER: &str = "1770009999000";

#[test]
fn of_two_sets_the_later_one_wins() {
    assert_eq!(meet(&[], "SET k a", "SET k b", &["GET k"]), ["b", "a"]);
    assert_eq!(meet(&["SET k old"], "GETSET k a", "GETSET k b", &["GET k"]), ["b", "a"]);
}

#[test]
fn nodes_that_write_in_the_same_millisecond_choose_the_same_value() {
    for seed in 0..6 {
        let mut nodes = Nodes::new(seed, &[1, 2]);
        nodes.cut(1);
        for n in 0..20 {
            nodes.on(0, &format!("SET k{n} a"));
            nodes.on(1, &format!("SET k{n} b"));
        }
        nodes.join(1, WAYS[seed as usize % 2]);
        nodes.agree();
        for n in 0..20 {
            let kept = nodes.on_all(&format!("GET k{n}"));
            assert!(kept == "a" || kept == "b", "{kept}");
        }
    }
}

#[test]
fn of_two_results_of_append_setrange_or_setbit_the_later_one_wins() {
    assert_eq!(meet(&["SET k x"], "APPEND k a", "APPEND k b", &["GET k"]), ["xb", "xa"]);
    assert_eq!(meet(&["SET k ....."], "SETRANGE k 0 aa", "SETRANGE k 3 bb", &["GET k"]), ["...bb", "aa..."]);
    let bits = ["GETBIT k 1", "GETBIT k 7"];
    assert_eq!(meet(&["SETBIT k 2 1"], "SETBIT k 1 1", "SETBIT k 7 1", &bits), ["0 1", "1 0"]);
    let (a, b) = ("BITFIELD k INCRBY u8 0 5", "BITFIELD k INCRBY u8 0 7");
    assert_eq!(meet(&["BITFIELD k SET u8 0 10"], a, b, &["BITFIELD_RO k GET u8 0"]), ["17", "15"]);
    assert_eq!(meet(&["MSET x a y b"], "BITOP OR k x y", "APPEND x z", &["MGET k x"]), ["c az", "c az"]);
}

#[test]
fn setnx_may_say_yes_on_two_nodes_and_the_later_value_stays() {
    assert_eq!(meet(&[], "SETNX k a", "SETNX k b", &["GET k"]), ["b", "a"]);
    assert_eq!(meet(&[], "SET k a NX", "SET k b NX", &["GET k"]), ["b", "a"]);
    assert_eq!(meet(&[], "HSETNX k f a", "HSETNX k f b", &["HGET k f"]), ["b", "a"]);
    assert_eq!(meet(&[], "MSETNX x a y a", "MSETNX y b z b", &["MGET x y z"]), ["a b b", "a a b"]);
}

#[test]
fn increments_on_two_nodes_add_up() {
    assert_eq!(meet(&["SET n 10"], "INCRBY n 5", "DECRBY n 2", &["GET n"]), ["13", "13"]);
    assert_eq!(meet(&["SET n 1"], "INCRBYFLOAT n 1.5", "INCRBYFLOAT n 0.25", &["GET n"]), ["2.75", "2.75"]);
    assert_eq!(meet(&["HSET h n 10"], "HINCRBY h n 5", "HINCRBY h n -2", &["HGET h n"]), ["13", "13"]);
    let (a, b) = ("HINCRBYFLOAT h n 1.5", "HINCRBYFLOAT h n 0.25");
    assert_eq!(meet(&[], a, b, &["HGET h n"]), ["1.75", "1.75"]);
}

#[test]
fn a_reset_takes_the_increments_it_has_seen_and_leaves_the_others() {
    assert_eq!(meet(&["INCRBY n 12"], "INCR n", "SET n 100", &["GET n"]), ["101", "101"]);
    assert_eq!(meet(&["INCRBY n 12"], "INCR n", "GETSET n 100", &["GET n"]), ["101", "101"]);
    assert_eq!(meet(&["INCRBY n 12"], "INCR n", "DEL n", &["GET n"]), ["1", "1"]);
    assert_eq!(meet(&["INCRBY n 12"], "INCR n", "GETDEL n", &["GET n"]), ["1", "1"]);
    assert_eq!(meet(&["HINCRBY h n 12"], "HINCRBY h n 1", "HSET h n 100", &["HGET h n"]), ["101", "101"]);
    assert_eq!(meet(&["HINCRBY h n 12"], "HINCRBY h n 1", "HDEL h n", &["HGET h n"]), ["1", "1"]);
    assert_eq!(meet(&["HINCRBY h n 12"], "HINCRBY h n 1", "DEL h", &["HGET h n"]), ["1", "1"]);
}

#[test]
fn sums_beyond_exact_decimals_are_one_nodes_result() {
    let results = meet(&["SET n 1e30"], "INCRBYFLOAT n 1e29", "INCRBYFLOAT n 2e29", &["GET n"]);
    assert_eq!(results.map(|text| text[..2].to_owned()), ["12", "11"]);
}

#[test]
fn increments_may_add_up_to_more_than_one_node_would_allow() {
    let before = ["SET n 9223372036854775800"];
    let shown = ["GET n", "INCR n"];
    let seen = "9223372036854775810 -ERR value is not an integer or out of range";
    assert_eq!(meet(&before, "INCRBY n 5", "INCRBY n 5", &shown), [seen, seen]);
}

#[test]
fn an_increment_of_what_became_a_text_elsewhere_is_not_seen() {
    assert_eq!(meet(&["SET n 1"], "INCR n", "SET n text", &["GET n"]), ["text", "text"]);
}

#[test]
fn of_a_delete_and_a_write_of_a_string_the_later_one_wins() {
    for delete in ["DEL k", "UNLINK k", "GETDEL k"] {
        assert_eq!(meet(&["SET k old"], delete, "SET k new", &["GET k"]), ["new", "(nil)"], "{delete}");
    }
}

#[test]
fn fields_of_a_hash_are_decided_one_by_one() {
    let shown = ["HMGET h f g"];
    assert_eq!(meet(&[], "HSET h f a", "HSET h f b", &shown), ["b (nil)", "a (nil)"]);
    assert_eq!(meet(&[], "HSET h f a", "HSET h g b", &shown), ["a b", "a b"]);
    assert_eq!(meet(&["HSET h f 0 g 0"], "HDEL h f", "HSET h f b", &shown), ["b 0", "(nil) 0"]);
    assert_eq!(meet(&["HSET h f 0 g 0"], "HDEL h f", "HSET h g b", &shown), ["(nil) b", "(nil) b"]);
}

#[test]
fn a_delete_takes_the_fields_that_are_older_and_no_others() {
    assert_eq!(meet(&["HSET h f 0"], "DEL h", "HSET h g 1", &["HMGET h f g"]), ["(nil) 1", "(nil) (nil)"]);
}

#[test]
fn of_two_types_the_one_written_last_is_seen() {
    assert_eq!(meet(&[], "SET k v", "HSET k f 1", &["TYPE k"]), ["hash", "string"]);
}

#[test]
fn of_two_deadlines_the_one_written_last_is_in_force() {
    let (soon, later) = (format!("PEXPIREAT k {SOON}"), format!("PEXPIREAT k {LATER}"));
    assert_eq!(meet(&["SET k v"], &soon, &later, &["PEXPIRETIME k"]), [LATER, SOON]);
    assert_eq!(meet(&["SET k v", &soon], "PERSIST k", &later, &["PEXPIRETIME k"]), [LATER, "-1"]);
    let getex = format!("GETEX k PXAT {LATER}");
    assert_eq!(meet(&["SET k v", &soon], "GETEX k PERSIST", &getex, &["PEXPIRETIME k"]), [LATER, "-1"]);
}

#[test]
fn a_deadline_and_a_write_on_two_nodes_are_both_kept() {
    let expire = format!("PEXPIREAT k {SOON}");
    let both = |before: &str, write: &str, read: &str| meet(&[before], &expire, write, &[read, "PEXPIRETIME k"]);
    assert_eq!(both("SET k 1", "INCR k", "GET k"), [format!("2 {SOON}"), format!("2 {SOON}")]);
    assert_eq!(both("SET k a", "APPEND k b", "GET k"), [format!("ab {SOON}"), format!("ab {SOON}")]);
    assert_eq!(both("HSET k f 1", "HSET k g 2", "HMGET k f g"), [format!("1 2 {SOON}"), format!("1 2 {SOON}")]);
    // SET says that there is no deadline: it takes back an older one.
    assert_eq!(both("SET k a", "SET k b", "GET k"), ["b -1".to_owned(), format!("b {SOON}")]);
}

#[test]
fn a_deadline_does_not_bring_back_what_was_deleted_elsewhere() {
    let expire = format!("PEXPIREAT k {SOON}");
    assert_eq!(meet(&["SET k v"], &expire, "DEL k", &["EXISTS k"]), ["0", "0"]);
    assert_eq!(meet(&["HSET k f 1"], &expire, "DEL k", &["EXISTS k"]), ["0", "0"]);
}

#[test]
fn of_a_flush_and_a_write_the_later_one_wins() {
    for flush in ["FLUSHALL", "FLUSHDB"] {
        assert_eq!(meet(&["SET old v"], flush, "SET k w", &["MGET old k"]), ["(nil) w", "(nil) (nil)"], "{flush}");
        assert_eq!(meet(&["HSET h f v"], flush, "HSET h g w", &["HMGET h f g"]), ["(nil) w", "(nil) (nil)"]);
    }
}

#[test]
fn a_flush_takes_older_increments_whether_it_has_seen_them_or_not() {
    assert_eq!(meet(&["INCRBY n 12"], "FLUSHALL", "INCR n", &["GET n"]), ["1", "(nil)"]);
}

#[test]
fn a_rename_is_a_write_of_one_name_and_a_delete_of_the_other() {
    let shown = ["MGET old new"];
    assert_eq!(meet(&["SET old v"], "RENAME old new", "SET old w", &shown), ["w v", "(nil) v"]);
    assert_eq!(meet(&["MSET old v new u"], "RENAME old new", "SET new w", &shown), ["(nil) w", "(nil) v"]);
    assert_eq!(meet(&["MSET old v new u"], "RENAME old new", "DEL new", &shown), ["(nil) (nil)", "(nil) v"]);
}

#[test]
fn two_renames_of_one_key_leave_it_under_both_names() {
    assert_eq!(meet(&["SET k v"], "RENAME k x", "RENAME k y", &["MGET k x y"]), ["(nil) v v", "(nil) v v"]);
}

#[test]
fn increments_a_rename_or_a_copy_has_not_seen_stay_with_the_old_name() {
    assert_eq!(meet(&["INCRBY old 5"], "RENAME old new", "INCR old", &["MGET old new"]), ["1 5", "1 5"]);
    assert_eq!(meet(&["INCRBY old 5"], "COPY old new", "INCR old", &["MGET old new"]), ["6 5", "6 5"]);
}

#[test]
fn a_copy_replaces_what_is_older_and_keeps_what_is_newer() {
    let before = ["HSET from f 1", "HSET to g 2"];
    let shown = ["HMGET to f g h"];
    let copy = "COPY from to REPLACE";
    assert_eq!(meet(&before, copy, "HSET to h 3", &shown), ["1 (nil) 3", "1 (nil) (nil)"]);
    assert_eq!(meet(&before, copy, "DEL to", &shown), ["(nil) (nil) (nil)", "1 (nil) (nil)"]);
}

#[test]
fn a_move_is_a_write_in_one_database_and_a_delete_in_the_other() {
    let shown = ["GET k", "SELECT 3", "GET k"];
    assert_eq!(meet(&["SET k v"], "MOVE k 3", "SET k w", &shown)[0], "w OK v");
    assert_eq!(meet(&["SET k v"], "SET k w", "MOVE k 3", &shown)[0], "(nil) OK v");
}

#[test]
fn of_two_msets_every_key_is_decided_by_itself() {
    assert_eq!(meet(&[], "MSET x a y a z a", "MSET z b y b", &["MGET x y z"]), ["a b b", "a a a"]);
}

#[test]
fn a_later_write_by_a_clock_that_is_behind_loses_to_one_it_has_not_seen() {
    let mut nodes = Nodes::new(1, &[2, 2]);
    nodes.world.nodes[0].clock_ms = -500;
    // Its own clock is what it has left, once it is cut off.
    nodes.pass_ms(1000);
    nodes.cut(1);
    nodes.on(1, "SET k earlier");
    nodes.pass_ms(100);
    nodes.on(0, "SET k later");
    nodes.join(1, WAYS[0]);
    nodes.agree();
    assert_eq!(nodes.on_all("GET k"), "earlier");
}
