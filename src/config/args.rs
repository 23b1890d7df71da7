//! The command line: `tutti-server [FILE] [--DIRECTIVE VALUE...]...`, as redis-server and keydb-server take it.
//!
//! Every directive of the file is a flag, several words follow one flag, and flags repeat (`--replicaof A 1
//! --replicaof B 2`), which no declarative parser offers: the words are split here, and clap prints the help.

use clap::{Arg, ArgAction, Command};

use super::Config;
use super::load::{ConfigError, File, Loaded, Loader, ReadIncluded};
use super::option::{Opt, Value};
use super::options::{SECTIONS, find};
use crate::base::text::split_quoted;

/// What the command line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Print the help.
    Help,
    /// Print the version.
    Version,
    /// Start, or only check the configuration.
    Start(Invocation),
}

/// A command line, taken apart.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Invocation {
    /// The configuration file, as typed.
    pub file: Option<String>,
    /// Read further lines from standard input.
    pub has_stdin: bool,
    /// Check the configuration and stop.
    pub is_test: bool,
    /// Directives in the order given: the name, then its words.
    directives: Vec<Vec<Vec<u8>>>,
}

/// Takes the words behind the program's name apart.
pub fn parse(args: &[Vec<u8>]) -> Result<Request, ConfigError> {
    let mut invocation = Invocation::default();
    let mut is_complete = true;
    for (at, arg) in args.iter().enumerate() {
        let is_flag = arg.starts_with(b"--") && (is_complete || begins_directive(arg));
        match arg.as_slice() {
            b"-h" | b"--help" if is_complete => return Ok(Request::Help),
            b"-v" | b"-V" | b"--version" if is_complete => return Ok(Request::Version),
            b"--test-config" if is_complete => invocation.is_test = true,
            b"-" if is_complete && (at == 0 || at + 1 == args.len()) => invocation.has_stdin = true,
            _ if is_flag => {
                let words = split_quoted(&arg[2..]).ok_or_else(|| refuse("a quote is not closed"))?;
                is_complete = words.len() > 1;
                invocation.directives.push(words);
            }
            _ if invocation.is_bare() && !arg.starts_with(b"-") => {
                invocation.file = Some(String::from_utf8_lossy(arg).into_owned())
            }
            _ => {
                let Some(directive) = invocation.directives.last_mut() else {
                    let word = String::from_utf8_lossy(arg);
                    return Err(refuse(&format!(
                        "'{word}' belongs to no directive: expected [FILE] [--DIRECTIVE VALUE...]..."
                    )));
                };
                directive.push(arg.clone());
                is_complete = true;
            }
        }
    }
    invocation.directives.iter_mut().for_each(complete_save);
    Ok(Request::Start(invocation))
}

impl Invocation {
    fn is_bare(&self) -> bool {
        self.file.is_none() && self.directives.is_empty()
    }

    /// Reads the file, standard input and the directives, in this order.
    pub fn load(
        &self,
        file: Option<File>,
        stdin: Option<Vec<u8>>,
        include: ReadIncluded<'_>,
    ) -> Result<Loaded, ConfigError> {
        let mut loader = Loader::new(include);
        if let Some((name, text)) = file {
            loader.file(&name, &text)?;
        }
        if let Some(text) = stdin {
            loader.file("standard input", &text)?;
        }
        for directive in &self.directives {
            let Some((name, values)) = directive.split_first() else { continue };
            loader.directive(PLACE, &String::from_utf8_lossy(name), values)?;
        }
        loader.finish()
    }
}

/// The command line as clap knows it, for `--help` and `--version`.
pub fn command() -> Command {
    let file = Arg::new("FILE").help("configuration file; '-' reads standard input");
    let test = Arg::new("test-config").long("test-config").action(ArgAction::SetTrue);
    let command = Command::new("tutti-server")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .next_line_help(true)
        .override_usage("tutti-server [FILE] [--DIRECTIVE VALUE...]...")
        .after_help(EXAMPLES)
        .disable_version_flag(true)
        .arg(file)
        .arg(test.help("check the configuration and stop"))
        .arg(Arg::new("version").short('v').long("version").action(ArgAction::Version).help("print the version"));
    let flags = SECTIONS.iter().flat_map(|section| section.options.iter().map(|opt| (section.title, opt)));
    command.args(flags.filter(|(_, opt)| opt.name != "include").map(|(title, opt)| flag(title, opt)))
}

const PLACE: &str = "command line";

const EXAMPLES: &str =
    "Directives come from the file first, then from the command line, in the order given; older names \
(slaveof, slave-read-only, …) and the directives of Redis 7.2 and KeyDB 6.3 are understood as well.

Examples:
  tutti-server config/peer-a.conf
  tutti-server --port 7000 --multi-master yes --active-replica yes --replicaof 10.0.0.2 6379 --replicaof 10.0.0.3 6379
  tutti-server peer.conf --save \"\" --test-config";

fn refuse(reason: &str) -> ConfigError {
    ConfigError::new(PLACE, reason)
}

// A directive still waits for its value, and the next word begins with two dashes: it is the value (a password may)
// unless it names a directive itself.
fn begins_directive(arg: &[u8]) -> bool {
    let name = arg[2..].split(u8::is_ascii_whitespace).next().unwrap_or_default();
    std::str::from_utf8(name).is_ok_and(|name| find(name).is_some())
}

