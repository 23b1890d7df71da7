//! A cursor over a command's arguments.

use super::error::CommandError;
use crate::base::text::{eq_ignore_case, parse_i64};
use crate::resp::parse::Argv;

/// The arguments of one command, the name first. Cheap to copy: look ahead with a copy.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    argv: &'a Argv,
    buf: &'a [u8],
    at: usize,
}

impl<'a> Args<'a> {
    /// At the first argument after the name.
    pub fn new(argv: &'a Argv, buf: &'a [u8]) -> Self {
        Self { argv, buf, at: 1 }
    }

    /// How many there are, the name included.
    pub fn count(&self) -> usize {
        self.argv.len()
    }

    /// How many are left.
    pub fn left(&self) -> usize {
        self.argv.len().saturating_sub(self.at)
    }

    /// The argument at `index`, the name being 0.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        (index < self.argv.len()).then(|| self.argv.get(index, self.buf))
    }

    /// The next argument.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "a cursor that fails, not an iterator that ends")]
    pub fn next(&mut self) -> Result<&'a [u8], CommandError> {
        let arg = self.get(self.at).ok_or(CommandError::Syntax)?;
        self.at += 1;
        Ok(arg)
    }

    /// The next argument, if there is one.
    pub fn next_if_any(&mut self) -> Option<&'a [u8]> {
        self.next().ok()
    }

    /// The next argument as Redis reads integers.
    pub fn integer(&mut self) -> Result<i64, CommandError> {
        parse_i64(self.next()?).ok_or(CommandError::NotInteger)
    }

    /// Takes the next argument if it is `word`, in any case.
    pub fn word(&mut self, word: &str) -> bool {
        let matches = self.get(self.at).is_some_and(|arg| eq_ignore_case(arg, word));
        self.at += usize::from(matches);
        matches
    }

    /// Nothing may be left.
    pub fn finish(&self) -> Result<(), CommandError> {
        if self.left() == 0 { Ok(()) } else { Err(CommandError::Syntax) }
    }

    /// All that are left.
    pub fn rest(&mut self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let (argv, buf, from) = (self.argv, self.buf, self.at);
        self.at = argv.len();
        (from..argv.len()).map(move |index| argv.get(index, buf))
    }
}
