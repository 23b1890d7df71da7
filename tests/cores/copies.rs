//! A node's directory copied and started a second time, beside the node; and the node itself, started again.

use tutti::config::Config;

use crate::world::{ClientId, World};

/// The node whose directory is copied.
const ORIGINAL: usize = 2;

struct Mesh {
    world: World,
    clients: Vec<ClientId>,
}

impl Mesh {
    fn new(seed: u64, repl_timeout: u32) -> Self {
        let mut world = World::new(seed);
        for (at, cores) in [1 + seed as usize % 3, 2, 2].into_iter().enumerate() {
            let others = (0..3).filter(|&other| other != at);
            let replicaof = others.map(|other| ("127.0.0.1".to_owned(), 7000 + other as u16)).collect();
            let mode =
                Config { multi_master: true, active_replica: true, replica_read_only: false, ..Config::default() };
            world.add(cores, Config { replicaof, repl_timeout, ..mode });
        }
        let clients = (0..3).map(|at| world.connect(at, 0)).collect();
        let mut mesh = Self { world, clients };
        mesh.all_linked();
        mesh.on(ORIGINAL, "SET k v");
        assert_eq!((mesh.on(ORIGINAL, "WAIT 2 0"), mesh.on(ORIGINAL, "SAVE")), ("2".into(), "OK".into()));
        mesh
    }

    fn on(&mut self, node: usize, line: &str) -> String {
        self.world.text(self.clients[node], line)
    }

    fn info(&mut self, node: usize, field: &str) -> String {
        self.world.info(self.clients[node], field)
    }

    /// Within ten seconds the three follow each other, and take what each of them writes.
    #[track_caller]
    fn all_linked(&mut self) {
        let key = format!("key:{}", self.world.now.mono_us);
        for node in 0..3 {
            let (client, key) = (self.clients[node], format!("{key}:{node}"));
            self.world.eventually("it follows both", |world| world.info(client, "connected_masters") == "2");
            self.on(node, &format!("SET {key} v"));
            for reader in (0..3).map(|at| self.clients[at]).collect::<Vec<_>>() {
                self.world.eventually("all take it", |world| world.text(reader, &format!("GET {key}")) == "v");
            }
        }
    }

    /// The copy is started.
    fn copy(&mut self) -> usize {
        let copy = self.world.start_copy(ORIGINAL, 2);
        self.clients.push(self.world.connect(copy, 0));
        assert_eq!(copy + 1, self.clients.len());
        copy
    }

    /// Every link of a node is down, for a reason with these words.
    fn is_refused(&mut self, node: usize, words: &str) -> bool {
        let all = self.on(node, "INFO replication");
        let mut reasons = all.lines().filter_map(|line| line.split_once("link_down_reason:"));
        all.contains("connected_masters:0")
            && reasons.clone().count() > 0
            && reasons.all(|(_, reason)| reason.contains(words))
    }

    #[track_caller]
    fn refused(&mut self, node: usize, words: &str) {
        for _ in 0..1000 {
            if self.is_refused(node, words) {
                return;
            }
            self.world.pass_ms(10);
        }
        panic!("not refused: {}", self.on(node, "INFO replication"));
    }

    /// As if nothing were: for so many seconds, every tenth of one.
    #[track_caller]
    fn undisturbed(&mut self, copy: usize, seconds: u64) {
        let merges_and_handshakes = |mesh: &mut Self| {
            (0..3)
                .map(|node| mesh.on(node, "MULTIMASTER STATUS").matches("state=connected").count())
                .collect::<Vec<_>>()
        };
        let before = merges_and_handshakes(self);
        for _ in 0..seconds * 10 {
            self.world.pass_ms(100);
            assert!((0..3).all(|node| self.info(node, "connected_masters") == "2"));
            assert_eq!(self.info(copy, "connected_masters"), "0");
        }
        assert_eq!(merges_and_handshakes(self), before);
        self.all_linked();
    }
}

#[test]
fn a_copy_of_a_directory_is_refused_by_all_while_its_node_is_linked() {
    for seed in 0..2 {
        let mut mesh = Mesh::new(seed, 60);
        let copy = mesh.copy();
        mesh.on(copy, "SET stray v");
        mesh.refused(copy, "another run of this node is linked; that one is alive, so this one runs on a copy");
        mesh.undisturbed(copy, 8);
        assert_eq!((0..3).map(|node| mesh.info(node, "mm_members")).collect::<Vec<_>>(), ["3", "3", "3"]);
        // What the original acknowledges still counts, and what it is told of deletes.
        mesh.on(0, "DEL k");
        assert_eq!(mesh.on(0, "WAIT 2 100"), "2");
        let client = mesh.clients[0];
        mesh.world.eventually("the delete is stable", |world| world.info(client, "mm_tombstones") == "0");
        // As a master it is refused too, and hears why.
        assert_eq!(mesh.on(0, &format!("REPLICAOF 127.0.0.1 {}", mesh.world.nodes[copy].port)), "OK");
        mesh.world.eventually("the reason is told", |world| {
            world
                .text(client, "INFO replication")
                .contains("master_2_link_down_reason:another run of this node is linked; that one is alive")
        });
        mesh.world.pass_ms(3000);
        assert_eq!(mesh.info(0, "connected_masters"), "2");
        assert_eq!(mesh.on(0, "EXISTS stray"), "0");
        assert!(mesh.on(copy, "MULTIMASTER STATUS").matches("reader:").count() == 0);
    }
}

