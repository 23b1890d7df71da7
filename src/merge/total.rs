//! Exact sums of increments.
//!
//! Integer increments stay integers. A float increment turns the sum into a fixed-point decimal with 17 digits after
//! the point, the precision Redis prints INCRBYFLOAT with (`%.17Lf`): addition is then exact and commutes, which no
//! binary float does, and 0.1 + 0.2 is 0.3 as a Redis client expects.

use std::num::NonZeroU32;

/// One unit of the fixed-point form.
const ONE: i128 = 100_000_000_000_000_000;

/// Largest magnitude of the fixed-point form: 10^19, so that a hundred slots can be added before 128 bits saturate.
const FIXED_MAX: i128 = 10_000_000_000_000_000_000 * ONE;

/// A sum of increments.
#[derive(Clone, Copy, Debug)]
pub enum Total {
    /// Integer increments only.
    Int(i64),
    /// In units of 10^-17.
    Fixed(Wide),
}

/// A number of 127 bits in 16 bytes that leave room for [`Total`]'s mark, so that a counter slot takes 40 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Wide {
    low: u64,
    middle: u32,
    /// Never zero, because the number is kept with [`BIAS`] added to it.
    top: NonZeroU32,
}

/// Above every magnitude of the fixed-point form.
const BIAS: i128 = 1 << 126;

const _: () = assert!(size_of::<Total>() == 16 && BIAS > FIXED_MAX << 5);

impl From<i128> for Wide {
    /// Numbers beyond 2^125 become that: sums of two in range are far below.
    fn from(number: i128) -> Self {
        let biased = (number.clamp(-BIAS / 2, BIAS / 2) + BIAS) as u128;
        let top = NonZeroU32::new((biased >> 96) as u32).expect("at least half the bias, whose top bits are set");
        Self { low: biased as u64, middle: (biased >> 64) as u32, top }
    }
}

impl From<Wide> for i128 {
    fn from(wide: Wide) -> Self {
        let biased = u128::from(wide.top.get()) << 96 | u128::from(wide.middle) << 64 | u128::from(wide.low);
        biased as i128 - BIAS
    }
}

impl Default for Total {
    fn default() -> Self {
        Self::Int(0)
    }
}

impl PartialEq for Total {
    fn eq(&self, other: &Self) -> bool {
        self.fixed() == other.fixed()
    }
}
impl Eq for Total {}

impl Total {
    /// Reads a decimal number (`-12.5`, `3e2`) exactly; `None` when it is not one, is beyond 10^19 or needs more than
    /// 17 digits after the point.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (negative, digits) = match text.first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match digits.iter().position(|b| matches!(b, b'e' | b'E')) {
            Some(at) => (&digits[..at], std::str::from_utf8(&digits[at + 1..]).ok()?.parse::<i32>().ok()?),
            None => (digits, 0),
        };
        let point = mantissa.iter().position(|&b| b == b'.').unwrap_or(mantissa.len());
        let (whole, fraction) = (&mantissa[..point], mantissa.get(point + 1..).unwrap_or(&[]));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let fraction = &fraction[..fraction.iter().rposition(|&b| b != b'0').map_or(0, |at| at + 1)];
        let mut value = 0i128;
        for &digit in whole.iter().chain(fraction) {
            if !digit.is_ascii_digit() || value > FIXED_MAX {
                return None;
            }
            value = value * 10 + i128::from(digit - b'0');
        }
        let mut shift = 17 - fraction.len() as i32 + exponent;
        while value != 0 && shift != 0 {
            if shift > 0 {
                value = value.checked_mul(10)?;
                shift -= 1;
            } else {
                if value % 10 != 0 {
                    return None;
                }
                value /= 10;
                shift += 1;
            }
        }
        (value <= FIXED_MAX).then(|| Self::Fixed(Wide::from(if negative { -value } else { value })).simplified())
    }

    /// The sum, or `None` when it leaves the range of its form (callers then fall back to a plain write).
    pub fn checked_add(self, other: Self) -> Option<Self> {
        if let (Self::Int(a), Self::Int(b)) = (self, other) {
            return a.checked_add(b).map(Self::Int);
        }
        let sum = self.fixed() + other.fixed();
        (sum.abs() <= FIXED_MAX).then_some(Self::Fixed(sum.into()))
    }

    /// In units of 10^-17, at most 10^19 in magnitude.
    pub fn fixed(self) -> i128 {
        match self {
            Self::Int(int) => i128::from(int) * ONE,
            Self::Fixed(fixed) => fixed.into(),
        }
    }

    /// Whether a sum in units of 10^-17 can still be counted exactly.
    pub fn in_range(fixed: i128) -> bool {
        fixed.unsigned_abs() <= FIXED_MAX as u128
    }

    /// A sum in units of 10^-17 as an integer; `None` when it has a fraction or does not fit.
    pub fn integer(fixed: i128) -> Option<i64> {
        if fixed % ONE == 0 { i64::try_from(fixed / ONE).ok() } else { None }
    }

    /// The same number as an integer where it is one that fits.
    pub fn simplified(self) -> Self {
        match self {
            Self::Fixed(fixed) => Self::integer(fixed.into()).map_or(self, Self::Int),
            Self::Int(_) => self,
        }
    }

    /// Appends the number as Redis prints it: no exponent, no trailing zeros. `fixed` may be beyond `i64`.
    pub fn print(fixed: i128, out: &mut Vec<u8>) {
        let (whole, fraction) = (fixed.unsigned_abs() / ONE as u128, fixed.unsigned_abs() % ONE as u128);
        if fixed < 0 {
            out.push(b'-');
        }
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(digits.format(whole).as_bytes());
        if fraction != 0 {
            // A digit in front keeps the zeros after the point.
            let digits = digits.format(ONE as u128 + fraction).as_bytes();
            let end = digits.iter().rposition(|&digit| digit != b'0').map_or(0, |at| at + 1);
            out.push(b'.');
            out.extend_from_slice(&digits[1..end]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(total: Total) -> String {
        let mut out = Vec::new();
        Total::print(total.fixed(), &mut out);
        String::from_utf8(out).expect("digits")
    }

    #[test]
    fn decimals_add_exactly() {
        let sum = Total::parse(b"0.1").and_then(|a| a.checked_add(Total::parse(b"0.2")?)).expect("small");
        assert_eq!(text(sum), "0.3");
        assert_eq!(text(Total::parse(b"5.0e3").expect("a number")), "5000");
        assert_eq!(text(Total::parse(b"-10.50").expect("a number")), "-10.5");
        assert_eq!(Total::parse(b"200").map(Total::simplified), Some(Total::Int(200)));
    }

    #[test]
    fn what_is_not_an_exact_decimal_is_refused() {
        for text in ["", "-", ".", "abc", "1e30", "1e-18", "0x10", "1 ", "inf", "99999999999999999999"] {
            assert_eq!(Total::parse(text.as_bytes()), None, "{text}");
        }
    }
}
