//! The table of options: everything that can be configured, in the order `config/default.conf` and `--help` show it.
//!
//! Options without effect here, which KeyDB and Redis files may still hold, are in `noted`.

use std::sync::LazyLock;

use hashbrown::HashMap;

use super::noted::NOTED;
use super::option::Change::{Anytime, AtStart, Protected};
use super::option::{Opt, Value};
use super::several::{BIND, OUTPUT_BUFFER_LIMIT, PERCENTILES, RENAME_COMMAND, REPLICAOF, SAVE};
use super::values::{Allowed, KeyspaceEvents, LogFormat, LogLevel, MaxmemoryPolicy, Supervised, SyslogFacility};

/// Options that belong together.
pub struct Section {
    /// Heading in help and in the default file.
    pub title: &'static str,
    /// Its rows.
    pub options: &'static [Opt],
}

macro_rules! flag {
    ($name:literal, $change:ident, $field:ident, $doc:literal) => {
        row!($name, $change, $doc, Value::Bool { get: |c| c.$field, set: |c, v| c.$field = v })
    };
}

macro_rules! number {
    ($name:literal, $change:ident, $field:ident, $min:expr, $max:expr, $doc:literal) => {
        row!(
            $name,
            $change,
            $doc,
            Value::Number {
                min: $min,
                max: $max,
                get: |c| c.$field as i64,
                set: |c, v| c.$field = v.try_into().expect("the range in the table fits the field"),
            }
        )
    };
}

macro_rules! memory {
    ($name:literal, $change:ident, $field:ident, $min:expr, $doc:literal) => {
        row!($name, $change, $doc, Value::Memory { min: $min, get: |c| c.$field, set: |c, v| c.$field = v })
    };
}

macro_rules! word {
    ($name:literal, $change:ident, $field:ident: $kind:ident, $doc:literal) => {
        row!(
            $name,
            $change,
            $doc,
            Value::Word {
                words: $kind::WORDS,
                get: |c| c.$field.word(),
                set: |c, v| $kind::parse(v).map(|v| c.$field = v).is_some(),
            }
        )
    };
}

macro_rules! text {
    ($name:literal, $change:ident, $field:ident, $check:expr, $doc:literal) => {
        row!(
            $name,
            $change,
            $doc,
            Value::Text {
                get: |c| &c.$field,
                set: |c, v| {
                    let check: fn(&str) -> Result<(), &'static str> = $check;
                    check(v).map(|()| c.$field = v.to_owned())
                },
            }
        )
    };
}

macro_rules! secret {
    ($name:literal, $field:ident, $doc:literal) => {
        row!($name, Anytime, $doc, Value::Secret { get: |c| &c.$field, set: |c, v| c.$field = v })
    };
}

macro_rules! row {
    ($name:literal, $change:ident, $doc:literal, $value:expr) => {
        Opt { name: $name, aliases: &[], change: $change, value: $value, doc: $doc }
    };
}

const U16_MAX: i64 = u16::MAX as i64;
const U32_MAX: i64 = u32::MAX as i64;
const I32_MAX: i64 = i32::MAX as i64;
const MEGABYTE: u64 = 1 << 20;

/// Every option that has an effect here.
pub static SECTIONS: &[Section] = &[
    Section { title: "Network", options: NETWORK },
    Section { title: "Threads", options: THREADS },
    Section { title: "Process", options: PROCESS },
    Section { title: "Log", options: LOG },
    Section { title: "Masters and peers", options: PEERS },
    Section { title: "Security", options: SECURITY },
    Section { title: "Limits", options: LIMITS },
    Section { title: "Snapshots", options: SNAPSHOTS },
    Section { title: "Observation", options: OBSERVATION },
    Section { title: "Encodings", options: ENCODINGS },
];

const NETWORK: &[Opt] = &[
    row!("bind", AtStart, "addresses to listen on; a leading '-' makes one optional", Value::Several(BIND)),
    number!("port", AtStart, port, 0, U16_MAX, "TCP port of clients and links; 0 listens on none"),
    number!(
        "tcp-backlog",
        AtStart,
        tcp_backlog,
        0,
        I32_MAX,
        "connections the kernel may hold before they are accepted"
    ),
    text!("unixsocket", AtStart, unixsocket, any, "path of a Unix socket to listen on; empty for none"),
    row!(
        "unixsocketperm",
        AtStart,
        "mode bits of that socket, in octal; 0 leaves them to the umask",
        Value::Octal { max: 0o777, get: |c| c.unixsocketperm, set: |c, v| c.unixsocketperm = v }
    ),
    number!("timeout", Anytime, timeout, 0, I32_MAX, "seconds after which an idle client is disconnected; 0 never"),
    number!("tcp-keepalive", Anytime, tcp_keepalive, 0, I32_MAX, "seconds between TCP keepalive probes; 0 sends none"),
    flag!("protected-mode", Anytime, protected_mode, "without a password, serve only clients of this machine"),
    number!("maxclients", Anytime, maxclients, 1, U32_MAX, "clients that may be connected at once"),
];

