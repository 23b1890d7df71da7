//! What a row of the option table says, and what follows from it: reading a value, printing it, writing it to a file.
//!
//! Texts of refusals are those of Redis 7.2, since CONFIG SET repeats them to clients.

use std::borrow::Cow;

use super::Config;
use super::values::Secret;
use crate::base::text::{parse_bool, parse_i64, parse_memory};

/// One option.
pub struct Opt {
    /// Its name, in lower case.
    pub name: &'static str,
    /// Older names it also goes by.
    pub aliases: &'static [&'static str],
    /// When its value may change.
    pub change: Change,
    /// What kind of value it has and where in `Config` that is.
    pub value: Value,
    /// What it does, in one line.
    pub doc: &'static str,
}

/// When the value of an option may change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Only in the file or on the command line.
    AtStart,
    /// With CONFIG SET as well.
    Anytime,
    /// With CONFIG SET, by clients that `enable-protected-configs` names.
    Protected,
}

/// The kind of value of an option, and how it reaches its field.
pub enum Value {
    /// `yes` or `no`.
    Bool {
        /// Reads the field.
        get: fn(&Config) -> bool,
        /// Writes the field.
        set: fn(&mut Config, bool),
    },
    /// A whole number.
    Number {
        /// Least.
        min: i64,
        /// Most.
        max: i64,
        /// Reads the field.
        get: fn(&Config) -> i64,
        /// Writes the field; the range has been checked.
        set: fn(&mut Config, i64),
    },
    /// Mode bits in octal.
    Octal {
        /// Most.
        max: u32,
        /// Reads the field.
        get: fn(&Config) -> u32,
        /// Writes the field.
        set: fn(&mut Config, u32),
    },
    /// An amount of memory, with or without unit.
    Memory {
        /// Least, in bytes.
        min: u64,
        /// Reads the field.
        get: fn(&Config) -> u64,
        /// Writes the field.
        set: fn(&mut Config, u64),
    },
    /// One of a few words.
    Word {
        /// All of them.
        words: &'static [&'static str],
        /// Reads the field.
        get: fn(&Config) -> &'static str,
        /// Writes the field; false when the word is none of them.
        set: fn(&mut Config, &str) -> bool,
    },
    /// Any text; empty is unset.
    Text {
        /// Reads the field.
        get: fn(&Config) -> &str,
        /// Writes the field, or says why not.
        set: fn(&mut Config, &str) -> Result<(), &'static str>,
    },
    /// A password; empty is unset.
    Secret {
        /// Reads the field.
        get: fn(&Config) -> &Secret,
        /// Writes the field.
        set: fn(&mut Config, Secret),
    },
    /// Several words, or several lines.
    Several(Several),
    /// Accepted, kept and given back, but without effect.
    Noted {
        /// What a value looks like.
        shape: Shape,
        /// The value Redis or KeyDB gives it.
        default: &'static str,
        /// Why it has no effect here.
        reason: &'static str,
        /// The user may count on what does not happen: warn.
        is_loud: bool,
    },
    /// Known, with one value we can take.
    Only {
        /// That value.
        value: &'static str,
        /// Why no other.
        reason: &'static str,
    },
    /// Known, and refused with a reason whatever the value.
    Refused(&'static str),
    /// Reads other files.
    Include,
}

/// An option of several words or lines.
pub struct Several {
    /// The words of one line, for messages and help.
    pub form: &'static str,
    /// Reads one line. Lines of `save`, `replicaof` and `rename-command` add to those before.
    pub set: fn(&mut Config, &[Vec<u8>]) -> Result<(), String>,
    /// What CONFIG GET prints: one entry per name-value pair, none when the option is not shown.
    pub texts: fn(&Config) -> Vec<String>,
    /// The words of each line that a file needs to give this value.
    pub lines: fn(&Config) -> Vec<Vec<String>>,
}

/// What the value of an option without effect must look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// `yes` or `no`.
    Bool,
    /// A whole number.
    Number,
    /// An amount of memory, or a percentage.
    Memory,
    /// One word, any.
    Text,
    /// Any words.
    Words,
}

