use super::*;
use proptest::prelude::*;

#[test]
fn integers_are_what_redis_itself_would_write() {
    for (text, expected) in [
        ("0", Some(0)),
        ("-1", Some(-1)),
        ("10", Some(10)),
        ("9223372036854775807", Some(i64::MAX)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("9223372036854775808", None),
        ("-9223372036854775809", None),
        ("99999999999999999999999", None),
        ("", None),
        ("-", None),
        ("+1", None),
        ("01", None),
        ("-0", None),
        ("-01", None),
        (" 1", None),
        ("1 ", None),
        ("1.0", None),
        ("--1", None),
        ("1\0", None),
    ] {
        assert_eq!(parse_i64(text.as_bytes()), expected, "{text:?}");
    }
    assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
    assert_eq!(parse_u64(b"18446744073709551616"), None);
    assert_eq!(parse_u64(b"100000000000000000000"), None);
    assert_eq!(parse_u64(b"-1"), None);
}

#[test]
fn floats_are_what_strtod_reads_without_space_junk_or_nan() {
    for (text, expected) in [
        ("3.0e3", Some(3000.0)),
        ("+1.5", Some(1.5)),
        (".5", Some(0.5)),
        ("5.", Some(5.0)),
        ("-0", Some(-0.0)),
        ("007", Some(7.0)),
        ("inf", Some(f64::INFINITY)),
        ("+Inf", Some(f64::INFINITY)),
        ("-INFINITY", Some(f64::NEG_INFINITY)),
        ("0x10", Some(16.0)),
        ("-0x1.8p1", Some(-3.0)),
        ("0x.8", Some(0.5)),
        ("0x1p-1074", Some(5e-324)),
        ("0xp1", None),
        ("0x", None),
        ("0x1p", None),
        ("0x1p1024", None),
        ("", None),
        (".", None),
        ("e5", None),
        ("1e", None),
        (" 1", None),
        ("1 ", None),
        ("1\0", None),
        ("nan", None),
        ("-nan", None),
        ("infi", None),
        ("1,5", None),
        ("--1", None),
        ("1e400", None),
        ("-1e400", None),
        ("1e-400", None),
        ("0e400", Some(0.0)),
        ("0.0e-400", Some(0.0)),
        ("\u{661}", None),
    ] {
        assert_eq!(parse_f64(text.as_bytes()), expected, "{text:?}");
    }
    assert_eq!(parse_f64(&[b'1'; 5 * 1024]), None);
    assert_eq!(parse_f64(b"\xff"), None);
}

#[test]
fn incrbyfloat_text_has_no_exponent_and_no_trailing_zeros() {
    for (n, expected) in [
        (10.6, "10.6"),
        (5200.0, "5200"),
        (3.0, "3"),
        (-1.23, "-1.23"),
        (0.0, "0"),
        (-0.0, "0"),
        (-1e-20, "0"),
        (17_179_869_185.5, "17179869185.5"),
        (1e21, "1000000000000000000000"),
        (1.0 / 3.0, "0.3333333333333333"),
        (1e-5 / 3.0, "0.00000333333333333"),
        (-5e-324, "0"),
        (f64::INFINITY, "inf"),
        (f64::NEG_INFINITY, "-inf"),
    ] {
        assert_eq!(format_f64(n), expected);
    }
    // The longest texts fit.
    assert_eq!(format_f64(-f64::MAX).len(), 310);
    assert_eq!(format_f64(-2.225_073_858_507_201e-308), "0");
}

#[test]
fn sums_are_those_of_the_decimals_typed() {
    for (a, b, expected) in [
        (0.1, 0.2, "0.3"),
        (1.1, 2.2, "3.3"),
        (10.5, 0.1, "10.6"),
        (0.3, -0.3, "0"),
        (-1.23, 1.22, "-0.01"),
        (17_179_869_184.0, 1.5, "17179869185.5"),
        (1e16, 0.1, "10000000000000000"),
        (1e21, 3.0, "1000000000000000000000"),
        (0.0, 10.6, "10.6"),
    ] {
        assert_eq!(format_f64(add_decimal(a, b)), expected);
    }
    assert_eq!(add_decimal(1e300, 1e-300), 1e300);
    assert_eq!(add_decimal(f64::MAX, f64::MAX), f64::INFINITY);
    assert!(add_decimal(f64::INFINITY, f64::NEG_INFINITY).is_nan());
    let mut sum = 0.0;
    (0..1000).for_each(|_| sum = add_decimal(sum, 0.1));
    assert_eq!(sum, 100.0);
}

#[test]
fn doubles_have_the_layout_of_redis_7_2() {
    for (n, expected) in [
        (3.0, "3"),
        (0.1, "0.1"),
        (-0.0, "-0"),
        (1.5, "1.5"),
        (-17.25, "-17.25"),
        (0.000_012_3, "1.23e-5"),
        (0.000_000_1, "1e-7"),
        (0.000_001, "0.000001"),
        (0.001_234_567_89, "0.00123456789"),
        (1e17, "100000000000000000"),
        (4_611_686_018_427_387_904.0, "4611686018427387904"),
        (1e19, "1e+19"),
        (1e20, "1e+20"),
        (123_456_789_012_345_680_000.0, "123456789012345680000"),
        (1.5e300, "1.5e+300"),
        (5e-324, "5e-324"),
        (f64::MAX, "1.7976931348623157e+308"),
        (f64::INFINITY, "inf"),
        (f64::NEG_INFINITY, "-inf"),
        (f64::NAN, "nan"),
    ] {
        assert_eq!(format_double(n), expected);
    }
}

#[test]
fn globs_match_as_in_redis() {
    for (pattern, text, expected) in [
        ("*", "", true),
        ("", "", true),
        ("", "a", false),
        ("a", "", false),
        ("?", "", false),
        ("h?llo", "hello", true),
        ("h*llo", "hllo", true),
        ("h*llo", "heeeello", true),
        ("h[ae]llo", "hallo", true),
        ("h[ae]llo", "hillo", false),
        ("h[^e]llo", "hello", false),
        ("h[^e]llo", "hbllo", true),
        ("h[a-b]llo", "hbllo", true),
        ("h[b-a]llo", "hbllo", true),
        ("h[a-b]llo", "hcllo", false),
        ("h\\*llo", "h*llo", true),
        ("h\\*llo", "hxllo", false),
        ("[\\]]", "]", true),
        ("[\\^a]", "^", true),
        ("[]", "a", false),
        ("[^]", "a", true),
        ("[abc", "b", true),
        ("[a-", "-", true),
        ("[", "[", false),
        ("\\", "\\", true),
        ("a\\", "a\\", true),
        ("a*", "a", true),
        ("a***", "a", true),
        ("*a*b*", "xxaxxbxx", true),
        ("*a*b", "xxaxxbxx", false),
        ("user:*:name", "user:1:2:name", true),
    ] {
        assert_eq!(glob_match(pattern.as_bytes(), text.as_bytes(), false), expected, "{pattern:?} {text:?}");
    }
    assert!(glob_match(b"HE[L-M]*", b"hello", true));
    assert!(!glob_match(b"HE*", b"hello", false));
    assert!(!glob_match(b"[\\H]", b"h", true));
}

#[test]
fn a_glob_full_of_stars_takes_no_more_than_the_product_of_the_lengths() {
    let pattern = "a*".repeat(1000) + "b";
    // Plain recursion would need longer than the universe has.
    assert!(!glob_match(pattern.as_bytes(), "a".repeat(10_000).as_bytes(), false));
}

#[test]
fn memory_units_are_those_of_redis() {
    for (text, expected) in [
        ("0", Some(0)),
        ("100", Some(100)),
        ("100b", Some(100)),
        ("1k", Some(1000)),
        ("1kb", Some(1024)),
        ("1M", Some(1_000_000)),
        ("100mb", Some(100 << 20)),
        ("1g", Some(1_000_000_000)),
        ("1GB", Some(1 << 30)),
        ("", None),
        ("mb", None),
        ("-1", None),
        ("+1", None),
        ("1.5gb", None),
        ("1tb", None),
        ("1 gb", None),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551615k", None),
        ("18446744073709551616", None),
    ] {
        assert_eq!(parse_memory(text), expected, "{text:?}");
    }
}

#[test]
fn switches_are_yes_or_no() {
    assert_eq!(parse_bool("yes"), Some(true));
    assert_eq!(parse_bool("NO"), Some(false));
    assert_eq!(parse_bool("true"), None);
    assert!(eq_ignore_case(b"eX", "EX"));
    assert!(!eq_ignore_case(b"EXX", "EX"));
}

#[test]
fn configuration_lines_split_into_words() {
    let words = |line: &str| split_quoted(line.as_bytes());
    assert_eq!(words("save \"900 1\" ''"), Some(vec![b"save".to_vec(), b"900 1".to_vec(), b"".to_vec()]));
    assert_eq!(words("a\\nb \"\\x00\""), Some(vec![b"a\\nb".to_vec(), b"\0".to_vec()]));
    assert_eq!(words("a\x0cb"), Some(vec![b"a\x0cb".to_vec()]));
    assert_eq!(words(" \t\r\n\x0b\x0c"), Some(vec![]));
    assert_eq!(words("requirepass \"foo"), None);
    assert_eq!(words("requirepass \"foo\"bar"), None);
}

/// What C's `strtod` makes of `text` under the rules `parse_f64` documents.
fn strtod(text: &str) -> Option<f64> {
    let c_text = std::ffi::CString::new(text).ok()?;
    let mut end = std::ptr::null_mut();
    // SAFETY: `c_text` is a live string that ends in NUL, and `end` is a place for one pointer into it.
    let (n, read) = unsafe {
        let n = libc::strtod(c_text.as_ptr(), &mut end);
        (n, end.offset_from(c_text.as_ptr()))
    };
    let is_number = !text.is_empty() && read as usize == text.len() && !text.starts_with(|c: char| is_space(c as u8));
    (is_number && !n.is_nan()).then_some(n)
}

/// A matcher that tries everything, for short inputs.
fn glob_slowly(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|i| glob_slowly(rest, &text[i..], nocase)),
        _ if text.is_empty() => false,
        _ => match_one(pattern, text[0], nocase).is_some_and(|len| glob_slowly(&pattern[len..], &text[1..], nocase)),
    }
}

