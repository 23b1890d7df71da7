//! Cluster commands, as redis-server answers them with `cluster-enabled no`.

use crate::node::{Conn, Node};
use crate::table::Redis;

const DISABLED: &str = "-ERR This instance has cluster support disabled";

#[test]
fn cluster_commands_hear_that_this_is_no_cluster() {
    let node = Node::start(&[]);
    let redis = Redis::start();
    let mut theirs: Option<Conn> = redis.as_ref().map(Redis::connect);
    for (line, reply) in [
        ("CLUSTER INFO", DISABLED),
        ("CLUSTER KEYSLOT key", DISABLED),
        ("CLUSTER COUNTKEYSINSLOT 0", DISABLED),
        ("CLUSTER GETKEYSINSLOT 0 10", DISABLED),
        ("CLUSTER MYID", DISABLED),
        ("CLUSTER NODES", DISABLED),
        ("cluster slots", DISABLED),
        ("CLUSTER SHARDS", DISABLED),
        ("CLUSTER LINKS", DISABLED),
        ("CLUSTER HELP", DISABLED),
        ("CLUSTER MEET a 1", DISABLED),
        ("CLUSTER RESET", DISABLED),
        ("CLUSTER COUNT-FAILURE-REPORTS a", DISABLED),
        ("CLUSTER", "-ERR wrong number of arguments for 'cluster' command"),
        ("CLUSTER KEYSLOT", "-ERR wrong number of arguments for 'cluster|keyslot' command"),
        ("CLUSTER GETKEYSINSLOT 0", "-ERR wrong number of arguments for 'cluster|getkeysinslot' command"),
        ("CLUSTER NONSENSE", "-ERR unknown subcommand 'NONSENSE'. Try CLUSTER HELP."),
        ("READONLY", DISABLED),
        ("READWRITE", DISABLED),
        ("ASKING", DISABLED),
        ("ASKING now", "-ERR wrong number of arguments for 'asking' command"),
    ] {
        assert_eq!(node.connect().text(line), reply, "{line}");
        if let Some(theirs) = &mut theirs {
            assert_eq!(theirs.text(line), reply, "redis-server: {line}");
        }
    }
}
