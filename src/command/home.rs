//! Rows of the commands that run where the client is connected; `worker::home` runs them.
//!
//! Flags and arities are Redis' own: tests compare them with a redis-server where there is one.

use super::spec::{
    ADMIN, ALLOW_BUSY, BARRIER, CONTAINER, FAST, Flags, Group, Home, Keys, LOADING, NO_ASYNC_LOADING, NO_AUTH,
    NO_MULTI, NO_SCRIPT, READ, Run, STALE, Spec, spec,
};

/// Allowed at any time, also before AUTH.
const ALWAYS: Flags = NO_AUTH.or(FAST).or(LOADING).or(STALE).or(NO_SCRIPT).or(ALLOW_BUSY);
/// Allowed while loading and without masters.
const ANYTIME: Flags = LOADING.or(STALE);
/// The same, for administrators.
const ADMIN_ANYTIME: Flags = ADMIN.or(NO_SCRIPT).or(LOADING).or(STALE);
/// The same, for everyone.
const ALL_ANYTIME: Flags = NO_SCRIPT.or(LOADING).or(STALE);
/// Not while loading.
const ADMIN_LOADED: Flags = ADMIN.or(NO_SCRIPT).or(NO_ASYNC_LOADING);
/// Masters and replicas.
const ADMIN_STALE: Flags = ADMIN.or(NO_SCRIPT).or(STALE).or(NO_ASYNC_LOADING);
/// No facts at all.
const PLAIN: Flags = Flags(0);

pub(super) const fn row(
    name: &'static str,
    arity: i16,
    flags: Flags,
    home: Home,
    group: Group,
    since: &'static str,
    summary: &'static str,
) -> Spec {
    spec(name, arity, flags, Keys::NONE, Run::Home(home), group, since, summary)
}

/// Connection commands.
#[rustfmt::skip]
pub const CONNECTION: &[Spec] = &[
    //  name                  arity  flags          runs           group              since    summary
    row("ping",                 -1,  FAST,          Home::Ping,    Group::Connection, "1.0.0", "Returns the server's liveliness response."),
    row("echo",                  2,  FAST.or(ANYTIME), Home::Echo, Group::Connection, "1.0.0", "Returns the given string."),
    row("auth",                 -2,  ALWAYS,        Home::Auth,    Group::Connection, "1.0.0", "Authenticates the connection."),
    row("hello",                -1,  ALWAYS,        Home::Hello,   Group::Connection, "6.0.0", "Handshakes with the server."),
    row("select",                2,  FAST.or(ANYTIME), Home::Select, Group::Connection, "1.0.0", "Changes the selected database."),
    row("quit",                 -1,  ALWAYS,        Home::Quit,    Group::Connection, "1.0.0", "Closes the connection."),
    row("reset",                 1,  ALWAYS,        Home::Reset,   Group::Connection, "6.2.0", "Resets the connection."),
    row("client",               -2,  CONTAINER,     Home::Client,  Group::Connection, "2.4.0", "A container for client connection commands."),
    row("client|caching",        3,  ALL_ANYTIME,   Home::Client,  Group::Connection, "6.0.0", "Tells whether the next command's keys are tracked."),
    row("client|getname",        2,  ALL_ANYTIME,   Home::Client,  Group::Connection, "2.6.9", "Returns the connection's name."),
    row("client|getredir",       2,  ALL_ANYTIME,   Home::Client,  Group::Connection, "6.0.0", "Returns who receives the connection's tracking notices."),
    row("client|help",           2,  ANYTIME,       Home::Client,  Group::Connection, "5.0.0", "Lists the subcommands."),
    row("client|id",             2,  ALL_ANYTIME,   Home::Client,  Group::Connection, "5.0.0", "Returns the connection's number."),
    row("client|info",           2,  ALL_ANYTIME,   Home::Client,  Group::Connection, "6.2.0", "Describes the connection."),
    row("client|kill",          -3,  ADMIN_ANYTIME, Home::Client,  Group::Connection, "2.4.0", "Closes connections."),
    row("client|list",          -2,  ADMIN_ANYTIME, Home::Client,  Group::Connection, "2.4.0", "Describes connections."),
    row("client|no-evict",       3,  ADMIN_ANYTIME, Home::Client,  Group::Connection, "7.0.0", "Exempts the connection from client eviction."),
    row("client|no-touch",       3,  ALL_ANYTIME,   Home::Client,  Group::Connection, "7.2.0", "Makes the connection's reads leave no trace in access times."),
    row("client|pause",         -3,  ADMIN_ANYTIME, Home::Client,  Group::Connection, "2.9.50", "Makes clients' commands wait."),
    row("client|reply",          3,  ALL_ANYTIME,   Home::Client,  Group::Connection, "3.2.0", "Turns replies on or off."),
    row("client|setinfo",        4,  ALL_ANYTIME,   Home::Client,  Group::Connection, "7.2.0", "Names the client's library and its version."),
    row("client|setname",        3,  ALL_ANYTIME,   Home::Client,  Group::Connection, "2.6.9", "Names the connection."),
    row("client|tracking",      -3,  ALL_ANYTIME,   Home::Client,  Group::Connection, "6.0.0", "Turns server-assisted client-side caching on or off."),
    row("client|trackinginfo",   2,  ALL_ANYTIME,   Home::Client,  Group::Connection, "6.2.0", "Describes the connection's tracking."),
    row("client|unblock",       -3,  ADMIN_ANYTIME, Home::Client,  Group::Connection, "5.0.0", "Ends another client's blocking command."),
    row("client|unpause",        2,  ADMIN_ANYTIME, Home::Client,  Group::Connection, "6.2.0", "Ends a pause."),
];

