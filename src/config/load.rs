//! From lines to a `Config`: files first, then the command line, each line overriding or adding to those before.
//!
//! What depends on several options is decided in `finish`, after every line, so that no option needs to stand before
//! another (KeyDB refuses `replicaof` before `multi-master`).

use std::fmt;

use hashbrown::HashSet;

use super::Config;
use super::option::{Opt, Value, WRONG_NUMBER};
use super::options::{find, nearest};
use super::values::MaxmemoryPolicy;
use crate::base::text::split_quoted;

/// What was read, and what the log should say about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Remarks for the log, in the order of the lines.
    pub notes: Vec<Note>,
}

/// A remark on the configuration for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// The user may count on something that does not happen.
    pub is_warning: bool,
    /// One line, beginning with file and line number where there is one.
    pub text: String,
}

/// Why a configuration is refused: one line that names the place, the word and the mend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError(String);

impl ConfigError {
    /// An error of this place (`peer-a.conf:7`, `command line`) for this reason.
    pub fn new(place: &str, reason: impl fmt::Display) -> Self {
        Self(format!("{place}: {reason}"))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// A configuration file: its name as shown in messages, and its content.
pub type File = (String, Vec<u8>);

/// Reads the files an `include` line names: one path, or a pattern that may match none.
pub type ReadIncluded<'a> = &'a mut dyn FnMut(&str) -> Result<Vec<File>, String>;

/// Collects lines; see the head of the file.
pub struct Loader<'a> {
    config: Config,
    notes: Vec<Note>,
    noted: HashSet<&'static str, ahash::RandomState>,
    include: ReadIncluded<'a>,
    depth: usize,
    has_save: bool,
    read_only_asked_at: Option<String>,
}

impl fmt::Debug for Loader<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Loader").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Includes within includes, before they are taken for a loop.
const INCLUDE_DEPTH_MAX: usize = 16;

impl<'a> Loader<'a> {
    /// Starts from the defaults.
    pub fn new(include: ReadIncluded<'a>) -> Self {
        Self {
            config: Config::default(),
            notes: Vec::new(),
            noted: HashSet::default(),
            include,
            depth: 0,
            has_save: false,
            read_only_asked_at: None,
        }
    }

    /// Reads every line of a file.
    pub fn file(&mut self, name: &str, text: &[u8]) -> Result<(), ConfigError> {
        for (number, line) in lines_of(text).enumerate() {
            self.line(&format!("{name}:{}", number + 1), line)?;
        }
        Ok(())
    }

