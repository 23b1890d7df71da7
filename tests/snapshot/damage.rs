//! Damaged and foreign files are refused.