impl Opt {
    /// The row with these older names added.
    pub const fn also(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// True when the option has an effect here.
    pub fn is_used(&self) -> bool {
        !matches!(self.value, Value::Noted { .. } | Value::Only { .. } | Value::Refused(_))
    }

    /// True when CONFIG GET shows it and CONFIG REWRITE may write it.
    pub fn is_kept(&self) -> bool {
        !matches!(self.value, Value::Refused(_) | Value::Include)
    }

    /// True when its value must not be shown in logs, MONITOR or SLOWLOG.
    pub fn is_secret(&self) -> bool {
        matches!(self.value, Value::Secret { .. }) || self.name.ends_with("-pass")
    }

    /// True when a second line adds to the first instead of replacing it.
    pub fn adds_up(&self) -> bool {
        matches!(self.name, "save" | "replicaof" | "rename-command" | "client-output-buffer-limit")
    }

    /// The words a line takes after the name, for messages and help.
    pub fn form(&self) -> String {
        match &self.value {
            Value::Bool { .. } => "yes|no".into(),
            Value::Number { min, max, .. } if *max >= i64::from(i32::MAX) && *min < 0 => format!("NUMBER from {min}"),
            Value::Number { .. } => "NUMBER".into(),
            Value::Octal { .. } => "OCTAL".into(),
            Value::Memory { .. } => "BYTES".into(),
            Value::Word { words, .. } => words.join("|"),
            Value::Text { .. } => "TEXT".into(),
            Value::Secret { .. } => "PASSWORD".into(),
            Value::Several(several) => several.form.into(),
            Value::Noted { shape: Shape::Bool, .. } => "yes|no".into(),
            Value::Noted { shape: Shape::Words, .. } | Value::Refused(_) => "WORD...".into(),
            Value::Noted { .. } | Value::Only { .. } => "VALUE".into(),
            Value::Include => "FILE".into(),
        }
    }

    /// Reads the words behind the name, or says why not.
    pub fn set(&self, config: &mut Config, words: &[Vec<u8>]) -> Result<(), String> {
        match &self.value {
            Value::Several(several) => return (several.set)(config, &split_one(words)),
            Value::Noted { shape: Shape::Words, default, .. } => {
                note(config, self.name, default, words.join(&b' '));
                return Ok(());
            }
            Value::Refused(reason) => return Err((*reason).into()),
            Value::Include => return Err("can only stand in a configuration file".into()),
            _ => {}
        }
        let [word] = words else { return Err(WRONG_NUMBER.into()) };
        match &self.value {
            Value::Secret { set, .. } => set(config, Secret::new(word.as_slice())),
            Value::Noted { shape, default, .. } => {
                note(config, self.name, default, shape.read(word)?);
            }
            _ => self.set_text(config, utf8(word)?)?,
        }
        Ok(())
    }

    fn set_text(&self, config: &mut Config, word: &str) -> Result<(), String> {
        match &self.value {
            Value::Bool { set, .. } => set(config, yes_or_no(word).ok_or(NOT_BOOL)?),
            Value::Number { min, max, set, .. } => {
                let n = parse_i64(word.as_bytes()).ok_or(NOT_INTEGER)?;
                if !(*min..=*max).contains(&n) {
                    return Err(format!("argument must be between {min} and {max} inclusive"));
                }
                set(config, n);
            }
            Value::Octal { max, set, .. } => {
                let n = u32::from_str_radix(word, 8).map_err(|_| "argument couldn't be parsed as an octal number")?;
                if n > *max {
                    return Err(format!("argument must be between 0 and {max:o} inclusive"));
                }
                set(config, n);
            }
            Value::Memory { min, set, .. } => {
                let bytes = parse_memory(word).ok_or(NOT_MEMORY)?;
                if bytes < *min || bytes > MEMORY_MAX {
                    return Err(format!("argument must be between {min} and {MEMORY_MAX} inclusive"));
                }
                set(config, bytes);
            }
            Value::Word { words, set, .. } => {
                if !set(config, word) {
                    return Err(format!("argument(s) must be one of the following: {}", words.join(", ")));
                }
            }
            Value::Text { set, .. } => set(config, word)?,
            Value::Only { value, reason } => {
                if !value.eq_ignore_ascii_case(word) {
                    return Err((*reason).into());
                }
            }
            Value::Secret { .. } | Value::Several(_) | Value::Noted { .. } | Value::Refused(_) | Value::Include => {
                unreachable!("handled by set")
            }
        }
        Ok(())
    }

    /// What CONFIG GET prints: one entry per name-value pair.
    pub fn texts(&self, config: &Config) -> Vec<Vec<u8>> {
        match &self.value {
            Value::Memory { get, .. } => vec![get(config).to_string().into_bytes()],
            Value::Several(several) => (several.texts)(config).into_iter().map(String::into_bytes).collect(),
            _ => self.lines(config).into_iter().map(|line| line.join(&b' ')).collect(),
        }
    }

    /// The words of each line that a file needs to give the value `config` has.
    pub fn lines(&self, config: &Config) -> Vec<Vec<Vec<u8>>> {
        let word: Vec<u8> = match &self.value {
            Value::Bool { get, .. } => if get(config) { "yes" } else { "no" }.into(),
            Value::Number { get, .. } => get(config).to_string().into(),
            Value::Octal { get, .. } => format!("{:o}", get(config)).into(),
            Value::Memory { get, .. } => short_memory(get(config)).into(),
            Value::Word { get, .. } => get(config).into(),
            Value::Text { get, .. } => get(config).into(),
            Value::Secret { get, .. } => get(config).reveal().into(),
            Value::Several(several) => {
                let lines = (several.lines)(config).into_iter();
                return lines.map(|line| line.into_iter().map(String::into_bytes).collect()).collect();
            }
            Value::Noted { shape: Shape::Words, default, .. } => {
                let text = config.noted.get(self.name).unwrap_or(default.as_bytes());
                return vec![text.split(|&b| b == b' ').map(<[u8]>::to_vec).collect()];
            }
            Value::Noted { default, .. } => config.noted.get(self.name).unwrap_or(default.as_bytes()).into(),
            Value::Only { value, .. } => (*value).into(),
            Value::Refused(_) | Value::Include => return Vec::new(),
        };
        vec![vec![word]]
    }
}

impl Shape {
    /// The value as CONFIG GET prints it, or why it is none.
    fn read(self, word: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Bool => Ok(if yes_or_no(utf8(word)?).ok_or(NOT_BOOL)? { "yes" } else { "no" }.into()),
            Self::Number => parse_i64(word).map(|n| n.to_string().into()).ok_or(NOT_INTEGER.into()),
            Self::Memory if word.ends_with(b"%") => Ok(word.into()),
            Self::Memory => Ok(parse_memory(utf8(word)?).ok_or(NOT_MEMORY)?.to_string().into()),
            Self::Text | Self::Words => Ok(word.into()),
        }
    }
}