/// Server and replication commands.
#[rustfmt::skip]
pub const SERVER: &[Spec] = &[
    //  name                  arity  flags          runs             group          since    summary
    row("acl",                  -2,  CONTAINER,     Home::Acl,       Group::Server, "6.0.0", "A container for access list commands."),
    row("acl|cat",              -2,  ALL_ANYTIME,   Home::Acl,       Group::Server, "6.0.0", "Lists command categories, or the commands of one."),
    row("acl|getuser",           3,  ADMIN_ANYTIME, Home::Acl,       Group::Server, "6.0.0", "Describes a user."),
    row("acl|help",              2,  ANYTIME,       Home::Acl,       Group::Server, "6.0.0", "Lists the subcommands."),
    row("acl|list",              2,  ADMIN_ANYTIME, Home::Acl,       Group::Server, "6.0.0", "Lists the users' rules."),
    row("acl|users",             2,  ADMIN_ANYTIME, Home::Acl,       Group::Server, "6.0.0", "Lists the users."),
    row("acl|whoami",            2,  ALL_ANYTIME,   Home::Acl,       Group::Server, "6.0.0", "Returns the connection's user."),
    row("bgsave",               -1,  ADMIN_LOADED,  Home::Bgsave,    Group::Server, "1.0.0", "Saves a snapshot in the background."),
    row("command",              -1,  CONTAINER.or(ANYTIME), Home::Command, Group::Server, "2.8.13", "Describes all commands."),
    row("command|count",         2,  ANYTIME,       Home::Command,   Group::Server, "2.8.13", "Counts the commands."),
    row("command|docs",         -2,  ANYTIME,       Home::Command,   Group::Server, "7.0.0", "Documents commands."),
    row("command|getkeys",      -4,  ANYTIME,       Home::Command,   Group::Server, "2.8.13", "Picks the keys out of a command."),
    row("command|getkeysandflags", -4, ANYTIME,     Home::Command,   Group::Server, "7.0.0", "Picks the keys out of a command, with what is done to them."),
    row("command|help",          2,  ANYTIME,       Home::Command,   Group::Server, "5.0.0", "Lists the subcommands."),
    row("command|info",         -2,  ANYTIME,       Home::Command,   Group::Server, "2.8.13", "Describes commands."),
    row("command|list",         -2,  ANYTIME,       Home::Command,   Group::Server, "7.0.0", "Lists command names."),
    row("config",               -2,  CONTAINER,     Home::Config,    Group::Server, "2.0.0", "A container for server configuration commands."),
    row("config|get",           -3,  ADMIN_ANYTIME, Home::Config,    Group::Server, "2.0.0", "Returns options and their values."),
    row("config|help",           2,  ANYTIME,       Home::Config,    Group::Server, "5.0.0", "Lists the subcommands."),
    row("config|resetstat",      2,  ADMIN_ANYTIME, Home::Config,    Group::Server, "2.0.0", "Sets the counters of INFO to zero."),
    row("config|rewrite",        2,  ADMIN_ANYTIME, Home::Config,    Group::Server, "2.8.0", "Puts the running configuration into its file."),
    row("config|set",           -4,  ADMIN_ANYTIME, Home::Config,    Group::Server, "2.0.0", "Changes options."),
    row("debug",                -2,  CONTAINER.or(ADMIN_ANYTIME), Home::Debug, Group::Server, "1.0.0", "A container for debugging commands."),
    row("info",                 -1,  ANYTIME,       Home::Info,      Group::Server, "1.0.0", "Returns information and statistics about the server."),
    row("lastsave",              1,  ANYTIME.or(FAST), Home::Lastsave, Group::Server, "1.0.0", "Returns when a snapshot was last saved."),
    row("latency",              -2,  CONTAINER,     Home::Latency,   Group::Server, "2.8.13", "A container for latency diagnostics commands."),
    row("latency|doctor",        2,  ADMIN_ANYTIME, Home::Latency,   Group::Server, "2.8.13", "Reports on latency in words."),
    row("latency|graph",         3,  ADMIN_ANYTIME, Home::Latency,   Group::Server, "2.8.13", "Draws an event's latencies."),
    row("latency|help",          2,  ANYTIME,       Home::Latency,   Group::Server, "2.8.13", "Lists the subcommands."),
    row("latency|histogram",    -2,  ADMIN_ANYTIME, Home::Latency,   Group::Server, "7.0.0", "Returns how long commands took."),
    row("latency|history",       3,  ADMIN_ANYTIME, Home::Latency,   Group::Server, "2.8.13", "Returns an event's latencies."),
    row("latency|latest",        2,  ADMIN_ANYTIME, Home::Latency,   Group::Server, "2.8.13", "Returns the latest latency of each event."),
    row("latency|reset",        -2,  ADMIN_ANYTIME, Home::Latency,   Group::Server, "2.8.13", "Forgets latencies."),
    row("lolwut",               -1,  READ.or(FAST), Home::Lolwut,    Group::Server, "5.0.0", "Shows the version."),
    row("memory",               -2,  CONTAINER,     Home::Memory,    Group::Server, "4.0.0", "A container for memory diagnostics commands."),
    row("memory|doctor",         2,  PLAIN,         Home::Memory,    Group::Server, "4.0.0", "Reports on memory in words."),
    row("memory|help",           2,  ANYTIME,       Home::Memory,    Group::Server, "4.0.0", "Lists the subcommands."),
    row("memory|malloc-stats",   2,  PLAIN,         Home::Memory,    Group::Server, "4.0.0", "Returns the allocator's statistics."),
    row("memory|purge",          2,  PLAIN,         Home::Memory,    Group::Server, "4.0.0", "Asks the allocator to give back what it can."),
    row("memory|stats",          2,  PLAIN,         Home::Memory,    Group::Server, "4.0.0", "Returns where memory goes."),
    row("module",               -2,  CONTAINER,     Home::Module,    Group::Server, "4.0.0", "A container for module commands."),
    row("module|help",           2,  ANYTIME,       Home::Module,    Group::Server, "5.0.0", "Lists the subcommands."),
    row("module|list",           2,  ADMIN.or(NO_SCRIPT), Home::Module, Group::Server, "4.0.0", "Lists loaded modules."),
    row("monitor",               1,  ADMIN_ANYTIME, Home::Monitor,   Group::Server, "1.0.0", "Shows all commands as they run."),
    row("psync",                -3,  ADMIN_LOADED.or(NO_MULTI), Home::Replconf, Group::Server, "2.8.0", "Replication of other servers."),
    row("replconf",             -1,  ADMIN_ANYTIME.or(ALLOW_BUSY), Home::Replconf, Group::Server, "3.0.0", "Replication of other servers."),
    row("replicaof",            -3,  ADMIN_STALE.or(BARRIER), Home::Replicaof, Group::Server, "5.0.0", "Adds or removes a master."),
    row("role",                  1,  FAST.or(ALL_ANYTIME), Home::Role, Group::Server, "2.8.12", "Returns the replication role."),
    row("save",                  1,  ADMIN_LOADED.or(NO_MULTI), Home::Save, Group::Server, "1.0.0", "Saves a snapshot, and answers when it is there."),
    row("shutdown",             -1,  ADMIN_ANYTIME.or(NO_MULTI).or(ALLOW_BUSY), Home::Shutdown, Group::Server, "1.0.0", "Stops the server."),
    row("slaveof",               3,  ADMIN_STALE.or(BARRIER), Home::Replicaof, Group::Server, "1.0.0", "Adds or removes a master."),
    row("slowlog",              -2,  CONTAINER,     Home::Slowlog,   Group::Server, "2.2.12", "A container for slow log commands."),
    row("slowlog|get",          -2,  ADMIN.or(ANYTIME), Home::Slowlog, Group::Server, "2.2.12", "Returns slow commands."),
    row("slowlog|help",          2,  ANYTIME,       Home::Slowlog,   Group::Server, "6.2.0", "Lists the subcommands."),
    row("slowlog|len",           2,  ADMIN.or(ANYTIME), Home::Slowlog, Group::Server, "2.2.12", "Counts slow commands."),
    row("slowlog|reset",         2,  ADMIN.or(ANYTIME), Home::Slowlog, Group::Server, "2.2.12", "Forgets slow commands."),
    row("sync",                  1,  ADMIN_LOADED.or(NO_MULTI), Home::Replconf, Group::Server, "1.0.0", "Replication of other servers."),
    row("time",                  1,  FAST.or(ANYTIME), Home::Time,   Group::Server, "2.6.0", "Returns the time."),
    row("wait",                  3,  NO_SCRIPT.or(BARRIER),   Home::Wait,      Group::Generic, "3.0.0", "Waits until replicas have the client's writes."),
    row("tutti.link",           -2,  ADMIN_STALE,   Home::Tutti,     Group::Server, "7.2.0", "Turns this connection into a link between nodes."),
    row("multimaster",          -2,  CONTAINER,     Home::Multimaster, Group::Server, "7.2.0", "A container for commands about the nodes that are masters of each other."),
    row("multimaster|forget",    3,  ADMIN_STALE.or(BARRIER), Home::Multimaster, Group::Server, "7.2.0", "Waits no more for a node that has left for good."),
    row("multimaster|help",      2,  ANYTIME,       Home::Multimaster, Group::Server, "7.2.0", "Lists the subcommands."),
    row("multimaster|status",    2,  ADMIN_STALE,   Home::Multimaster, Group::Server, "7.2.0", "Shows the members, their links and what waits for them."),
    row("multimaster|verify",   -2,  ADMIN_STALE.or(BARRIER), Home::Multimaster, Group::Server, "7.2.0", "Proves that linked nodes hold equal data, or repairs what differs."),
];
