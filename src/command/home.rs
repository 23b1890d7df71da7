//! Rows of the commands that run where the client is connected; `worker::home` runs them.

use super::spec::{ADMIN, BARRIER, FAST, Group, Home, Keys, LOADING, NO_AUTH, NO_SCRIPT, Run, STALE, Spec, spec};

/// Connection commands.
#[rustfmt::skip]
pub const CONNECTION: &[Spec] = &[
    //   name      arity  flags                                          keys        where it runs             group              since    summary
    spec("ping",     -1,  FAST,                                          Keys::NONE, Run::Home(Home::Ping),    Group::Connection, "1.0.0", "Returns the server's liveliness response."),
    spec("echo",      2,  FAST.or(LOADING).or(STALE),                    Keys::NONE, Run::Home(Home::Echo),    Group::Connection, "1.0.0", "Returns the given string."),
    spec("auth",     -2,  NO_AUTH.or(FAST).or(LOADING).or(STALE).or(NO_SCRIPT), Keys::NONE, Run::Home(Home::Auth), Group::Connection, "1.0.0", "Authenticates the connection."),
    spec("hello",    -1,  NO_AUTH.or(FAST).or(LOADING).or(STALE).or(NO_SCRIPT), Keys::NONE, Run::Home(Home::Hello), Group::Connection, "6.0.0", "Handshakes with the server."),
    spec("select",    2,  FAST.or(LOADING).or(STALE),                    Keys::NONE, Run::Home(Home::Select),  Group::Connection, "1.0.0", "Changes the selected database."),
    spec("quit",     -1,  NO_AUTH.or(FAST).or(LOADING).or(STALE).or(NO_SCRIPT), Keys::NONE, Run::Home(Home::Quit), Group::Connection, "1.0.0", "Closes the connection."),
    spec("reset",     1,  NO_AUTH.or(FAST).or(LOADING).or(STALE).or(NO_SCRIPT), Keys::NONE, Run::Home(Home::Reset), Group::Connection, "6.2.0", "Resets the connection."),
    spec("client",   -2,  ADMIN.or(NO_SCRIPT).or(LOADING).or(STALE),     Keys::NONE, Run::Home(Home::Client),  Group::Connection, "2.4.0", "A container for client connection commands."),
];

/// Server and replication commands.
#[rustfmt::skip]
pub const SERVER: &[Spec] = &[
    //   name        arity flags                                         keys        where it runs              group               since    summary
    spec("command",   -1,  LOADING.or(STALE),                            Keys::NONE, Run::Home(Home::Command),  Group::Server,      "2.8.13", "Returns detailed information about all commands."),
    spec("config",    -2,  ADMIN.or(NO_SCRIPT).or(LOADING).or(STALE),    Keys::NONE, Run::Home(Home::Config),   Group::Server,      "2.0.0", "A container for server configuration commands."),
    spec("info",      -1,  LOADING.or(STALE),                            Keys::NONE, Run::Home(Home::Info),     Group::Server,      "1.0.0", "Returns information and statistics about the server."),
    spec("replicaof", -3,  ADMIN.or(NO_SCRIPT).or(STALE).or(BARRIER),    Keys::NONE, Run::Home(Home::Replicaof), Group::Replication, "5.0.0", "Adds or removes a master."),
    spec("slaveof",    3,  ADMIN.or(NO_SCRIPT).or(STALE).or(BARRIER),    Keys::NONE, Run::Home(Home::Replicaof), Group::Replication, "1.0.0", "Adds or removes a master."),
    spec("role",       1,  FAST.or(LOADING).or(STALE).or(NO_SCRIPT),     Keys::NONE, Run::Home(Home::Role),     Group::Server,      "2.8.12", "Returns the replication role."),
    spec("tutti.link", -2, ADMIN.or(NO_SCRIPT).or(LOADING).or(STALE),    Keys::NONE, Run::Home(Home::Tutti),    Group::Replication, "7.2.0", "Turns this connection into a link between nodes."),
];
