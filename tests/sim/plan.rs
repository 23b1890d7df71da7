//! A run before it runs: nodes, limits, and the list of what clients and fate will do, all from one number. Steps can
//! be left out, which is how a failing run is made short.

use tutti::base::rng::Rng;

use crate::net::between;
use crate::topology::TOPOLOGIES;
use crate::workload::{self, Command};

/// See the file's head.
#[derive(Clone)]
pub struct Plan {
    pub seed: u64,
    pub nodes: Vec<NodePlan>,
    /// Followers and masters at the start.
    pub edges: Vec<(usize, usize)>,
    /// Followers that know their master by a second name besides.
    pub twice: Vec<(usize, usize)>,
    /// For every client the node it talks to.
    pub clients: Vec<usize>,
    pub limits: Limits,
    pub steps: Vec<Step>,
    /// When faults end.
    pub heal_us: u64,
    /// What keys there are, for the table of a replay.
    pub title: String,
    /// Nothing goes wrong.
    pub is_calm: bool,
}

#[derive(Clone)]
pub struct NodePlan {
    pub cores: usize,
    pub skew_ms: i64,
    pub drift_ppm: i64,
    pub joins_late: bool,
}

/// Bounds of queues and times, small so that they are reached.
#[derive(Clone, Debug)]
pub struct Limits {
    pub delay_us: (u64, u64),
    pub pipe_bytes: usize,
    pub is_choppy: bool,
    pub ring_batches: usize,
    pub backlog_bytes: usize,
    pub drift_ms: u64,
    pub repl_timeout_s: u32,
    pub disk_step_us: u64,
    pub tombstone_bytes: u64,
}

#[derive(Clone)]
pub struct Step {
    pub at_us: u64,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    /// A client sends a pipeline.
    Commands {
        client: usize,
        commands: Vec<Command>,
    },
    Fault(Fault),
}

/// How a node that crashed finds its directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stored {
    AsItWas,
    /// An older copy was put in its place; the number picks one.
    Older(u64),
    Nothing,
}

#[derive(Clone, Debug)]
pub enum Fault {
    /// One connection between nodes, picked by the number, is reset.
    Reset(u64),
    Block {
        from: usize,
        to: usize,
    },
    Unblock {
        from: usize,
        to: usize,
    },
    Slow {
        from: usize,
        to: usize,
        delay_us: (u64, u64),
        us_per_kib: u64,
    },
    /// SIGSTOP for so long.
    Stop {
        node: usize,
        for_us: u64,
    },
    /// SIGKILL, or the machine with it.
    Crash {
        node: usize,
        machine: bool,
        stored: Stored,
    },
    /// SIGTERM.
    Terminate {
        node: usize,
    },
    Start {
        node: usize,
        cores: usize,
    },
    Jump {
        node: usize,
        by_ms: i64,
    },
    Save {
        node: usize,
    },
    DiskFull {
        node: usize,
        is_full: bool,
    },
    DropClients {
        node: usize,
    },
    Follow {
        node: usize,
        master: usize,
    },
    Unfollow {
        node: usize,
        master: usize,
    },
    Remove {
        node: usize,
    },
    /// An operator lets all nodes forget those that are gone for good.
    Forget,
    /// An operator has a node compare everything with the nodes it is linked with.
    Verify {
        node: usize,
    },
    /// A node that was removed is put to work again as it was left.
    Return {
        node: usize,
    },
}

/// Which faults a run has. Drawn per run (swarm): what is off leaves room for what is on.
struct Swarm {
    rng: Rng,
    /// For what was thought of later: runs keep their numbers.
    later: Rng,
    nodes: usize,
    end_us: u64,
    edges: Vec<(usize, usize)>,
    steps: Vec<Step>,
}

