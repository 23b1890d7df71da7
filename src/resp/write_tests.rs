use super::*;
use crate::resp::value::{Malformed, Value, decode, try_decode};
use proptest::prelude::*;

fn written(version: Version, write: impl FnOnce(&mut Reply<'_>)) -> String {
    let mut out = Vec::new();
    write(&mut Reply::new(&mut out, version));
    out.escape_ascii().to_string().replace("\\r\\n", "~")
}

/// What `write` appends in RESP2 and in RESP3, with `~` for a line end.
#[track_caller]
fn check(write: impl Fn(&mut Reply<'_>), resp2: &str, resp3: &str) {
    assert_eq!(written(Version::Resp2, &write), resp2);
    assert_eq!(written(Version::Resp3, &write), resp3);
}

#[test]
fn each_reply_has_its_form_in_both_versions() {
    check(|reply| reply.ok(), "+OK~", "+OK~");
    check(|reply| reply.pong(), "+PONG~", "+PONG~");
    check(|reply| reply.queued(), "+QUEUED~", "+QUEUED~");
    check(|reply| reply.simple("a\r\nb"), "+a  b~", "+a  b~");
    check(|reply| reply.error("ERR no\nline"), "-ERR no line~", "-ERR no line~");
    check(|reply| reply.integer(-5), ":-5~", ":-5~");
    check(|reply| reply.integer(i64::MIN), ":-9223372036854775808~", ":-9223372036854775808~");
    check(|reply| reply.bulk(b""), "$0~~", "$0~~");
    check(|reply| reply.text("hello world"), "$11~hello world~", "$11~hello world~");
    check(|reply| reply.bulk_fmt(format_args!("{}-{}", 1, 2)), "$3~1-2~", "$3~1-2~");
    check(|reply| reply.integer_bulk(-12), "$3~-12~", "$3~-12~");
    check(|reply| reply.bulk_or_nil(None), "$-1~", "_~");
    check(|reply| reply.nil_array(), "*-1~", "_~");
    check(|reply| reply.array(0), "*0~", "*0~");
    check(|reply| reply.array(100), "*100~", "*100~");
    check(|reply| reply.map(3), "*6~", "%3~");
    check(|reply| reply.set(12), "*12~", "~12~");
    check(|reply| reply.push(3), "*3~", ">3~");
    check(|reply| reply.double(0.1), "$3~0.1~", ",0.1~");
    check(|reply| reply.double(f64::NEG_INFINITY), "$4~-inf~", ",-inf~");
    check(|reply| reply.boolean(true), ":1~", "#t~");
    check(|reply| reply.boolean(false), ":0~", "#f~");
    check(|reply| reply.verbatim(b"txt", b"hi"), "$2~hi~", "=6~txt:hi~");
    check(|reply| reply.big_number("-123"), "$4~-123~", "(-123~");
}

#[test]
fn a_length_known_later_stands_in_front_of_what_was_written() {
    let write = |reply: &mut Reply<'_>| {
        reply.ok();
        let outer = reply.map_later();
        reply.integer(1);
        let inner = reply.array_later();
        (0..12).for_each(|_| reply.integer(0));
        reply.fill(inner, 12);
        reply.integer(2);
        let none = reply.set_later();
        reply.fill(none, 0);
        reply.fill(outer, 2);
    };
    let zeros = ":0~".repeat(12);
    check(write, &format!("+OK~*4~:1~*12~{zeros}:2~*0~"), &format!("+OK~%2~:1~*12~{zeros}:2~~0~"));
}

#[test]
#[should_panic(expected = "reverse order")]
fn holes_filled_out_of_order_are_caught() {
    let mut out = Vec::new();
    let mut reply = Reply::new(&mut out, Version::Resp2);
    let outer = reply.array_later();
    let _inner = reply.array_later();
    reply.fill(outer, 1);
}

#[test]
fn truncate_discards_what_was_written_and_the_holes_in_it() {
    let mut out = b"+OK\r\n".to_vec();
    let mut reply = Reply::new(&mut out, Version::Resp2);
    let outer = reply.array_later();
    let mark = reply.mark();
    let _abandoned = reply.array_later();
    reply.integer(1);
    reply.truncate(mark);
    reply.error("ERR no");
    reply.fill(outer, 1);
    assert_eq!(out, b"+OK\r\n*1\r\n-ERR no\r\n");
}

#[test]
fn broken_replies_are_told_apart_from_incomplete_ones() {
    for bytes in ["", "+", "+OK", "+OK\r", "$3\r\nab", "$3\r\nabc\r", "*2\r\n:1\r\n", "%1\r\n+a\r\n", "*2147483647\r\n"]
    {
        assert_eq!(try_decode(bytes.as_bytes()), Ok(None), "{bytes:?}");
    }
    for (bytes, at) in [
        ("?\r\n", 0),
        (":x\r\n", 0),
        ("$-2\r\n", 0),
        ("$1\r\nabc\r\n", 0),
        ("*1\r\n?\r\n", 4),
        ("#x\r\n", 0),
        ("+a\rb\r\n", 2),
        ("=3\r\nabc\r\n", 0),
        ("_x\r\n", 0),
    ] {
        assert_eq!(try_decode(bytes.as_bytes()), Err(Malformed { at }), "{bytes:?}");
    }
    assert!(try_decode("*1\r\n".repeat(10_000).as_bytes()).is_err());
}

#[test]
fn attributes_and_long_errors_are_understood() {
    assert_eq!(decode(b"|1\r\n+k\r\n+v\r\n:7\r\n"), Some((Value::Integer(7), 16)));
    assert_eq!(decode(b"!7\r\nERR a\nb\r\n"), Some((Value::Error("ERR a\nb".to_owned()), 13)));
}

fn value() -> impl Strategy<Value = Value> {
    let word = "[A-Za-z ]{0,12}";
    let leaf = prop_oneof![
        word.prop_map(Value::Simple),
        word.prop_map(Value::Error),
        any::<i64>().prop_map(Value::Integer),
        (-20i64..120).prop_map(Value::Integer),
        prop::collection::vec(any::<u8>(), 0..130).prop_map(Value::Bulk),
        Just(Value::Nil),
        any::<f64>().prop_filter("NaN is not equal to itself", |n| !n.is_nan()).prop_map(Value::Double),
        any::<bool>().prop_map(Value::Boolean),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|text| Value::Verbatim(*b"mkd", text)),
        "-?[1-9][0-9]{0,40}".prop_map(Value::BigNumber),
    ];
    leaf.prop_recursive(4, 64, 12, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..12).prop_map(Value::Array),
            prop::collection::vec(inner.clone(), 0..12).prop_map(Value::Set),
            prop::collection::vec(inner.clone(), 0..12).prop_map(Value::Push),
            prop::collection::vec((inner.clone(), inner), 0..6).prop_map(Value::Map),
        ]
    })
}

