//! Any bytes, cut anywhere, under any limits: the parser neither panics nor loops, and the cuts change nothing.
//!
//! The first two bytes choose the limits and the cuts; the rest is the stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tutti::resp::{Argv, Limits, Parsed, Parser, ProtocolError, encode_command};

type Commands = Vec<Vec<Vec<u8>>>;

fuzz_target!(|input: &[u8]| {
    let [limit, step, stream @ ..] = input else { return };
    let limits = Limits {
        bulk_bytes_max: if limit & 1 == 0 { 512 << 20 } else { 100 },
        query_bytes_max: if limit & 2 == 0 { 1 << 30 } else { usize::from(limit >> 3) * 8 },
        authenticated: limit & 4 == 0,
    };
    let whole = feed(stream, stream.len().max(1), &limits);
    assert_eq!(feed(stream, usize::from(*step) + 1, &limits), whole);
    // What was read is read again from its own encoding, limits permitting.
    if limits.query_bytes_max == 1 << 30 && limits.authenticated {
        let mut encoded = Vec::new();
        whole.0.iter().for_each(|args| encode_command(&mut encoded, args));
        let limits = Limits::default();
        assert_eq!(feed(&encoded, encoded.len().max(1), &limits), (whole.0, None));
    }
});

/// Feeds `stream` in pieces of `step` bytes.
fn feed(stream: &[u8], step: usize, limits: &Limits) -> (Commands, Option<ProtocolError>) {
    let (mut parser, mut argv, mut commands) = (Parser::new(), Argv::new(), Commands::new());
    let (mut start, mut end) = (0, 0);
    while end < stream.len() {
        end = stream.len().min(end + step);
        loop {
            let buf = &stream[start..end];
            match parser.next(buf, limits, &mut argv) {
                Ok(Parsed::Command { consumed }) => {
                    assert!(0 < consumed && consumed <= buf.len().min(limits.query_bytes_max));
                    assert!(!argv.is_empty());
                    commands.push(argv.iter(buf).map(<[u8]>::to_vec).collect());
                    start += consumed;
                }
                Ok(Parsed::Empty { consumed }) => {
                    assert!(0 < consumed && consumed <= buf.len());
                    start += consumed;
                }
                Ok(Parsed::Incomplete) => {
                    assert!(parser.wanted() == 0 || parser.wanted() > buf.len());
                    break;
                }
                Err(error) => return (commands, Some(error)),
            }
        }
    }
    (commands, None)
}
