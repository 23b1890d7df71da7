//! Any bytes: numbers, globs, quoted lines and replies are read or refused, never with a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tutti::base::text;
use tutti::resp::value;

fuzz_target!(|input: &[u8]| {
    if let Some(n) = text::parse_i64(input) {
        assert_eq!(n.to_string().as_bytes(), input);
    }
    if let Some(n) = text::parse_f64(input) {
        assert_eq!(text::parse_f64(text::format_double(n).as_bytes()), Some(n));
        assert!(text::parse_f64(text::format_f64(n).as_bytes()).is_some());
    }
    if let Some(bits) = input.first_chunk::<8>() {
        let n = f64::from_le_bytes(*bits);
        assert_eq!(text::parse_f64(text::format_double(n).as_bytes()).is_none(), n.is_nan());
    }
    if let Some((&at, rest)) = input.split_first() {
        let (pattern, candidate) = rest.split_at(rest.len().min(usize::from(at)));
        let exact = text::glob_match(pattern, candidate, false);
        if !pattern.contains(&b'[') && exact {
            assert!(text::glob_match(pattern, candidate, true));
        }
    }
    let _ = text::split_quoted(input);
    if let Ok(line) = std::str::from_utf8(input) {
        let _ = text::parse_memory(line);
    }
    if let Ok(Some((_, consumed))) = value::try_decode(input) {
        assert!(0 < consumed && consumed <= input.len());
        assert!(value::try_decode(&input[..consumed - 1]).is_ok_and(|reply| reply.is_none()));
    }
});
