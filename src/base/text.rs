//! Redis' rules for numbers, patterns and quoting in text.
//!
//! Owns every place where "what counts as a number" or "what matches" is decided, so that commands, configuration
//! and protocol agree. Knows nothing of keys or replies. Where Redis 7.2 is followed the C function is named.

use std::fmt::Write as _;

/// A signed number, as strictly as Redis' `string2ll`: an optional minus sign and digits; no plus sign, no leading
/// zero, no `-0`, no space, nothing beyond 64 bits. What it accepts is exactly what `write_i64` produces.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    match text {
        [b'-', digits @ ..] => match parse_u64(digits)? {
            0 => None,
            n if n <= i64::MIN.unsigned_abs() => Some(n.wrapping_neg() as i64),
            _ => None,
        },
        digits => i64::try_from(parse_u64(digits)?).ok(),
    }
}

/// An unsigned number, as strictly as `parse_i64`.
#[inline]
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    // 19 digits cannot overflow, so only the rare longer text is checked digit by digit.
    const DIGITS_SAFE: usize = 19;
    if text.is_empty() || (text[0] == b'0' && text.len() > 1) {
        return None;
    }
    let mut n = 0u64;
    for (i, byte) in text.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        n = if i < DIGITS_SAFE {
            n * 10 + u64::from(digit)
        } else {
            n.checked_mul(10)?.checked_add(u64::from(digit))?
        };
    }
    Some(n)
}

/// A floating-point number as Redis' `string2d`, which is C's `strtod` without leading space, trailing bytes or NaN:
/// decimal or hexadecimal (`0x1p4`), optional sign and exponent, `inf` and `infinity` in any case. `None` also for a
/// finite number that overflows, or one that is not zero and underflows to zero. Any length up to 5 KiB, Redis'
/// `MAX_LONG_DOUBLE_CHARS`. INCRBYFLOAT differs in Redis: its 80-bit numbers go up to 1e4932.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    const BYTES_MAX: usize = 5 * 1024;
    if text.len() >= BYTES_MAX {
        return None;
    }
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let magnitude = match unsigned {
        [b'0', b'x' | b'X', rest @ ..] => parse_hex_f64(rest)?,
        [b'0'..=b'9' | b'.', ..] => {
            let n: f64 = std::str::from_utf8(unsigned).ok()?.parse().ok()?;
            let mantissa = unsigned.split(|byte| matches!(byte, b'e' | b'E')).next().unwrap_or_default();
            let is_zero = mantissa.iter().all(|byte| matches!(byte, b'0' | b'.'));
            (n.is_finite() && (n != 0.0 || is_zero)).then_some(n)?
        }
        _ if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") => f64::INFINITY,
        _ => return None,
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// What follows `0x`: hexadecimal digits with at most one point, and an optional binary exponent.
fn parse_hex_f64(text: &[u8]) -> Option<f64> {
    let (digits, exponent) = match text.iter().position(|byte| matches!(byte, b'p' | b'P')) {
        None => (text, 0i64),
        Some(i) => (&text[..i], parse_exponent(&text[i + 1..])?),
    };
    let mut mantissa = 0u64;
    let mut shift = 0i64;
    let mut has_point = false;
    let mut has_digit = false;
    for &byte in digits {
        if byte == b'.' && !has_point {
            has_point = true;
            continue;
        }
        let digit = u64::from(char::from(byte).to_digit(16)?);
        has_digit = true;
        if mantissa >> 59 == 0 {
            mantissa = mantissa << 4 | digit;
            shift -= if has_point { 4 } else { 0 };
        } else {
            // Beyond 60 bits only "something is there" matters, for rounding.
            mantissa |= u64::from(digit != 0);
            shift += if has_point { 0 } else { 4 };
        }
    }
    if !has_digit {
        return None;
    }
    if mantissa == 0 {
        return Some(0.0);
    }
    // Scaling by a power of two is exact except into the subnormal range, so it is done in steps that stay normal
    // until the last one.
    let mut n = mantissa as f64;
    let mut scale = exponent.saturating_add(shift).clamp(-4000, 4000);
    while scale > 0 {
        let step = scale.min(1000);
        n *= 2f64.powi(step as i32);
        scale -= step;
    }
    while scale < 0 {
        let step = scale.max(-900);
        n *= 2f64.powi(step as i32);
        scale -= step;
    }
    (n.is_finite() && n != 0.0).then_some(n)
}

/// Digits with an optional sign; leading zeros allowed. Saturates far outside the range of any exponent.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = digits.iter().fold(0i64, |n, byte| (n * 10 + i64::from(byte - b'0')).min(1 << 40));
    Some(if negative { -n } else { n })
}

/// Appends the decimal digits of `n`.
#[inline]
pub fn write_i64(out: &mut Vec<u8>, n: i64) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(n).as_bytes());
}

