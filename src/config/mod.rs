//! The configuration: one typed field per option that has a meaning here, and the ways in and out of it.
//!
//! Reading order: [`Config`] below, `values` (kinds of value), `options` and `noted` (the table), `option` (what a row
//! says), `several` (options of several words), `load` (lines to `Config`), `args` (the command line), `get_set` and
//! `rewrite` (the CONFIG command), `masters` (REPLICAOF). No I/O happens here: files come in and go out as bytes, so that every path can be
//! tested without one.

pub mod args;
pub mod get_set;
pub mod load;
pub mod masters;
mod noted;
pub mod option;
pub mod options;
pub mod rewrite;
mod several;
pub mod values;

use values::{
    Allowed, BufferLimit, BufferLimits, KeyspaceEvents, LogFormat, LogLevel, MaxmemoryPolicy, Noted, SavePoint, Secret,
    Supervised, SyslogFacility,
};

/// Everything that can be configured. `Config::default()` is what an empty file gives.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    // Network
    /// Addresses to listen on; a leading `-` makes one optional, `*` and `::*` are every IPv4 and IPv6 address.
    pub bind: Vec<String>,
    /// TCP port of clients and links; 0 listens on none.
    pub port: u16,
    /// Connections the kernel may hold before we accept them.
    pub tcp_backlog: u32,
    /// Path of a Unix socket to listen on; empty for none.
    pub unixsocket: String,
    /// Its mode bits; 0 leaves them to the umask.
    pub unixsocketperm: u32,
    /// Seconds after which an idle client is disconnected; 0 never.
    pub timeout: u64,
    /// Seconds between TCP keepalive probes; 0 sends none.
    pub tcp_keepalive: u32,
    /// Refuse clients from other hosts while there is no `requirepass`.
    pub protected_mode: bool,
    /// Clients that may be connected at once.
    pub maxclients: u32,

    // Threads
    /// Cores to use, one shard each; `None` is every core the affinity mask allows.
    pub server_threads: Option<u16>,
    /// Pin each thread to its core.
    pub server_thread_affinity: bool,

    // Process
    /// Number of databases SELECT knows.
    pub databases: u16,
    /// Leave the terminal and run in the background.
    pub daemonize: bool,
    /// Whether the kernel is asked to give no huge pages.
    pub disable_thp: bool,
    /// Which supervisor is told that the server is ready.
    pub supervised: Supervised,
    /// File that holds our process id while we run; empty for none.
    pub pidfile: String,

    // Log
    /// How much is logged.
    pub loglevel: LogLevel,
    /// File the log is appended to; empty is standard output.
    pub logfile: String,
    /// What a line looks like.
    pub log_format: LogFormat,
    /// Send the log to the system log as well.
    pub syslog_enabled: bool,
    /// The name it has there.
    pub syslog_ident: String,
    /// The part of the system log it goes to.
    pub syslog_facility: SyslogFacility,

    // Snapshots
    /// When a snapshot is saved by itself; none when empty.
    pub save: Vec<SavePoint>,
    /// Refuse writes after a snapshot failed.
    pub stop_writes_on_bgsave_error: bool,
    /// Compress strings in snapshots.
    pub rdbcompression: bool,
    /// End snapshots with a checksum, and verify it on loading.
    pub rdbchecksum: bool,
    /// Bytes of the snapshot that are loaded between two looks at clients.
    pub loading_process_events_interval_bytes: u64,
    /// File name of the snapshot, inside `dir`.
    pub dbfilename: String,
    /// Directory of every file the server writes except the log.
    pub dir: String,

    // Masters and peers
    /// The masters this node follows, in the order given, without duplicates.
    pub replicaof: Vec<(String, u16)>,
    /// Follow several masters at once.
    pub multi_master: bool,
    /// Take writes although there are masters.
    pub active_replica: bool,
    /// Password for the masters.
    pub masterauth: Secret,
    /// User name for the masters; empty sends the password alone.
    pub masteruser: String,
    /// Serve reads while the links are down.
    pub replica_serve_stale_data: bool,
    /// Refuse clients' writes while there are masters. Always false when `active_replica` is true.
    pub replica_read_only: bool,
    /// How many masters must be linked for `replica_serve_stale_data`; -1 is all of them.
    pub replica_quorum: i32,
    /// Address we tell the masters we have; empty lets them look.
    pub replica_announce_ip: String,
    /// Port we tell the masters we have; 0 is `port`.
    pub replica_announce_port: u16,
    /// Preference for failover by Sentinel; shown in INFO.
    pub replica_priority: u32,
    /// Replicas that must be linked for a write to be accepted; 0 asks for none.
    pub min_replicas_to_write: u32,
    /// How many seconds such a replica may lag.
    pub min_replicas_max_lag: u32,
    /// Bytes of recent writes kept for links that come back.
    pub repl_backlog_size: u64,
    /// Seconds of silence after which a link is given up.
    pub repl_timeout: u32,
    /// Seconds between heartbeats on a link.
    pub repl_ping_replica_period: u32,
    /// Milliseconds a peer's clock may be ahead before ours stops following it.
    pub max_clock_drift: u64,
    /// Bytes of tombstones kept for peers that are away; beyond it they get a full merge on return.
    pub tombstone_memory_limit: u64,
    /// Seconds in which every link compares the digests of all partitions once; 0 never.
    pub digest_check_period: u64,

    // Security
    /// Password clients must give.
    pub requirepass: Secret,
    /// Commands that have another name here: old name, new name (empty: the command is gone).
    pub rename_command: Vec<(String, String)>,
    /// Entries ACL LOG keeps.
    pub acllog_max_len: u64,
    /// Who may use DEBUG.
    pub enable_debug_command: Allowed,
    /// Who may set `dir` and `dbfilename` at run time.
    pub enable_protected_configs: Allowed,

    // Limits
    /// Bytes of data to hold; 0 is no limit.
    pub maxmemory: u64,
    /// What happens to a write then.
    pub maxmemory_policy: MaxmemoryPolicy,
    /// Longest string a client may send.
    pub proto_max_bulk_len: u64,
    /// Most bytes one client's unfinished commands may take.
    pub client_query_buffer_limit: u64,
    /// Most bytes of replies that may wait for a client.
    pub client_output_buffer_limit: BufferLimits,
    /// Milliseconds a script may run before others are told so.
    pub busy_reply_threshold: u64,

    // Observation
    /// Microseconds from which a command enters the slow log; 0 logs all, negative none.
    pub slowlog_log_slower_than: i64,
    /// Entries the slow log keeps.
    pub slowlog_max_len: u64,
    /// Milliseconds from which LATENCY records an event; 0 records none.
    pub latency_monitor_threshold: u64,
    /// Keep a latency histogram per command.
    pub latency_tracking: bool,
    /// Percentiles of it that INFO shows.
    pub latency_tracking_info_percentiles: Vec<f64>,
    /// Which keyspace events are published.
    pub notify_keyspace_events: KeyspaceEvents,

    // Encodings as OBJECT ENCODING names them
    /// Most fields of a small hash.
    pub hash_max_listpack_entries: u64,
    /// Longest field or value of a small hash.
    pub hash_max_listpack_value: u64,
    /// Most elements (or, negative, a size class) of a small list.
    pub list_max_listpack_size: i32,
    /// Most members of a set of integers.
    pub set_max_intset_entries: u64,
    /// Most members of a small set.
    pub set_max_listpack_entries: u64,
    /// Longest member of a small set.
    pub set_max_listpack_value: u64,
    /// Most members of a small sorted set.
    pub zset_max_listpack_entries: u64,
    /// Longest member of a small sorted set.
    pub zset_max_listpack_value: u64,

    // Not options
    /// Absolute path of the file we were started with, as INFO shows it; empty for none. Set by `main`.
    pub config_file: String,
    /// What was given for options that are accepted but have no meaning here, for CONFIG GET and CONFIG REWRITE.
    pub noted: Noted,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: vec!["*".into(), "-::*".into()],
            port: 6379,
            tcp_backlog: 511,
            unixsocket: String::new(),
            unixsocketperm: 0,
            timeout: 0,
            tcp_keepalive: 300,
            protected_mode: true,
            maxclients: 10_000,
            server_threads: None,
            server_thread_affinity: true,
            databases: 16,
            daemonize: false,
            disable_thp: true,
            supervised: Supervised::No,
            pidfile: String::new(),
            loglevel: LogLevel::Notice,
            logfile: String::new(),
            log_format: LogFormat::Text,
            syslog_enabled: false,
            syslog_ident: "tutti".into(),
            syslog_facility: SyslogFacility::Local0,
            save: [(3600, 1), (300, 100), (60, 10_000)]
                .map(|(seconds, changes)| SavePoint { seconds, changes })
                .to_vec(),
            stop_writes_on_bgsave_error: true,
            rdbcompression: true,
            rdbchecksum: true,
            loading_process_events_interval_bytes: 2 << 20,
            dbfilename: "dump.rdb".into(),
            dir: ".".into(),
            replicaof: Vec::new(),
            multi_master: false,
            active_replica: false,
            masterauth: Secret::default(),
            masteruser: String::new(),
            replica_serve_stale_data: true,
            replica_read_only: true,
            replica_quorum: -1,
            replica_announce_ip: String::new(),
            replica_announce_port: 0,
            replica_priority: 100,
            min_replicas_to_write: 0,
            min_replicas_max_lag: 10,
            // Redis' 1 MB is gone in milliseconds at a million writes a second, and every reconnect would then be a
            // full merge.
            repl_backlog_size: 64 << 20,
            repl_timeout: 60,
            repl_ping_replica_period: 10,
            max_clock_drift: 1000,
            tombstone_memory_limit: 256 << 20,
            digest_check_period: 600,
            requirepass: Secret::default(),
            rename_command: Vec::new(),
            acllog_max_len: 128,
            enable_debug_command: Allowed::No,
            enable_protected_configs: Allowed::No,
            maxmemory: 0,
            maxmemory_policy: MaxmemoryPolicy::Noeviction,
            proto_max_bulk_len: 512 << 20,
            client_query_buffer_limit: 1 << 30,
            client_output_buffer_limit: BufferLimits {
                normal: BufferLimit { hard_bytes: 0, soft_bytes: 0, soft_seconds: 0 },
                replica: BufferLimit { hard_bytes: 256 << 20, soft_bytes: 64 << 20, soft_seconds: 60 },
                pubsub: BufferLimit { hard_bytes: 32 << 20, soft_bytes: 8 << 20, soft_seconds: 60 },
            },
            busy_reply_threshold: 5000,
            slowlog_log_slower_than: 10_000,
            slowlog_max_len: 128,
            latency_monitor_threshold: 0,
            latency_tracking: true,
            latency_tracking_info_percentiles: vec![50.0, 99.0, 99.9],
            notify_keyspace_events: KeyspaceEvents::default(),
            hash_max_listpack_entries: 512,
            hash_max_listpack_value: 64,
            list_max_listpack_size: -2,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 128,
            set_max_listpack_value: 64,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
            config_file: String::new(),
            noted: Noted::default(),
        }
    }
}

impl Config {
    /// True when a client's write is refused because this node only follows.
    pub fn refuses_writes(&self) -> bool {
        !self.replicaof.is_empty() && self.replica_read_only && !self.active_replica
    }
}