impl Plan {
    /// Everything about a run from its number.
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x7a11);
        let n = 2 + rng.below(4) as usize;
        let topology = TOPOLOGIES[(seed % 5) as usize];
        let edges = topology.edges(n, &mut rng);
        let is_calm = rng.chance(6);
        let has = |rng: &mut Rng, one_in: u64| !is_calm && rng.chance(one_in);
        let drifts = has(&mut rng, 3);
        let late = (has(&mut rng, 6) && n > 2).then(|| rng.below(n as u64) as usize);
        let nodes = (0..n)
            .map(|at| NodePlan {
                cores: 1 + rng.below(3) as usize,
                skew_ms: if drifts { draw_skew(&mut rng) } else { rng.below(5) as i64 },
                drift_ppm: if drifts { rng.below(2000) as i64 - 1000 } else { 0 },
                joins_late: late == Some(at),
            })
            .collect::<Vec<_>>();
        let is_fat = has(&mut rng, 4);
        let is_tight = !is_calm && n > 2 && seed % 24 == 11;
        let mut later = Rng::new(rng.clone().next_u64() ^ 0x7075_7474_6f67);
        let limits = Limits {
            delay_us: *pick(&mut rng, &[(50, 300), (100, 5000), (1000, 40_000)]),
            pipe_bytes: *pick(&mut rng, &[4096, 65_536, 1 << 20]),
            is_choppy: rng.chance(3),
            ring_batches: *pick(&mut rng, &[1, 2, 8, 256]),
            backlog_bytes: if is_fat { 256 << 10 } else { 1 << 20 },
            drift_ms: *pick(&mut rng, &[50, 1000]),
            repl_timeout_s: 2 + rng.below(8) as u32,
            disk_step_us: *pick(&mut rng, &[200, 5000, 100_000]),
            tombstone_bytes: if is_tight { 2000 } else { 1 << 30 },
        };
        let has_names = !is_calm && later.chance(8);
        let twice = edges.iter().copied().filter(|_| has_names && later.chance(2)).collect();
        let end_us = (1 + rng.below(7)) * 1_000_000;
        // Only who has been away for long is let go.
        let end_us = if is_tight { end_us + 15_000_000 } else { end_us };
        let clients: Vec<usize> = (0..n + rng.below(4) as usize).map(|at| at % n).collect();
        let mut swarm =
            Swarm { rng: Rng::new(rng.next_u64()), later, nodes: n, end_us, edges: edges.clone(), steps: Vec::new() };
        if let Some(node) = late {
            let at_us = end_us / 4 + swarm.rng.below(end_us / 2);
            swarm.fault(at_us, Fault::Start { node, cores: nodes[node].cores });
        }
        if !is_calm {
            swarm.faults();
        }
        if is_tight {
            swarm.absence();
        }
        swarm.comparisons(seed);
        let title = swarm.work(&clients, is_fat);
        let mut steps = swarm.steps;
        steps.sort_by_key(|step| step.at_us);
        let title = format!("{n} nodes, {topology:?}, {title}");
        Self { seed, nodes, edges, twice, clients, limits, steps, heal_us: end_us, title, is_calm }
    }

    /// Whether clients empty databases.
    pub fn has_flushes(&self) -> bool {
        self.title.contains("flushes true")
    }

    /// The same with some steps only.
    pub fn keeping(&self, kept: &[usize]) -> Self {
        let steps = kept.iter().filter_map(|&at| self.steps.get(at).cloned()).collect();
        Self { steps, ..self.clone() }
    }
}

/// Whether operators compare nodes. All data of all nodes is read for it, which takes as long as the rest of a run.
pub fn compares(seed: u64) -> bool {
    seed % 8 == 3
}

fn pick<'a, T>(rng: &mut Rng, list: &'a [T]) -> &'a T {
    &list[rng.below(list.len() as u64) as usize]
}

fn draw_skew(rng: &mut Rng) -> i64 {
    *pick(rng, &[0, 3, -5, 40, -200, 5000, -20_000, 300_000, -300_000])
}

impl Swarm {
    fn fault(&mut self, at_us: u64, fault: Fault) {
        self.steps.push(Step { at_us, what: What::Fault(fault) });
    }

