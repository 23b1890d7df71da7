//! A row of the command table: name, arity, flags, keys, where it runs, and what runs it.

use super::Handler;

/// One command. Families are constant tables of these (`string::FAMILY`, ...), joined by `table`.
#[derive(Clone, Copy)]
pub struct Spec {
    /// Lower case.
    pub name: &'static str,
    /// As COMMAND says it: the name included, negative for "at least".
    pub arity: i16,
    /// Facts that gates test.
    pub flags: Flags,
    /// Which arguments are keys.
    pub keys: Keys,
    /// Where and by what it is run.
    pub run: Run,
    /// For COMMAND DOCS and INFO's grouping.
    pub group: Group,
    /// One line for COMMAND DOCS.
    pub summary: &'static str,
    /// The Redis version that brought it.
    pub since: &'static str,
}

/// One row, written as a line of a table.
#[allow(clippy::too_many_arguments, reason = "a row of a table; each column has its own type")]
pub const fn spec(
    name: &'static str,
    arity: i16,
    flags: Flags,
    keys: Keys,
    run: Run,
    group: Group,
    since: &'static str,
    summary: &'static str,
) -> Spec {
    Spec { name, arity, flags, keys, run, group, summary, since }
}

/// Facts of a command, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(pub u32);

impl Flags {
    /// Whether all bits of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both, in constants: `READ.or(FAST)`.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Reads keys.
pub const READ: Flags = Flags(1);
/// Writes keys: refused on a read-only replica and while loading.
pub const WRITE: Flags = Flags(1 << 1);
/// Refused when memory is full (Redis: denyoom).
pub const GROWS: Flags = Flags(1 << 2);
/// Constant time.
pub const FAST: Flags = Flags(1 << 3);
/// Administration (Redis: admin).
pub const ADMIN: Flags = Flags(1 << 4);
/// Allowed before AUTH.
pub const NO_AUTH: Flags = Flags(1 << 5);
/// Allowed while loading.
pub const LOADING: Flags = Flags(1 << 6);
/// Allowed on a replica that has lost its master (Redis: stale).
pub const STALE: Flags = Flags(1 << 7);
/// Keys are not at fixed places (Redis: movablekeys).
pub const MOVABLE: Flags = Flags(1 << 8);
/// Waits for all earlier replies of this client before it runs.
pub const BARRIER: Flags = Flags(1 << 9);
/// Not allowed in scripts.
pub const NO_SCRIPT: Flags = Flags(1 << 10);
/// Part of publish and subscribe.
pub const PUBSUB: Flags = Flags(1 << 11);

/// Touches its keys in a second database, too (COPY, MOVE): `rename::databases_of`.
pub const OTHER_DB: Flags = Flags(1 << 13);
/// Has subcommands with rows of their own, named `object|encoding`: see `table::resolve`.
pub const CONTAINER: Flags = Flags(1 << 12);

/// Not allowed in MULTI.
pub const NO_MULTI: Flags = Flags(1 << 14);
/// Allowed while a script keeps the server busy.
pub const ALLOW_BUSY: Flags = Flags(1 << 15);
/// Refused while a peer's data is loaded beside ours.
pub const NO_ASYNC_LOADING: Flags = Flags(1 << 16);

/// Which arguments are keys. Positions count the name as 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keys {
    /// First key; 0: no keys.
    pub first: u8,
    /// Last key; negative counts from the end.
    pub last: i8,
    /// Distance between keys.
    pub step: u8,
    /// Index of an argument that says how many keys follow it (LCS has none; EVAL, later, has); 0: none.
    pub numkeys: u8,
}

impl Keys {
    /// No keys.
    pub const NONE: Self = Self { first: 0, last: 0, step: 0, numkeys: 0 };
    /// One key, the first argument.
    pub const ONE: Self = Self { first: 1, last: 1, step: 1, numkeys: 0 };
    /// The first two arguments.
    pub const TWO: Self = Self { first: 1, last: 2, step: 1, numkeys: 0 };
    /// Every argument.
    pub const ALL: Self = Self { first: 1, last: -1, step: 1, numkeys: 0 };
    /// Every other argument: key, value, key, value.
    pub const PAIRS: Self = Self { first: 1, last: -1, step: 2, numkeys: 0 };

    /// Every argument from `first` on.
    pub const fn from(first: u8) -> Self {
        Self { first, last: -1, step: 1, numkeys: 0 }
    }

    /// One key at `at`.
    pub const fn at(at: u8) -> Self {
        Self { first: at, last: at as i8, step: 1, numkeys: 0 }
    }

    /// The positions of the keys of a command of `argc` arguments.
    pub fn positions(self, argc: usize) -> impl Iterator<Item = usize> {
        self.range(argc).step_by(usize::from(self.step.max(1)))
    }

    /// The first of these.
    #[inline]
    pub fn first_position(self, argc: usize) -> Option<usize> {
        // `positions` begins with a division, which takes as long as all else that is done here.
        self.range(argc).next()
    }

    fn range(self, argc: usize) -> std::ops::Range<usize> {
        let last = if self.last < 0 { argc as isize + isize::from(self.last) } else { isize::from(self.last) };
        let end = if self.first == 0 { 0 } else { (last + 1).clamp(0, argc as isize) as usize };
        usize::from(self.first)..end
    }
}

/// Where a command runs, and what runs it.
#[derive(Clone, Copy)]
pub enum Run {
    /// On the client's core, with the session at hand (PING, CLIENT, CONFIG, ...): `worker::home`.
    Home(Home),
    /// On the shard that owns its only key; on the client's core when there is no key.
    Owner(Handler),
    /// Over any number of keys that do not depend on each other: each owner runs the handler on its own keys (with
    /// the values that belong to them), and the replies are joined. Several owners are locked first, so nobody sees
    /// half of it.
    Split(Handler, Join),
    /// Over several keys that depend on each other (RENAME, BITOP, MSETNX): on one shard if it owns all of them; else
    /// the keys are locked, their states are gathered at home, the handler runs there, and its effects are sent to
    /// the owners, who stamp and apply them.
    Gather(Handler),
    /// On every shard, replies joined (DBSIZE, FLUSHALL, KEYS). `Split` without keys.
    Everywhere(Handler, Join),
    /// On the shard whose slots a cursor points at (SCAN).
    Cursor(Handler),
}

/// How the replies of several owners become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Join {
    /// `+OK`, or the first error.
    AllOk,
    /// Integers are added.
    Sum,
    /// Arrays with one element per key, put back into the client's order.
    Order,
    /// Arrays are chained.
    Concat,
    /// Digests (status lines of 40 hexadecimal digits) are joined by exclusive or: `debug::join`.
    Xor,
    /// Maps from names to such digests (as bulks), joined name by name.
    Digests,
    /// One of the replies that are not nil, by chance.
    AnyOf,
}

/// Commands that run where the client is connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "each is the command of that name")]
pub enum Home {
    Ping,
    Echo,
    Auth,
    Hello,
    Select,
    Quit,
    Reset,
    Client,
    Info,
    Config,
    Command,
    Time,
    Role,
    Lolwut,
    Debug,
    Shutdown,
    Memory,
    Wait,
    Save,
    Bgsave,
    Lastsave,
    Replicaof,
    Replconf,
    Multimaster,
    Slowlog,
    Latency,
    Cluster,
    Acl,
    Module,
    Monitor,
    Tutti,
}

/// Command groups as COMMAND DOCS names them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "each is Redis' group of that name")]
pub enum Group {
    Generic,
    String,
    Bitmap,
    Hash,
    Connection,
    Server,
    Replication,
    Cluster,
}
