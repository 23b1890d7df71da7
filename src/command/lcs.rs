//! LCS: the longest common subsequence of two strings.

use super::Ctx;
use super::args::Args;
use super::error::CommandError;
use super::spec::Run::Gather;
use super::spec::{Group, Keys, READ, Spec, spec};
use crate::resp::write::Reply;

/// The row of this file.
#[rustfmt::skip]
pub const FAMILY: &[Spec] = &[
    spec("lcs", -3, READ, Keys::TWO, Gather(lcs), Group::String, "7.0.0", "Finds the longest common substring."),
];

#[derive(Default)]
struct Options {
    len: bool,
    idx: bool,
    with_match_len: bool,
    min_match_len: usize,
}

fn lcs(ctx: &mut Ctx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<(), CommandError> {
    let (a, b) = (ctx.key(args.next()?), ctx.key(args.next()?));
    let options = Options::parse(args);

    // Redis complains of the keys' types before it looks at the options.
    let wrong = |_| CommandError::Text("ERR The specified keys must contain string values");
    let a = ctx.string_copy(&a).map_err(wrong)?.unwrap_or_default();
    let b = ctx.string_copy(&b).map_err(wrong)?.unwrap_or_default();
    let options = options?;

    let lengths = Lengths::of(&a, &b)?;
    let total = lengths.at(a.len(), b.len());
    if options.len {
        reply.integer(i64::from(total));
    } else if options.idx {
        reply.map(2);
        reply.text("matches");
        let hole = reply.array_later();
        let mut count = 0;
        lengths.each_match(&a, &b, |found| {
            if found.len >= options.min_match_len {
                found.write(options.with_match_len, reply);
                count += 1;
            }
        });
        reply.fill(hole, count);
        reply.text("len");
        reply.integer(i64::from(total));
    } else {
        let mut common = vec![0; total as usize];
        let mut end = common.len();
        lengths.each_match(&a, &b, |found| {
            common[end - found.len..end].copy_from_slice(&a[found.a..found.a + found.len]);
            end -= found.len;
        });
        reply.bulk(&common);
    }
    Ok(())
}

impl Options {
    fn parse(args: &mut Args<'_>) -> Result<Self, CommandError> {
        let mut options = Self::default();
        while args.left() > 0 {
            if args.word("idx") {
                options.idx = true;
            } else if args.word("len") {
                options.len = true;
            } else if args.word("withmatchlen") {
                options.with_match_len = true;
            } else if args.word("minmatchlen") {
                options.min_match_len = args.integer()?.max(0) as usize;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if options.idx && options.len {
            return Err(CommandError::Text("ERR If you want both the length and indexes, please just use IDX."));
        }
        Ok(options)
    }
}

/// A run of bytes common to both strings.
struct Match {
    a: usize,
    b: usize,
    len: usize,
}

impl Match {
    fn write(&self, with_len: bool, reply: &mut Reply<'_>) {
        reply.array(2 + usize::from(with_len));
        for start in [self.a, self.b] {
            reply.array(2);
            reply.integer(start as i64);
            reply.integer((start + self.len - 1) as i64);
        }
        if with_len {
            reply.integer(self.len as i64);
        }
    }
}

/// The lengths of the subsequences common to every pair of prefixes: the textbook table, quadratic in time and space
/// as in Redis.
struct Lengths {
    width: usize,
    cells: Vec<u32>,
}

impl Lengths {
    fn of(a: &[u8], b: &[u8]) -> Result<Self, CommandError> {
        if a.len().max(b.len()) >= u32::MAX as usize - 1 {
            return Err(CommandError::Text("ERR String too long for LCS"));
        }
        let no_room = CommandError::Text("ERR Insufficient memory, failed allocating transient memory for LCS");
        let width = b.len() + 1;
        let count = (a.len() + 1).checked_mul(width).ok_or(no_room.clone())?;
        let mut cells = Vec::new();
        cells.try_reserve_exact(count).map_err(|_| no_room)?;
        cells.resize(count, 0);
        for (row, x) in a.iter().enumerate() {
            let (above, below) = cells[row * width..(row + 2) * width].split_at_mut(width);
            for (column, y) in b.iter().enumerate() {
                let longer = above[column + 1].max(below[column]);
                below[column + 1] = if x == y { above[column] + 1 } else { longer };
            }
        }
        Ok(Self { width, cells })
    }

    fn at(&self, a: usize, b: usize) -> u32 {
        self.cells[a * self.width + b]
    }

    // From the last match to the first, as Redis lists them.
    fn each_match(&self, a: &[u8], b: &[u8], mut each: impl FnMut(Match)) {
        let (mut i, mut j) = (a.len(), b.len());
        let mut len = 0;
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                (i, j, len) = (i - 1, j - 1, len + 1);
                continue;
            }
            if len > 0 {
                each(Match { a: i, b: j, len });
                len = 0;
            }
            if self.at(i - 1, j) > self.at(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        if len > 0 {
            each(Match { a: i, b: j, len });
        }
    }
}