/// Redis' words for too few or too many words.
pub(super) const WRONG_NUMBER: &str = "wrong number of arguments";
const NOT_BOOL: &str = "argument must be 'yes' or 'no'";
const NOT_INTEGER: &str = "argument couldn't be parsed into an integer";
const NOT_MEMORY: &str = "argument must be a memory value";
const MEMORY_MAX: u64 = i64::MAX as u64;

/// The word as text, or why not.
pub(super) fn utf8(word: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(word).map_err(|_| "argument is not UTF-8 text".into())
}

// Redis takes several words in one argument too: --save "60 1000", CONFIG SET save "60 1000".
fn split_one(words: &[Vec<u8>]) -> Cow<'_, [Vec<u8>]> {
    match words {
        [word] if !word.is_empty() => {
            word.split(|&b| b == b' ').filter(|w| !w.is_empty()).map(<[u8]>::to_vec).collect()
        }
        _ => words.into(),
    }
}

// KeyDB takes true and false as well, and its sample file uses them.
fn yes_or_no(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        other => parse_bool(other),
    }
}

/// Bytes in the largest unit that divides them: `64mb`.
pub(super) fn short_memory(bytes: u64) -> String {
    for (unit, size) in [("gb", 1 << 30), ("mb", 1 << 20), ("kb", 1 << 10)] {
        if bytes != 0 && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    bytes.to_string()
}

// The default is not kept, so that a file which spells it out equals one that says nothing.
fn note(config: &mut Config, name: &'static str, default: &str, text: Vec<u8>) {
    if text.eq_ignore_ascii_case(default.as_bytes()) {
        config.noted.0.remove(name);
    } else {
        config.noted.0.insert(name, text);
    }
}