/// The text of a floating-point number, on the stack.
#[derive(Clone, Debug)]
pub struct FloatBuffer {
    text: StackText<FLOAT_BYTES_MAX>,
}

/// The longest text either form passes through: the smallest double with all its zeros and 17 digits.
const FLOAT_BYTES_MAX: usize = 352;

impl FloatBuffer {
    /// An empty buffer.
    #[inline]
    pub fn new() -> Self {
        Self { text: StackText::new() }
    }

    /// The form of scores and other doubles in replies, as `d2string` of Redis 7.2: integers in full up to 2^62,
    /// otherwise the shortest digits that read back as the same number, with an exponent when it is very large or small
    /// (`3`, `0.1`, `1e-9`, `1.5e+300`), `inf`, `-inf`, `nan`, `-0`.
    pub fn format_double(&mut self, n: f64) -> &str {
        // As `double2ll`; the bound is LLONG_MAX / 2 as a double.
        const WHOLE_MAX: f64 = 4_611_686_018_427_387_904.0;
        self.text.clear();
        if n.is_nan() {
            self.text.push_str("nan");
        } else if n.is_infinite() {
            self.text.push_str(if n > 0.0 { "inf" } else { "-inf" });
        } else if n == 0.0 {
            self.text.push_str(if n.is_sign_negative() { "-0" } else { "0" });
        } else if n.abs() <= WHOLE_MAX && n.trunc() == n {
            let mut digits = itoa::Buffer::new();
            self.text.push_str(digits.format(n as i64));
        } else {
            self.format_shortest(n);
        }
        self.text.as_str()
    }

    /// The form INCRBYFLOAT stores and answers, as `ld2string` of Redis 7.2 in its human mode: never an exponent, at
    /// most 17 decimals, no trailing zeros (`10.6`, `5200`, `3`), and no `-0`.
    pub fn format_f64(&mut self, n: f64) -> &str {
        if n.is_nan() || n.is_infinite() {
            return self.format_double(n);
        }
        // Redis prints 17 decimals of an 80-bit number, whose error lies beyond them. A double's does not: its 17
        // decimals would turn 10.6 into 10.59999999999999964. The shortest text that reads back as the same double
        // is what the user typed.
        self.text.clear();
        write!(self.text, "{n}").expect("FLOAT_BYTES_MAX holds any double");
        let text = self.text.as_str();
        let decimals = text.find('.').map_or(0, |point| text.len() - point - 1);
        if decimals > 17 {
            self.text.clear();
            write!(self.text, "{n:.17}").expect("FLOAT_BYTES_MAX holds any double");
            self.text.len = self.text.as_str().trim_end_matches('0').trim_end_matches('.').len();
        }
        match self.text.as_str() {
            "-0" => "0",
            text => text,
        }
    }

    /// The layout of fpconv, which Redis 7.2 prints doubles with.
    fn format_shortest(&mut self, n: f64) {
        let mut scientific = StackText::<32>::new();
        write!(scientific, "{:e}", n.abs()).expect("17 digits, a point and an exponent are less than 32 bytes");
        // "d.ddde-7" or "de7".
        let (mantissa, exponent) = scientific.as_str().split_once('e').expect("the form has an exponent");
        let exponent: i32 = exponent.parse().expect("the exponent is a number");
        let (first, others) = mantissa.split_at(1);
        let others = others.strip_prefix('.').unwrap_or(others);
        let count = 1 + others.len() as i32;
        let text = &mut self.text;
        if n < 0.0 {
            text.push_str("-");
        }
        // The number is its `count` digits, read as an integer, times ten to the `scale`.
        let scale = exponent - (count - 1);
        if scale >= 0 && exponent.abs() < count + 7 {
            text.push_str(first);
            text.push_str(others);
            text.push_zeros(scale);
        } else if scale < 0 && (scale > -7 || exponent.abs() < 4) {
            if exponent < 0 {
                text.push_str("0.");
                text.push_zeros(-exponent - 1);
                text.push_str(first);
                text.push_str(others);
            } else {
                text.push_str(first);
                text.push_str(&others[..exponent as usize]);
                text.push_str(".");
                text.push_str(&others[exponent as usize..]);
            }
        } else {
            text.push_str(first);
            if !others.is_empty() {
                text.push_str(".");
                text.push_str(others);
            }
            text.push_str(if exponent < 0 { "e-" } else { "e+" });
            let mut digits = itoa::Buffer::new();
            text.push_str(digits.format(exponent.unsigned_abs()));
        }
    }
}