const THREADS: &[Opt] = &[
    row!(
        "server-threads",
        AtStart,
        "cores to use, one shard each; 0 is every core the process may run on",
        Value::Number {
            min: 0,
            max: 256,
            get: |c| c.server_threads.map_or(0, i64::from),
            set: |c, v| c.server_threads = u16::try_from(v).ok().filter(|&v| v > 0),
        }
    ),
    flag!("server-thread-affinity", AtStart, server_thread_affinity, "pin each thread to its core"),
];

const PROCESS: &[Opt] = &[
    row!("include", AtStart, "read another file here; '*' and '?' may name several", Value::Include),
    number!("databases", AtStart, databases, 1, U16_MAX, "number of databases SELECT knows"),
    flag!("disable-thp", AtStart, disable_thp, "keep the kernel from giving the server huge pages"),
    flag!("daemonize", AtStart, daemonize, "leave the terminal and run in the background"),
    word!("supervised", AtStart, supervised: Supervised, "which supervisor is told that the server is ready"),
    text!("pidfile", AtStart, pidfile, any, "file that holds the process id while the server runs; empty for none"),
];

const LOG: &[Opt] = &[
    word!("loglevel", Anytime, loglevel: LogLevel, "how much is logged"),
    text!("logfile", AtStart, logfile, any, "file the log is appended to; empty is standard output"),
    word!("log-format", AtStart, log_format: LogFormat, "lines as Redis writes them, or one JSON object a line"),
    flag!("syslog-enabled", AtStart, syslog_enabled, "send the log to the system log as well"),
    text!("syslog-ident", AtStart, syslog_ident, any, "the name it has there"),
    word!("syslog-facility", AtStart, syslog_facility: SyslogFacility, "the part of the system log it goes to"),
];

const PEERS: &[Opt] = &[
    flag!("multi-master", AtStart, multi_master, "follow every master named by replicaof, not only the last"),
    flag!("active-replica", AtStart, active_replica, "take writes although there are masters, and merge"),
    row!("replicaof", AtStart, "a master to follow; several lines name several", Value::Several(REPLICAOF))
        .also(&["slaveof"]),
    secret!("masterauth", masterauth, "password for the masters"),
    text!("masteruser", Anytime, masteruser, any, "user name for the masters; empty sends the password alone"),
    flag!("replica-serve-stale-data", Anytime, replica_serve_stale_data, "answer reads while the links are down")
        .also(&["slave-serve-stale-data"]),
    flag!(
        "replica-read-only",
        Anytime,
        replica_read_only,
        "refuse writes while there are masters; no with active-replica"
    )
    .also(&["slave-read-only"]),
    number!(
        "replica-quorum",
        Anytime,
        replica_quorum,
        -1,
        I32_MAX,
        "masters that must be linked to count as up; -1 is all"
    ),
    text!(
        "replica-announce-ip",
        Anytime,
        replica_announce_ip,
        any,
        "address the masters are told; empty lets them look"
    )
    .also(&["slave-announce-ip"]),
    number!(
        "replica-announce-port",
        Anytime,
        replica_announce_port,
        0,
        U16_MAX,
        "port the masters are told; 0 is ours"
    )
    .also(&["slave-announce-port"]),
    number!("replica-priority", Anytime, replica_priority, 0, I32_MAX, "preference for failover, as INFO shows it")
        .also(&["slave-priority"]),
    number!(
        "min-replicas-to-write",
        Anytime,
        min_replicas_to_write,
        0,
        I32_MAX,
        "replicas a write asks for; 0 asks for none"
    )
    .also(&["min-slaves-to-write"]),
    number!("min-replicas-max-lag", Anytime, min_replicas_max_lag, 0, I32_MAX, "seconds such a replica may lag")
        .also(&["min-slaves-max-lag"]),
    memory!(
        "repl-backlog-size",
        AtStart,
        repl_backlog_size,
        MEGABYTE / 64,
        "recent writes kept for links that come back"
    ),
    number!("repl-timeout", Anytime, repl_timeout, 1, I32_MAX, "seconds of silence after which a link is given up"),
    number!(
        "repl-ping-replica-period",
        Anytime,
        repl_ping_replica_period,
        1,
        I32_MAX,
        "seconds between heartbeats on a link"
    )
    .also(&["repl-ping-slave-period"]),
    number!(
        "max-clock-drift",
        Anytime,
        max_clock_drift,
        0,
        I32_MAX,
        "milliseconds a peer's clock may lead before ours stops following"
    ),
    memory!(
        "tombstone-memory-limit",
        Anytime,
        tombstone_memory_limit,
        MEGABYTE,
        "tombstones kept for peers that are away"
    ),
    number!(
        "digest-check-period",
        Anytime,
        digest_check_period,
        0,
        I32_MAX,
        "seconds in which each link compares all data once by its digests; 0 never"
    ),
];

