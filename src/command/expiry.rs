//! Deadlines as SET, GETEX, SETEX and PSETEX take them: from now on or absolute, in seconds or milliseconds, never
//! zero or negative (EXPIRE has looser rules of its own).

use super::Ctx;
use super::args::Args;
use super::error::CommandError;
use crate::base::text::parse_i64;
use crate::base::time::DeadlineMs;

/// A deadline as the client wrote it. Judged late: GETEX of an absent key is nil even when its time is nonsense.
#[derive(Clone, Copy, Debug)]
pub struct Expiry<'a> {
    text: &'a [u8],
    form: Form,
}

/// How a deadline is written, named as the option of SET is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Seconds from now.
    Ex,
    /// Milliseconds from now.
    Px,
    /// Unix seconds.
    ExAt,
    /// Unix milliseconds.
    PxAt,
}

const WORDS: [(&str, Form); 4] = [("ex", Form::Ex), ("px", Form::Px), ("exat", Form::ExAt), ("pxat", Form::PxAt)];

impl<'a> Expiry<'a> {
    /// The number `text` read as `form`.
    pub fn new(text: &'a [u8], form: Form) -> Self {
        Self { text, form }
    }

    /// Takes `EX seconds` and its like, if that comes next. The same word may come twice, and the later one counts;
    /// two different ones are a syntax error.
    pub fn take(args: &mut Args<'a>, earlier: Option<Self>) -> Result<Option<Self>, CommandError> {
        let Some((_, form)) = WORDS.into_iter().find(|(word, _)| args.word(word)) else { return Ok(None) };
        if earlier.is_some_and(|earlier| earlier.form != form) {
            return Err(CommandError::Syntax);
        }
        Ok(Some(Self::new(args.next()?, form)))
    }

    /// The deadline in Unix milliseconds; possibly in the past. `command` is named by the error.
    pub fn deadline(&self, ctx: &Ctx<'_>, command: &str) -> Result<DeadlineMs, CommandError> {
        let number = parse_i64(self.text).ok_or(CommandError::NotInteger)?;
        let unit_ms = if matches!(self.form, Form::Ex | Form::ExAt) { 1000 } else { 1 };
        let from = if matches!(self.form, Form::Ex | Form::Px) { ctx.time_ms() as i64 } else { 0 };
        let at = number.checked_mul(unit_ms).filter(|_| number > 0).and_then(|ms| ms.checked_add(from));
        match at {
            Some(at) => Ok(at as DeadlineMs),
            None => Err(CommandError::Owned(format!("ERR invalid expire time in '{command}' command"))),
        }
    }
}
