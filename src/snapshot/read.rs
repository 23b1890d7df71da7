//! The bytes of an RDB file into records: AUX fields and keys, whoever wrote it.
//!
//! Every length is held against what is left of the file before anything is made room for, so a damaged file costs no
//! more memory than it is long.

use std::fmt;
use std::io::Read;

use super::crc64::crc64;
use super::packed;
use super::{RDB_VERSION_MAX, aux, kind, opcode};
use crate::base::ids::Db;
use crate::base::time::DeadlineMs;

/// Read from the file at once.
const READ_BYTES: usize = 256 * 1024;

/// A string compressed further than this is damage: LZF shrinks at most to a 86th.
const COMPRESSION_MAX: usize = 128;

/// Why a file was refused, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Bytes from the start.
    pub offset: u64,
    /// One line.
    pub reason: String,
}

/// What stands in a file.
#[derive(Debug)]
pub enum Record<'a> {
    /// An AUX field that does not belong to a key.
    Aux {
        /// Its name.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// A key.
    Key(Key<'a>),
    /// Something that has no meaning here and can be done without: what it is called.
    Skipped(&'static str),
}

/// A key as it stands in a file.
#[derive(Debug)]
pub struct Key<'a> {
    /// Which database.
    pub db: Db,
    /// The key.
    pub key: &'a [u8],
    /// When it expires.
    pub deadline: Option<DeadlineMs>,
    /// Our AUX field in front of it.
    pub state: Option<&'a [u8]>,
    /// Its value.
    pub value: Plain<'a>,
}

/// A value in Redis' form.
#[derive(Clone, Copy, Debug)]
pub enum Plain<'a> {
    /// A string.
    String(&'a [u8]),
    /// A hash.
    Hash(&'a FieldsBuf),
}

/// Names and values of a hash, in turn.
#[derive(Default, Debug)]
pub struct FieldsBuf {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// See the file's head.
pub struct Reader<R> {
    source: Source<R>,
    db: u16,
    key: Vec<u8>,
    state: Vec<u8>,
    value: Vec<u8>,
    fields: FieldsBuf,
    version: u32,
    /// Where the record begins that is being read.
    record: u64,
    is_over: bool,
}

struct Source<R> {
    read: R,
    /// All there is, bytes.
    len: u64,
    buf: Vec<u8>,
    at: usize,
    /// Offset of `buf[0]`.
    offset: u64,
    /// Over everything before `buf[summed]`; `None`: nobody wants it.
    crc: Option<u64>,
    summed: usize,
}

impl<R: Read> Reader<R> {
    /// Reads the head of a file of `len` bytes. `verify`: hold its checksum against it, if it has one.
    pub fn new(read: R, len: u64, verify: bool) -> Result<Self, Damage> {
        let crc = verify.then_some(0);
        let mut source = Source { read, len, buf: Vec::new(), at: 0, offset: 0, crc, summed: 0 };
        let head =
            source.take(9).map_err(|damage| Damage { reason: "this is no RDB file: too short".into(), ..damage })?;
        let version = std::str::from_utf8(&head[5..]).ok().and_then(|digits| digits.parse().ok());
        let version = match (&head[..5], version) {
            (b"REDIS", Some(version @ 1..=RDB_VERSION_MAX)) => version,
            (b"REDIS", Some(version)) => {
                let reason = format!("RDB version {version}, but only 1 to {RDB_VERSION_MAX} are known here");
                return Err(Damage { offset: 5, reason });
            }
            _ => return Err(Damage { offset: 0, reason: "this is no RDB file: it does not begin with REDIS".into() }),
        };
        Ok(Self {
            source,
            db: 0,
            key: Vec::new(),
            state: Vec::new(),
            value: Vec::new(),
            fields: FieldsBuf::default(),
            version,
            record: 9,
            is_over: false,
        })
    }

    /// How far it has read, bytes.
    pub fn position(&self) -> u64 {
        self.source.position()
    }

    /// The next record; `None` at the end, whose checksum has been found right.
    #[allow(clippy::should_implement_trait, reason = "a record borrows from the reader, as no iterator's item can")]
    #[expect(clippy::should_implement_trait, reason = "records borrow from the reader, which no iterator allows")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, Damage> {
        let mut deadline = None;
        let mut has_state = false;
        if self.is_over {
            return Ok(None);
        }
        self.record = self.source.position();
        loop {
            match self.source.byte()? {
                opcode::AUX => {
                    self.source.string(&mut self.key)?;
                    if self.key == aux::STATE {
                        self.source.string(&mut self.state)?;
                        has_state = true;
                    } else {
                        self.source.string(&mut self.value)?;
                        return Ok(Some(Record::Aux { name: &self.key, value: &self.value }));
                    }
                }
                opcode::SELECTDB => {
                    let db = self.source.length()?;
                    self.db = u16::try_from(db).map_err(|_| self.damage(format!("there is no database {db}")))?;
                }
                opcode::RESIZEDB => {
                    self.source.length()?;
                    self.source.length()?;
                }
                opcode::SLOT_INFO => {
                    for _ in 0..3 {
                        self.source.length()?;
                    }
                }
                opcode::EXPIRETIME => {
                    let seconds = u32::from_le_bytes(self.source.array()?);
                    deadline = Some(u64::from(seconds) * 1000);
                }
                opcode::EXPIRETIME_MS => deadline = Some(u64::from_le_bytes(self.source.array()?)),
                opcode::IDLE => {
                    self.source.length()?;
                }
                opcode::FREQ => {
                    self.source.byte()?;
                }
                opcode::FUNCTION2 => {
                    self.source.string(&mut self.value)?;
                    return Ok(Some(Record::Skipped("functions")));
                }
                opcode::MODULE_AUX => return Err(self.damage("it holds data of a Redis module".into())),
                opcode::EOF => {
                    self.end()?;
                    self.is_over = true;
                    return Ok(None);
                }
                kind => {
                    self.source.string(&mut self.key)?;
                    self.value(kind)?;
                    let value = match kind {
                        kind::STRING => Plain::String(&self.value),
                        _ => Plain::Hash(&self.fields),
                    };
                    let state = has_state.then_some(&self.state[..]);
                    return Ok(Some(Record::Key(Key { db: Db(self.db), key: &self.key, deadline, state, value })));
                }
            }
        }
    }

    /// What is wrong with the record read last.
    pub fn damage(&self, reason: String) -> Damage {
        Damage { offset: self.record, reason }
    }

    fn value(&mut self, kind: u8) -> Result<(), Damage> {
        self.fields.clear();
        let unpack = match kind {
            kind::STRING => return self.source.string(&mut self.value),
            kind::HASH => {
                let count = self.source.length()?;
                for _ in 0..count {
                    for _ in 0..2 {
                        self.source.string(&mut self.value)?;
                        self.fields.push(&self.value);
                    }
                }
                return Ok(());
            }
            kind::HASH_ZIPMAP => packed::zipmap,
            kind::HASH_ZIPLIST => packed::ziplist,
            kind::HASH_LISTPACK => packed::listpack,
            _ => {
                let name = String::from_utf8_lossy(&self.key[..self.key.len().min(64)]);
                let what = type_name(kind);
                let reason = format!(
                    "key '{name}' in database {} is {what} (type {kind}); only strings and hashes are kept here",
                    self.db
                );
                return Err(self.damage(reason));
            }
        };
        self.source.string(&mut self.value)?;
        match unpack(&self.value, &mut self.fields) {
            Some(()) if self.fields.ends.len().is_multiple_of(2) => Ok(()),
            _ => Err(self.damage(format!("the packed hash '{}' is malformed", String::from_utf8_lossy(&self.key)))),
        }
    }

    fn end(&mut self) -> Result<(), Damage> {
        if self.version < 5 {
            return self.source.expect_end();
        }
        let computed = self.source.sum();
        let stored = u64::from_le_bytes(self.source.array()?);
        // Zero: it was written without.
        if let Some(computed) = computed.filter(|&computed| stored != 0 && computed != stored) {
            return Err(self.damage(format!("checksum {computed:016x}, but the file says {stored:016x}")));
        }
        self.source.expect_end()
    }
}

impl<R: Read> Source<R> {
    fn position(&self) -> u64 {
        self.offset + self.at as u64
    }

    fn take(&mut self, bytes: usize) -> Result<&[u8], Damage> {
        if self.buf.len() - self.at < bytes {
            self.fill(bytes)?;
        }
        self.at += bytes;
        Ok(&self.buf[self.at - bytes..self.at])
    }

    fn fill(&mut self, bytes: usize) -> Result<(), Damage> {
        let left = self.len.saturating_sub(self.position());
        if bytes as u64 > left {
            let offset = self.position();
            return Err(Damage {
                offset,
                reason: format!("the file ends too early: {bytes} bytes expected, {left} left"),
            });
        }
        self.sum();
        self.buf.drain(..self.at);
        self.offset += self.at as u64;
        (self.at, self.summed) = (0, 0);
        let wanted = bytes.max(READ_BYTES) - self.buf.len();
        let (offset, before) = (self.offset, self.buf.len());
        let read = (&mut self.read).take(wanted as u64).read_to_end(&mut self.buf);
        let read = read.map_err(|error| Damage { offset, reason: error.to_string() })?;
        if before + read < bytes {
            return Err(Damage { offset, reason: "the file became shorter while it was read".into() });
        }
        Ok(())
    }

    // The checksum of everything taken.
    fn sum(&mut self) -> Option<u64> {
        self.crc = self.crc.map(|crc| crc64(crc, &self.buf[self.summed..self.at]));
        self.summed = self.at;
        self.crc
    }

    fn byte(&mut self) -> Result<u8, Damage> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn length(&mut self) -> Result<usize, Damage> {
        let offset = self.position();
        match self.length_or_code()? {
            Ok(length) => Ok(length),
            Err(code) => Err(Damage { offset, reason: format!("a string encoding ({code}) where a length should be") }),
        }
    }

    // A length, or how a string is encoded.
    fn length_or_code(&mut self) -> Result<Result<usize, u8>, Damage> {
        let offset = self.position();
        let first = self.byte()?;
        Ok(match first {
            0x00..=0x3f => Ok(usize::from(first)),
            0x40..=0x7f => Ok(usize::from(first & 0x3f) << 8 | usize::from(self.byte()?)),
            0x80 => Ok(u32::from_be_bytes(self.array()?) as usize),
            0x81 => Ok(u64::from_be_bytes(self.array()?) as usize),
            0xc0..=0xff => Err(first & 0x3f),
            _ => return Err(Damage { offset, reason: format!("{first:#x} begins no length") }),
        })
    }

    fn string(&mut self, into: &mut Vec<u8>) -> Result<(), Damage> {
        into.clear();
        let offset = self.position();
        let mut integer = itoa::Buffer::new();
        let text = match self.length_or_code()? {
            Ok(length) => self.take(length)?,
            Err(0) => integer.format(i8::from_le_bytes(self.array()?)).as_bytes(),
            Err(1) => integer.format(i16::from_le_bytes(self.array()?)).as_bytes(),
            Err(2) => integer.format(i32::from_le_bytes(self.array()?)).as_bytes(),
            Err(3) => {
                let (packed, length) = (self.length()?, self.length()?);
                let bytes = self.take(packed)?;
                let fits = length <= packed.saturating_mul(COMPRESSION_MAX);
                return match fits.then(|| packed::lzf(bytes, length, into)).flatten() {
                    Some(()) => Ok(()),
                    None => Err(Damage { offset, reason: "a compressed string is malformed".into() }),
                };
            }
            Err(code) => return Err(Damage { offset, reason: format!("unknown string encoding {code}") }),
        };
        into.extend_from_slice(text);
        Ok(())
    }

    fn expect_end(&mut self) -> Result<(), Damage> {
        let left = self.len.saturating_sub(self.position());
        if left == 0 {
            return Ok(());
        }
        Err(Damage { offset: self.position(), reason: format!("{left} bytes behind the end") })
    }
}

impl FieldsBuf {
    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        (0..self.ends.len() / 2).map(|pair| (self.get(2 * pair), self.get(2 * pair + 1)))
    }

    /// How many fields.
    pub fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Appends a name or a value.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
    }

    /// Appends a number's text.
    pub fn push_integer(&mut self, integer: i64) {
        self.push(itoa::Buffer::new().format(integer).as_bytes());
    }

    fn get(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start..self.ends[at]]
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "at byte {}: {}", self.offset, self.reason)
    }
}

fn type_name(kind: u8) -> &'static str {
    match kind {
        1 | 10 | 14 | 18 => "a list",
        2 | 11 | 20 => "a set",
        3 | 5 | 12 | 17 => "a sorted set",
        6 | 7 => "a value of a module",
        15 | 19 | 21 => "a stream",
        22..=25 => "a hash whose fields expire",
        64 => "a KeyDB cron job",
        _ => "of an unknown type",
    }
}