fn write_value(reply: &mut Reply<'_>, value: &Value, later: bool) {
    let write_all =
        |reply: &mut Reply<'_>, items: &[Value]| items.iter().for_each(|item| write_value(reply, item, later));
    match value {
        Value::Simple(text) => reply.simple(text),
        Value::Error(text) => reply.error(text),
        Value::Integer(n) => reply.integer(*n),
        Value::Bulk(bytes) => reply.bulk(bytes),
        Value::Nil => reply.nil(),
        Value::Double(n) => reply.double(*n),
        Value::Boolean(yes) => reply.boolean(*yes),
        Value::Verbatim(format, text) => reply.verbatim(format, text),
        Value::BigNumber(digits) => reply.big_number(digits),
        Value::Array(items) if later => {
            let hole = reply.array_later();
            write_all(reply, items);
            reply.fill(hole, items.len());
        }
        Value::Set(items) if later => {
            let hole = reply.set_later();
            write_all(reply, items);
            reply.fill(hole, items.len());
        }
        Value::Array(items) => {
            reply.array(items.len());
            write_all(reply, items);
        }
        Value::Set(items) => {
            reply.set(items.len());
            write_all(reply, items);
        }
        Value::Push(items) => {
            reply.push(items.len());
            write_all(reply, items);
        }
        Value::Map(pairs) => {
            let hole = later.then(|| reply.map_later());
            if hole.is_none() {
                reply.map(pairs.len());
            }
            for (key, value) in pairs {
                write_value(reply, key, later);
                write_value(reply, value, later);
            }
            if let Some(hole) = hole {
                reply.fill(hole, pairs.len());
            }
        }
    }
}

/// What remains of `value` when it is said in RESP2.
fn in_resp2(value: Value) -> Value {
    let all = |items: Vec<Value>| Value::Array(items.into_iter().map(in_resp2).collect());
    match value {
        Value::Double(n) => Value::Bulk(text::format_double(n).into_bytes()),
        Value::Boolean(yes) => Value::Integer(i64::from(yes)),
        Value::Verbatim(_, bytes) => Value::Bulk(bytes),
        Value::BigNumber(digits) => Value::Bulk(digits.into_bytes()),
        Value::Array(items) | Value::Set(items) | Value::Push(items) => all(items),
        Value::Map(pairs) => all(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()),
        other => other,
    }
}

proptest! {
    // A failure becomes a named test rather than a file of seeds.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn prop_what_is_written_is_read_back(value in value(), later in any::<bool>()) {
        for (version, expected) in [(Version::Resp3, value.clone()), (Version::Resp2, in_resp2(value.clone()))] {
            let mut out = Vec::new();
            write_value(&mut Reply::new(&mut out, version), &value, later);
            prop_assert_eq!(try_decode(&out), Ok(Some((expected, out.len()))));
            for cut in 0..out.len() {
                prop_assert_eq!(try_decode(&out[..cut]), Ok(None));
            }
        }
    }

    #[test]
    fn prop_garbage_decodes_or_fails_without_a_panic(bytes in "[*$+:%~>|,#_=!(-]{0,3}[0-9]{0,3}(\r\n)?.{0,20}") {
        let _ = try_decode(bytes.as_bytes());
    }
}
