//! Replies, appended to a client's output buffer in the protocol version it asked for.
//!
//! Owns the shape of every reply type in RESP2 and RESP3. Promise: what is appended is whole and well formed, and a
//! handler never asks which version it speaks to.

use crate::base::text;

/// The protocol a client speaks: RESP2 until it says `HELLO 3`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Version {
    /// Strings, errors, integers, bulks and arrays.
    #[default]
    Resp2,
    /// Also maps, sets, doubles, booleans, verbatim text, big numbers, one nil and pushes.
    Resp3,
}

/// A writer of replies at the end of `out`. Cheap to make; one for each command or batch.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    version: Version,
    /// Lengths promised with `…_later` and not filled yet.
    holes_open: u32,
}

/// The place of a length that is not known yet. Holes are filled in reverse order of making.
#[derive(Debug)]
#[must_use = "a reply with an unfilled length is not well formed"]
pub struct Hole {
    at: usize,
    prefix: u8,
    factor: usize,
    depth: u32,
}

/// An end of the output to return to: see `Reply::truncate`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    at: usize,
    holes_open: u32,
}

impl<'a> Reply<'a> {
    /// Appends to `out`, which may hold earlier replies.
    #[inline]
    pub fn new(out: &'a mut Vec<u8>, version: Version) -> Self {
        Self { out, version, holes_open: 0 }
    }

    /// The protocol replies are written in.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Changes the protocol for what follows: `HELLO` answers in the version it switches to.
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// `+PONG`.
    pub fn pong(&mut self) {
        self.out.extend_from_slice(b"+PONG\r\n");
    }

    /// `+QUEUED`: the command waits for EXEC.
    pub fn queued(&mut self) {
        self.out.extend_from_slice(b"+QUEUED\r\n");
    }

