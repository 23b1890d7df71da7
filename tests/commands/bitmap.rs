use crate::support::{check, check_with_redis};

#[test]
fn bits_are_numbered_from_the_highest_of_the_first_byte() {
    check_with_redis(
        "
        SETBIT k 1 1 => 0
        SETBIT k 7 1 => 0
        GET k => A
        SETBIT k 7 0 => 1
        GETBIT k 1 => 1
        GETBIT k 100 => 0
        GETBIT absent 0 => 0
        SETBIT k 20 0 => 0
        STRLEN k => 3
        SETBIT k -1 0 => -ERR bit offset is not an integer or out of range
        SETBIT k 4294967296 0 => -ERR bit offset is not an integer or out of range
        GETBIT k x => -ERR bit offset is not an integer or out of range
        SETBIT k 0 2 => -ERR bit is not an integer or out of range
    ",
    );
}

#[test]
fn bitcount_counts_bytes_or_bits_of_a_range() {
    check_with_redis(
        "
        SET k foobar => OK
        BITCOUNT k => 26
        BITCOUNT k 0 0 => 4
        BITCOUNT k 1 1 => 6
        BITCOUNT k 0 -1 BYTE => 26
        BITCOUNT k 5 30 BIT => 17
        BITCOUNT k -8 -1 bit => 4
        BITCOUNT k 3 1 => 0
        BITCOUNT absent => 0
        BITCOUNT k 0 => -ERR syntax error
        BITCOUNT k 0 1 2 => -ERR syntax error
        SET long aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa => OK
        BITCOUNT long 1 -2 => 117
    ",
    );
}

#[test]
fn ranges_of_absent_keys_are_checked_first() {
    // Redis 7.0 answers 0 before it looks at the arguments; 7.2 does not.
    check(
        "
        BITCOUNT absent a b => -ERR value is not an integer or out of range
        BITPOS absent 1 0 0 WORD => -ERR syntax error
    ",
    );
}

#[test]
fn bitpos_finds_ones_in_the_string_and_zeros_beyond_it() {
    check_with_redis(
        r#"
        SET k "\xff\xf0\x00" => OK
        BITPOS k 0 => 12
        BITPOS k 0 0 => 12
        BITPOS k 0 1 1 => 12
        BITPOS k 0 0 0 => -1
        BITPOS k 1 2 => -1
        BITPOS k 1 10 18 BIT => 10
        BITPOS k 0 2 -1 BIT => 12
        SET ones "\xff\xff" => OK
        BITPOS ones 0 => 16
        BITPOS ones 0 0 -1 => -1
        BITPOS ones 0 5 => -1
        BITPOS absent 0 => 0
        BITPOS absent 1 => -1
        SET empty "" => OK
        BITPOS empty 0 => -1
        BITPOS k 2 => -ERR The bit argument must be 1 or 0.
        BITPOS k x => -ERR value is not an integer or out of range
    "#,
    );
}

#[test]
fn bitop_combines_strings_of_any_length() {
    check_with_redis(
        r#"
        MSET a "abc" b "ab" => OK
        BITOP AND d a b => 3
        STRLEN d => 3
        BITOP OR d a b absent => 3
        GET d => abc
        BITOP XOR d a a => 3
        BITCOUNT d => 0
        BITOP NOT d a => 3
        BITCOUNT d => 14
        BITOP NOT d a b => -ERR BITOP NOT must be called with a single source key.
        BITOP NAND d a b => -ERR syntax error
        BITOP AND d absent => 0
        GET d => (nil)
    "#,
    );
}

#[test]
fn bitfields_read_and_write_integers_of_any_width() {
    check_with_redis(
        "
        BITFIELD k SET u8 0 255 GET u4 0 GET i8 0 => [0, 15, -1]
        BITFIELD k INCRBY i5 100 1 GET u4 0 => [1, 15]
        STRLEN k => 14
        BITFIELD wide SET i64 #1 -9223372036854775808 GET i64 64 GET u63 65 => [0, -9223372036854775808, 0]
        BITFIELD wide SET u63 3 9223372036854775807 GET u63 3 => [2, 9223372036854775807]
        BITFIELD_RO k GET u8 #0 => [255]
        BITFIELD_RO absent GET i64 9 => [0]
        BITFIELD k => []
    ",
    );
}

#[test]
fn bitfields_wrap_saturate_or_fail() {
    check_with_redis(
        "
        BITFIELD k SET u2 100 3 => [0]
        BITFIELD k INCRBY u2 100 1 OVERFLOW SAT INCRBY u2 102 5 => [0, 3]
        BITFIELD k OVERFLOW FAIL INCRBY u2 102 1 OVERFLOW WRAP INCRBY u2 102 1 => [(nil), 0]
        BITFIELD k OVERFLOW SAT SET i8 0 300 GET i8 0 => [0, 127]
        BITFIELD k SET u8 0 -1 GET u8 0 => [127, 255]
        BITFIELD k OVERFLOW FAIL SET u8 0 256 GET u8 0 => [(nil), 255]
        BITFIELD k OVERFLOW SAT INCRBY i8 0 -200 => [-128]
    ",
    );
}

#[test]
fn bitfield_refuses_what_it_cannot_read() {
    check_with_redis(
        "
        BITFIELD k GET u64 0 => -ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.
        BITFIELD k GET i65 0 => -ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.
        BITFIELD k GET u8 -1 => -ERR bit offset is not an integer or out of range
        BITFIELD k SET u8 0 x => -ERR value is not an integer or out of range
        BITFIELD k GET u8 => -ERR syntax error
        BITFIELD k OVERFLOW NEVER => -ERR Invalid OVERFLOW type specified
        BITFIELD_RO k SET u8 0 1 => -ERR BITFIELD_RO only supports the GET subcommand
        GET k => (nil)
    ",
    );
}
