//! The configuration as users meet it: the files in `config/`, KeyDB's own example in any order, the program's command
//! line, and the law that a rewritten file gives back the running configuration.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use proptest::prelude::*;
use tutti::base::rng::Rng;
use tutti::config::Config;
use tutti::config::args::{self, Request};
use tutti::config::load::{File, Loader};
use tutti::config::option::{Opt, Shape, Value};
use tutti::config::options::{all, used};
use tutti::config::rewrite::rewrite;

/// The lines KeyDB's documentation gives for three masters; only the addresses are ours.
const INSTANCE_A: &str = "\
# assuming below parameters were set and IP address of this instance is 10.0.0.2
port 6379
requirepass mypassword123
masterauth mypassword123
# you will need to configure the following
multi-master yes
active-replica yes
replicaof 10.0.0.3 6379
replicaof 10.0.0.4 6379
";

fn load_with(text: &[u8], include: &mut dyn FnMut(&str) -> Result<Vec<File>, String>) -> Result<Config, String> {
    let mut loader = Loader::new(include);
    loader.file("test.conf", text).map_err(|error| error.to_string())?;
    loader.finish().map(|loaded| loaded.config).map_err(|error| error.to_string())
}

fn load(text: &str) -> Config {
    load_with(text.as_bytes(), &mut |path| Err(format!("no file {path}"))).unwrap_or_else(|error| panic!("{error}"))
}

fn load_flags(words: &[&str]) -> Config {
    let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    let Request::Start(invocation) = args::parse(&words).expect("a command line") else { panic!("not a start") };
    invocation.load(None, None, &mut |_| Ok(Vec::new())).expect("it is right").config
}

