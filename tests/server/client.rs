//! CLIENT over all cores.

use crate::node::{Node, eventually};

fn field(line: &str, name: &str) -> String {
    let prefix = format!("{name}=");
    let value = line.split(' ').find_map(|word| word.strip_prefix(&prefix));
    value.unwrap_or_else(|| panic!("no {name} in {line}")).trim_end().to_owned()
}

#[test]
fn list_shows_the_clients_of_every_core_in_redis_form() {
    let node = Node::start(&[]);
    let [mut a, mut b] = node.connect_to_each_core();
    a.text("CLIENT SETNAME alpha");
    b.text("CLIENT SETNAME beta");
    b.text("CLIENT SETINFO LIB-NAME mylib");
    b.text("CLIENT SETINFO lib-ver 1.2");
    eventually("connections that were tried and dropped are gone", || a.text("CLIENT LIST").lines().count() == 2);
    b.text("SELECT 5");
    let list = a.text("CLIENT LIST");
    let beta = list.lines().find(|line| line.contains(" name=beta ")).expect("it is on the other core");
    let names: Vec<&str> = beta.split(' ').map(|word| word.split('=').next().unwrap_or_default()).collect();
    let redis = "id addr laddr fd name age idle flags db sub psub ssub multi qbuf qbuf-free argv-mem multi-mem rbs rbp \
                 obl oll omem tot-mem events cmd user redir resp lib-name lib-ver";
    assert_eq!(names.join(" "), redis);
    assert_eq!(field(beta, "db"), "5");
    assert_eq!(field(beta, "cmd"), "select");
    assert_eq!((field(beta, "lib-name"), field(beta, "lib-ver")), ("mylib".into(), "1.2".into()));
    assert_eq!(field(&b.text("CLIENT INFO"), "cmd"), "client|info");
    let id = a.text("CLIENT ID");
    assert_eq!(field(&b.text(&format!("CLIENT LIST ID {id} 999999")), "name"), "alpha");
    assert_eq!(b.text("CLIENT LIST TYPE replica"), "");
    assert_eq!(b.text("CLIENT LIST TYPE none"), "-ERR Unknown client type 'none'");
    assert_eq!(b.text("CLIENT LIST ID x"), "-ERR Invalid client ID");
}

#[test]
fn kill_reaches_every_core_and_one_may_kill_oneself() {
    let node = Node::start(&[]);
    let [mut a, mut b] = node.connect_to_each_core();
    let id = b.text("CLIENT ID");
    assert_eq!(a.text(&format!("CLIENT KILL ID {id}")), "1");
    assert_eq!(b.receive(), None);
    assert_eq!(a.text(&format!("CLIENT KILL ID {id}")), "0");
    assert_eq!(a.text("CLIENT KILL 127.0.0.1:1"), "-ERR No such client");
    assert_eq!(a.text("CLIENT KILL ID 0"), "-ERR client-id should be greater than 0");
    assert_eq!(a.text("CLIENT KILL USER nobody"), "-ERR No such user 'nobody'");
    let mut c = node.connect();
    let addr = field(&c.text("CLIENT INFO"), "addr");
    assert_eq!(a.text(&format!("CLIENT KILL {addr}")), "OK");
    assert_eq!(c.receive(), None);
    eventually("only one is left", || a.text("CLIENT LIST").lines().count() == 1);
    assert_eq!(a.text("CLIENT KILL TYPE normal"), "0", "oneself is spared");
    a.send_raw(b"CLIENT KILL TYPE normal SKIPME no\r\nSET late 1\r\n");
    assert_eq!(a.receive().map(|reply| crate::node::text(&reply)).as_deref(), Some("1"));
    assert_eq!(a.receive(), None);
    assert_eq!(node.connect().text("GET late"), "(nil)");
}

#[test]
fn pause_holds_writes_on_every_core_until_unpause() {
    let node = Node::start(&[]);
    let [mut a, mut b] = node.connect_to_each_core();
    assert_eq!(a.text("CLIENT PAUSE 60000 WRITE"), "OK");
    b.send("SET k 1");
    assert_eq!(node.connect().text("GET k"), "(nil)");
    assert_eq!(a.text("CLIENT UNPAUSE"), "OK");
    assert_eq!(b.receive().map(|reply| crate::node::text(&reply)).as_deref(), Some("OK"));
    assert_eq!(a.text("CLIENT PAUSE 50 ALL"), "OK");
    assert_eq!(b.text("GET k"), "1", "it ends by itself");
    assert_eq!(a.text("CLIENT PAUSE -1"), "-ERR timeout is negative");
    assert_eq!(a.text("CLIENT PAUSE 1 SOME"), "-ERR CLIENT PAUSE mode must be WRITE or ALL");
}