impl Default for FloatBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// Text of at most `N` bytes without an allocation.
#[derive(Clone, Debug)]
struct StackText<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> StackText<N> {
    fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    fn clear(&mut self) {
        self.len = 0;
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).expect("only whole strings are pushed")
    }

    fn push_str(&mut self, text: &str) {
        self.bytes[self.len..self.len + text.len()].copy_from_slice(text.as_bytes());
        self.len += text.len();
    }

    /// `count` is at least 0.
    fn push_zeros(&mut self, count: i32) {
        let end = self.len + count as usize;
        self.bytes[self.len..end].fill(b'0');
        self.len = end;
    }
}

impl<const N: usize> std::fmt::Write for StackText<N> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if text.len() > N - self.len {
            return Err(std::fmt::Error);
        }
        self.push_str(text);
        Ok(())
    }
}

/// The sum of two doubles as the decimal numbers they stand for: what a client that typed both expects, and what
/// Redis answers from its 80-bit numbers. `0.1` and `0.2` give `0.3`, where `+` gives `0.30000000000000004`.
/// Commutative, and exact to the nearest double of the decimal sum; for numbers too far apart to align (a factor
/// beyond 10^20), not finite, or whose sum overflows it is `+`.
pub fn add_decimal(a: f64, b: f64) -> f64 {
    // 17 digits and 20 zeros still fit 127 bits with room for the carry.
    const ALIGNED_MAX: i32 = 20;
    if !a.is_finite() || !b.is_finite() || a == 0.0 || b == 0.0 {
        return a + b;
    }
    let ((a_digits, a_scale), (b_digits, b_scale)) = (decimal_parts(a), decimal_parts(b));
    let scale = a_scale.min(b_scale);
    if a_scale.max(b_scale) - scale > ALIGNED_MAX {
        return a + b;
    }
    let sum = a_digits * 10i128.pow((a_scale - scale) as u32) + b_digits * 10i128.pow((b_scale - scale) as u32);
    let mut text = StackText::<64>::new();
    write!(text, "{sum}e{scale}").expect("39 digits, two signs and an exponent are less than 64 bytes");
    text.as_str().parse().expect("the form is a number")
}

/// The shortest decimal that reads back as `n`, which is finite: an integer of up to 17 digits times ten to the second.
fn decimal_parts(n: f64) -> (i128, i32) {
    let mut scientific = StackText::<32>::new();
    write!(scientific, "{n:e}").expect("17 digits, a point, signs and an exponent are less than 32 bytes");
    let (mantissa, exponent) = scientific.as_str().split_once('e').expect("the form has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    let decimals = mantissa.split_once('.').map_or(0, |(_, decimals)| decimals.len() as i32);
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).fold(0, |n, digit| n * 10 + i128::from(digit - b'0'));
    (if n < 0.0 { -digits } else { digits }, exponent - decimals)
}

/// `FloatBuffer::format_f64` into a new string.
pub fn format_f64(n: f64) -> String {
    FloatBuffer::new().format_f64(n).to_owned()
}

/// `FloatBuffer::format_double` into a new string.
pub fn format_double(n: f64) -> String {
    FloatBuffer::new().format_double(n).to_owned()
}

/// True when `text` matches the glob `pattern` as in KEYS, SCAN MATCH and PSUBSCRIBE (Redis' `stringmatchlen`):
/// `*`, `?`, `[abc]`, `[^a-z]`, and `\` to take the next byte as it is. A class that is not closed ends with the
/// pattern. `nocase` ignores the case of ASCII letters. Unlike Redis 7, any run of `*` matches the empty text.
///
/// Time is at most the product of the lengths: only the last `*` is ever tried again, since a longer match of an
/// earlier one could not help.
pub fn glob_match(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on after a mismatch: behind the last `*`, and the first byte of text it does not yet cover.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            p += 1;
            if p == pattern.len() {
                return true;
            }
            retry = Some((p, t));
            continue;
        }
        if t == text.len() {
            // A `*` cannot cover less than it does already, so there is nothing to try again.
            return p == pattern.len();
        }
        match match_one(&pattern[p..], text[t], nocase) {
            Some(len) => {
                p += len;
                t += 1;
            }
            None => match retry.as_mut() {
                Some((behind_star, covered)) => {
                    *covered += 1;
                    (p, t) = (*behind_star, *covered);
                }
                None => return false,
            },
        }
    }
}

/// The length of the first element of `pattern`, which is not `*`, when it matches `byte`.
fn match_one(pattern: &[u8], byte: u8, nocase: bool) -> Option<usize> {
    let same = |a: u8, b: u8| if nocase { a.eq_ignore_ascii_case(&b) } else { a == b };
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ..] => {
            let (matches, len) = match_class(pattern, byte, nocase);
            matches.then_some(len)
        }
        [b'\\', literal, ..] => same(*literal, byte).then_some(2),
        [literal, ..] => same(*literal, byte).then_some(1),
    }
}

