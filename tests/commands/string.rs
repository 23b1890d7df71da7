use crate::support::{check, check_with_redis};

#[test]
fn mget_answers_in_the_order_asked_and_nil_for_absent_keys() {
    check_with_redis(
        "
        MSET a 1 b 2 => OK
        MGET b x a a => [2, (nil), 1, 1]
        INCR a => 2
        GET a => 2
        MSET a 1 b => -ERR wrong number of arguments for 'mset' command
    ",
    );
}

#[test]
fn set_nx_keeps_the_existing_value_and_set_xx_makes_no_key() {
    check_with_redis(
        "
        SET k old => OK
        SET k new NX => (nil)
        GET k => old
        SET k new XX => OK
        GET k => new
        SET other new XX => (nil)
        GET other => (nil)
        SET other new nx => OK
        SETNX other newer => 0
        SETNX third x => 1
    ",
    );
}

#[test]
fn set_get_answers_the_old_value_whether_it_writes_or_not() {
    check_with_redis(
        "
        SET k a GET => (nil)
        SET k b GET => a
        SET k c NX GET => b
        GET k => b
        SET k c XX GET => b
        SET absent c XX GET => (nil)
        GET absent => (nil)
        SET absent c NX GET => (nil)
        GET absent => c
        GETSET k d => c
        GETSET fresh x => (nil)
    ",
    );
}

#[test]
fn options_that_contradict_each_other_are_a_syntax_error() {
    check_with_redis(
        "
        SET k v NX XX => -ERR syntax error
        SET k v EX 10 PX 10 => -ERR syntax error
        SET k v EX 10 EX 20 => OK
        SET k v KEEPTTL EX 10 => -ERR syntax error
        SET k v EX 10 KEEPTTL => -ERR syntax error
        SET k v EX => -ERR syntax error
        SET k v BOGUS => -ERR syntax error
        SET k v PERSIST => -ERR syntax error
        GETEX k PERSIST EX 10 => -ERR syntax error
        GETEX k EX 10 PERSIST => -ERR syntax error
        GETEX k NX => -ERR syntax error
    ",
    );
}

#[test]
fn expire_times_must_be_positive_and_fit() {
    check_with_redis(
        "
        SET k v EX 0 => -ERR invalid expire time in 'set' command
        SET k v PX -1 => -ERR invalid expire time in 'set' command
        SET k v EX 9223372036854775807 => -ERR invalid expire time in 'set' command
        SET k v PX 9223372036854775807 => -ERR invalid expire time in 'set' command
        SET k v EXAT 9223372036854775 => OK
        SET k v EX 1.5 => -ERR value is not an integer or out of range
        SETEX k 0 v => -ERR invalid expire time in 'setex' command
        PSETEX k -5 v => -ERR invalid expire time in 'psetex' command
        GETEX k EX 0 => -ERR invalid expire time in 'getex' command
        GETEX absent EX 0 => (nil)
    ",
    );
}

#[test]
fn a_deadline_in_the_past_deletes_the_key() {
    check_with_redis(
        "
        SET k v => OK
        SET k w EXAT 1 => OK
        GET k => (nil)
        SETNX k v => 1
        SET k w PXAT 1000 GET => v
        GET k => (nil)
        SET fresh w PXAT 1 => OK
        GET fresh => (nil)
        SET k v => OK
        GETEX k EXAT 1 => v
        GET k => (nil)
    ",
    );
}

#[test]
fn a_value_is_gone_when_its_time_has_come() {
    check(
        "
        SET k v PX 100 => OK
        advance 99
        GET k => v
        SET k w KEEPTTL => OK
        advance 1
        GET k => (nil)
        SET k v KEEPTTL => OK
        advance 1000
        GET k => v
        SETEX k 1 v => OK
        APPEND k w => 2
        GETEX k PERSIST => vw
        advance 5000
        GETEX k PX 10 => vw
        advance 10
        GET k => (nil)
        PSETEX k 10 v => OK
        GETSET k w => v
        advance 10
        GET k => w
    ",
    );
}

#[test]
fn an_expired_value_leaves_nothing_to_build_on() {
    check(
        "
        SET k abc PX 10 => OK
        SET n 5 PX 10 => OK
        SET f 1.5 PX 10 => OK
        advance 10
        APPEND k x => 1
        GET k => x
        INCR n => 1
        INCRBYFLOAT f 1 => 1
        advance 1000
        MGET k n f => [x, 1, 1]
    ",
    );
}

#[test]
fn getdel_takes_the_key_away() {
    check_with_redis(
        "
        SET k v => OK
        GETDEL k => v
        GETDEL k => (nil)
        GET k => (nil)
    ",
    );
}

#[test]
fn msetnx_writes_all_or_nothing() {
    check_with_redis(
        "
        MSETNX a 1 b 2 => 1
        MSETNX b 3 c 4 => 0
        MGET a b c => [1, 2, (nil)]
        MSETNX x 1 x 2 => 1
        GET x => 2
        MSETNX a => -ERR wrong number of arguments for 'msetnx' command
        MSETNX a 1 b => -ERR wrong number of arguments for 'msetnx' command
    ",
    );
}

#[test]
fn append_and_setrange_build_on_what_is_there() {
    check_with_redis(
        r#"
        APPEND k abc => 3
        APPEND k "" => 3
        APPEND k def => 6
        STRLEN k => 6
        APPEND empty "" => 0
        MGET empty => []
        SETRANGE k 2 XY => 6
        GET k => abXYef
        SETRANGE k 8 z => 9
        GETRANGE k 6 7 => \x00\x00
        SETRANGE absent 5 "" => 0
        GET absent => (nil)
        SETRANGE k -1 x => -ERR offset is out of range
        SETRANGE k 536870911 xy => -ERR string exceeds maximum allowed size (proto-max-bulk-len)
        STRLEN absent => 0
    "#
        .replace("\\x00\\x00", "\0\0")
        .as_str(),
    );
}

#[test]
fn getrange_counts_from_both_ends() {
    check_with_redis(
        "
        SET k Hello => OK
        GETRANGE k 0 1 => He
        GETRANGE k -3 -2 => ll
        GETRANGE k 0 -1 => Hello
        GETRANGE k 0 100 => Hello
        SUBSTR k 3 1 =>
        GETRANGE k -100 -200 =>
        GETRANGE k -200 -100 => H
        GETRANGE k 5 9 =>
        GETRANGE absent 0 -1 =>
        GETRANGE k a 1 => -ERR value is not an integer or out of range
    ",
    );
}

#[test]
fn lcs_finds_the_longest_common_subsequence() {
    check_with_redis(
        "
        MSET a ohmytext b mynewtext => OK
        LCS a b => mytext
        LCS a b LEN => 6
        LCS a b IDX => [matches, [[[4, 7], [5, 8]], [[2, 3], [0, 1]]], len, 6]
        LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN => [matches, [[[4, 7], [5, 8], 4]], len, 6]
        LCS a absent =>
        LCS a absent IDX => [matches, [], len, 0]
        LCS a b IDX LEN => -ERR If you want both the length and indexes, please just use IDX.
        LCS a b MINMATCHLEN => -ERR syntax error
        LCS a b BOGUS => -ERR syntax error
    ",
    );
}