fn shipped(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn expect_instance_a(config: &Config) {
    assert_eq!(config.port, 6379);
    assert_eq!(config.requirepass.reveal(), b"mypassword123");
    assert_eq!(config.masterauth.reveal(), b"mypassword123");
    assert!(config.multi_master && config.active_replica && !config.replica_read_only);
    let mut masters = config.replicaof.clone();
    masters.sort();
    assert_eq!(masters, [("10.0.0.3".to_owned(), 6379), ("10.0.0.4".to_owned(), 6379)]);
}

// Heap's algorithm.
fn permutations<T: Clone>(items: &mut Vec<T>, upto: usize, each: &mut impl FnMut(&[T])) {
    if upto <= 1 {
        return each(items);
    }
    for at in 0..upto {
        permutations(items, upto - 1, each);
        items.swap(if upto.is_multiple_of(2) { at } else { 0 }, upto - 1);
    }
}

#[test]
fn keydb_example_loads_with_its_lines_in_any_order() {
    expect_instance_a(&load(INSTANCE_A));
    let mut lines: Vec<&str> = INSTANCE_A.lines().filter(|line| !line.starts_with('#')).collect();
    let mut count = 0;
    let upto = lines.len();
    permutations(&mut lines, upto, &mut |lines| {
        expect_instance_a(&load(&lines.join("\n")));
        count += 1;
    });
    assert_eq!(count, 5040);
}

#[test]
fn keydb_example_loads_with_windows_line_ends() {
    expect_instance_a(&load(&INSTANCE_A.replace('\n', "\r\n")));
}

#[test]
fn keydb_flags_load_in_any_order() {
    let mut flags = vec![
        vec!["--multi-master", "yes"],
        vec!["--active-replica", "yes"],
        vec!["--replicaof", "10.0.0.3", "6379"],
        vec!["--replicaof", "10.0.0.4", "6379"],
        vec!["--requirepass", "mypassword123", "--masterauth", "mypassword123"],
    ];
    let upto = flags.len();
    permutations(&mut flags, upto, &mut |flags| expect_instance_a(&load_flags(&flags.concat())));
}

#[test]
fn three_peers_name_each_other() {
    let peers: Vec<Config> = ["peer-a.conf", "peer-b.conf", "peer-c.conf"].map(|name| load(&shipped(name))).to_vec();
    for peer in &peers {
        assert!(peer.multi_master && peer.active_replica);
        assert_eq!(peer.requirepass, peer.masterauth);
        let others: Vec<_> = peers.iter().filter(|other| other.port != peer.port).collect();
        assert_eq!(others.len(), 2, "ports differ");
        assert!(others.iter().all(|other| peer.replicaof.contains(&("127.0.0.1".to_owned(), other.port))));
        assert!(others.iter().all(|other| peer.dbfilename != other.dbfilename));
    }
}

#[test]
fn default_file_is_the_default_and_names_every_option() {
    let text = shipped("default.conf");
    assert_eq!(load(&text), Config::default());
    for opt in used() {
        let is_shown = |line: &str| line.split_whitespace().next() == Some(opt.name);
        let live = text.lines().any(is_shown);
        let example = text.lines().any(|line| line.strip_prefix("# ").is_some_and(is_shown));
        let has_default_line = opt.is_kept() && !opt.lines(&Config::default()).is_empty();
        assert!(if has_default_line { live } else { example }, "{}", opt.name);
    }
    let run_time_marks = text.matches("At run time").count();
    assert!(run_time_marks > 20, "the file says what may change at run time");
}

#[test]
fn every_default_can_be_changed_by_its_line() {
    // A line that is ignored would pass the test above.
    let mut rng = Rng::new(7);
    for opt in used().filter(|opt| opt.is_kept()) {
        let changes = (0..50).any(|_| {
            let mut loader_config = Config::default();
            opt.set(&mut loader_config, &words_for(opt, &mut rng)).is_ok() && loader_config != Config::default()
        });
        assert!(changes, "{}", opt.name);
    }
}

#[test]
fn program_checks_a_file_and_says_what_is_wrong_in_one_line() {
    let dir = std::env::temp_dir().join(format!("tutti-config-{}", std::process::id()));
    fs::create_dir_all(dir.join("conf.d")).expect("a scratch directory");
    let path = |name: &str| dir.join(name).display().to_string();
    fs::write(path("conf.d/1.conf"), "timeout 7\n").expect("scratch");
    fs::write(path("conf.d/.hidden.conf"), "nonsense\n").expect("scratch");
    fs::write(path("good.conf"), format!("{INSTANCE_A}include {}\n", path("conf.d/*.conf"))).expect("scratch");
    fs::write(path("bad.conf"), "port 6379\n\nmulti-master maybe\n").expect("scratch");

    let good = run(&[&path("good.conf"), "--port", "7000", "--test-config"]);
    assert!(good.status.success());
    let said = String::from_utf8_lossy(&good.stdout);
    assert_eq!(
        said,
        "configuration OK: port 7000, multi-master and active-replica, masters: 10.0.0.3 6379, 10.0.0.4 6379\n"
    );

    let bad = run(&[&path("bad.conf")]);
    let reason =
        format!("tutti-server: {}:3: multi-master 'maybe': argument must be 'yes' or 'no'\n", path("bad.conf"));
    assert_eq!((bad.status.code(), String::from_utf8_lossy(&bad.stderr).into_owned()), (Some(1), reason));

    let gone = run(&[&path("gone.conf")]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("gone.conf: No such file"));
    fs::remove_dir_all(&dir).expect("scratch is ours");
}

#[test]
fn program_prints_help_and_version() {
    let help = run(&["--help"]);
    assert!(
        help.status.success() && String::from_utf8_lossy(&help.stdout).contains("--replicaof <HOST PORT | no one>")
    );
    let version = run(&["--version"]);
    assert_eq!(String::from_utf8_lossy(&version.stdout), concat!("tutti-server ", env!("CARGO_PKG_VERSION"), "\n"));
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tutti-server")).args(args).output().expect("the program was built")
}

/// Words that may stand behind an option's name.
fn right_words_for(opt: &Opt, rng: &mut Rng) -> Vec<Vec<u8>> {
    loop {
        let words = words_for(opt, rng);
        if opt.set(&mut Config::default(), &words).is_ok() {
            return words;
        }
    }
}

// Not always right ones: the table knows more than this does.
fn words_for(opt: &Opt, rng: &mut Rng) -> Vec<Vec<u8>> {
    let word = |text: &str| vec![text.as_bytes().to_vec()];
    let number = |rng: &mut Rng, min: i64, max: i64| {
        let span = max.saturating_sub(min).clamp(1, 100_000) as u64;
        (min + rng.below(span) as i64).to_string()
    };
    match &opt.value {
        Value::Bool { .. } | Value::Noted { shape: Shape::Bool, .. } => {
            word(["yes", "no", "true", "NO"][rng.below(4) as usize])
        }
        Value::Number { min, max, .. } => word(&number(rng, *min, *max)),
        Value::Noted { shape: Shape::Number, .. } => word(&number(rng, 0, 1000)),
        Value::Octal { .. } => word(&format!("{:o}", rng.below(0o1000))),
        Value::Memory { .. } => word(&format!("{}{}", 1 + rng.below(4096), ["mb", "gb", "m"][rng.below(3) as usize])),
        Value::Noted { shape: Shape::Memory, .. } => word(&format!("{}kb", rng.below(9))),
        Value::Word { words, .. } => word(words[rng.below(words.len() as u64) as usize]),
        Value::Only { value, .. } => word(value),
        Value::Text { .. } if opt.name == "notify-keyspace-events" => {
            word(["", "KEA", "Kx", "gxE"][rng.below(4) as usize])
        }
        Value::Text { .. } | Value::Secret { .. } | Value::Noted { .. } => {
            word(["plain", "two words", "", "it's", "\"q\" \\", "käse"][rng.below(6) as usize])
        }
        Value::Several(_) => words_of_several(opt.name, rng),
        Value::Refused(_) | Value::Include => unreachable!("not kept"),
    }
}

fn words_of_several(name: &str, rng: &mut Rng) -> Vec<Vec<u8>> {
    let n = 1 + rng.below(5);
    let text = match name {
        "bind" => ["127.0.0.1 -::1", "*", ""][rng.below(3) as usize].to_owned(),
        "save" if n == 1 => String::new(),
        "save" => format!("{n} {} {} 1", n * 3, n * 60),
        "replicaof" if n == 1 => "no one".to_owned(),
        "replicaof" => format!("{} {}", ["10.0.0.1", "::1", "host.example"][rng.below(3) as usize], 6000 + n),
        "rename-command" => format!("flushall name{n}"),
        "client-output-buffer-limit" => {
            format!("{} {n}mb 1kb {n}", ["normal", "slave", "pubsub"][rng.below(3) as usize])
        }
        "latency-tracking-info-percentiles" => format!("{n} 99.{n}"),
        other => panic!("no words for {other}"),
    };
    match text.as_str() {
        "" => vec![Vec::new()],
        text => text.split(' ').map(|word| word.as_bytes().to_vec()).collect(),
    }
}

/// A file of random lines: directives, comments, empty lines, lines that mean nothing, and an include.
fn random_file(rng: &mut Rng, lines: u64, may_include: bool) -> Vec<u8> {
    // Renamed commands cannot change while the server runs, so the file and what it includes never disagree on them.
    let options: Vec<&Opt> = all().filter(|opt| opt.is_kept() && opt.name != "rename-command").collect();
    let favourites: Vec<&Opt> = options
        .iter()
        .copied()
        .filter(|opt| opt.adds_up() || opt.name.starts_with("multi-") || opt.name.contains("replica"))
        .collect();
    let line_end = if rng.chance(3) { "\r\n" } else { "\n" };
    let mut text = Vec::new();
    for number in 0..lines {
        let line = match rng.below(10) {
            0 => format!("# comment {number}").into_bytes(),
            1 => Vec::new(),
            2 if may_include => b"include other.conf".to_vec(),
            3 if may_include => b"nonsense 1".to_vec(),
            _ => {
                let from = if rng.chance(2) { &favourites } else { &options };
                let opt = from[rng.below(from.len() as u64) as usize];
                line_of(opt, &right_words_for(opt, rng))
            }
        };
        text.extend_from_slice(&line);
        text.extend_from_slice(line_end.as_bytes());
    }
    text
}

// All words in hexadecimal, so that this does not lean on the quoting under test.
fn line_of(opt: &Opt, words: &[Vec<u8>]) -> Vec<u8> {
    let mut line = opt.name.to_uppercase();
    for word in words {
        let hex: String = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        line += &format!(" \"{hex}\"");
    }
    line.into_bytes()
}

fn without_nonsense(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(text.to_vec()).expect("the test wrote it");
    let good: Vec<&str> = text.lines().filter(|line| !line.starts_with("nonsense")).collect();
    good.join("\n").into_bytes()
}

fn comments(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    text.lines().filter(|line| line.starts_with("# comment")).map(|line| line.trim_end().to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn prop_a_rewritten_file_gives_the_running_configuration(seed: u64) {
        let mut rng = Rng::new(seed);
        let other = random_file(&mut rng, 8, false);
        let mut include = |_: &str| Ok(vec![("other.conf".to_owned(), other.clone())]);
        let wanted = random_file(&mut rng, 25, false);
        let Ok(config) = load_with(&wanted, &mut include) else { return Ok(()) };
        let size = rng.below(30);
        let old = random_file(&mut rng, size, true);

        let new = rewrite(&old, &config, &mut include).expect("every included file can be read");
        let loaded = load_with(&new, &mut include);
        prop_assert_eq!(loaded.as_ref(), Ok(&config), "old:\n{}\nnew:\n{}", String::from_utf8_lossy(&old), String::from_utf8_lossy(&new));
        prop_assert_eq!(comments(&old), comments(&new));
        let again = rewrite(&new, &config, &mut include).expect("as before");
        prop_assert_eq!(&new, &again, "a second rewrite changes nothing");
    }

    #[test]
    fn prop_a_rewrite_without_changes_keeps_every_line(seed: u64) {
        let mut rng = Rng::new(seed);
        let other = random_file(&mut rng, 8, false);
        let mut include = |_: &str| Ok(vec![("other.conf".to_owned(), other.clone())]);
        let old = without_nonsense(&random_file(&mut rng, 25, true));
        let Ok(config) = load_with(&old, &mut include) else { return Ok(()) };
        let new = rewrite(&old, &config, &mut include).expect("every included file can be read");
        let (new, old) = (String::from_utf8_lossy(&new), String::from_utf8_lossy(&old));
        prop_assert_eq!(new.trim_end(), old.trim_end());
    }

    #[test]
    fn prop_no_file_makes_the_loader_panic(text: Vec<u8>) {
        let _ = load_with(&text, &mut |_| Err("none".to_owned()));
    }
}
