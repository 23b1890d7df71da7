//! The kinds of value an option can have that plain Rust types do not say.

use std::collections::BTreeMap;
use std::fmt;

/// Declares an enum whose variants are the words of an option, in the order error messages list them.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every word the option takes.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The value a word stands for, in any case.
            pub fn parse(word: &str) -> Option<Self> {
                $(if word.eq_ignore_ascii_case($word) { return Some(Self::$variant); })+
                None
            }

            /// The word that stands for this value.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

words! {
    /// How much is logged.
    LogLevel {
        /// Everything, for finding faults.
        Debug = "debug",
        /// Details that are rarely of use.
        Verbose = "verbose",
        /// What an operator wants to know.
        Notice = "notice",
        /// Only what needs a look.
        Warning = "warning",
        /// Not a line.
        Nothing = "nothing",
    }
}

words! {
    /// What a line of the log looks like.
    LogFormat {
        /// Redis' lines, with fields appended as `key=value`.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

words! {
    /// Which part of the system log lines go to.
    SyslogFacility {
        /// Messages of ordinary programs.
        User = "user",
        /// For local use.
        Local0 = "local0",
        /// For local use.
        Local1 = "local1",
        /// For local use.
        Local2 = "local2",
        /// For local use.
        Local3 = "local3",
        /// For local use.
        Local4 = "local4",
        /// For local use.
        Local5 = "local5",
        /// For local use.
        Local6 = "local6",
        /// For local use.
        Local7 = "local7",
    }
}

words! {
    /// Which supervisor is told that the server is ready.
    Supervised {
        /// Upstart: stop once with SIGSTOP when ready.
        Upstart = "upstart",
        /// systemd: `READY=1` on the notify socket.
        Systemd = "systemd",
        /// Whichever of the two the environment points to.
        Auto = "auto",
        /// None.
        No = "no",
    }
}

words! {
    /// What happens to a write when `maxmemory` is reached.
    MaxmemoryPolicy {
        /// Evict the least recently used key that has a deadline.
        VolatileLru = "volatile-lru",
        /// Evict the least frequently used key that has a deadline.
        VolatileLfu = "volatile-lfu",
        /// Evict any key that has a deadline.
        VolatileRandom = "volatile-random",
        /// Evict the key whose deadline is nearest.
        VolatileTtl = "volatile-ttl",
        /// Evict the least recently used key.
        AllkeysLru = "allkeys-lru",
        /// Evict the least frequently used key.
        AllkeysLfu = "allkeys-lfu",
        /// Evict any key.
        AllkeysRandom = "allkeys-random",
        /// Refuse the write.
        Noeviction = "noeviction",
    }
}

words! {
    /// Who may use a command or option that is dangerous in the wrong hands.
    Allowed {
        /// Nobody.
        No = "no",
        /// Every client.
        Yes = "yes",
        /// Clients on loopback addresses and Unix sockets.
        Local = "local",
    }
}

impl Allowed {
    /// True when a client may, given whether it is on this machine.
    pub fn admits(self, is_local: bool) -> bool {
        match self {
            Self::No => false,
            Self::Yes => true,
            Self::Local => is_local,
        }
    }
}

/// A password. Empty means that none is set. `Debug` never shows it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps the bytes of a password.
    pub fn new(password: impl Into<Vec<u8>>) -> Self {
        Self(password.into())
    }

    /// True when a password is set.
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    /// True when this is the password. Takes the same time whichever byte differs.
    pub fn is(&self, given: &[u8]) -> bool {
        let differing = |(at, byte): (usize, &u8)| byte ^ self.0.get(at).copied().unwrap_or(!byte);
        let differs = given.iter().enumerate().map(differing).fold(0, |all, bits| all | bits);
        std::hint::black_box(differs) == 0 && given.len() == self.0.len()
    }

    /// The password itself: for AUTH, CONFIG GET and CONFIG REWRITE only.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.is_set() { "<hidden>" } else { "<none>" })
    }
}

/// What was given for options that have no effect here. `Debug` shows the names only: passwords of key files are among
/// the values.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Noted(pub(super) BTreeMap<&'static str, Vec<u8>>);

impl Noted {
    /// The value given for an option, unless that is its default.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }
}

impl fmt::Debug for Noted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.0.keys()).finish()
    }
}

/// Save a snapshot when at least `changes` writes were made and `seconds` have passed since the last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SavePoint {
    /// Time since the last snapshot.
    pub seconds: u64,
    /// Writes since the last snapshot.
    pub changes: u64,
}

/// When a client that does not read its replies is disconnected. 0 means never.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BufferLimit {
    /// At once, when this many bytes wait.
    pub hard_bytes: u64,
    /// When this many bytes have waited all through `soft_seconds`.
    pub soft_bytes: u64,
    /// See `soft_bytes`.
    pub soft_seconds: u64,
}

/// `BufferLimit` per class of client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BufferLimits {
    /// Ordinary clients, MONITOR included.
    pub normal: BufferLimit,
    /// Links on which a peer fetches our writes.
    pub replica: BufferLimit,
    /// Clients with a subscription.
    pub pubsub: BufferLimit,
}

/// Which keyspace events are published: one bit per letter of `notify-keyspace-events`, and the letters as Redis
/// prints them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct KeyspaceEvents {
    bits: u32,
    text: String,
}

impl KeyspaceEvents {
    /// `A` stands for all of these; the others must be named.
    const ALL: &'static str = "g$lshzxetd";
    const LETTERS: &'static str = "g$lshzxetdKEmn";

    /// Reads the letters, in any order. `None` when one has no meaning.
    pub fn parse(letters: &str) -> Option<Self> {
        let all: u32 = Self::ALL.chars().filter_map(Self::bit).sum();
        let mut bits = 0;
        for letter in letters.chars() {
            bits |= if letter == 'A' { all } else { Self::bit(letter)? };
        }
        let is_all = bits & all == all;
        let named = |&letter: &char| {
            Self::bit(letter).is_some_and(|bit| bits & bit != 0) && !(is_all && Self::ALL.contains(letter))
        };
        let text = is_all.then_some('A').into_iter().chain(Self::LETTERS.chars().filter(named)).collect();
        Some(Self { bits, text })
    }

    /// True when events of this letter (`g`, `$`, `x`, `K`, …) are asked for.
    pub fn has(&self, letter: char) -> bool {
        Self::bit(letter).is_some_and(|bit| self.bits & bit != 0)
    }

    /// True when nothing is published: no class, or neither `K` nor `E`.
    pub fn is_silent(&self) -> bool {
        !(self.has('K') || self.has('E'))
    }

    /// The letters as Redis prints them.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn bit(letter: char) -> Option<u32> {
        Self::LETTERS.find(letter).map(|at| 1 << at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret::new("mypassword123")), "<hidden>");
        assert_eq!(format!("{:?}", Secret::default()), "<none>");
    }

    #[test]
    fn keyspace_events_print_as_redis_prints_them() {
        for (given, printed) in [("", ""), ("KEA", "AKE"), ("g$lshzxetd", "A"), ("Kx", "xK"), ("AKEmn", "AKEmn")] {
            assert_eq!(KeyspaceEvents::parse(given).expect(given).text(), printed);
        }
        assert_eq!(KeyspaceEvents::parse("Kq"), None);
        assert!(KeyspaceEvents::parse("A").expect("a letter").is_silent());
    }
}
