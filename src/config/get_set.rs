//! CONFIG GET and CONFIG SET, with the forms and texts of Redis 7.2. Error texts come without the leading `ERR`.

use super::Config;
use super::load::Note;
use super::option::{Change, Opt, Value};
use super::options::{all, find};
use crate::base::text::glob_match;

/// The answer of CONFIG GET: name and value of every option that matches one of the patterns, in any case. Older names
/// are listed too, as Redis does; `replicaof` has one pair for each master, as in KeyDB.
pub fn get(config: &Config, patterns: &[&[u8]]) -> Vec<(&'static str, Vec<u8>)> {
    let is_asked = |name: &str| patterns.iter().any(|pattern| glob_match(pattern, name.as_bytes(), true));
    let mut pairs = Vec::new();
    for opt in all().filter(|opt| opt.is_kept()) {
        for &name in std::iter::once(&opt.name).chain(opt.aliases).filter(|name| is_asked(name)) {
            pairs.extend(opt.texts(config).into_iter().map(|text| (name, text)));
        }
    }
    pairs
}

/// What CONFIG SET changes.
#[derive(Debug)]
pub struct Changes {
    /// The configuration with all of it changed.
    pub config: Config,
    /// Names of the options with an effect whose value is now another: what the server has to apply.
    pub names: Vec<&'static str>,
    /// Remarks for the log.
    pub notes: Vec<Note>,
}

/// CONFIG SET of several name-value pairs: all of them, or none and the text of the refusal. `is_local` tells whether
/// the client is on this machine, for options that `enable-protected-configs` guards.
pub fn set(config: &Config, pairs: &[(&[u8], &[u8])], is_local: bool) -> Result<Changes, String> {
    let options = settable(config, pairs, is_local)?;
    let mut changed = config.clone();
    for (&(name, opt), (_, value)) in options.iter().zip(pairs) {
        if opt.name == "save" {
            changed.save.clear();
        }
        opt.set(&mut changed, &[value.to_vec()]).map_err(|reason| failed(name, &reason))?;
        check_together(&changed).map_err(|reason| failed(name, reason))?;
    }
    let is_changed = |opt: &Opt| opt.texts(config) != opt.texts(&changed);
    let moved: Vec<&Opt> = options.iter().map(|&(_, opt)| opt).filter(|opt| is_changed(opt)).collect();
    let names = moved.iter().filter(|opt| opt.is_used()).map(|opt| opt.name).collect();
    let notes = moved.iter().filter_map(|opt| remark(opt)).collect();
    Ok(Changes { config: changed, names, notes })
}

/// The refusal of CONFIG SET when the server could not apply a value that was fine in itself.
pub fn failed(name: &str, reason: &str) -> String {
    format!("CONFIG SET failed (possibly related to argument '{name}') - {reason}")
}

// Unknown names are reported before anything else that may be wrong, as in Redis.
fn settable<'a>(
    config: &Config,
    pairs: &[(&'a [u8], &[u8])],
    is_local: bool,
) -> Result<Vec<(&'a str, &'static Opt)>, String> {
    let mut options: Vec<(&str, &Opt)> = Vec::with_capacity(pairs.len());
    for &(name, _) in pairs {
        let known =
            std::str::from_utf8(name).ok().and_then(|name| Some((name, find(name).filter(|opt| opt.is_kept())?)));
        let Some(known) = known else {
            let name = String::from_utf8_lossy(name);
            return Err(format!("Unknown option or number of arguments for CONFIG SET - '{name}'"));
        };
        options.push(known);
    }
    for (at, &(name, opt)) in options.iter().enumerate() {
        match opt.change {
            Change::AtStart => return Err(failed(name, "can't set immutable config")),
            Change::Protected if !config.enable_protected_configs.admits(is_local) => {
                return Err(failed(name, "can't set protected config"));
            }
            Change::Protected | Change::Anytime => {}
        }
        if options[..at].iter().any(|&(_, earlier)| std::ptr::eq(earlier, opt)) {
            return Err(failed(name, "duplicate parameter"));
        }
    }
    Ok(options)
}

fn check_together(config: &Config) -> Result<(), &'static str> {
    if config.active_replica && config.replica_read_only {
        return Err("active-replica is yes: this node always takes writes");
    }
    Ok(())
}

