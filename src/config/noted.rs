//! Options that Redis 7.2 and KeyDB 6.3 know and that have no effect here. Their files load; the value is kept for
//! CONFIG GET and CONFIG REWRITE; a value other than the default is answered by a line in the log that says why it
//! changes nothing. Where silence would be dangerous the value is refused instead.

use super::option::{Change, Opt, Shape, Value};
use Change::{Anytime, AtStart};
use Shape::{Bool, Memory, Number, Text, Words};

const fn noted(name: &'static str, change: Change, shape: Shape, default: &'static str, reason: &'static str) -> Opt {
    let value = Value::Noted { shape, default, reason, is_loud: false };
    Opt { name, aliases: &[], change, value, doc: reason }
}

/// The user may count on what does not happen: the log line is a warning.
const fn loud(name: &'static str, shape: Shape, default: &'static str, reason: &'static str) -> Opt {
    let value = Value::Noted { shape, default, reason, is_loud: true };
    Opt { name, aliases: &[], change: AtStart, value, doc: reason }
}

const fn only(name: &'static str, value: &'static str, reason: &'static str) -> Opt {
    Opt { name, aliases: &[], change: AtStart, value: Value::Only { value, reason }, doc: reason }
}

const fn refused(name: &'static str, reason: &'static str) -> Opt {
    Opt { name, aliases: &[], change: AtStart, value: Value::Refused(reason), doc: reason }
}

const AOF: &str = "there is no append-only file; data is kept by snapshots (see save)";
const BACKLOG: &str = "the backlog is memory of a fixed size (see repl-backlog-size) and lives as long as the server";
const CLUSTER: &str = "this server is not a node of a Redis Cluster";
const CPUS: &str = "threads are pinned to the cores the process may run on; choose them with taskset";
const CRASH: &str = "a fault is reported on standard error and ends the process";
const DEBUG: &str = "it serves Redis' and KeyDB's own tests";
const DEFRAG: &str = "memory is not defragmented";
const EVICTION: &str = "nothing is evicted; a write beyond maxmemory is refused";
const FLASH: &str = "data is held in memory only";
const FORK: &str = "snapshots are taken without a child process";
const LAZY: &str = "memory is always freed in small slices beside the commands";
const LINKS: &str = "masters and peers exchange what each of them lacks, without a file in between";
const LOADING: &str = "loading is cut into small slices already";
const MODULES: &str = "modules cannot be loaded";
const ONE_LAYOUT: &str = "values of this kind have one layout in memory";
const TICK: &str = "background work is paced by what there is to do";
const PLACEMENT: &str = "clients are placed on cores by the kernel and by the keys they use";
const TITLE: &str = "the process keeps the name it was started with";
const TLS: &str = "there is no TLS; put stunnel or a private network in front";
const TLS_REFUSED: &str =
    "there is no TLS yet, and plain connections would not be what was asked for; remove the line or say no";