const SECURITY: &[Opt] = &[
    secret!("requirepass", requirepass, "password clients must give; empty asks for none"),
    row!(
        "rename-command",
        AtStart,
        "give a command another name, or \"\" to remove it",
        Value::Several(RENAME_COMMAND)
    ),
    number!("acllog-max-len", Anytime, acllog_max_len, 0, I32_MAX, "entries ACL LOG keeps"),
    word!("enable-debug-command", AtStart, enable_debug_command: Allowed, "who may use DEBUG"),
    word!("enable-protected-configs", AtStart, enable_protected_configs: Allowed, "who may set dir and dbfilename at run time"),
];

const LIMITS: &[Opt] = &[
    memory!("maxmemory", Anytime, maxmemory, 0, "bytes of data to hold; 0 is no limit"),
    word!("maxmemory-policy", Anytime, maxmemory_policy: MaxmemoryPolicy, "what happens to a write beyond it; today always noeviction"),
    memory!("proto-max-bulk-len", Anytime, proto_max_bulk_len, MEGABYTE, "longest string a client may send"),
    memory!(
        "client-query-buffer-limit",
        Anytime,
        client_query_buffer_limit,
        MEGABYTE,
        "most bytes of a client's unfinished commands, and of a partition on its way here whole"
    ),
    row!(
        "client-output-buffer-limit",
        Anytime,
        "disconnect clients that do not read: at once at HARD bytes, or at SOFT for SECONDS",
        Value::Several(OUTPUT_BUFFER_LIMIT)
    ),
    number!(
        "busy-reply-threshold",
        Anytime,
        busy_reply_threshold,
        0,
        i64::MAX,
        "milliseconds a script may run before others hear BUSY"
    )
    .also(&["lua-time-limit"]),
];

const SNAPSHOTS: &[Opt] = &[
    row!("save", Anytime, "save when SECONDS have passed and CHANGES were made; \"\" never", Value::Several(SAVE)),
    text!("dbfilename", Protected, dbfilename, plain_file_name, "file name of the snapshot, inside dir"),
    text!("dir", Protected, dir, not_empty, "directory of every file the server writes except the log"),
    flag!("stop-writes-on-bgsave-error", Anytime, stop_writes_on_bgsave_error, "refuse writes after a snapshot failed"),
    flag!("rdbcompression", Anytime, rdbcompression, "compress strings in snapshots"),
    flag!("rdbchecksum", AtStart, rdbchecksum, "end snapshots with a checksum and verify it on loading"),
    memory!(
        "loading-process-events-interval-bytes",
        Anytime,
        loading_process_events_interval_bytes,
        1024,
        "bytes of the snapshot that are loaded at the start between two looks at clients"
    ),
];

const OBSERVATION: &[Opt] = &[
    number!(
        "slowlog-log-slower-than",
        Anytime,
        slowlog_log_slower_than,
        -1,
        i64::MAX,
        "microseconds from which SLOWLOG keeps a command; -1 keeps none"
    ),
    number!("slowlog-max-len", Anytime, slowlog_max_len, 0, i64::MAX, "entries SLOWLOG keeps"),
    number!(
        "latency-monitor-threshold",
        Anytime,
        latency_monitor_threshold,
        0,
        i64::MAX,
        "milliseconds from which LATENCY keeps an event; 0 keeps none"
    ),
    flag!("latency-tracking", Anytime, latency_tracking, "keep a latency histogram per command"),
    row!(
        "latency-tracking-info-percentiles",
        Anytime,
        "percentiles of it that INFO shows",
        Value::Several(PERCENTILES)
    ),
    row!(
        "notify-keyspace-events",
        Anytime,
        "keyspace events to publish, by their letters; empty for none",
        Value::Text {
            get: |c| c.notify_keyspace_events.text(),
            set: |c, v| {
                let events = KeyspaceEvents::parse(v).ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")?;
                c.notify_keyspace_events = events;
                Ok(())
            },
        }
    ),
];

