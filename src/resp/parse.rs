//! Commands out of the bytes a client sends: RESP arrays of bulks, and typed ("inline") lines.
//!
//! Owns the protocol's limits and the texts of its errors. Knows no command and no socket: the caller keeps the
//! receive buffer, and arguments are ranges of it. Promise: a command costs time linear in its bytes however they
//! were cut into reads, and the way they were cut never changes what comes out.
//!
//! Cost of a `SET key value`: no copy, no allocation, about one cache line of writes (the ranges).

use crate::base::text;
use std::fmt;

/// Longest line without its end that is still waited for: an inline command, or the digits of a length. In bytes,
/// as Redis (`PROTO_INLINE_MAX_SIZE`).
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Most arguments of one command: Redis counts them in a C `int`.
pub const ARGS_MAX: i64 = i32::MAX as i64;

/// Most arguments of one command before the client has authenticated, as Redis 7.
pub const ARGS_MAX_UNAUTHENTICATED: i64 = 10;

/// Longest argument in bytes before the client has authenticated, as Redis 7.
pub const BULK_BYTES_MAX_UNAUTHENTICATED: usize = 16 * 1024;

/// Room for arguments taken on the word of a client; beyond it the list grows as arguments really arrive.
const ARGS_RESERVED_MAX: usize = 1024;

/// A list of arguments larger than this gives its memory back when the command is done.
const ARGS_KEPT_MAX: usize = 16 * 1024;

/// A list parked in an idle parser is kept for reuse only up to this many arguments (512 bytes a connection).
const PARKED_KEPT_MAX: usize = 64;

/// Where one argument lies: `start` bytes into its buffer, `len` bytes long. Four bytes each, because a command is
/// limited to 4 GiB whatever the configuration says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

/// Where each argument of the command just parsed lies in the buffer it was parsed from. Reused from command to
/// command, so that parsing allocates nothing once warm.
#[derive(Debug, Default)]
pub struct Argv {
    spans: Vec<Span>,
    /// The arguments of an inline command: quoting makes them differ from the raw bytes.
    decoded: Vec<u8>,
    is_inline: bool,
}

impl Argv {
    /// An empty list; allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of arguments, the command's name included.
    #[inline]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// True before the first command and after `clear`.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Argument `i` (0 is the command's name). `buf` is the slice given to `Parser::next`.
    ///
    /// # Panics
    /// When `i` is not below `len()`, or `buf` is shorter than the slice that was parsed.
    #[inline]
    pub fn get<'a>(&'a self, i: usize, buf: &'a [u8]) -> &'a [u8] {
        let span = self.spans[i];
        let start = span.start as usize;
        &self.source(buf)[start..start + span.len as usize]
    }

    /// All arguments in order.
    pub fn iter<'a>(&'a self, buf: &'a [u8]) -> impl ExactSizeIterator<Item = &'a [u8]> {
        let source = self.source(buf);
        self.spans.iter().map(move |span| &source[span.start as usize..span.start as usize + span.len as usize])
    }

    /// The places of the arguments within `source(buf)`.
    #[inline]
    pub fn ranges(&self) -> &[Span] {
        &self.spans
    }

    /// The bytes that `ranges` refer to: `buf` itself, or our own copy when the command was typed inline.
    #[inline]
    pub fn source<'a>(&'a self, buf: &'a [u8]) -> &'a [u8] {
        if self.is_inline { &self.decoded } else { buf }
    }

    /// Forgets the arguments; keeps their memory unless the command was unusually large.
    #[inline]
    pub fn clear(&mut self) {
        self.spans.clear();
        if self.is_inline {
            self.is_inline = false;
            self.decoded.clear();
        }
        if self.spans.capacity() > ARGS_KEPT_MAX {
            self.spans = Vec::new();
        }
    }
}

/// What a client may send; taken from the configuration and the state of its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Longest argument in bytes (`proto-max-bulk-len`).
    pub bulk_bytes_max: usize,
    /// Longest command in bytes, its protocol included (`client-query-buffer-limit`). Values above 4 GiB mean 4 GiB.
    pub query_bytes_max: usize,
    /// False while a password is required and not yet given: commands are then limited to 10 arguments of 16 KiB.
    pub authenticated: bool,
}