// Scripts build the command line from an array, and an empty value is then no word at all: Redis takes a bare --save
// as --save "".
fn complete_save(directive: &mut Vec<Vec<u8>>) {
    if directive.len() == 1 && directive[0].eq_ignore_ascii_case(b"save") {
        directive.push(Vec::new());
    }
}

fn flag(title: &'static str, opt: &'static Opt) -> Arg {
    let default = opt.lines(&Config::default()).concat().join(&b' ');
    let default = if default.is_empty() { String::new() } else { format!(" [{}]", String::from_utf8_lossy(&default)) };
    let (name, choice) = match &opt.value {
        Value::Word { words, .. } if words.len() > WORDS_IN_NAME => ("WORD".into(), format!(": {}", words.join(", "))),
        _ => (opt.form(), String::new()),
    };
    Arg::new(opt.name)
        .long(opt.name)
        .value_name(name)
        .help(format!("{}{choice}{default}", opt.doc))
        .help_heading(title)
        .action(ArgAction::Append)
}

/// More words than this stand behind the description instead of the name.
const WORDS_IN_NAME: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn start(line: &str) -> Invocation {
        let args = split_quoted(line.as_bytes()).expect("quotes close");
        match parse(&args).unwrap_or_else(|error| panic!("{error}")) {
            Request::Start(invocation) => invocation,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn load(line: &str) -> Result<Config, String> {
        let mut none = |_: &str| Err("no includes here".to_owned());
        start(line).load(None, None, &mut none).map(|loaded| loaded.config).map_err(|error| error.to_string())
    }

    #[test]
    fn masters_given_by_flags_add_up() {
        let config = load("--multi-master yes --active-replica yes --replicaof 10.0.0.2 6379 --replicaof ::1 6380")
            .expect("all is well");
        assert_eq!(config.replicaof, [("10.0.0.2".to_owned(), 6379), ("::1".to_owned(), 6380)]);
        assert!(config.multi_master && config.active_replica);
        assert_eq!(
            load("--replicaof a 1 --replicaof b 2 --active-replica yes --multi-master yes")
                .expect("any order")
                .replicaof
                .len(),
            2
        );
    }

    #[test]
    fn values_may_begin_with_dashes() {
        assert_eq!(load("--replica-quorum -1").expect("a number").replica_quorum, -1);
        assert_eq!(load("--requirepass --secret--").expect("a password").requirepass.reveal(), b"--secret--");
        assert_eq!(
            load("--requirepass --port 7000").expect_err("no value"),
            "command line: wrong number of arguments: expected 'requirepass PASSWORD'"
        );
    }

    #[test]
    fn save_may_be_empty_or_have_several_words() {
        assert!(load("--save ''").expect("empty").save.is_empty());
        assert!(load("--save --port 7000").expect("bare").save.is_empty());
        assert!(load("--port 7000 --save").expect("bare and last").save.is_empty());
        assert_eq!(load("--save 60 1000 --save '300 10'").expect("two").save.len(), 2);
    }

    #[test]
    fn name_and_value_may_share_an_argument() {
        assert_eq!(load("'--port 7001'").expect("one argument").port, 7001);
        assert_eq!(load("'--port 7001' --timeout 3").expect("and another").timeout, 3);
    }

    #[test]
    fn file_stdin_and_test_are_told_from_directives() {
        let invocation = start("a.conf --port 1 --test-config");
        assert_eq!(
            (invocation.file.as_deref(), invocation.is_test, invocation.has_stdin),
            (Some("a.conf"), true, false)
        );
        assert!(start("- --port 1").has_stdin && start("a.conf --port 1 -").has_stdin);
        assert_eq!(start("--test-config a.conf").file.as_deref(), Some("a.conf"));
        assert_eq!(parse(&[b"--help".to_vec()]), Ok(Request::Help));
        assert_eq!(parse(&[b"-v".to_vec()]), Ok(Request::Version));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(
            load("--prot 7000").expect_err("a slip"),
            "command line: unknown directive 'prot' (did you mean 'port'?)"
        );
        assert_eq!(
            load("--port 7000 8000").expect_err("too many"),
            "command line: wrong number of arguments: expected 'port NUMBER'"
        );
        assert!(parse(&[b"a.conf".to_vec(), b"7000".to_vec()]).is_err());
    }

    #[test]
    fn the_command_line_comes_after_the_file() {
        let file = ("a.conf".to_owned(), b"port 1\nmulti-master yes\nreplicaof a 1".to_vec());
        let mut none = |_: &str| Ok(Vec::new());
        let loaded = start("a.conf --port 2 --replicaof b 2")
            .load(Some(file), Some(b"timeout 9".to_vec()), &mut none)
            .expect("fine");
        assert_eq!((loaded.config.port, loaded.config.timeout, loaded.config.replicaof.len()), (2, 9, 2));
    }

    #[test]
    fn help_lists_every_option_with_its_default() {
        command().debug_assert();
        let help = command().render_help().to_string();
        for opt in super::super::options::used().filter(|opt| opt.name != "include") {
            assert!(help.contains(&format!("--{} ", opt.name)), "{}", opt.name);
        }
        assert!(help.contains("0 listens on none [6379]") && help.contains("come back [64mb]"));
    }
}