const ENCODINGS: &[Opt] = &[
    number!(
        "hash-max-listpack-entries",
        Anytime,
        hash_max_listpack_entries,
        0,
        i64::MAX,
        "most fields of a hash OBJECT ENCODING calls listpack"
    )
    .also(&["hash-max-ziplist-entries"]),
    memory!("hash-max-listpack-value", Anytime, hash_max_listpack_value, 0, "longest field or value of such a hash")
        .also(&["hash-max-ziplist-value"]),
    number!(
        "list-max-listpack-size",
        Anytime,
        list_max_listpack_size,
        i32::MIN as i64,
        I32_MAX,
        "most elements of such a list; -1 to -5 are 4 to 64 KB"
    )
    .also(&["list-max-ziplist-size"]),
    number!(
        "set-max-intset-entries",
        Anytime,
        set_max_intset_entries,
        0,
        i64::MAX,
        "most members of a set OBJECT ENCODING calls intset"
    ),
    number!(
        "set-max-listpack-entries",
        Anytime,
        set_max_listpack_entries,
        0,
        i64::MAX,
        "most members of a set it calls listpack"
    ),
    number!("set-max-listpack-value", Anytime, set_max_listpack_value, 0, i64::MAX, "longest member of such a set"),
    number!(
        "zset-max-listpack-entries",
        Anytime,
        zset_max_listpack_entries,
        0,
        i64::MAX,
        "most members of a sorted set it calls listpack"
    )
    .also(&["zset-max-ziplist-entries"]),
    memory!("zset-max-listpack-value", Anytime, zset_max_listpack_value, 0, "longest member of such a sorted set")
        .also(&["zset-max-ziplist-value"]),
];

/// Every option of the table, those without effect last.
pub fn all() -> impl Iterator<Item = &'static Opt> {
    used().chain(NOTED)
}

/// Every option that has an effect here.
pub fn used() -> impl Iterator<Item = &'static Opt> {
    SECTIONS.iter().flat_map(|section| section.options)
}

/// The option of this name or older name, in any case.
pub fn find(name: &str) -> Option<&'static Opt> {
    BY_NAME.get(name.to_ascii_lowercase().as_str()).copied()
}

/// The known name nearest to a misspelt one, when it is near enough to be meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let reach = match name.len() {
        0..4 => 1,
        4..9 => 2,
        _ => 3,
    };
    BY_NAME
        .keys()
        .map(|&known| (distance(&name, known), known))
        .filter(|&(far, _)| far <= reach)
        .min()
        .map(|(_, known)| known)
}

static BY_NAME: LazyLock<HashMap<&'static str, &'static Opt, ahash::RandomState>> = LazyLock::new(|| {
    let names =
        |opt: &'static Opt| std::iter::once(opt.name).chain(opt.aliases.iter().copied()).map(move |name| (name, opt));
    all().flat_map(names).collect()
});

// Levenshtein's distance, one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

fn any(_: &str) -> Result<(), &'static str> {
    Ok(())
}

fn not_empty(text: &str) -> Result<(), &'static str> {
    if text.is_empty() { Err("argument must not be empty") } else { Ok(()) }
}

fn plain_file_name(text: &str) -> Result<(), &'static str> {
    if text.contains('/') { Err("dbfilename can't be a path, just a filename") } else { not_empty(text) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::Config;

    #[test]
    fn names_are_unique_and_lower_case() {
        let mut seen = BTreeSet::new();
        for opt in all() {
            for name in std::iter::once(&opt.name).chain(opt.aliases) {
                assert!(seen.insert(*name), "{name} is in the table twice");
                assert_eq!(*name, name.to_ascii_lowercase());
                assert!(std::ptr::eq(find(name).expect(name), opt));
            }
        }
    }

    #[test]
    fn every_option_says_what_it_does_in_one_line() {
        for opt in all() {
            assert!(
                !opt.doc.is_empty() && !opt.doc.contains('\n') && !opt.doc.ends_with('.'),
                "{}: {:?}",
                opt.name,
                opt.doc
            );
        }
    }

    #[test]
    fn every_default_is_accepted_and_changes_nothing() {
        for opt in all().filter(|opt| opt.is_kept()) {
            let mut config = Config::default();
            if opt.name == "save" {
                config.save.clear();
            }
            for line in opt.lines(&Config::default()) {
                opt.set(&mut config, &line).unwrap_or_else(|reason| panic!("{} {line:?}: {reason}", opt.name));
            }
            assert_eq!(config, Config::default(), "{}", opt.name);
        }
    }

    #[test]
    fn a_slip_of_the_finger_finds_what_was_meant() {
        assert_eq!(nearest("prot"), Some("port"));
        assert_eq!(nearest("multimaster"), Some("multi-master"));
        assert_eq!(nearest("replica_of"), Some("replicaof"));
        assert_eq!(nearest("completely-unheard-of"), None);
    }
}