impl Default for Limits {
    /// Redis' defaults, for an authenticated client.
    fn default() -> Self {
        Self { bulk_bytes_max: 512 << 20, query_bytes_max: 1 << 30, authenticated: true }
    }
}

/// What `Parser::next` found at the start of the buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// A whole command: `argv` is filled, and the first `consumed` bytes of the buffer belong to it.
    Command {
        /// Bytes to drop from the front of the buffer once the arguments are no longer needed.
        consumed: usize,
    },
    /// More bytes are needed. Keep what was given and call again with a longer buffer that starts at the same byte.
    Incomplete,
    /// An empty line, `*0` or a negative count: nothing to run and nothing to answer.
    Empty {
        /// Bytes to drop from the front of the buffer.
        consumed: usize,
    },
}

/// Why a stream of commands cannot be followed any further. The client is told (`Display` is Redis' text, without
/// the `ERR` in front) and then disconnected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtocolError {
    /// The number after `$` is not one, is negative or is above `bulk_bytes_max`.
    InvalidBulkLength,
    /// The number after `*` is not one or is above `ARGS_MAX`.
    InvalidMultibulkLength,
    /// An argument does not begin with `$` but with this byte.
    ExpectedDollar(u8),
    /// `LINE_BYTES_MAX` bytes of an inline command and still no line end.
    InlineTooBig,
    /// `LINE_BYTES_MAX` bytes after `*` and still no line end.
    MultibulkCountTooBig,
    /// `LINE_BYTES_MAX` bytes after `$` and still no line end.
    BulkCountTooBig,
    /// A quote of an inline command is not closed, or something follows a closing quote.
    UnbalancedQuotes,
    /// More than 10 arguments before authentication.
    UnauthenticatedMultibulk,
    /// An argument of more than 16 KiB before authentication.
    UnauthenticatedBulk,
    /// The command is longer than `query_bytes_max`. Redis disconnects without an answer: see `is_answered`.
    QueryTooBig,
}

impl ProtocolError {
    /// False for the one error after which Redis closes the connection without a word.
    pub fn is_answered(self) -> bool {
        self != Self::QueryTooBig
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExpectedDollar(got) => {
                // Redis sends the byte as it is; a byte that is not text has no place in a Rust string or in a log.
                let shown = if got.is_ascii() && !got.is_ascii_control() { char::from(*got) } else { '?' };
                return write!(f, "Protocol error: expected '$', got '{shown}'");
            }
            Self::InvalidBulkLength => "Protocol error: invalid bulk length",
            Self::InvalidMultibulkLength => "Protocol error: invalid multibulk length",
            Self::InlineTooBig => "Protocol error: too big inline request",
            Self::MultibulkCountTooBig => "Protocol error: too big mbulk count string",
            Self::BulkCountTooBig => "Protocol error: too big bulk count string",
            Self::UnbalancedQuotes => "Protocol error: unbalanced quotes in request",
            Self::UnauthenticatedMultibulk => "Protocol error: unauthenticated multibulk length",
            Self::UnauthenticatedBulk => "Protocol error: unauthenticated bulk length",
            Self::QueryTooBig => "Protocol error: query buffer limit exceeded",
        })
    }
}

impl std::error::Error for ProtocolError {}

/// Follows one client's stream of commands. Holds only how far the current, incomplete command has been read, so
/// that reading on never repeats work; the bytes stay with the caller.
#[derive(Debug, Default)]
pub struct Parser {
    /// Bytes of the current command that are done with: its count and its first arguments. 0: nothing is.
    at: usize,
    /// Arguments still to come once `at` is above 0.
    args_left: usize,
    /// The line that begins at `at` has no end among the bytes before this offset.
    scanned: usize,
    /// See `wanted`.
    wanted: usize,
    /// The arguments of the current command that were read before the bytes ran out.
    parked: Vec<Span>,
}