#[test]
fn a_copy_that_has_tried_does_not_take_the_place_of_a_node_whose_links_are_lost_for_a_while() {
    for seed in 0..2 {
        let mut mesh = Mesh::new(seed, 60);
        let copy = mesh.copy();
        mesh.refused(copy, "this one runs on a copy of its data directory");
        for _ in 0..5 {
            mesh.world.lose_links(ORIGINAL);
            mesh.all_linked();
        }
        mesh.world.lose_links(ORIGINAL);
        mesh.world.nodes[ORIGINAL].is_cut_off = true;
        mesh.world.pass_ms(20_000);
        assert!(mesh.is_refused(copy, "this one runs on a copy of its data directory"));
        mesh.world.nodes[ORIGINAL].is_cut_off = false;
        mesh.all_linked();
        mesh.undisturbed(copy, 2);
    }
}

#[test]
fn a_node_that_starts_again_is_let_in_though_a_copy_tries_and_its_connections_may_have_stayed_open() {
    for seed in 0..2 {
        let mut mesh = Mesh::new(seed, 60);
        let copy = mesh.copy();
        mesh.refused(copy, "this one runs on a copy of its data directory");
        for is_crash in [false, true] {
            if is_crash {
                mesh.world.crash(ORIGINAL);
            } else {
                mesh.world.stop(ORIGINAL);
            }
            mesh.world.restart(ORIGINAL, 2);
            mesh.clients[ORIGINAL] = mesh.world.connect(ORIGINAL, 0);
            let began_us = mesh.world.now.mono_us;
            mesh.all_linked();
            let took_ms = (mesh.world.now.mono_us - began_us) / 1000;
            let most_ms = if is_crash { 10_000 } else { 1_500 };
            assert!(took_ms < most_ms, "{took_ms} ms, after a crash: {is_crash}");
            assert!(mesh.is_refused(copy, "this one runs on a copy of its data directory"));
        }
    }
}

#[test]
fn a_node_and_a_copy_of_its_directory_tell_each_other_how_to_mend_it() {
    let mut mesh = Mesh::new(5, 60);
    let copy = mesh.copy();
    mesh.on(copy, "REPLICAOF NO ONE");
    let (original_port, copy_port) = (mesh.world.nodes[ORIGINAL].port, mesh.world.nodes[copy].port);
    mesh.on(copy, &format!("REPLICAOF 127.0.0.1 {original_port}"));
    mesh.refused(copy, "it runs on a copy of this node's data directory");
    mesh.on(ORIGINAL, &format!("REPLICAOF 127.0.0.1 {copy_port}"));
    let client = mesh.clients[ORIGINAL];
    mesh.world.eventually("the reason is told", |world| {
        let reason = world.text(client, "INFO replication");
        reason.contains("master_2_link_down_reason:it refused: ERR link refused: it runs on a copy")
            && reason.contains("empty its directory")
    });
    mesh.undisturbed(copy, 2);
}

#[test]
fn a_node_that_is_away_for_longer_than_the_timeout_gives_its_place_to_a_copy_and_nothing_flips() {
    for seed in 0..2 {
        let mut mesh = Mesh::new(seed, 6);
        let copy = mesh.copy();
        mesh.refused(copy, "this one runs on a copy of its data directory");
        mesh.world.nodes[ORIGINAL].is_cut_off = true;
        let client = mesh.clients[copy];
        mesh.world.pass_ms(6000);
        mesh.world.eventually("it is let in", |world| world.info(client, "connected_masters") == "2");
        mesh.world.nodes[ORIGINAL].is_cut_off = false;
        mesh.refused(ORIGINAL, "this one runs on a copy of its data directory");
        for _ in 0..100 {
            mesh.world.pass_ms(100);
            assert_eq!(
                (mesh.info(copy, "connected_masters"), mesh.info(ORIGINAL, "connected_masters")),
                ("2".into(), "0".into())
            );
        }
        // Whoever runs it stops the copy.
        mesh.world.stop(copy);
        mesh.world.pass_ms(6000);
        mesh.all_linked();
    }
}