    fn node(&mut self) -> usize {
        self.rng.below(self.nodes as u64) as usize
    }

    fn pair(&mut self) -> (usize, usize) {
        // Mostly where there is a link, in either direction.
        let (a, b) = *pick(&mut self.rng, &self.edges);
        if self.rng.chance(2) { (a, b) } else { (b, a) }
    }

    fn time(&mut self) -> u64 {
        self.rng.below(self.end_us)
    }

    fn faults(&mut self) {
        let kinds: [fn(&mut Self); 10] = [
            Self::resets,
            Self::partitions,
            Self::isolation,
            Self::slow_links,
            Self::stops,
            Self::crashes,
            Self::jumps,
            Self::disks,
            Self::dropped_clients,
            Self::follows,
        ];
        for kind in kinds {
            if self.rng.below(10) < 4 {
                kind(self);
            }
        }
    }

    fn resets(&mut self) {
        for _ in 0..1 + self.rng.below(20) {
            let (at_us, which) = (self.time(), self.rng.next_u64());
            self.fault(at_us, Fault::Reset(which));
        }
    }

    fn partitions(&mut self) {
        for _ in 0..1 + self.rng.below(4) {
            let (begin_us, (from, to)) = (self.time(), self.pair());
            let end_us = begin_us + self.rng.below(self.end_us);
            let both = self.rng.chance(2);
            for (from, to) in [(from, to), (to, from)].into_iter().take(1 + usize::from(both)) {
                self.fault(begin_us, Fault::Block { from, to });
                self.fault(end_us, Fault::Unblock { from, to });
            }
        }
    }

    // One node hears nobody for long.
    fn isolation(&mut self) {
        let (node, begin_us) = (self.node(), self.time());
        let end_us = begin_us + self.rng.below(self.end_us);
        self.cut_off(node, begin_us, end_us);
    }

    fn cut_off(&mut self, node: usize, begin_us: u64, end_us: u64) {
        for other in (0..self.nodes).filter(|&other| other != node).collect::<Vec<_>>() {
            for (from, to) in [(node, other), (other, node)] {
                self.fault(begin_us, Fault::Block { from, to });
                self.fault(end_us, Fault::Unblock { from, to });
            }
        }
    }

    // One node hears nobody until everybody has done without it for long.
    fn absence(&mut self) {
        let (node, begin_us) = (self.node(), self.end_us / 10);
        let end_us = begin_us + 11_000_000 + self.rng.below(self.end_us / 2);
        self.cut_off(node, begin_us, end_us);
    }

    fn slow_links(&mut self) {
        for _ in 0..1 + self.rng.below(4) {
            let (at_us, (from, to)) = (self.time(), self.pair());
            let least = between(&mut self.rng, (1000, 200_000));
            let delay_us = (least, least + self.rng.below(100_000));
            let us_per_kib = *pick(&mut self.rng, &[10, 1000, 50_000]);
            self.fault(at_us, Fault::Slow { from, to, delay_us, us_per_kib });
        }
    }

    fn stops(&mut self) {
        for _ in 0..1 + self.rng.below(3) {
            let (at_us, node) = (self.time(), self.node());
            let for_us = between(&mut self.rng, (10_000, 5_000_000));
            self.fault(at_us, Fault::Stop { node, for_us });
        }
    }

    fn crashes(&mut self) {
        for _ in 0..1 + self.rng.below(3) {
            let (at_us, node) = (self.time(), self.node());
            let stored = match self.rng.below(8) {
                0 => Stored::Nothing,
                1 | 2 => Stored::Older(self.rng.next_u64()),
                _ => Stored::AsItWas,
            };
            for _ in 0..self.rng.below(4) {
                let save_us = self.rng.below(at_us + 1);
                self.fault(save_us, Fault::Save { node });
            }
            match self.rng.chance(4) {
                true => self.fault(at_us, Fault::Terminate { node }),
                false => {
                    let machine = self.rng.chance(3);
                    self.fault(at_us, Fault::Crash { node, machine, stored });
                }
            }
            let start_us = at_us + between(&mut self.rng, (1000, 3_000_000));
            let cores = 1 + self.rng.below(3) as usize;
            self.fault(start_us, Fault::Start { node, cores });
        }
    }

