//! A quick look ahead at what a client has sent, to learn which keys its commands will ask for.
//!
//! Only a hint: nothing is checked, and whatever looks unusual ends the look. The [parser](super::parse) alone decides
//! what a command is.

use super::parse::short_length;

/// What a command that was looked at seems to be about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Glimpse<'a> {
    /// Its name as it was sent.
    pub name: &'a [u8],
    /// Its first argument: nearly always the key, and the only one.
    pub key: &'a [u8],
    /// Its second argument, if it has one.
    pub second: Option<&'a [u8]>,
}

/// Calls `each` for the commands at the front of `buf` that have an argument, until one is not whole, not in the
/// usual form, or `each` answers false.
#[inline]
pub fn scout<'a>(buf: &'a [u8], mut each: impl FnMut(Glimpse<'a>) -> bool) {
    let mut at = 0;
    while let Some((count, mut next)) = short_count(buf, at) {
        let mut args = [&buf[..0]; 3];
        for i in 0..count {
            let Some((len, body)) = short_length(buf, next) else { return };
            let Some(arg) = buf.get(body..body + len) else { return };
            if let Some(place) = args.get_mut(i) {
                *place = arg;
            }
            next = body + len + 2;
        }
        let [name, key, second] = args;
        if count > 1 && !each(Glimpse { name, key, second: (count > 2).then_some(second) }) {
            return;
        }
        at = next;
    }
}

// The count of one or two digits after the `*` at `at`, and where the first argument begins.
#[inline(always)]
fn short_count(buf: &[u8], at: usize) -> Option<(usize, usize)> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| usize::from(byte - b'0'));
    match buf.get(at..)? {
        [b'*', one, b'\r', b'\n', ..] => Some((digit(*one)?, at + 4)),
        [b'*', ten, one, b'\r', b'\n', ..] => Some((digit(*ten)? * 10 + digit(*one)?, at + 5)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(buf: &[u8]) -> Vec<(&[u8], Option<&[u8]>)> {
        let mut found = Vec::new();
        scout(buf, |glimpse| {
            found.push((glimpse.key, glimpse.second));
            true
        });
        found
    }

    #[test]
    fn whole_commands_show_their_first_arguments() {
        let buf = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nvv\r\n*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$3\r\nabc\r\n";
        assert_eq!(keys(buf), [(&b"k"[..], Some(&b"vv"[..])), (b"abc", None)]);
    }

    #[test]
    fn a_command_in_part_or_in_another_form_ends_the_look() {
        let whole = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        for cut in 0..whole.len() - 2 {
            assert_eq!(keys(&whole[..cut]), [], "cut at {cut}");
        }
        assert_eq!(keys(b"GET k\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"), []);
        assert_eq!(keys(b"*2\r\n$-1\r\nGET\r\n$1\r\nk\r\n"), []);
        assert_eq!(keys(b"*2\r\n$999\r\nGET\r\n"), []);
    }
}
