//! The client's mistakes, with Redis' exact texts.

use std::fmt;

/// What a handler refuses with. `Display` gives the line after the minus sign.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandError {
    /// The key holds another type.
    WrongType,
    /// Words in the wrong place.
    Syntax,
    /// Not an integer, or outside 64 bits.
    NotInteger,
    /// Not a float.
    NotFloat,
    /// Too few or too many arguments for the command or subcommand named.
    Arity(String),
    /// Any other fixed line, with its code word.
    Text(&'static str),
    /// Any other line, with its code word.
    Owned(String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongType => out.write_str("WRONGTYPE Operation against a key holding the wrong kind of value"),
            Self::Syntax => out.write_str("ERR syntax error"),
            Self::NotInteger => out.write_str("ERR value is not an integer or out of range"),
            Self::NotFloat => out.write_str("ERR value is not a valid float"),
            Self::Arity(name) => write!(out, "ERR wrong number of arguments for '{name}' command"),
            Self::Text(text) => out.write_str(text),
            Self::Owned(text) => out.write_str(text),
        }
    }
}