fn remark(opt: &Opt) -> Option<Note> {
    let Value::Noted { reason, is_loud, .. } = opt.value else { return None };
    Some(Note { is_warning: is_loud, text: format!("CONFIG SET: '{}' has no effect: {reason}", opt.name) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values::{Allowed, Secret};

    fn get_text(config: &Config, patterns: &[&str]) -> String {
        let patterns: Vec<&[u8]> = patterns.iter().map(|pattern| pattern.as_bytes()).collect();
        let pairs = get(config, &patterns);
        pairs
            .iter()
            .map(|(name, text)| format!("{name}={}", String::from_utf8_lossy(text)))
            .collect::<Vec<_>>()
            .join("; ")
    }

    fn set_all(config: &Config, pairs: &[(&str, &str)]) -> Result<Changes, String> {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        set(config, &pairs, true)
    }

    fn refusal(config: &Config, pairs: &[(&str, &str)]) -> String {
        set_all(config, pairs).expect_err("it must be refused")
    }

    #[test]
    fn values_have_the_forms_redis_prints() {
        let config = Config::default();
        assert_eq!(get_text(&config, &["port", "appendonly"]), "port=6379; appendonly=no");
        assert_eq!(get_text(&config, &["save"]), "save=3600 1 300 100 60 10000");
        assert_eq!(get_text(&config, &["proto-max-bulk-len", "bind"]), "bind=* -::*; proto-max-bulk-len=536870912");
        assert_eq!(
            get_text(&config, &["client-output*"]),
            "client-output-buffer-limit=normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"
        );
        assert_eq!(get_text(&config, &["REQUIREPASS", "unixsocketperm"]), "unixsocketperm=0; requirepass=");
        assert_eq!(get_text(&config, &["hash-max-z*"]), "hash-max-ziplist-entries=512; hash-max-ziplist-value=64");
        assert_eq!(get_text(&config, &["nothing-like-it", "user", "include", "rename-command"]), "");
    }

    #[test]
    fn replicaof_is_a_pair_for_each_master() {
        let mut config = Config::default();
        assert_eq!(get_text(&config, &["replicaof"]), "replicaof=");
        config.replicaof = vec![("10.0.0.3".into(), 6379), ("::1".into(), 6380)];
        assert_eq!(get_text(&config, &["replicaof"]), "replicaof=10.0.0.3 6379; replicaof=::1 6380");
        assert_eq!(get_text(&config, &["multi-master", "active-replica"]), "multi-master=no; active-replica=no");
    }

    #[test]
    fn a_password_is_given_to_who_asks_and_to_nobody_else() {
        let config =
            Config { requirepass: Secret::new("hunter2"), masterauth: Secret::new("hunter2"), ..Config::default() };
        assert_eq!(get_text(&config, &["requirepass", "masterauth"]), "masterauth=hunter2; requirepass=hunter2");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn set_reports_what_changed() {
        let config = Config::default();
        let changes =
            set_all(&config, &[("maxmemory", "1gb"), ("slave-serve-stale-data", "yes"), ("hz", "100"), ("save", "")])
                .expect("all may change");
        assert_eq!(changes.names, ["maxmemory", "save"]);
        assert_eq!(changes.config.maxmemory, 1 << 30);
        assert!(changes.config.save.is_empty());
        assert_eq!(changes.notes.len(), 1, "{:?}", changes.notes);
        assert_eq!(get_text(&changes.config, &["hz"]), "hz=100");
        let again =
            set_all(&changes.config, &[("save", "60 1000 30 5"), ("client-output-buffer-limit", "slave 1 2 3")])
                .expect("several words in one");
        assert_eq!(get_text(&again.config, &["save"]), "save=60 1000 30 5");
        assert_eq!(again.config.client_output_buffer_limit.replica.hard_bytes, 1);
    }

    #[test]
    fn refusals_are_those_of_redis() {
        let config = Config::default();
        assert_eq!(
            refusal(&config, &[("port", "1"), ("nope", "1")]),
            "Unknown option or number of arguments for CONFIG SET - 'nope'"
        );
        assert_eq!(
            refusal(&config, &[("maxclients", "1"), ("databases", "4")]),
            "CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config"
        );
        assert_eq!(
            refusal(&config, &[("dir", "/tmp")]),
            "CONFIG SET failed (possibly related to argument 'dir') - can't set protected config"
        );
        assert_eq!(
            refusal(&config, &[("timeout", "1"), ("TIMEOUT", "2")]),
            "CONFIG SET failed (possibly related to argument 'TIMEOUT') - duplicate parameter"
        );
        assert_eq!(
            refusal(&config, &[("timeout", "x")]),
            "CONFIG SET failed (possibly related to argument 'timeout') - argument couldn't be parsed into an integer"
        );
        assert_eq!(
            refusal(&config, &[("maxclients", "0")]),
            "CONFIG SET failed (possibly related to argument 'maxclients') - argument must be between 1 and 4294967295 inclusive"
        );
        let local = Config { enable_protected_configs: Allowed::Local, ..Config::default() };
        assert_eq!(set_all(&local, &[("dir", "/tmp")]).expect("a local client may").names, ["dir"]);
        assert!(set(&local, &[(b"dir", b"/tmp")], false).is_err());
        let active = Config { active_replica: true, replica_read_only: false, ..Config::default() };
        assert!(refusal(&active, &[("replica-read-only", "yes")]).ends_with("this node always takes writes"));
    }
}
