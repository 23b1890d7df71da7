//! Rows of the commands of Redis Cluster: known, so that clients hear that this node is no part of one.
//!
//! Flags and arities are Redis' own: tests compare them with a redis-server where there is one.

use super::home::row;
use super::spec::{ADMIN, CONTAINER, FAST, Flags, Group, Home, LOADING, NO_ASYNC_LOADING, NO_SCRIPT, STALE, Spec};

const ADMIN_STALE: Flags = ADMIN.or(STALE);
const CHANGE: Flags = ADMIN_STALE.or(NO_ASYNC_LOADING);
const ANYTIME: Flags = LOADING.or(STALE);

/// The rows of this file.
#[rustfmt::skip]
pub const FAMILY: &[Spec] = &[
    //  name                            arity  flags               since    summary
    one("asking",                           1, FAST,               "3.0.0", "Tells that a redirection is followed."),
    one("cluster",                         -2, CONTAINER,          "3.0.0", "A container for cluster commands."),
    one("cluster|addslots",                -3, CHANGE,             "3.0.0", "Assigns slots to a node."),
    one("cluster|addslotsrange",           -4, CHANGE,             "7.0.0", "Assigns ranges of slots to a node."),
    one("cluster|bumpepoch",                2, CHANGE,             "3.0.0", "Advances the cluster's epoch."),
    one("cluster|count-failure-reports",    3, ADMIN_STALE,        "3.0.0", "Counts the failure reports about a node."),
    one("cluster|countkeysinslot",          3, STALE,              "3.0.0", "Counts the keys of a slot."),
    one("cluster|delslots",                -3, CHANGE,             "3.0.0", "Takes slots away from a node."),
    one("cluster|delslotsrange",           -4, CHANGE,             "7.0.0", "Takes ranges of slots away from a node."),
    one("cluster|failover",                -2, CHANGE,             "3.0.0", "Makes a replica a master."),
    one("cluster|flushslots",               2, CHANGE,             "3.0.0", "Takes all slots away from a node."),
    one("cluster|forget",                   3, CHANGE,             "3.0.0", "Removes a node."),
    one("cluster|getkeysinslot",            4, STALE,              "3.0.0", "Returns keys of a slot."),
    one("cluster|help",                     2, ANYTIME,            "5.0.0", "Lists the subcommands."),
    one("cluster|info",                     2, STALE,              "3.0.0", "Describes the cluster."),
    one("cluster|keyslot",                  3, STALE,              "3.0.0", "Returns the slot of a key."),
    one("cluster|links",                    2, STALE,              "7.0.0", "Describes the connections between nodes."),
    one("cluster|meet",                    -4, CHANGE,             "3.0.0", "Makes nodes meet."),
    one("cluster|myid",                     2, STALE,              "3.0.0", "Returns the node's name."),
    one("cluster|nodes",                    2, STALE,              "3.0.0", "Describes the cluster's nodes."),
    one("cluster|replicas",                 3, ADMIN_STALE,        "5.0.0", "Lists the replicas of a master."),
    one("cluster|replicate",                3, CHANGE,             "3.0.0", "Makes a node a replica."),
    one("cluster|reset",                   -2, ADMIN_STALE.or(NO_SCRIPT), "3.0.0", "Makes a node forget the cluster."),
    one("cluster|saveconfig",               2, CHANGE,             "3.0.0", "Writes the cluster's configuration."),
    one("cluster|set-config-epoch",         3, CHANGE,             "3.0.0", "Sets a new node's epoch."),
    one("cluster|setslot",                 -4, CHANGE,             "3.0.0", "Binds a slot to a node."),
    one("cluster|shards",                   2, STALE,              "7.0.0", "Tells which node serves which slots."),
    one("cluster|slaves",                   3, ADMIN_STALE,        "3.0.0", "Lists the replicas of a master."),
    one("cluster|slots",                    2, STALE,              "3.0.0", "Tells which node serves which slots."),
    one("readonly",                         1, FAST.or(ANYTIME),   "3.0.0", "Allows reads from a replica."),
    one("readwrite",                        1, FAST.or(ANYTIME),   "3.0.0", "Forbids reads from a replica."),
];

const fn one(name: &'static str, arity: i16, flags: Flags, since: &'static str, summary: &'static str) -> Spec {
    row(name, arity, flags, Home::Cluster, Group::Cluster, since, summary)
}