    fn jumps(&mut self) {
        for _ in 0..1 + self.rng.below(4) {
            let (at_us, node) = (self.time(), self.node());
            let by_ms = *pick(&mut self.rng, &[-300_000, -60_000, -2000, -20, 20, 2000, 60_000, 300_000]);
            self.fault(at_us, Fault::Jump { node, by_ms });
        }
    }

    fn disks(&mut self) {
        let (node, at_us) = (self.node(), self.time());
        self.fault(at_us, Fault::DiskFull { node, is_full: true });
        let end_us = at_us + self.rng.below(self.end_us);
        self.fault(end_us, Fault::DiskFull { node, is_full: false });
        for _ in 0..4 {
            let at_us = self.time();
            self.fault(at_us, Fault::Save { node });
        }
    }

    fn dropped_clients(&mut self) {
        for _ in 0..1 + self.rng.below(4) {
            let (at_us, node) = (self.time(), self.node());
            self.fault(at_us, Fault::DropClients { node });
        }
    }

    fn follows(&mut self) {
        if self.nodes > 2 && self.rng.chance(3) {
            let (node, at_us) = (self.node(), self.time());
            self.fault(at_us, Fault::Remove { node });
            return self.after_the_removal(node, at_us);
        }
        for _ in 0..1 + self.rng.below(3) {
            let (node, master) = self.pair();
            let (at_us, off_us) = (self.time(), self.time());
            match self.edges.contains(&(node, master)) {
                true => {
                    self.fault(at_us, Fault::Unfollow { node, master });
                    self.fault(at_us + off_us, Fault::Follow { node, master });
                }
                false => self.fault(at_us, Fault::Follow { node, master }),
            }
        }
    }

    // It may have saved what it had, be forgotten, and be put to work again.
    fn after_the_removal(&mut self, node: usize, at_us: u64) {
        if self.later.chance(2) {
            let save_us = self.later.below(at_us + 1);
            self.fault(save_us, Fault::Save { node });
        }
        if self.later.below(3) > 0 {
            let forget_us = at_us + self.later.below(self.end_us);
            self.fault(forget_us, Fault::Forget);
        }
        if self.later.below(3) > 0 {
            let return_us = at_us + self.later.below(self.end_us);
            self.fault(return_us, Fault::Return { node });
        }
    }

    // From a number of their own: runs keep theirs.
    fn comparisons(&mut self, seed: u64) {
        let mut rng = Rng::new(seed ^ 0x7665_7269_6679);
        let count = if compares(seed) { rng.below(4) } else { 0 };
        for _ in 0..count {
            let (at_us, node) = (rng.below(self.end_us), rng.below(self.nodes as u64) as usize);
            self.fault(at_us, Fault::Verify { node });
        }
    }

    // What clients do.
    fn work(&mut self, clients: &[usize], is_fat: bool) -> String {
        let mut mix = workload::Mix::draw(&mut self.rng, self.nodes, clients, is_fat);
        let count = 40 + self.rng.below(if is_fat { 300 } else { 500 });
        let (mut burst_us, mut left) = (0, 0);
        for _ in 0..count {
            // Bursts, because conflicts live in them.
            if left == 0 {
                burst_us = self.time();
                left = 1 + self.rng.below(20);
            }
            left -= 1;
            let at_us = burst_us + self.rng.below(20_000);
            let client = self.rng.below(clients.len() as u64) as usize;
            let commands = mix.pipeline(&mut self.rng, client);
            self.steps.push(Step { at_us, what: What::Commands { client, commands } });
        }
        mix.title()
    }
}
