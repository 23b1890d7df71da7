//! Replies read back into values: for links, where this node is the client, and for tests.
//!
//! Not on the path of commands, so it copies freely. Understands RESP2 and RESP3.

use crate::base::text;
use std::fmt;

/// Replies nested deeper than this are refused: decoding uses the stack.
const DEPTH_MAX: usize = 64;

/// One reply.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// `+`: a status.
    Simple(String),
    /// `-` or `!`: an error with its code word.
    Error(String),
    /// `:`: a signed number.
    Integer(i64),
    /// `$`: any bytes.
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` or `_`: no value.
    Nil,
    /// `*`: replies in order.
    Array(Vec<Value>),
    /// `%`: keys and values in the order sent.
    Map(Vec<(Value, Value)>),
    /// `~`: replies in the order sent.
    Set(Vec<Value>),
    /// `>`: a message that answers no command.
    Push(Vec<Value>),
    /// `,`: a floating-point number.
    Double(f64),
    /// `#`: true or false.
    Boolean(bool),
    /// `=`: text with its three-letter format.
    Verbatim([u8; 3], Vec<u8>),
    /// `(`: decimal digits of any length.
    BigNumber(String),
}

/// The bytes are not a reply, whatever may follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// Offset of the first byte of the part that cannot be read.
    pub at: usize,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed reply at byte {}", self.at)
    }
}

impl std::error::Error for Malformed {}

/// The first reply in `buf` and how many bytes it takes; `None` when it is incomplete or malformed. Enough for
/// tests; a link uses `try_decode`, which tells the two apart.
pub fn decode(buf: &[u8]) -> Option<(Value, usize)> {
    try_decode(buf).ok().flatten()
}

/// The first reply in `buf` and how many bytes it takes; `Ok(None)` when more bytes are needed. Starts over each
/// time, so it is meant for replies of moderate size.
///
/// # Errors
/// The bytes are not RESP, or replies nest deeper than 64.
pub fn try_decode(buf: &[u8]) -> Result<Option<(Value, usize)>, Malformed> {
    let mut cursor = Cursor { buf, at: 0 };
    match cursor.value(0) {
        Ok(value) => Ok(Some((value, cursor.at))),
        Err(Stop::Short) => Ok(None),
        Err(Stop::Malformed(at)) => Err(Malformed { at }),
    }
}

enum Stop {
    Short,
    Malformed(usize),
}

struct Cursor<'a> {
    buf: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        let start = self.at;
        if depth > DEPTH_MAX {
            return Err(Stop::Malformed(start));
        }
        let kind = *self.buf.get(self.at).ok_or(Stop::Short)?;
        if !b"+-:$*%~>,#_=!(|".contains(&kind) {
            return Err(Stop::Malformed(start));
        }
        self.at += 1;
        let line = self.line()?;
        let bad = Stop::Malformed(start);
        let integer = || text::parse_i64(line).ok_or(Stop::Malformed(start));
        Ok(match kind {
            b'+' => Value::Simple(lossy(line)),
            b'-' => Value::Error(lossy(line)),
            b':' => Value::Integer(integer()?),
            b'(' => Value::BigNumber(lossy(line)),
            b'_' if line.is_empty() => Value::Nil,
            b'#' if line == b"t" => Value::Boolean(true),
            b'#' if line == b"f" => Value::Boolean(false),
            b',' if line.eq_ignore_ascii_case(b"nan") || line.eq_ignore_ascii_case(b"-nan") => Value::Double(f64::NAN),
            b',' => Value::Double(text::parse_f64(line).ok_or(bad)?),
            b'$' | b'=' | b'!' => match integer()? {
                -1 if kind == b'$' => Value::Nil,
                len => self.sized(kind, usize::try_from(len).map_err(|_| bad)?, start)?,
            },
            b'*' | b'~' | b'>' => match integer()? {
                -1 if kind == b'*' => Value::Nil,
                len => {
                    let items = self.values(usize::try_from(len).map_err(|_| bad)?, depth)?;
                    match kind {
                        b'*' => Value::Array(items),
                        b'~' => Value::Set(items),
                        _ => Value::Push(items),
                    }
                }
            },
            b'%' => Value::Map(self.pairs(usize::try_from(integer()?).map_err(|_| bad)?, depth)?),
            b'|' => {
                // Attributes describe the reply that follows; nobody here has a use for them.
                self.pairs(usize::try_from(integer()?).map_err(|_| bad)?, depth)?;
                self.value(depth + 1)?
            }
            _ => return Err(bad),
        })
    }

    fn values(&mut self, count: usize, depth: usize) -> Result<Vec<Value>, Stop> {
        // Not reserved in full: the count is the sender's word.
        let mut items = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            items.push(self.value(depth + 1)?);
        }
        Ok(items)
    }

    fn pairs(&mut self, count: usize, depth: usize) -> Result<Vec<(Value, Value)>, Stop> {
        let mut pairs = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            pairs.push((self.value(depth + 1)?, self.value(depth + 1)?));
        }
        Ok(pairs)
    }

    fn sized(&mut self, kind: u8, len: usize, start: usize) -> Result<Value, Stop> {
        let rest = &self.buf[self.at..];
        if rest.len() < 2 || rest.len() - 2 < len {
            return Err(Stop::Short);
        }
        let bytes = &rest[..len];
        if &rest[len..len + 2] != b"\r\n" {
            return Err(Stop::Malformed(start));
        }
        self.at += len + 2;
        match (kind, bytes) {
            (b'!', _) => Ok(Value::Error(lossy(bytes))),
            (b'=', [a, b, c, b':', text @ ..]) => Ok(Value::Verbatim([*a, *b, *c], text.to_vec())),
            (b'=', _) => Err(Stop::Malformed(start)),
            _ => Ok(Value::Bulk(bytes.to_vec())),
        }
    }

    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let rest = &self.buf[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\r').ok_or(Stop::Short)?;
        match rest.get(end + 1) {
            None => Err(Stop::Short),
            Some(b'\n') => {
                self.at += end + 2;
                Ok(&rest[..end])
            }
            Some(_) => Err(Stop::Malformed(self.at + end)),
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
