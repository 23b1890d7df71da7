//! Redis' rules for numbers and patterns in text.
