use super::*;
use crate::resp::encode_command;
use proptest::prelude::*;

type Command = Vec<Vec<u8>>;

/// Everything the stream says: its commands, the error that ended it, and how many bytes were left over.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    commands: Vec<Command>,
    error: Option<ProtocolError>,
    left: usize,
}

/// Feeds `stream` in pieces that end at the offsets in `cuts`, as a socket would deliver it.
fn feed(stream: &[u8], cuts: &[usize], limits: &Limits) -> Outcome {
    let (mut parser, mut argv) = (Parser::new(), Argv::new());
    let mut outcome = Outcome { commands: Vec::new(), error: None, left: 0 };
    let (mut start, mut end) = (0, 0);
    for cut in cuts.iter().copied().chain([stream.len()]) {
        end = cut.clamp(end, stream.len());
        loop {
            let buf = &stream[start..end];
            match parser.next(buf, limits, &mut argv) {
                Ok(Parsed::Command { consumed }) => {
                    assert!(0 < consumed && consumed <= buf.len());
                    outcome.commands.push(argv.iter(buf).map(<[u8]>::to_vec).collect());
                    start += consumed;
                }
                Ok(Parsed::Empty { consumed }) => {
                    assert!(0 < consumed && consumed <= buf.len());
                    assert!(argv.is_empty());
                    start += consumed;
                }
                Ok(Parsed::Incomplete) => {
                    assert!(argv.is_empty());
                    assert!(parser.wanted() == 0 || parser.wanted() > buf.len());
                    break;
                }
                Err(error) => {
                    outcome.error = Some(error);
                    outcome.left = stream.len() - start;
                    return outcome;
                }
            }
        }
    }
    outcome.left = end - start;
    outcome
}

fn whole(stream: &[u8]) -> Outcome {
    feed(stream, &[], &Limits::default())
}

fn every_byte(stream: &[u8], limits: &Limits) -> Outcome {
    let cuts: Vec<usize> = (1..stream.len()).collect();
    feed(stream, &cuts, limits)
}

/// Commands as text, one a line, with `|` between arguments; then the error, if any.
fn shown(outcome: &Outcome) -> String {
    let mut lines: Vec<String> = outcome
        .commands
        .iter()
        .map(|args| args.iter().map(|arg| arg.escape_ascii().to_string()).collect::<Vec<_>>().join("|"))
        .collect();
    lines.extend(outcome.error.map(|error| error.to_string()));
    lines.join("\n")
}

/// Both the whole stream at once and byte by byte must give `expected`.
#[track_caller]
fn check(stream: &[u8], expected: &str) {
    check_within(&Limits::default(), stream, expected);
}

#[track_caller]
fn check_within(limits: &Limits, stream: &[u8], expected: &str) {
    assert_eq!(shown(&feed(stream, &[], limits)), expected, "whole");
    assert_eq!(shown(&every_byte(stream, limits)), expected, "byte by byte");
}

#[test]
fn a_pipeline_of_arrays_and_lines_is_read_in_order() {
    check(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nset k \"a\\x41\"\r\n\r\n*0\r\n*1\r\n$4\r\nPING\r\n", "GET|k\nset|k|aA\nPING");
}

#[test]
fn arguments_of_an_array_may_hold_any_byte() {
    check(b"*2\r\n$4\r\n\r\n$1\r\n$0\r\n\r\n", "\\r\\n$1|");
}

#[test]
fn empty_and_negative_counts_are_skipped() {
    check(b"*0\r\n*-1\r\n*-10\r\n*1\r\n$4\r\nPING\r\n", "PING");
}

#[test]
fn counts_and_lengths_are_plain_decimals() {
    for text in ["", "+1", "01", " 1", "1 ", "-0", "1.0", "0x1", "1e0", "-", "9223372036854775808"] {
        check(format!("*{text}\r\n$4\r\nPING\r\n").as_bytes(), "Protocol error: invalid multibulk length");
        check(format!("*1\r\n${text}\r\n").as_bytes(), "Protocol error: invalid bulk length");
    }
    check(b"*1\r\n$-1\r\n", "Protocol error: invalid bulk length");
    check(b"*1\r\n$007\r\n", "Protocol error: invalid bulk length");
    check(b"*2147483648\r\n", "Protocol error: invalid multibulk length");
    check(b"*2147483647\r\n", "");
}

