//! Linked nodes with a client each, cut apart and joined again: what the histories and the guarantees are told with.

use tutti::config::Config;

use crate::world::{ClientId, World, spread};

/// How what a node wrote while it was cut off reaches the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Late, over the links there were.
    Late,
    /// After the links were lost and the backlogs have forgotten it: whole partitions are merged.
    Whole,
}

pub const WAYS: [Way; 2] = [Way::Late, Way::Whole];

/// Databases of every node.
const DATABASES: u16 = 4;

pub struct Nodes {
    pub world: World,
    pub clients: Vec<ClientId>,
}

impl Nodes {
    /// Every one a master of every other, of so many cores each; all links are up.
    pub fn new(seed: u64, cores: &[usize]) -> Self {
        let masters: Vec<Vec<usize>> =
            (0..cores.len()).map(|at| (0..cores.len()).filter(|&other| other != at).collect()).collect();
        let masters: Vec<&[usize]> = masters.iter().map(Vec::as_slice).collect();
        Self::following(seed, cores, &masters, |_| {})
    }

    /// The n-th node follows `masters[n]`; `configure` changes what else they are told.
    pub fn following(seed: u64, cores: &[usize], masters: &[&[usize]], configure: impl Fn(&mut Config)) -> Self {
        let mut world = World::new(seed);
        // The least there is.
        world.backlog_bytes = 1 << 16;
        for (at, &count) in cores.iter().enumerate() {
            let replicaof = masters[at].iter().map(|&master| ("127.0.0.1".to_owned(), 7000 + master as u16)).collect();
            let mut config = Config {
                multi_master: true,
                active_replica: true,
                replica_read_only: false,
                replicaof,
                repl_timeout: 2,
                databases: DATABASES,
                ..Config::default()
            };
            configure(&mut config);
            world.add(count, config);
        }
        let clients = (0..cores.len()).map(|at| world.connect(at, 0)).collect();
        let mut nodes = Self { world, clients };
        nodes.wait_for_links(masters);
        nodes
    }

    fn wait_for_links(&mut self, masters: &[&[usize]]) {
        for (at, masters) in masters.iter().enumerate().filter(|(_, masters)| !masters.is_empty()) {
            let up = format!("connected_masters:{}\r\n", masters.len());
            let client = self.clients[at];
            self.world.eventually("all links are up", |world| world.text(client, "INFO replication").contains(&up));
        }
    }

    /// A command on a node.
    #[track_caller]
    pub fn on(&mut self, node: usize, line: &str) -> String {
        self.world.text(self.clients[node], line)
    }

    /// The same on all nodes, which answer alike.
    #[track_caller]
    pub fn on_all(&mut self, line: &str) -> String {
        let replies: Vec<String> = (0..self.clients.len()).map(|node| self.on(node, line)).collect();
        assert!(replies.iter().all(|reply| *reply == replies[0]), "{line}: {replies:?}");
        replies.into_iter().next().expect("a node")
    }

    /// From now on a node neither hears nor is heard.
    pub fn cut(&mut self, node: usize) {
        self.world.nodes[node].is_cut_off = true;
    }

    /// A node is reached again.
    pub fn join(&mut self, node: usize, way: Way) {
        if way == Way::Whole {
            self.outlast_the_backlogs();
        }
        self.world.nodes[node].is_cut_off = false;
    }

    /// The links of a node that is cut off, or stopped, are given up, and every backlog forgets what it had.
    pub fn outlast_the_backlogs(&mut self) {
        self.world.pass_ms(2500);
        let filler = "f".repeat(20_000);
        for node in 0..self.clients.len() {
            let cores = self.world.nodes[node].cores.len();
            for key in spread("filler", cores) {
                for _ in 0..14 {
                    // Nothing of this is left for the readers of the test.
                    assert_eq!(self.on(node, &format!("SETRANGE {key} 0 {filler}")), "20000");
                }
                self.on(node, &format!("DEL {key}"));
            }
        }
    }

    /// Everybody has everything that was written before, and all hold the same.
    #[track_caller]
    pub fn agree(&mut self) {
        let others = (self.clients.len() - 1).to_string();
        for node in 0..self.clients.len() {
            // A client that has written nothing would wait for nobody.
            self.on(node, &format!("SET said-by-{node} {}", self.world.now.mono_us));
            assert_eq!(self.on(node, &format!("WAIT {others} 0")), others);
        }
        self.on_all("MULTIMASTER DIGEST");
    }

    /// How often a node has had to compare whole partitions over one of its links.
    pub fn full_merges(&mut self, node: usize) -> i64 {
        let all = self.on(node, "INFO replication");
        let counts = all.lines().filter_map(|line| line.split_once("_full_merges:")?.1.trim().parse::<i64>().ok());
        counts.sum()
    }

    /// Lets clocks pass a deadline.
    pub fn pass_ms(&mut self, ms: u64) {
        self.world.pass_ms(ms);
    }

    /// A node stops, at once, with a snapshot that it has just saved.
    pub fn save_and_stop(&mut self, node: usize) {
        assert_eq!(self.on(node, "SAVE"), "OK");
        self.world.stop(node);
    }

    /// It runs again, with the snapshot it saved last, and of so many cores.
    pub fn start(&mut self, node: usize, cores: usize) {
        self.world.restart(node, cores);
        self.clients[node] = self.world.connect(node, 0);
        let client = self.clients[node];
        self.world.eventually("it has its data", |world| world.text(client, "PING") == "PONG");
    }
}

/// What two nodes make of two commands neither of which has heard of the other: first with `a` a few milliseconds
/// before `b`, then with `b` before `a`. `before` is known to both. The result is what `shown` answers, on both nodes and
/// whatever the way, in one text.
#[track_caller]
pub fn meet(before: &[&str], a: &str, b: &str, shown: &[&str]) -> [String; 2] {
    let [late, whole] = WAYS.map(|way| {
        let mut nodes = Nodes::new(a.len() as u64, &[2, 3]);
        [[0, 1], [1, 0]].map(|order: [usize; 2]| {
            let select = format!("SELECT {}", order[0]);
            nodes.on_all(&select);
            before.iter().for_each(|line| _ = nodes.on(0, line));
            nodes.agree();
            nodes.cut(1);
            for node in order {
                nodes.pass_ms(5);
                let reply = nodes.on(node, [a, b][node]);
                assert!(!reply.starts_with('-') && reply != "(nil)", "{}: {reply}", [a, b][node]);
            }
            nodes.join(1, way);
            nodes.agree();
            let texts: Vec<String> = shown.iter().map(|line| nodes.on_all(line)).collect();
            assert!(way == Way::Late || (0..2).all(|node| nodes.full_merges(node) > 0));
            texts.join(" ")
        })
    });
    assert_eq!(late, whole, "late, and merged whole");
    late
}
