//! INFO, SLOWLOG, MEMORY.

use crate::node::{Node, eventually};

#[test]
fn info_has_every_field_that_monitors_read() {
    let node = Node::start(&[]);
    let mut conn = node.connect();
    conn.text("SET k v EX 100");
    let all = conn.text("INFO everything");
    // What redis_exporter, Telegraf and Datadog turn into metrics.
    for name in
        "redis_version redis_mode os run_id process_id tcp_port uptime_in_seconds uptime_in_days connected_clients \
        maxclients blocked_clients client_recent_max_input_buffer client_recent_max_output_buffer used_memory \
        used_memory_rss used_memory_peak used_memory_lua used_memory_overhead used_memory_startup used_memory_dataset \
        total_system_memory maxmemory maxmemory_policy mem_fragmentation_ratio mem_allocator loading \
        rdb_changes_since_last_save rdb_bgsave_in_progress rdb_last_save_time rdb_last_bgsave_status aof_enabled \
        total_connections_received total_commands_processed instantaneous_ops_per_sec total_net_input_bytes \
        total_net_output_bytes instantaneous_input_kbps instantaneous_output_kbps rejected_connections sync_full \
        expired_keys evicted_keys keyspace_hits keyspace_misses pubsub_channels pubsub_patterns latest_fork_usec role \
        connected_slaves master_replid master_repl_offset second_repl_offset repl_backlog_active repl_backlog_size \
        used_cpu_sys used_cpu_user used_cpu_sys_children used_cpu_user_children cluster_enabled cmdstat_set mvcc_depth"
            .split_whitespace()
    {
        assert!(all.contains(&format!("\n{name}:")), "{name} is missing");
    }
    assert!(all.lines().all(|line| line.is_empty() || line.starts_with("# ") || line.contains(':')), "{all}");
    assert_eq!(conn.info("db0"), "keys=1,expires=1,avg_ttl=0");
    assert_eq!(conn.info("process_id").parse::<u32>().map(|pid| pid > 1), Ok(true));
}

#[test]
fn sections_can_be_chosen() {
    let node = Node::start(&[]);
    let mut conn = node.connect();
    let headings = |text: &str| text.lines().filter(|line| line.starts_with("# ")).collect::<Vec<_>>().join(" ");
    assert_eq!(headings(&conn.text("INFO keyspace CPU")), "# CPU # Keyspace");
    assert_eq!(conn.text("INFO nonsense"), "");
    assert!(!headings(&conn.text("INFO")).contains("# Commandstats"));
    assert!(headings(&conn.text("INFO all")).contains("# Commandstats"));
}

#[test]
fn figures_are_sums_over_all_cores() {
    let node = Node::start(&[]);
    let [mut a, mut b] = node.connect_to_each_core();
    assert_eq!(a.text("CONFIG RESETSTAT"), "OK");
    for n in 0..50 {
        a.text(&format!("SET key{n} {}", "x".repeat(1000)));
        b.text(&format!("GET key{n}"));
        b.text(&format!("GET none{n}"));
    }
    assert_eq!(a.info("keyspace_hits"), "50");
    assert_eq!(b.info("keyspace_misses"), "50");
    assert_eq!(b.info("db0"), "keys=50,expires=0,avg_ttl=0");
    assert!(a.info("cmdstat_get").starts_with("calls=100,"));
    assert!(a.info("total_net_input_bytes").parse::<u64>().expect("a number") > 50_000);
    assert!(a.info("total_net_output_bytes").parse::<u64>().expect("a number") > 50_000);
    assert!(a.info("total_commands_processed").parse::<u64>().expect("a number") >= 150);
}

#[test]
fn used_memory_follows_the_data() {
    let node = Node::start(&[]);
    let mut conn = node.connect();
    let used = |conn: &mut crate::node::Conn| conn.info("used_memory").parse::<u64>().expect("a number");
    eventually("it is measured", || used(&mut conn) > 100_000);
    let before = used(&mut conn);
    conn.text(&format!("SET big {}", "x".repeat(8 << 20)));
    eventually("eight megabytes are seen", || used(&mut conn) > before + (7 << 20));
    conn.text("DEL big");
    eventually("and seen to go", || used(&mut conn) < before + (4 << 20));
    assert_eq!(conn.text("CONFIG SET maxmemory 1mb"), "OK");
    assert_eq!(conn.text("SET more 1"), "-OOM command not allowed when used memory > 'maxmemory'.");
}

#[test]
fn slow_commands_of_every_core_are_logged_newest_first() {
    let node = Node::start(&["--slowlog-log-slower-than", "0"]);
    let [mut a, mut b] = node.connect_to_each_core();
    assert_eq!(a.text("SLOWLOG RESET"), "OK");
    a.text("MSET {t}a 1 {t}b 2");
    b.text(&format!("MSET c {}", "x".repeat(200)));
    let log = b.text("SLOWLOG GET -1");
    assert!(
        log.contains("MSET {t}a 1 {t}b 2") && log.contains(&format!("{}... (72 more bytes)", "x".repeat(128))),
        "{log}"
    );
    assert!(b.text("SLOWLOG LEN").parse::<u64>().expect("a number") >= 2);
    (0..10).for_each(|n| drop(a.text(&format!("GETRANGE key{n} 0 -1"))));
    eventually("commands that hopped are logged once", || b.text("SLOWLOG GET -1").matches("GETRANGE").count() == 10);
    assert_eq!(b.text("CONFIG SET slowlog-log-slower-than -1"), "OK");
    assert_eq!(b.text("SLOWLOG RESET"), "OK");
    assert_eq!(b.text("SLOWLOG LEN"), "0");
}

#[test]
fn memory_answers_in_redis_form() {
    let node = Node::start(&[]);
    let mut conn = node.connect();
    conn.text("SET k v");
    assert!(conn.text("MEMORY USAGE k").parse::<u64>().expect("a number") > 1);
    assert!(conn.text("MEMORY STATS").contains("keys.count 1"));
    assert!(conn.text("MEMORY DOCTOR").contains("Sam"));
    assert_eq!(conn.text("MEMORY PURGE"), "OK");
}