impl Parser {
    /// A parser at the start of a stream; allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the command at the start of `buf`. After `Incomplete`, `buf` must be the same bytes with more behind
    /// them; after anything else it must start `consumed` bytes later. `argv` may be shared by all parsers of a
    /// core: what an incomplete command has read so far moves into the parser.
    ///
    /// # Errors
    /// The stream is unusable from here on: answer, close, and drop the parser.
    #[inline]
    pub fn next(&mut self, buf: &[u8], limits: &Limits, argv: &mut Argv) -> Result<Parsed, ProtocolError> {
        argv.clear();
        // Nothing behind the limit is looked at, so that the outcome is the same however much has arrived.
        let bytes_max = limits.query_bytes_max.min(u32::MAX as usize);
        let within = &buf[..buf.len().min(bytes_max)];
        let parsed = match within.first() {
            Some(b'*') => self.next_array(within, limits, argv),
            Some(_) => self.next_inline(within, argv),
            None => Ok(Parsed::Incomplete),
        };
        if matches!(parsed, Ok(Parsed::Incomplete)) && buf.len().max(self.wanted) > bytes_max {
            return Err(ProtocolError::QueryTooBig);
        }
        parsed
    }

    /// After `Incomplete`: how many bytes the buffer must hold before calling again can get further, or 0 when that
    /// is unknown. A hint for growing the buffer once for a large argument; it is what the client announced, within
    /// the limits, so do not reserve it all for a client that has sent little.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    fn next_array(&mut self, buf: &[u8], limits: &Limits, argv: &mut Argv) -> Result<Parsed, ProtocolError> {
        if self.at == 0 {
            match self.read_count(buf, limits)? {
                None => return Ok(Parsed::Incomplete),
                Some((0, at)) => {
                    self.scanned = 0;
                    return Ok(Parsed::Empty { consumed: at });
                }
                Some((count, at)) => {
                    self.at = at;
                    self.args_left = count;
                    argv.spans.reserve(count.min(ARGS_RESERVED_MAX));
                }
            }
        } else {
            std::mem::swap(&mut argv.spans, &mut self.parked);
        }
        let mut at = self.at;
        let mut args_left = self.args_left;
        while args_left > 0 {
            let (len, body) = match short_length(buf, at) {
                Some((len, body)) if len <= limits.bulk_bytes_max => (len, body),
                _ => match self.read_length(buf, at, limits)? {
                    Some(found) => found,
                    None => {
                        self.wanted = 0;
                        self.park(at, args_left, argv);
                        return Ok(Parsed::Incomplete);
                    }
                },
            };
            // The two bytes after an argument are skipped unread, as Redis does: clients exist that send others.
            let end = body + len + 2;
            if end > buf.len() {
                self.wanted = end;
                self.park(at, args_left, argv);
                return Ok(Parsed::Incomplete);
            }
            // Both fit: `next` cut the buffer at u32::MAX.
            argv.spans.push(Span { start: body as u32, len: len as u32 });
            at = end;
            args_left -= 1;
        }
        self.finish();
        Ok(Parsed::Command { consumed: at })
    }

    /// The count after `*` and where the first argument begins; `None` when its line is not complete yet.
    #[inline]
    fn read_count(&mut self, buf: &[u8], limits: &Limits) -> Result<Option<(usize, usize)>, ProtocolError> {
        // One digit is nearly always all there is.
        if let [_, digit @ b'1'..=b'9', b'\r', _, ..] = buf {
            return Ok(Some((usize::from(digit - b'0'), 4)));
        }
        let Some((digits, next)) = self.read_line(buf, 0, ProtocolError::MultibulkCountTooBig)? else {
            return Ok(None);
        };
        match text::parse_i64(digits) {
            Some(count) if count > ARGS_MAX => Err(ProtocolError::InvalidMultibulkLength),
            Some(count) if count > ARGS_MAX_UNAUTHENTICATED && !limits.authenticated => {
                Err(ProtocolError::UnauthenticatedMultibulk)
            }
            Some(count) => Ok(Some((count.max(0) as usize, next))),
            None => Err(ProtocolError::InvalidMultibulkLength),
        }
    }

    /// The length after the `$` at `at` and where the argument's bytes begin; `None` when its line is not complete
    /// yet. Kept out of the hot loop, which handles lengths of up to three digits itself.
    #[cold]
    #[inline(never)]
    fn read_length(&mut self, buf: &[u8], at: usize, limits: &Limits) -> Result<Option<(usize, usize)>, ProtocolError> {
        match buf.get(at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(&got) => return Err(ProtocolError::ExpectedDollar(got)),
        }
        let Some((digits, next)) = self.read_line(buf, at, ProtocolError::BulkCountTooBig)? else {
            return Ok(None);
        };
        let len = text::parse_i64(digits).and_then(|len| usize::try_from(len).ok());
        match len {
            Some(len) if len > limits.bulk_bytes_max => Err(ProtocolError::InvalidBulkLength),
            Some(len) if len > BULK_BYTES_MAX_UNAUTHENTICATED && !limits.authenticated => {
                Err(ProtocolError::UnauthenticatedBulk)
            }
            Some(len) if len > u32::MAX as usize => Err(ProtocolError::QueryTooBig),
            Some(len) => Ok(Some((len, next))),
            None => Err(ProtocolError::InvalidBulkLength),
        }
    }

    /// The bytes between the type byte at `at` and the next CR, and where the next line begins. As in Redis the byte
    /// after the CR must be there but is not looked at.
    fn read_line<'a>(
        &mut self,
        buf: &'a [u8],
        at: usize,
        too_big: ProtocolError,
    ) -> Result<Option<(&'a [u8], usize)>, ProtocolError> {
        let from = self.scanned.max(at + 1);
        let found = buf.get(from..).and_then(|rest| rest.iter().position(|&byte| byte == b'\r'));
        let end = found.map_or(buf.len(), |i| from + i);
        // Redis looks at the length only while there is no line end, so that the answer depends on how the bytes
        // were cut; looking at it always gives what Redis gives for the smallest cuts.
        if end - at > LINE_BYTES_MAX {
            return Err(too_big);
        }
        if end + 2 > buf.len() {
            self.scanned = end;
            return Ok(None);
        }
        Ok(Some((&buf[at + 1..end], end + 2)))
    }

    /// Remembers how far the current command has been read.
    #[cold]
    fn park(&mut self, at: usize, args_left: usize, argv: &mut Argv) {
        self.at = at;
        self.args_left = args_left;
        std::mem::swap(&mut argv.spans, &mut self.parked);
        argv.spans.clear();
    }

    /// Back to the start of a command.
    #[inline]
    fn finish(&mut self) {
        self.at = 0;
        self.scanned = 0;
        self.wanted = 0;
        if self.parked.capacity() > PARKED_KEPT_MAX {
            self.parked = Vec::new();
        }
    }

    #[cold]
    fn next_inline(&mut self, buf: &[u8], argv: &mut Argv) -> Result<Parsed, ProtocolError> {
        let found = buf[self.scanned.min(buf.len())..].iter().position(|&byte| byte == b'\n');
        let end = found.map_or(buf.len(), |i| self.scanned + i);
        if end > LINE_BYTES_MAX {
            return Err(ProtocolError::InlineTooBig);
        }
        if found.is_none() {
            self.scanned = end;
            return Ok(Parsed::Incomplete);
        }
        self.scanned = 0;
        let line = &buf[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let consumed = end + 1;
        argv.is_inline = true;
        let spans = &mut argv.spans;
        // Lengths fit: a line is at most LINE_BYTES_MAX bytes and decoding only shortens it.
        let each = |start: usize, len: usize| spans.push(Span { start: start as u32, len: len as u32 });
        if !text::split_quoted_into(line, &mut argv.decoded, each) {
            return Err(ProtocolError::UnbalancedQuotes);
        }
        if argv.spans.is_empty() {
            argv.clear();
            return Ok(Parsed::Empty { consumed });
        }
        Ok(Parsed::Command { consumed })
    }
}

/// The length of one to three digits after the `$` at `at`, and where the argument's bytes begin. `None` sends the
/// caller to the careful reader, which also names what is wrong. Six bytes are always there for a whole argument:
/// the shortest is `$0\r\n\r\n`.
#[inline(always)]
pub(super) fn short_length(buf: &[u8], at: usize) -> Option<(usize, usize)> {
    let head: &[u8; 6] = buf.get(at..)?.first_chunk()?;
    if head[0] != b'$' {
        return None;
    }
    let first = head[1].wrapping_sub(b'0');
    if first > 9 {
        return None;
    }
    let mut len = usize::from(first);
    if head[2] == b'\r' {
        return Some((len, at + 4));
    }
    let second = head[2].wrapping_sub(b'0');
    if second > 9 || first == 0 {
        return None;
    }
    len = len * 10 + usize::from(second);
    if head[3] == b'\r' {
        return Some((len, at + 5));
    }
    let third = head[3].wrapping_sub(b'0');
    if third > 9 || head[4] != b'\r' {
        return None;
    }
    Some((len * 10 + usize::from(third), at + 6))
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