#[test]
fn the_two_bytes_after_an_argument_are_not_looked_at() {
    check(b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n", "PING\nPING");
}

#[test]
fn the_byte_after_a_carriage_return_is_not_looked_at() {
    check(b"*1\rx$4\ryPING\r\n", "PING");
}

#[test]
fn an_argument_must_begin_with_a_dollar() {
    check(b"*2\r\n$3\r\nGET\r\n:1\r\n", "Protocol error: expected '$', got ':'");
    check(b"*1\r\n\0", "Protocol error: expected '$', got '?'");
}

#[test]
fn a_bulk_above_the_configured_length_is_refused_at_its_header() {
    let limits = Limits { bulk_bytes_max: 5, ..Limits::default() };
    check_within(&limits, b"*1\r\n$5\r\nhello\r\n", "hello");
    check_within(&limits, b"*1\r\n$6\r\n", "Protocol error: invalid bulk length");
    check(b"*1\r\n$536870913\r\n", "Protocol error: invalid bulk length");
    check(b"*1\r\n$536870912\r\n", "");
}

#[test]
fn strangers_may_send_ten_arguments_of_sixteen_kibibytes() {
    let limits = Limits { authenticated: false, ..Limits::default() };
    let ten = "*10\r\n".to_owned() + &"$1\r\na\r\n".repeat(10);
    check_within(&limits, ten.as_bytes(), "a|a|a|a|a|a|a|a|a|a");
    check_within(&limits, b"*11\r\n", "Protocol error: unauthenticated multibulk length");
    check_within(&limits, b"*1\r\n$16385\r\n", "Protocol error: unauthenticated bulk length");
    check_within(&limits, b"*1\r\n$16384\r\n", "");
    check(b"*11\r\n", "");
}

#[test]
fn a_line_without_an_end_is_refused_after_64_kibibytes() {
    let long = "1".repeat(LINE_BYTES_MAX);
    let nines = "9".repeat(LINE_BYTES_MAX - 1);
    // One byte less than too long is still waited for, and then not a number.
    for (head, too_big, invalid) in [
        ("*", "Protocol error: too big mbulk count string", "Protocol error: invalid multibulk length"),
        ("*1\r\n$", "Protocol error: too big bulk count string", "Protocol error: invalid bulk length"),
    ] {
        check(format!("{head}{nines}").as_bytes(), "");
        check(format!("{head}{nines}\r\n").as_bytes(), invalid);
        check(format!("{head}{long}").as_bytes(), too_big);
        check(format!("{head}{long}\r\n").as_bytes(), too_big);
    }
    check(long.as_bytes(), "");
    check(format!("{long}\n").as_bytes(), &long);
    check(format!("{long}1").as_bytes(), "Protocol error: too big inline request");
    check(format!("{long}1\n").as_bytes(), "Protocol error: too big inline request");
}

#[test]
fn a_command_above_the_query_limit_is_refused_however_it_arrives() {
    let stream = b"*2\r\n$3\r\nGET\r\n$5\r\nhello\r\n";
    for bytes_max in 0..stream.len() {
        let limits = Limits { query_bytes_max: bytes_max, ..Limits::default() };
        check_within(&limits, stream, "Protocol error: query buffer limit exceeded");
    }
    check_within(&Limits { query_bytes_max: stream.len(), ..Limits::default() }, stream, "GET|hello");
    assert!(!ProtocolError::QueryTooBig.is_answered());
    assert!(ProtocolError::InlineTooBig.is_answered());
}

#[test]
fn the_query_limit_is_for_one_command_and_not_for_a_pipeline() {
    let limits = Limits { query_bytes_max: 14, ..Limits::default() };
    check_within(&limits, b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n", "PING\nPING");
}

#[test]
fn inline_commands_follow_the_quoting_of_redis() {
    check(b"  SET  k\tv \r\n", "SET|k|v");
    check(b"SET k 'it\\'s'\n", "SET|k|it\\'s");
    check(b"SET k \"\\n\\r\\t\\b\\a\\q\\\"\\x4a\\xzz\"\n", "SET|k|\\n\\r\\t\\x08\\x07q\\\"Jxzz");
    check(b"SET k \"\"\n", "SET|k|");
    check(b"ab\"cd\" e\n", "abcd|e");
    check(b"PING\r\r\n", "PING");
    check(b"\r\n \n\t\r\nPING\n", "PING");
    for line in ["\"a", "'a", "\"a\"b", "'a'b", "a 'b'\"c\"", "\"\\"] {
        check(format!("{line}\r\n").as_bytes(), "Protocol error: unbalanced quotes in request");
    }
}

#[test]
fn wanted_is_where_the_current_argument_ends() {
    let (mut parser, mut argv, limits) = (Parser::new(), Argv::new(), Limits::default());
    let head = b"*2\r\n$3\r\nGET\r\n$1000000\r\n";
    assert_eq!(parser.next(head, &limits, &mut argv), Ok(Parsed::Incomplete));
    assert_eq!(parser.wanted(), head.len() + 1_000_002);
    let mut stream = head.to_vec();
    stream.resize(parser.wanted(), b'x');
    assert_eq!(parser.next(&stream, &limits, &mut argv), Ok(Parsed::Command { consumed: stream.len() }));
    assert_eq!(parser.wanted(), 0);
    assert_eq!(argv.get(1, &stream).len(), 1_000_000);
}

#[test]
fn one_argv_serves_many_parsers_in_the_middle_of_commands() {
    let limits = Limits::default();
    let mut argv = Argv::new();
    let streams: Vec<Vec<u8>> = (0..5)
        .map(|i| {
            let mut stream = Vec::new();
            encode_command(&mut stream, &[format!("SET{i}"), format!("key{i}"), "v".repeat(i)]);
            stream
        })
        .collect();
    let mut parsers: Vec<Parser> = (0..5).map(|_| Parser::new()).collect();
    for cut in 1..40 {
        for (stream, parser) in streams.iter().zip(&mut parsers) {
            if cut < stream.len() {
                assert_eq!(parser.next(&stream[..cut], &limits, &mut argv), Ok(Parsed::Incomplete));
            }
        }
    }
    for (i, (stream, parser)) in streams.iter().zip(&mut parsers).enumerate() {
        assert_eq!(parser.next(stream, &limits, &mut argv), Ok(Parsed::Command { consumed: stream.len() }));
        let args: Vec<&[u8]> = argv.iter(stream).collect();
        assert_eq!(args, [format!("SET{i}").as_bytes(), format!("key{i}").as_bytes(), "v".repeat(i).as_bytes()]);
    }
}

#[test]
fn a_hundred_thousand_arguments_byte_by_byte_take_linear_time() {
    let args = vec![b"ab".to_vec(); 100_000];
    let mut stream = Vec::new();
    encode_command(&mut stream, &args);
    // 800 thousand calls; anything quadratic would not come back.
    let outcome = every_byte(&stream, &Limits::default());
    assert_eq!(outcome.commands, [args]);
}

#[test]
fn memory_of_an_unusually_large_command_is_given_back() {
    let mut stream = Vec::new();
    encode_command(&mut stream, &vec![b"a"; ARGS_KEPT_MAX * 2]);
    let (mut parser, mut argv, limits) = (Parser::new(), Argv::new(), Limits::default());
    let half = stream.len() / 2;
    assert_eq!(parser.next(&stream[..half], &limits, &mut argv), Ok(Parsed::Incomplete));
    assert_eq!(parser.next(&stream, &limits, &mut argv), Ok(Parsed::Command { consumed: stream.len() }));
    assert_eq!(argv.len(), ARGS_KEPT_MAX * 2);
    argv.clear();
    assert_eq!(argv.ranges().len(), 0);
    assert!(argv.spans.capacity() <= ARGS_KEPT_MAX && parser.parked.capacity() <= PARKED_KEPT_MAX);
}

/// An argument: short, long enough for two, three and four digits, or full of the protocol's own bytes.
fn argument() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..12),
        1 => prop::collection::vec(any::<u8>(), 95..105),
        1 => (990usize..1010, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
        1 => prop::collection::vec(prop::sample::select(b"\r\n$*0123456789-\"' ".to_vec()), 0..12),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        8 => prop::collection::vec(argument(), 1..6),
        1 => prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3), 8..120),
    ]
}