    /// Reads one line. Answers the option it is about; `None` for comments and empty lines.
    pub fn line(&mut self, place: &str, line: &[u8]) -> Result<Option<&'static Opt>, ConfigError> {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            return Ok(None);
        }
        let words = split_quoted(line).ok_or_else(|| ConfigError::new(place, "a quote is not closed"))?;
        let Some((name, values)) = words.split_first() else { return Ok(None) };
        self.directive(place, &String::from_utf8_lossy(name), values).map(Some)
    }

    /// Reads one directive: its name in any case, and the words behind it.
    pub fn directive(&mut self, place: &str, name: &str, values: &[Vec<u8>]) -> Result<&'static Opt, ConfigError> {
        let Some(opt) = find(name) else { return Err(ConfigError::new(place, unknown(name))) };
        if let Value::Include = opt.value {
            self.include(place, values)?;
            return Ok(opt);
        }
        if opt.name == "save" && !self.has_save {
            // The first save line replaces the default, later ones add.
            self.has_save = true;
            self.config.save.clear();
        }
        opt.set(&mut self.config, values).map_err(|reason| ConfigError::new(place, explain(opt, values, &reason)))?;
        self.remember(place, opt);
        Ok(opt)
    }

    /// Decides what depends on several lines, and refuses what cannot run.
    pub fn finish(self) -> Result<Loaded, ConfigError> {
        let loaded = self.settle();
        if loaded.config.port == 0 && loaded.config.unixsocket.is_empty() {
            return Err(ConfigError::new("configuration", "nothing to listen on: port is 0 and unixsocket is empty"));
        }
        Ok(loaded)
    }

    pub(super) fn settle(mut self) -> Loaded {
        self.settle_masters();
        self.settle_read_only();
        if self.config.maxmemory_policy != MaxmemoryPolicy::Noeviction {
            let word = self.config.maxmemory_policy.word();
            self.note(
                true,
                format!(
                    "maxmemory-policy {word} has no effect yet: nothing is evicted, writes beyond maxmemory are refused"
                ),
            );
        }
        Loaded { config: self.config, notes: self.notes }
    }

    fn include(&mut self, place: &str, values: &[Vec<u8>]) -> Result<(), ConfigError> {
        let [path] = values else { return Err(ConfigError::new(place, "include takes one file or pattern")) };
        let path = String::from_utf8_lossy(path);
        if self.depth == INCLUDE_DEPTH_MAX {
            return Err(ConfigError::new(
                place,
                format!("include '{path}': more than {INCLUDE_DEPTH_MAX} files deep; does a file include itself?"),
            ));
        }
        let files =
            (self.include)(&path).map_err(|reason| ConfigError::new(place, format!("include '{path}': {reason}")))?;
        self.depth += 1;
        for (name, text) in files {
            self.file(&name, &text)?;
        }
        self.depth -= 1;
        Ok(())
    }

    // Without multi-master the last replicaof line counts, as in Redis.
    fn settle_masters(&mut self) {
        let mut masters = std::mem::take(&mut self.config.replicaof);
        let mut seen = HashSet::<_, ahash::RandomState>::default();
        masters.retain(|(host, port)| seen.insert((host.to_ascii_lowercase(), *port)));
        if !self.config.multi_master && masters.len() > 1 {
            let dropped = masters.len() - 1;
            masters.drain(..dropped);
            let (host, port) = &masters[0];
            self.note(
                true,
                format!(
                    "only the last of {} replicaof lines counts ({host} {port}): say 'multi-master yes' to follow all",
                    dropped + 1
                ),
            );
        }
        self.config.replicaof = masters;
    }

    // KeyDB's sample file says replica-read-only yes, and there the later of the two lines wins. Here active-replica
    // does, wherever it stands: a node meant to take writes should not refuse them for a line nobody wrote on purpose.
    fn settle_read_only(&mut self) {
        if self.config.active_replica {
            self.config.replica_read_only = false;
            if let Some(place) = self.read_only_asked_at.take() {
                self.note(false, format!("{place}: replica-read-only yes gives way to active-replica yes"));
            }
        } else if self.config.multi_master && self.config.refuses_writes() {
            self.note(
                false,
                "multi-master without active-replica: this node merges its masters and refuses clients' writes".into(),
            );
        }
    }

    fn remember(&mut self, place: &str, opt: &'static Opt) {
        if opt.name == "replica-read-only" {
            self.read_only_asked_at = self.config.replica_read_only.then(|| place.to_owned());
        }
        if let Value::Noted { reason, is_loud, .. } = opt.value
            && self.config.noted.get(opt.name).is_some()
            && self.noted.insert(opt.name)
        {
            self.note(is_loud, format!("{place}: '{}' has no effect: {reason}", opt.name));
        }
    }

    fn note(&mut self, is_warning: bool, text: String) {
        self.notes.push(Note { is_warning, text });
    }
}

/// The lines of a file, without a byte order mark and without line ends.
pub(super) fn lines_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).split(|&byte| byte == b'\n')
}

fn unknown(name: &str) -> String {
    match nearest(name) {
        Some(meant) => format!("unknown directive '{name}' (did you mean '{meant}'?)"),
        None => format!("unknown directive '{name}' (--help lists all)"),
    }
}

