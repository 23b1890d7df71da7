//! What a command costs before and after it runs: parsing it out of the receive buffer and writing its reply.
//!
//! Goals: a SET of three arguments in under 40 ns, nothing allocated once warm, and the same cost per byte however
//! the stream was cut. Not a goal: the socket. `cargo bench --bench parser`; Criterion prints the time of one
//! iteration and, as throughput, commands (or bytes) per second.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use tutti::resp::{Argv, Limits, Parsed, Parser, Reply, Version, encode_command};

fn set_command() -> Vec<u8> {
    command(&[b"SET", b"memtier-1234567", &[b'x'; 64]])
}

fn get_command() -> Vec<u8> {
    command(&[b"GET", b"memtier-1234567"])
}

fn command(args: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_command(&mut out, args);
    out
}

/// Parses every command of `stream` and touches its first argument; returns how many there were.
fn parse_all(parser: &mut Parser, argv: &mut Argv, limits: &Limits, stream: &[u8]) -> usize {
    let (mut at, mut commands) = (0, 0);
    while at < stream.len() {
        let buf = &stream[at..];
        match parser.next(buf, limits, argv).expect("the stream is well formed") {
            Parsed::Command { consumed } => {
                black_box(argv.get(0, buf));
                at += consumed;
                commands += 1;
            }
            Parsed::Empty { consumed } => at += consumed,
            Parsed::Incomplete => break,
        }
    }
    commands
}

fn whole_commands(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    let (mut parser, mut argv, limits) = (Parser::new(), Argv::new(), Limits::default());
    let mset: Vec<Vec<u8>> = std::iter::once(b"MSET".to_vec()).chain((0..200).map(|i| vec![b'k'; 8 + i % 8])).collect();
    let mset: Vec<&[u8]> = mset.iter().map(Vec::as_slice).collect();
    for (name, one) in [
        ("ping", command(&[b"PING"])),
        ("get", get_command()),
        ("set 64 B", set_command()),
        ("set 4 KiB", command(&[b"SET", b"memtier-1234567", &[b'x'; 4096]])),
        ("mset 100 pairs", command(&mset)),
        ("inline get", b"GET memtier-1234567\r\n".to_vec()),
    ] {
        for pipeline in [1, 16] {
            let stream = one.repeat(pipeline);
            group.throughput(Throughput::Elements(pipeline as u64));
            group.bench_function(format!("{name}, pipeline {pipeline}"), |b| {
                b.iter(|| parse_all(&mut parser, &mut argv, &limits, black_box(&stream)))
            });
        }
    }
    group.finish();
}

fn cut_commands(c: &mut Criterion) {
    let mut group = c.benchmark_group("cut");
    let (mut parser, mut argv, limits) = (Parser::new(), Argv::new(), Limits::default());
    let set = set_command();
    // The worst ordinary case: every command arrives in two reads.
    group.throughput(Throughput::Elements(1));
    for cut in [2, 20, 50] {
        group.bench_function(format!("set 64 B, cut at byte {cut}"), |b| {
            b.iter(|| {
                let early = parser.next(black_box(&set[..cut]), &limits, &mut argv);
                let late = parser.next(black_box(&set), &limits, &mut argv);
                (early, late)
            })
        });
    }
    // As a large value arrives: reads of 16 KiB, the parser asked after each.
    let big = command(&[b"SET", b"memtier-1234567", &vec![b'x'; 1 << 20]]);
    group.throughput(Throughput::Bytes(big.len() as u64));
    for piece in [1 << 14, big.len()] {
        group.bench_function(format!("set 1 MiB, {} reads", big.len().div_ceil(piece)), |b| {
            b.iter(|| {
                let mut end = 0;
                loop {
                    end = big.len().min(end + piece);
                    let parsed = parser.next(black_box(&big[..end]), &limits, &mut argv);
                    if parsed != Ok(Parsed::Incomplete) {
                        break parsed;
                    }
                }
            })
        });
    }
    group.finish();
}

fn replies(c: &mut Criterion) {
    let mut group = c.benchmark_group("write");
    let mut out = Vec::with_capacity(1 << 20);
    let value = [b'x'; 64];
    group.throughput(Throughput::Elements(16));
    let mut sixteen = |name: &str, write: &dyn Fn(&mut Reply<'_>)| {
        group.bench_function(format!("{name}, 16 in a row"), |b| {
            b.iter(|| {
                out.clear();
                let mut reply = Reply::new(&mut out, Version::Resp2);
                for _ in 0..16 {
                    write(&mut reply);
                }
                black_box(out.len())
            })
        });
    };
    sixteen("ok", &|reply| reply.ok());
    sixteen("integer", &|reply| reply.integer(black_box(1_234_567)));
    sixteen("nil", &|reply| reply.nil());
    sixteen("bulk 64 B", &|reply| reply.bulk(black_box(&value)));
    sixteen("double", &|reply| reply.double(black_box(1234.5678)));
    sixteen("array of 10 later", &|reply| {
        let hole = reply.array_later();
        for _ in 0..10 {
            reply.bulk(black_box(&value[..8]));
        }
        reply.fill(hole, 10);
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50);
    targets = whole_commands, cut_commands, replies
}
criterion_main!(benches);