/// Bytes that look like the protocol often enough to reach every branch.
fn nearly_protocol() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => prop::sample::select(vec![
            "*1\r\n", "*2\r\n", "*3\r\n", "*0\r\n", "*-1\r\n", "*11\r\n", "*2147483648\r\n", "*", "$", "\r\n", "\r", "\n",
            "$0\r\n\r\n", "$1\r\na\r\n", "$3\r\nGET\r\n", "$-1\r\n", "$10\r\n", "$01\r\n", "$99999999999\r\n", "$1000\r\n",
            "PING\r\n", "SET a b\n", "\"", "'", " ", "\"a\\x41\" ", "\\", "a",
        ]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    // A failure becomes a named test rather than a file of seeds.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn prop_encoded_commands_are_read_back(commands in prop::collection::vec(command(), 0..6)) {
        let mut stream = Vec::new();
        for args in &commands {
            encode_command(&mut stream, args);
        }
        prop_assert_eq!(whole(&stream), Outcome { commands, error: None, left: 0 });
    }

    #[test]
    fn prop_cuts_never_change_the_outcome(
        stream in nearly_protocol(),
        cuts in prop::collection::btree_set(0usize..120, 0..10),
        authenticated in any::<bool>(),
        query_bytes_max in prop_oneof![Just(1usize << 30), 0usize..80],
    ) {
        let limits = Limits { authenticated, query_bytes_max, ..Limits::default() };
        let cuts: Vec<usize> = cuts.into_iter().collect();
        let expected = feed(&stream, &[], &limits);
        prop_assert_eq!(&feed(&stream, &cuts, &limits), &expected);
        prop_assert_eq!(&every_byte(&stream, &limits), &expected);
    }

    #[test]
    fn prop_cuts_never_change_real_commands(
        commands in prop::collection::vec(command(), 1..4),
        cuts in prop::collection::btree_set(0usize..4000, 0..12),
    ) {
        let mut stream = Vec::new();
        for args in &commands {
            encode_command(&mut stream, args);
        }
        let cuts: Vec<usize> = cuts.into_iter().collect();
        prop_assert_eq!(feed(&stream, &cuts, &Limits::default()), Outcome { commands, error: None, left: 0 });
    }

    #[test]
    fn prop_garbage_ends_in_commands_an_error_or_a_wait(stream in prop::collection::vec(any::<u8>(), 0..300)) {
        let outcome = whole(&stream);
        prop_assert!(outcome.left <= stream.len());
        prop_assert_eq!(every_byte(&stream, &Limits::default()), outcome);
    }
}