    /// A status line. CR and LF become spaces: they would end it.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text);
    }

    /// An error. `text` begins with its code word, as in `ERR syntax error`; CR and LF become spaces.
    #[cold]
    pub fn error(&mut self, text: &str) {
        self.line(b'-', text);
    }

    /// A signed number.
    #[inline]
    pub fn integer(&mut self, n: i64) {
        match n {
            0 => self.out.extend_from_slice(b":0\r\n"),
            1 => self.out.extend_from_slice(b":1\r\n"),
            _ => {
                let mut digits = itoa::Buffer::new();
                self.framed(b':', digits.format(n).as_bytes());
            }
        }
    }

    /// Any bytes, with their length in front.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        // One growth for the whole reply: type, up to 20 digits and two line ends.
        self.out.reserve(bytes.len() + 25);
        self.length(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A bulk holding `text`.
    pub fn text(&mut self, text: &str) {
        self.bulk(text.as_bytes());
    }

    /// A bulk, or nil for `None`.
    #[inline]
    pub fn bulk_or_nil(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.nil(),
        }
    }

    /// A bulk holding what `format_args!` describes.
    pub fn bulk_fmt(&mut self, text: std::fmt::Arguments<'_>) {
        match text.as_str() {
            Some(text) => self.bulk(text.as_bytes()),
            None => self.bulk(text.to_string().as_bytes()),
        }
    }

    /// A bulk holding the decimal digits of `n`.
    pub fn integer_bulk(&mut self, n: i64) {
        let mut digits = itoa::Buffer::new();
        self.bulk(digits.format(n).as_bytes());
    }

    /// No value: `$-1` in RESP2.
    #[inline]
    pub fn nil(&mut self) {
        match self.version {
            Version::Resp2 => self.out.extend_from_slice(b"$-1\r\n"),
            Version::Resp3 => self.out.extend_from_slice(b"_\r\n"),
        }
    }

    /// No value where an array is expected: `*-1` in RESP2.
    pub fn nil_array(&mut self) {
        match self.version {
            Version::Resp2 => self.out.extend_from_slice(b"*-1\r\n"),
            Version::Resp3 => self.out.extend_from_slice(b"_\r\n"),
        }
    }

    /// Begins an array of the next `len` replies.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.length(b'*', len);
    }

    /// Begins a map of the next `pairs` keys and values, written in turn. RESP2: an array twice as long.
    pub fn map(&mut self, pairs: usize) {
        match self.version {
            Version::Resp2 => self.length(b'*', pairs * 2),
            Version::Resp3 => self.length(b'%', pairs),
        }
    }

    /// Begins a set of the next `len` replies. RESP2: an array.
    pub fn set(&mut self, len: usize) {
        match self.version {
            Version::Resp2 => self.length(b'*', len),
            Version::Resp3 => self.length(b'~', len),
        }
    }

    /// Begins a message of `len` parts that answers no command. RESP2: an array.
    pub fn push(&mut self, len: usize) {
        match self.version {
            Version::Resp2 => self.length(b'*', len),
            Version::Resp3 => self.length(b'>', len),
        }
    }

    /// A floating-point number in its shortest exact form. RESP2: a bulk.
    pub fn double(&mut self, n: f64) {
        let mut digits = text::FloatBuffer::new();
        let digits = digits.format_double(n);
        match self.version {
            Version::Resp2 => self.bulk(digits.as_bytes()),
            Version::Resp3 => self.framed(b',', digits.as_bytes()),
        }
    }

    /// True or false. RESP2: 1 or 0.
    pub fn boolean(&mut self, yes: bool) {
        self.out.extend_from_slice(match (self.version, yes) {
            (Version::Resp2, true) => b":1\r\n",
            (Version::Resp2, false) => b":0\r\n",
            (Version::Resp3, true) => b"#t\r\n",
            (Version::Resp3, false) => b"#f\r\n",
        });
    }

    /// Text to be shown as it is, with its three-letter format (`txt`, `mkd`). RESP2: a bulk without the format.
    pub fn verbatim(&mut self, format: &[u8; 3], bytes: &[u8]) {
        match self.version {
            Version::Resp2 => self.bulk(bytes),
            Version::Resp3 => {
                self.out.reserve(bytes.len() + 29);
                self.length(b'=', bytes.len() + 4);
                self.out.extend_from_slice(format);
                self.out.push(b':');
                self.out.extend_from_slice(bytes);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Decimal digits of any length, with an optional minus sign. RESP2: a bulk.
    pub fn big_number(&mut self, digits: &str) {
        match self.version {
            Version::Resp2 => self.bulk(digits.as_bytes()),
            Version::Resp3 => self.line(b'(', digits),
        }
    }

    /// Bytes that are already in the client's protocol, such as a reply built elsewhere.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Begins an array whose length comes later, with `fill`.
    pub fn array_later(&mut self) -> Hole {
        self.hole(b'*', 1)
    }

    /// Begins a map whose number of pairs comes later, with `fill`.
    pub fn map_later(&mut self) -> Hole {
        match self.version {
            Version::Resp2 => self.hole(b'*', 2),
            Version::Resp3 => self.hole(b'%', 1),
        }
    }

    /// Begins a set whose length comes later, with `fill`.
    pub fn set_later(&mut self) -> Hole {
        match self.version {
            Version::Resp2 => self.hole(b'*', 1),
            Version::Resp3 => self.hole(b'~', 1),
        }
    }

    /// Gives the last open hole its length. Moves what was written since by a few bytes: one copy of it.
    ///
    /// # Panics
    /// When a hole made later is still open: its place would be lost.
    pub fn fill(&mut self, hole: Hole, len: usize) {
        assert_eq!(hole.depth, self.holes_open, "holes are filled in reverse order of making");
        self.holes_open -= 1;
        let end = self.out.len();
        self.length(hole.prefix, len * hole.factor);
        // The header was written behind the body; the rotation brings it in front.
        let header = self.out.len() - end;
        self.out[hole.at..].rotate_right(header);
    }

    /// The present end of the output.
    pub fn mark(&self) -> Mark {
        Mark { at: self.out.len(), holes_open: self.holes_open }
    }

    /// Discards everything written since `mark`, holes included: what a handler wrote before it failed. `mark` must
    /// come from this reply.
    pub fn truncate(&mut self, mark: Mark) {
        debug_assert!(mark.at <= self.out.len() && mark.holes_open <= self.holes_open);
        self.out.truncate(mark.at);
        self.holes_open = mark.holes_open;
    }

    fn hole(&mut self, prefix: u8, factor: usize) -> Hole {
        self.holes_open += 1;
        Hole { at: self.out.len(), prefix, factor, depth: self.holes_open }
    }

    fn line(&mut self, prefix: u8, text: &str) {
        self.out.reserve(text.len() + 3);
        self.out.push(prefix);
        let start = self.out.len();
        self.out.extend_from_slice(text.as_bytes());
        for byte in &mut self.out[start..] {
            if matches!(*byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.out.extend_from_slice(b"\r\n");
    }

    fn framed(&mut self, prefix: u8, digits: &[u8]) {
        self.out.reserve(digits.len() + 3);
        self.out.push(prefix);
        self.out.extend_from_slice(digits);
        self.out.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn length(&mut self, prefix: u8, len: usize) {
        append_length(self.out, prefix, len);
    }
}

/// Appends a command as a client sends it: an array of bulks.
pub fn encode_command<A: AsRef<[u8]>>(out: &mut Vec<u8>, args: &[A]) {
    append_length(out, b'*', args.len());
    for arg in args {
        let arg = arg.as_ref();
        out.reserve(arg.len() + 25);
        append_length(out, b'$', arg.len());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

#[inline]
fn append_length(out: &mut Vec<u8>, prefix: u8, len: usize) {
    // Nearly all lengths have one or two digits; those are one fixed-size append each.
    match len {
        0..=9 => out.extend_from_slice(&[prefix, b'0' + len as u8, b'\r', b'\n']),
        10..=99 => {
            let (tens, ones) = (len as u8 / 10, len as u8 % 10);
            out.extend_from_slice(&[prefix, b'0' + tens, b'0' + ones, b'\r', b'\n']);
        }
        _ => {
            let mut digits = itoa::Buffer::new();
            out.push(prefix);
            out.extend_from_slice(digits.format(len).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