/// Whether `byte` is in the class that begins with the `[` at the start of `pattern`, and the length of the class.
fn match_class(pattern: &[u8], byte: u8, nocase: bool) -> (bool, usize) {
    let fold = |byte: u8| if nocase { byte.to_ascii_lowercase() } else { byte };
    let mut at = 1;
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut matches = false;
    loop {
        match &pattern[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', literal, ..] => {
                // Redis compares an escaped byte of a class with its case, even when asked to ignore it.
                matches |= *literal == byte;
                at += 2;
            }
            [from, b'-', to, ..] => {
                let (low, high) = (*from.min(to), *from.max(to));
                matches |= (fold(low)..=fold(high)).contains(&fold(byte));
                at += 3;
            }
            [literal, ..] => {
                matches |= fold(*literal) == fold(byte);
                at += 1;
            }
        }
    }
    (matches != negated, at)
}

/// An amount of memory in bytes, as in the configuration file (`memtoull`): digits and a unit in any case. `k`, `m`
/// and `g` are powers of 1000; `kb`, `mb` and `gb` powers of 1024; `b` and nothing are bytes. `None` when it is
/// anything else or more than 64 bits hold.
pub fn parse_memory(text: &str) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// `yes` or `no` in any case, as in the configuration file.
pub fn parse_bool(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("yes") {
        Some(true)
    } else if text.eq_ignore_ascii_case("no") {
        Some(false)
    } else {
        None
    }
}

/// True when `a` is the word `b`, whatever the case of ASCII letters: how options of commands are recognised.
#[inline]
pub fn eq_ignore_case(a: &[u8], b: &str) -> bool {
    a.eq_ignore_ascii_case(b.as_bytes())
}

/// The words of a line, as in the configuration file and in inline commands (`sdssplitargs`). White space separates.
/// In double quotes `\n \r \t \b \a \xHH` are bytes and `\` takes any other byte as it is; in single quotes only
/// `\'` is special. `None` when a quote is not closed or is followed by anything but white space.
pub fn split_quoted(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut decoded = Vec::new();
    let mut ranges = Vec::new();
    let balanced = split_quoted_into(line, &mut decoded, |start, len| ranges.push(start..start + len));
    balanced.then(|| ranges.into_iter().map(|range| decoded[range].to_vec()).collect())
}

/// `split_quoted` without a list of its own: words are appended to `decoded` one behind the other, and `each` is told
/// the start and length of each. False when quotes do not balance; the words before that have been reported.
pub fn split_quoted_into(line: &[u8], decoded: &mut Vec<u8>, mut each: impl FnMut(usize, usize)) -> bool {
    let mut rest = line;
    loop {
        let skipped = rest.iter().take_while(|&&byte| is_space(byte)).count();
        rest = &rest[skipped..];
        if rest.is_empty() {
            return true;
        }
        let start = decoded.len();
        match decode_word(rest, decoded) {
            Some(behind) => rest = behind,
            None => return false,
        }
        each(start, decoded.len() - start);
    }
}

/// Decodes the word at the start of `rest` and returns what is behind it.
fn decode_word<'a>(mut rest: &'a [u8], decoded: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            // Narrower than `is_space`: a form feed separates words but does not end one.
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Some(rest),
            [b'"', quoted @ ..] => return closed(decode_double_quoted(quoted, decoded)?),
            [b'\'', quoted @ ..] => return closed(decode_single_quoted(quoted, decoded)?),
            [byte, behind @ ..] => {
                decoded.push(*byte);
                rest = behind;
            }
        }
    }
}

/// Decodes up to the closing quote and returns what is behind it.
fn decode_double_quoted<'a>(mut rest: &'a [u8], decoded: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, behind) = match rest {
            [] => return None,
            [b'"', behind @ ..] => return Some(behind),
            [b'\\', b'x', high, low, behind @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex_digit(*high) << 4 | hex_digit(*low), behind)
            }
            [b'\\', escaped, behind @ ..] => {
                let byte = match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                };
                (byte, behind)
            }
            [byte, behind @ ..] => (*byte, behind),
        };
        decoded.push(byte);
        rest = behind;
    }
}

/// Decodes up to the closing quote and returns what is behind it.
fn decode_single_quoted<'a>(mut rest: &'a [u8], decoded: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, behind) = match rest {
            [] => return None,
            [b'\'', behind @ ..] => return Some(behind),
            [b'\\', b'\'', behind @ ..] => (b'\'', behind),
            [byte, behind @ ..] => (*byte, behind),
        };
        decoded.push(byte);
        rest = behind;
    }
}

/// A closing quote ends its word: only white space or the end may follow.
fn closed(rest: &[u8]) -> Option<&[u8]> {
    rest.first().is_none_or(|&byte| is_space(byte)).then_some(rest)
}

/// The value of a hexadecimal digit.
fn hex_digit(byte: u8) -> u8 {
    char::from(byte).to_digit(16).expect("the caller checked the digit") as u8
}

/// White space as C's `isspace`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
