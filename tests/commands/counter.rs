use crate::support::{Solo, check_with_redis};

#[test]
fn a_counter_reads_as_its_decimal_text_everywhere() {
    check_with_redis(
        "
        INCRBY n 1234 => 1234
        GET n => 1234
        STRLEN n => 4
        GETRANGE n 1 2 => 23
        GETBIT n 2 => 1
        BITCOUNT n => 13
        MGET n => [1234]
        APPEND n 5 => 5
        INCR n => 12346
        SETRANGE n 0 9 => 5
        DECRBY n 6 => 92340
        GETSET n 7 => 92340
        INCR n => 8
        GETDEL n => 8
        INCR n => 1
    ",
    );
}

#[test]
fn what_is_not_an_integer_is_not_incremented() {
    check_with_redis(
        r#"
        SET k abc => OK
        INCR k => -ERR value is not an integer or out of range
        SET k 007 => OK
        INCR k => -ERR value is not an integer or out of range
        SET k " 1" => OK
        DECR k => -ERR value is not an integer or out of range
        SET k 1.5 => OK
        INCR k => -ERR value is not an integer or out of range
        INCRBY k x => -ERR value is not an integer or out of range
        INCRBY k 9223372036854775808 => -ERR value is not an integer or out of range
        GET k => 1.5
    "#,
    );
}

#[test]
fn integers_do_not_wrap() {
    check_with_redis(
        "
        SET k 9223372036854775807 => OK
        INCR k => -ERR increment or decrement would overflow
        DECR k => 9223372036854775806
        INCR k => 9223372036854775807
        INCRBY k 5 => -ERR increment or decrement would overflow
        DECRBY k -9223372036854775808 => -ERR decrement would overflow
        DECRBY k 9223372036854775807 => 0
        DECRBY k 9223372036854775807 => -9223372036854775807
        DECR k => -9223372036854775808
        DECR k => -ERR increment or decrement would overflow
        INCRBY k 9223372036854775807 => -1
        INCRBY fresh -9223372036854775808 => -9223372036854775808
        INCRBY fresh 9223372036854775807 => -1
        INCRBY fresh 9223372036854775807 => 9223372036854775806
    ",
    );
}

#[test]
fn floats_add_as_decimals() {
    check_with_redis(
        "
        SET k 10.50 => OK
        INCRBYFLOAT k 0.1 => 10.6
        INCRBYFLOAT k -5 => 5.6
        SET k 5.0e3 => OK
        INCRBYFLOAT k 2.0e2 => 5200
        INCR k => 5201
        INCRBYFLOAT fresh .25 => 0.25
        INCR fresh => -ERR value is not an integer or out of range
        INCRBYFLOAT fresh 0.75 => 1
        INCR fresh => 2
        INCRBYFLOAT fresh -2 => 0
    ",
    );
}

#[test]
fn what_is_not_a_float_is_refused() {
    check_with_redis(
        r#"
        SET k abc => OK
        INCRBYFLOAT k 1 => -ERR value is not a valid float
        INCRBYFLOAT fresh x => -ERR value is not a valid float
        INCRBYFLOAT fresh "1 " => -ERR value is not a valid float
        INCRBYFLOAT fresh nan => -ERR value is not a valid float
        INCRBYFLOAT fresh inf => -ERR increment would produce NaN or Infinity
        GET fresh => (nil)
        INCRBYFLOAT fresh 0x10 => 16
    "#,
    );
}

#[test]
fn adding_nothing_makes_the_key_but_writes_no_more() {
    check_with_redis(
        "
        INCRBY k 0 => 0
        GET k => 0
        INCRBY k 0 => 0
        INCRBYFLOAT k 0 => 0
        SET text 007 => OK
        INCRBYFLOAT text 0 => 7
        GET text => 7
    ",
    );
}

#[test]
fn commands_that_change_nothing_mint_no_stamp() {
    let mut solo = Solo::new();
    for line in ["SET k v", "INCRBY n 5", "SETBIT b 9 1", "SET t v EX 10"] {
        solo.run(line);
    }
    let before = solo.shard.last_hlc();
    for line in [
        "SET k w NX",
        "SET x w XX",
        "SET k w NX GET",
        "SETNX k w",
        "MSETNX x 1 k 2",
        "APPEND k ''",
        "SETRANGE k 0 ''",
        "SETRANGE x 3 ''",
        "GETDEL x",
        "GETEX k",
        "GETEX k PERSIST",
        "GETEX x EX 10",
        "SET x v EXAT 1",
        "INCRBY n 0",
        "INCRBY k 1",
        "INCRBYFLOAT k 1",
        "INCRBYFLOAT n x",
        "SETBIT b 9 1",
        "SETBIT b 8 0",
        "BITOP NOT y x",
        "BITFIELD b GET u8 0",
        "BITFIELD b SET u1 9 1",
        "BITFIELD b OVERFLOW FAIL INCRBY u1 9 1",
        "GETRANGE k 0 -1",
        "LCS k t",
    ] {
        solo.run(line);
        assert_eq!(solo.shard.last_hlc(), before, "{line}");
    }
}