proptest! {
    // A failure becomes a named test rather than a file of seeds.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn prop_integers_read_back_what_was_written(n in any::<i64>()) {
        let mut text = Vec::new();
        write_i64(&mut text, n);
        prop_assert_eq!(parse_i64(&text), Some(n));
    }

    #[test]
    fn prop_only_the_canonical_text_of_an_integer_is_accepted(text in "[-+ ]?[0-9]{0,21}") {
        let canonical = text.parse::<i64>().ok().filter(|n| n.to_string() == text);
        prop_assert_eq!(parse_i64(text.as_bytes()), canonical);
    }

    #[test]
    fn prop_both_float_forms_read_back(n in any::<f64>()) {
        prop_assume!(!n.is_nan());
        prop_assert_eq!(parse_f64(format_double(n).as_bytes()), Some(n));
        let human = parse_f64(format_f64(n).as_bytes()).expect("the form is a number");
        prop_assert!(human == n || (human - n).abs() <= 0.5e-17 + n.abs() * f64::EPSILON);
    }

    #[test]
    fn prop_decimal_sums_commute_and_stay_within_one_rounding(a in any::<f64>(), b in any::<f64>(), shift in -70i32..70) {
        let b = if b.is_finite() { a * 2f64.powi(shift) + b.signum() } else { b };
        let (sum, plain) = (add_decimal(a, b), a + b);
        prop_assert!(sum.to_bits() == add_decimal(b, a).to_bits() || sum.is_nan());
        let close = (sum - plain).abs() <= 2.0 * f64::EPSILON * a.abs().max(b.abs());
        prop_assert!(sum == plain || close || !plain.is_finite() || !sum.is_finite(), "{} {} {} {}", a, b, sum, plain);
    }

    #[test]
    fn prop_floats_agree_with_strtod(
        text in "[-+]?(0[xX])?[0-9a-f]{0,20}[.]?[0-9a-fA-F]{0,20}([eEpP][-+]?[0-9]{0,3})?",
    ) {
        let ours = parse_f64(text.as_bytes());
        let theirs = strtod(&text);
        match theirs {
            // Out of range: Redis refuses by errno, which the value alone does not show.
            Some(n) if n.is_infinite() => prop_assert_eq!(ours, None),
            Some(0.0) => prop_assert!(ours.is_none() || ours == theirs),
            _ => prop_assert_eq!(ours, theirs),
        }
    }

    #[test]
    fn prop_decimal_floats_agree_with_strtod(text in "[-+]?[0-9]{0,25}[.]?[0-9]{0,25}([eE][-+]?[0-9]{1,3})?") {
        if let Some(n) = strtod(&text).filter(|n| n.is_finite() && *n != 0.0) {
            prop_assert_eq!(parse_f64(text.as_bytes()), Some(n));
        }
    }

    #[test]
    fn prop_globs_agree_with_trying_everything(
        pattern in "[ab*?\\[\\]^\\\\-]{0,10}",
        text in "[abAB\\[\\]^\\\\-]{0,8}",
        nocase in any::<bool>(),
    ) {
        prop_assert_eq!(
            glob_match(pattern.as_bytes(), text.as_bytes(), nocase),
            glob_slowly(pattern.as_bytes(), text.as_bytes(), nocase)
        );
    }

    #[test]
    fn prop_quoted_words_split_back(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..6)) {
        let quote = |word: &Vec<u8>| {
            let bytes: String = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("\"{bytes}\"")
        };
        let line = words.iter().map(quote).collect::<Vec<_>>().join(" ");
        prop_assert_eq!(split_quoted(line.as_bytes()), Some(words));
    }

    #[test]
    fn prop_any_line_splits_or_is_refused(line in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = split_quoted(&line);
    }
}