/// The rows.
pub(super) static NOTED: &[Opt] = &[
    // What must not pass in silence.
    loud(
        "appendonly",
        Bool,
        "no",
        "there is no append-only file yet: writes since the last snapshot are lost when every node stops",
    ),
    loud("db-s3-object", Text, "", "snapshots go to dir only, not to S3"),
    loud("loadmodule", Words, "", MODULES),
    loud("storage-provider", Words, "", FLASH),
    only("aclfile", "", "ACL users are not supported; use requirepass and masterauth"),
    only(
        "cluster-enabled",
        "no",
        "this server is not a node of a Redis Cluster; join nodes with multi-master, active-replica and replicaof",
    ),
    only("tls-port", "0", TLS_REFUSED),
    only("tls-replication", "no", TLS_REFUSED),
    only("tls-cluster", "no", TLS_REFUSED),
    refused(
        "user",
        "ACL users are not supported, and ignoring one could open the server; use requirepass and masterauth",
    ),
    refused("sentinel", "this server is not a Sentinel"),
    // The append-only file.
    noted("aof-disable-auto-gc", Anytime, Bool, "no", AOF),
    noted("aof-load-truncated", Anytime, Bool, "yes", AOF),
    noted("aof-rewrite-incremental-fsync", Anytime, Bool, "yes", AOF),
    noted("aof-timestamp-enabled", Anytime, Bool, "no", AOF),
    noted("aof-use-rdb-preamble", Anytime, Bool, "yes", AOF),
    noted("appenddirname", AtStart, Text, "appendonlydir", AOF),
    noted("appendfilename", AtStart, Text, "appendonly.aof", AOF),
    noted("appendfsync", Anytime, Text, "everysec", AOF),
    noted("auto-aof-rewrite-min-size", Anytime, Memory, "67108864", AOF),
    noted("auto-aof-rewrite-percentage", Anytime, Number, "100", AOF),
    noted("no-appendfsync-on-rewrite", Anytime, Bool, "no", AOF),
    // Cores and threads.
    noted("active-client-balancing", Anytime, Bool, "yes", PLACEMENT),
    noted("aof_rewrite_cpulist", AtStart, Text, "", CPUS).also(&["aof-rewrite-cpulist"]),
    noted("bgsave_cpulist", AtStart, Text, "", CPUS).also(&["bgsave-cpulist"]),
    noted("bio_cpulist", AtStart, Text, "", CPUS).also(&["bio-cpulist"]),
    noted("enable-async-commands", Anytime, Bool, "no", "commands never wait for one another's cores"),
    noted("io-threads", AtStart, Number, "1", "every core reads and writes its own sockets; see server-threads"),
    noted(
        "io-threads-do-reads",
        AtStart,
        Bool,
        "no",
        "every core reads and writes its own sockets; see server-threads",
    ),
    noted("min-clients-per-thread", Anytime, Number, "20", PLACEMENT),
    noted("overload-protect-percent", Anytime, Number, "0", "a core that is behind stops reading sockets by itself"),
    noted("prefetch-enabled", Anytime, Bool, "yes", "commands are taken in batches already"),
    noted("replica-weighting-factor", Anytime, Number, "2", PLACEMENT),
    noted("server_cpulist", AtStart, Text, "", CPUS).also(&["server-cpulist"]),
    noted("time-thread-priority", AtStart, Bool, "no", "there is no thread of its own for the time"),
    // Links.
    noted("allow-write-during-load", Anytime, Bool, "no", "writes are taken and merged while a link catches up"),
    noted("enable-keydb-fastsync", Anytime, Bool, "no", LINKS),
    noted("force-backlog-disk-reserve", Anytime, Bool, "no", BACKLOG),
    noted(
        "multi-master-no-forward",
        Anytime,
        Bool,
        "no",
        "what a node hears directly is not sent to it twice, and what it cannot hear otherwise is passed on",
    ),
    noted("rdb-del-sync-files", Anytime, Bool, "no", LINKS),
    noted("repl-backlog-disk-reserve", AtStart, Memory, "0", BACKLOG),
    noted("repl-backlog-ttl", Anytime, Number, "3600", BACKLOG),
    noted("repl-disable-tcp-nodelay", Anytime, Bool, "no", "writes are sent once per tick, in one piece"),
    noted("repl-diskless-load", Anytime, Text, "disabled", LINKS),
    noted("repl-diskless-sync", Anytime, Bool, "yes", LINKS),
    noted("repl-diskless-sync-delay", Anytime, Number, "5", LINKS),
    noted("repl-diskless-sync-max-replicas", Anytime, Number, "0", LINKS),
    noted("replica-announced", Anytime, Bool, "yes", "there is no Sentinel to be hidden from"),
    noted("replica-ignore-disk-write-errors", Anytime, Bool, "no", "what a peer wrote is never refused"),
    noted("replica-ignore-maxmemory", Anytime, Bool, "yes", "what a peer wrote is never refused")
        .also(&["slave-ignore-maxmemory"]),
    noted("replica-lazy-flush", Anytime, Bool, "no", "data is merged, not replaced").also(&["slave-lazy-flush"]),
    // Memory.
    noted("active-defrag-cycle-max", Anytime, Number, "25", DEFRAG),
    noted("active-defrag-cycle-min", Anytime, Number, "1", DEFRAG),
    noted("active-defrag-ignore-bytes", Anytime, Memory, "104857600", DEFRAG),
    noted("active-defrag-max-scan-fields", Anytime, Number, "1000", DEFRAG),
    noted("active-defrag-threshold-lower", Anytime, Number, "10", DEFRAG),
    noted("active-defrag-threshold-upper", Anytime, Number, "100", DEFRAG),
    noted("activedefrag", Anytime, Bool, "no", DEFRAG),
    noted("activerehashing", Anytime, Bool, "yes", "tables grow slot by slot, in small steps"),
    noted("delete-on-evict", Anytime, Bool, "no", EVICTION),
    noted("enable-async-rehash", Anytime, Bool, "yes", "tables grow slot by slot, in small steps"),
    noted("force-eviction-percent", Anytime, Number, "0", EVICTION),
    noted("hll-sparse-max-bytes", Anytime, Memory, "3000", ONE_LAYOUT),
    noted("jemalloc-bg-thread", Anytime, Bool, "yes", "the allocator is not jemalloc"),
    noted("lazyfree-lazy-eviction", Anytime, Bool, "no", LAZY),
    noted("lazyfree-lazy-expire", Anytime, Bool, "no", LAZY),
    noted("lazyfree-lazy-server-del", Anytime, Bool, "no", LAZY),
    noted("lazyfree-lazy-user-del", Anytime, Bool, "no", LAZY),
    noted("lazyfree-lazy-user-flush", Anytime, Bool, "no", LAZY),
    noted("lfu-decay-time", Anytime, Number, "1", EVICTION),
    noted("lfu-log-factor", Anytime, Number, "10", EVICTION),
    noted("list-compress-depth", Anytime, Number, "0", ONE_LAYOUT),
    noted("list-max-ziplist-entries", Anytime, Number, "512", "it is older than list-max-listpack-size, which is used"),
    noted("list-max-ziplist-value", Anytime, Memory, "64", "it is older than list-max-listpack-size, which is used"),
    noted("maxmemory-clients", Anytime, Memory, "0", "buffers are bounded per client; see client-output-buffer-limit"),
    noted("maxmemory-eviction-tenacity", Anytime, Number, "10", EVICTION),
    noted("maxmemory-samples", Anytime, Number, "5", EVICTION),
    noted("semi-ordered-set-bucket-size", Anytime, Number, "0", ONE_LAYOUT),
    noted("stream-node-max-bytes", Anytime, Memory, "4096", ONE_LAYOUT),
    noted("stream-node-max-entries", Anytime, Number, "100", ONE_LAYOUT),
    noted("tracking-table-max-keys", Anytime, Number, "1000000", "keys that clients track are not bounded by a table"),
    // Storage other than memory and snapshots.
    noted("allow-rdb-resize-op", Anytime, Bool, "yes", LOADING),
    noted("blob-support", AtStart, Bool, "no", FLASH),
    noted("flash-disable-key-cache", Anytime, Bool, "no", FLASH),
    noted("is-flash-enabled", AtStart, Words, "", FLASH),
    noted("maxstorage", Anytime, Memory, "0", FLASH),
    noted("scratch-file-path", AtStart, Text, "", FLASH),
    noted("storage-cache-mode", AtStart, Text, "writethrough", FLASH),
    noted("storage-flush-period", Anytime, Number, "500", FLASH),
    noted("storage-provider-options", AtStart, Text, "", FLASH),
    // Snapshots and loading.
    noted("key-load-delay", Anytime, Number, "0", DEBUG),
    noted("loading-process-events-interval-keys", Anytime, Memory, "8192", LOADING),
    noted("max-snapshot-slip", Anytime, Number, "400", FORK),
    noted("multithread-load-enabled", Anytime, Bool, "no", LOADING),
    noted("rdb-key-save-delay", Anytime, Number, "0", DEBUG),
    noted("rdb-save-incremental-fsync", Anytime, Bool, "yes", "snapshots are written in pieces and synced at the end"),
    noted("sanitize-dump-payload", Anytime, Text, "no", "what RESTORE is given is always checked"),
    noted("use-fork", AtStart, Bool, "yes", FORK),
    // Pace and process.
    noted("active-expire-effort", Anytime, Number, "1", TICK),
    noted("dynamic-hz", Anytime, Bool, "yes", TICK),
    noted("hz", Anytime, Number, "10", TICK),
    noted("always-show-logo", AtStart, Bool, "no", "there is no logo"),
    noted("availability-zone", Anytime, Text, "", "peers are not told apart by zone"),
    noted("bind-source-addr", Anytime, Text, "", "links leave from the address the kernel chooses"),
    noted("client-default-resp", AtStart, Number, "2", "every connection starts with RESP2; use HELLO 3"),
    noted("crash-log-enabled", Anytime, Bool, "yes", CRASH),
    noted("crash-memcheck-enabled", Anytime, Bool, "yes", CRASH),
    noted("enable-module-command", AtStart, Text, "no", MODULES),
    noted("enable-motd", AtStart, Bool, "yes", "no message is fetched from anywhere"),
    noted("ignore-warnings", Anytime, Text, "", "no warning stops the server"),
    noted("locale-collate", Anytime, Text, "", "texts are ordered by their bytes"),
    noted("lua-replicate-commands", Anytime, Bool, "yes", "what a script did is passed on, never the script"),
    noted(
        "max-rand-count",
        Anytime,
        Number,
        "4611686018427387903",
        "replies are bounded by client-output-buffer-limit",
    ),
    noted("maxclients-reserved", Anytime, Number, "0", "links to masters are not counted as clients"),
    noted("oom-score-adj", Anytime, Text, "no", "the kernel's choice is left to the service manager"),
    noted("oom-score-adj-values", Anytime, Words, "0 200 800", "the kernel's choice is left to the service manager"),
    noted("proc-title-template", Anytime, Text, "{title} {listen-addr} {server-mode}", TITLE),
    noted("propagation-error-behavior", Anytime, Text, "ignore", "peers are sent effects, which cannot fail"),
    noted("rdbfuzz-mode", AtStart, Words, "", DEBUG),
    noted("req-res-logfile", AtStart, Text, "", DEBUG),
    noted("set-proc-title", AtStart, Bool, "yes", TITLE),
    noted(
        "shutdown-on-sigint",
        Anytime,
        Words,
        "default",
        "a signal to stop saves when save is set, as the default does",
    ),
    noted(
        "shutdown-on-sigterm",
        Anytime,
        Words,
        "default",
        "a signal to stop saves when save is set, as the default does",
    ),
    noted(
        "shutdown-timeout",
        Anytime,
        Number,
        "10",
        "a peer fetches what it lacks when we are back; stopping does not wait for it",
    ),
    noted("socket-mark-id", AtStart, Number, "0", "packets carry no mark"),
    noted("soft-shutdown", Anytime, Bool, "no", "stopping does not wait for clients"),
    noted("testmode", AtStart, Bool, "no", DEBUG),
    noted("use-exit-on-panic", Anytime, Bool, "no", CRASH),
    noted("version-override", AtStart, Text, "", "the version shown is our own"),
    noted("watchdog-period", Anytime, Number, "0", DEBUG),
    // Access.
    noted("acl-pubsub-default", Anytime, Text, "resetchannels", "ACL users are not supported"),
    // Cluster.
    noted("cluster-allow-pubsubshard-when-down", Anytime, Bool, "yes", CLUSTER),
    noted("cluster-allow-reads-when-down", Anytime, Bool, "no", CLUSTER),
    noted("cluster-allow-replica-migration", Anytime, Bool, "yes", CLUSTER),
    noted("cluster-announce-bus-port", Anytime, Number, "0", CLUSTER),
    noted("cluster-announce-hostname", Anytime, Text, "", CLUSTER),
    noted("cluster-announce-human-nodename", Anytime, Text, "", CLUSTER),
    noted("cluster-announce-ip", Anytime, Text, "", CLUSTER),
    noted("cluster-announce-port", Anytime, Number, "0", CLUSTER),
    noted("cluster-announce-tls-port", Anytime, Number, "0", CLUSTER),
    noted("cluster-config-file", AtStart, Text, "nodes.conf", CLUSTER),
    noted("cluster-link-sendbuf-limit", Anytime, Memory, "0", CLUSTER),
    noted("cluster-migration-barrier", Anytime, Number, "1", CLUSTER),
    noted("cluster-node-timeout", Anytime, Number, "15000", CLUSTER),
    noted("cluster-ping-interval", Anytime, Number, "0", CLUSTER),
    noted("cluster-port", AtStart, Number, "0", CLUSTER),
    noted("cluster-preferred-endpoint-type", Anytime, Text, "ip", CLUSTER),
    noted("cluster-replica-no-failover", Anytime, Bool, "no", CLUSTER).also(&["cluster-slave-no-failover"]),
    noted("cluster-replica-validity-factor", Anytime, Number, "10", CLUSTER).also(&["cluster-slave-validity-factor"]),
    noted("cluster-require-full-coverage", Anytime, Bool, "yes", CLUSTER),
    // TLS, as long as nobody asks for it.
    noted("tls-allowlist", AtStart, Words, "", TLS),
    noted("tls-auth-clients", Anytime, Text, "yes", TLS),
    noted("tls-ca-cert-dir", Anytime, Text, "", TLS),
    noted("tls-ca-cert-file", Anytime, Text, "", TLS),
    noted("tls-cert-file", Anytime, Text, "", TLS),
    noted("tls-ciphers", Anytime, Text, "", TLS),
    noted("tls-ciphersuites", Anytime, Text, "", TLS),
    noted("tls-client-cert-file", Anytime, Text, "", TLS),
    noted("tls-client-key-file", Anytime, Text, "", TLS),
    noted("tls-client-key-file-pass", Anytime, Text, "", TLS),
    noted("tls-dh-params-file", Anytime, Text, "", TLS),
    noted("tls-key-file", Anytime, Text, "", TLS),
    noted("tls-key-file-pass", Anytime, Text, "", TLS),
    noted("tls-prefer-server-ciphers", Anytime, Bool, "no", TLS),
    noted("tls-protocols", Anytime, Text, "", TLS),
    noted("tls-rotation", Anytime, Bool, "no", TLS),
    noted("tls-session-cache-size", Anytime, Number, "20480", TLS),
    noted("tls-session-cache-timeout", Anytime, Number, "300", TLS),
    noted("tls-session-caching", Anytime, Bool, "yes", TLS),
];