fn explain(opt: &Opt, values: &[Vec<u8>], reason: &str) -> String {
    let name = opt.name;
    if reason == WRONG_NUMBER {
        let hint =
            if values.iter().any(|word| word.starts_with(b"#")) { "; a comment needs a line of its own" } else { "" };
        return format!("wrong number of arguments: expected '{name} {}'{hint}", opt.form());
    }
    if opt.is_secret() || matches!(opt.value, Value::Refused(_)) {
        return format!("{name}: {reason}");
    }
    format!("{name} '{}': {reason}", String::from_utf8_lossy(&values.join(&b' ')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Loaded, ConfigError> {
        let mut none = |path: &str| Err(format!("no file {path} in this test"));
        let mut loader = Loader::new(&mut none);
        loader.file("t.conf", text.as_bytes())?;
        loader.finish()
    }

    fn config(text: &str) -> Config {
        load(text).unwrap_or_else(|error| panic!("{error}")).config
    }

    fn refusal(text: &str) -> String {
        load(text).expect_err(text).to_string()
    }

    fn masters(config: &Config) -> Vec<String> {
        config.replicaof.iter().map(|(host, port)| format!("{host} {port}")).collect()
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        assert_eq!(config(""), Config::default());
        assert_eq!(config("\n  # a comment\n\t\r\n"), Config::default());
    }

    #[test]
    fn names_values_and_line_ends_are_taken_as_redis_takes_them() {
        let config = config(
            "\u{feff}PORT 7000\r\n  maxmemory 1gb \r\nSlave-Read-Only NO\nprotected-mode true\nunixsocket '/tmp/a b'\nrequirepass \"\\x41 \\\"b\\\"\"",
        );
        assert_eq!((config.port, config.maxmemory), (7000, 1 << 30));
        assert!(!config.replica_read_only);
        assert_eq!(config.unixsocket, "/tmp/a b");
        assert_eq!(config.requirepass.reveal(), b"A \"b\"");
    }

    #[test]
    fn refusals_name_the_line_the_word_and_the_mend() {
        assert_eq!(refusal("\nprot 7000"), "t.conf:2: unknown directive 'prot' (did you mean 'port'?)");
        assert_eq!(refusal("nonsense 1"), "t.conf:1: unknown directive 'nonsense' (--help lists all)");
        assert_eq!(refusal("port 70000"), "t.conf:1: port '70000': argument must be between 0 and 65535 inclusive");
        assert_eq!(refusal("port"), "t.conf:1: wrong number of arguments: expected 'port NUMBER'");
        assert_eq!(
            refusal("port 1 # one"),
            "t.conf:1: wrong number of arguments: expected 'port NUMBER'; a comment needs a line of its own"
        );
        assert_eq!(
            refusal("replicaof localhost"),
            "t.conf:1: wrong number of arguments: expected 'replicaof HOST PORT | no one'"
        );
        assert_eq!(refusal("replicaof localhost http"), "t.conf:1: replicaof 'localhost http': Invalid master port");
        assert_eq!(
            refusal("loglevel loud"),
            "t.conf:1: loglevel 'loud': argument(s) must be one of the following: debug, verbose, notice, warning, nothing"
        );
        assert_eq!(refusal("requirepass \"x"), "t.conf:1: a quote is not closed");
        assert_eq!(refusal("maxmemory lots"), "t.conf:1: maxmemory 'lots': argument must be a memory value");
        assert_eq!(refusal("multi-master maybe"), "t.conf:1: multi-master 'maybe': argument must be 'yes' or 'no'");
        assert_eq!(refusal("port 0"), "configuration: nothing to listen on: port is 0 and unixsocket is empty");
        assert!(refusal("tls-port 6380").starts_with("t.conf:1: tls-port '6380': there is no TLS yet"));
        assert!(refusal("cluster-enabled yes").contains("join nodes with multi-master"));
        let user = refusal("user default on >mypassword123 ~* +@all");
        assert!(user.starts_with("t.conf:1: user: ACL users are not supported") && !user.contains("mypassword123"));
    }

    #[test]
    fn masters_add_up_in_any_order_and_only_once() {
        let text = "replicaof 10.0.0.3 6379\nslaveof ::1 6380\nreplicaof [fe80::2] 6381\nmulti-master yes\nREPLICAOF 10.0.0.3 6379\nactive-replica yes";
        assert_eq!(masters(&config(text)), ["10.0.0.3 6379", "::1 6380", "fe80::2 6381"]);
        assert_eq!(masters(&config("multi-master yes\nreplicaof a 1\nreplicaof no one\nreplicaof b 2")), ["b 2"]);
    }

    #[test]
    fn without_multi_master_the_last_replicaof_counts() {
        let loaded = load("replicaof a 1\nactive-replica yes\nreplicaof b 2").expect("it is allowed");
        assert_eq!(masters(&loaded.config), ["b 2"]);
        assert!(
            loaded.notes[0].is_warning && loaded.notes[0].text.contains("say 'multi-master yes'"),
            "{:?}",
            loaded.notes
        );
    }

    #[test]
    fn active_replica_takes_writes_wherever_it_stands() {
        for text in [
            "active-replica yes\nreplica-read-only yes\nreplicaof a 1",
            "replicaof a 1\nslave-read-only yes\nactive-replica yes",
        ] {
            let loaded = load(text).expect(text);
            assert!(!loaded.config.replica_read_only && !loaded.config.refuses_writes());
            assert_eq!(loaded.notes.len(), 1, "{:?}", loaded.notes);
        }
        let loaded = load("multi-master yes\nreplicaof a 1").expect("a node that only follows is allowed");
        assert!(loaded.config.refuses_writes());
        assert!(!loaded.notes[0].is_warning);
    }

    #[test]
    fn save_lines_replace_the_default_then_add() {
        let save = |text| config(text).save.iter().map(|p| (p.seconds, p.changes)).collect::<Vec<_>>();
        assert_eq!(save("save 900 1\nsave 60 1000"), [(900, 1), (60, 1000)]);
        assert_eq!(save("save 900 1 60 1000"), [(900, 1), (60, 1000)]);
        assert_eq!(save("save \"900 1\""), [(900, 1)]);
        assert_eq!(save("save \"\""), []);
        assert_eq!(save("save 900 1\nsave ''\nsave 1 1"), [(1, 1)]);
        assert!(refusal("save 900").contains("Invalid save parameters"));
        assert!(refusal("save 0 1").contains("Invalid save parameters"));
    }

    #[test]
    fn options_without_effect_are_noted_once_and_only_when_they_differ() {
        let loaded = load("io-threads 4\nhz 10\nio-threads 8\nappendonly yes").expect("all are known");
        let notes: Vec<_> = loaded.notes.iter().map(|note| (note.is_warning, note.text.as_str())).collect();
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert_eq!(
            notes[0],
            (
                false,
                "t.conf:1: 'io-threads' has no effect: every core reads and writes its own sockets; see server-threads"
            )
        );
        assert!(notes[1].0, "who asks for a journal must be warned");
        assert_eq!(loaded.config.noted.get("io-threads"), Some(&b"8"[..]));
    }

    #[test]
    fn includes_are_read_in_place_and_a_loop_is_found() {
        let mut read = |path: &str| match path {
            "b.conf" => Ok(vec![("b.conf".to_owned(), b"port 2\nprot 3".to_vec())]),
            "conf.d/*.conf" => Ok(vec![
                ("conf.d/1.conf".to_owned(), b"port 4".to_vec()),
                ("conf.d/2.conf".to_owned(), b"timeout 5".to_vec()),
            ]),
            "loop.conf" => Ok(vec![("loop.conf".to_owned(), b"include loop.conf".to_vec())]),
            _ => Err("no such file".to_owned()),
        };
        let mut check = |text: &str| -> Result<Config, String> {
            let mut loader = Loader::new(&mut read);
            loader.file("a.conf", text.as_bytes()).map_err(|error| error.to_string())?;
            Ok(loader.finish().map_err(|error| error.to_string())?.config)
        };
        assert_eq!(
            check("port 1\ninclude b.conf").expect_err("a slip in b.conf"),
            "b.conf:2: unknown directive 'prot' (did you mean 'port'?)"
        );
        let config = check("port 1\ninclude conf.d/*.conf\ntimeout 6").expect("both are fine");
        assert_eq!((config.port, config.timeout), (4, 6));
        assert_eq!(
            check("include gone.conf").expect_err("there is none"),
            "a.conf:1: include 'gone.conf': no such file"
        );
        assert!(check("include loop.conf").expect_err("it never ends").contains("does a file include itself?"));
    }

    #[test]
    fn limits_and_lists_are_read() {
        let config = config(
            "client-output-buffer-limit slave 512mb 128mb 30\nclient-output-buffer-limit pubsub 1mb 0 0\nbind 127.0.0.1 -::1\nrename-command CONFIG \"\"\nlatency-tracking-info-percentiles 50 99.99\nserver-threads 4\nunixsocketperm 700",
        );
        assert_eq!(config.client_output_buffer_limit.replica.hard_bytes, 512 << 20);
        assert_eq!(config.client_output_buffer_limit.pubsub.hard_bytes, 1 << 20);
        assert_eq!(config.bind, ["127.0.0.1", "-::1"]);
        assert_eq!(config.rename_command, [("config".to_owned(), String::new())]);
        assert_eq!(config.latency_tracking_info_percentiles, [50.0, 99.99]);
        assert_eq!(config.server_threads, Some(4));
        assert_eq!(config.unixsocketperm, 0o700);
    }
}
