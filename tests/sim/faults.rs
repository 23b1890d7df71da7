//! What fate and operators do to the world, step by step.

use std::collections::BTreeSet;

use tutti::worker::port::Core as _;

use crate::net::End;
use crate::node::Node;
use crate::plan::{Fault, Stored, What};
use crate::workload::{Command, command};
use crate::world::{Event, World};

/// See [`Fault::Verify`].
pub const VERIFY: &[&[u8]] = &[b"MULTIMASTER", b"VERIFY"];

impl World {
    /// A step of the plan is due.
    pub fn step(&mut self, at: usize) {
        match self.plan.steps[at].what.clone() {
            What::Commands { client, commands } => self.client_sends(client, &commands),
            What::Fault(fault) => self.strike(fault),
        }
    }

    fn strike(&mut self, fault: Fault) {
        self.note(None, || format!("{fault:?}"));
        match fault {
            Fault::Reset(which) => {
                let open: Vec<usize> = (0..self.net.conns.len()).filter(|&at| self.is_link(at)).collect();
                if !open.is_empty() {
                    self.coverage.hit("fault: connection reset");
                    self.reset(open[(which % open.len() as u64) as usize]);
                }
            }
            Fault::Block { from, to } => {
                self.coverage.hit(match self.net.blocked[to][from] {
                    true => "fault: partition both ways",
                    false => "fault: partition one way",
                });
                self.net.blocked[from][to] = true;
            }
            Fault::Unblock { from, to } => {
                self.coverage.hit("fault: partition heals");
                self.unblock(from, to);
            }
            Fault::Slow { from, to, delay_us, us_per_kib } => {
                self.coverage.hit("fault: slow link");
                self.net.delay_us[from][to] = delay_us;
                self.net.us_per_kib[from][to] = us_per_kib;
            }
            Fault::Stop { node, for_us } => self.stop(node, for_us),
            Fault::Crash { node, machine, stored } => {
                if self.nodes[node].process.is_some() {
                    self.coverage.hit(if machine { "fault: crash, machine" } else { "fault: crash, process" });
                    self.crash(node, machine, stored);
                }
            }
            Fault::Terminate { node } => self.terminate(node),
            Fault::Start { node, cores } => {
                self.wait_for_the_end(node);
                self.bring_up(node, cores);
            }
            Fault::Jump { node, by_ms } => {
                self.coverage.hit(if by_ms > 0 { "fault: clock jumps forward" } else { "fault: clock jumps back" });
                let now_us = self.now_us;
                self.nodes[node].clock.jump(by_ms, now_us);
            }
            Fault::Save { node } => {
                self.coverage.hit("fault: snapshot");
                self.operate(node, &[b"BGSAVE"]);
            }
            Fault::DiskFull { node, is_full } => {
                self.coverage.hit("fault: disk full");
                self.nodes[node].disk.is_full = is_full;
            }
            Fault::DropClients { node } => {
                self.coverage.hit("fault: clients dropped");
                for client in 0..self.plan.clients.len() {
                    if self.clients[client].node == node {
                        self.client_leaves(client);
                    }
                }
            }
            Fault::Follow { node, master } => self.follow(node, master),
            Fault::Unfollow { node, master } => self.unfollow(node, master),
            Fault::Remove { node } => self.remove(node),
            Fault::Forget => self.forget_the_lost(),
            Fault::Verify { node } => self.operate(node, VERIFY),
            Fault::Return { node } => self.put_back(node),
        }
    }

    fn is_link(&self, at: usize) -> bool {
        let conn = &self.net.conns[at];
        let is_core = |end: &End| matches!(end, End::Core { .. });
        conn.open == [true, true] && conn.ends.iter().all(is_core)
    }

    fn stop(&mut self, node: usize, for_us: u64) {
        let life = self.nodes[node].life;
        let Some(process) = &mut self.nodes[node].process else { return };
        process.is_stopped = true;
        for core in &mut process.cores {
            core.next_us = u64::MAX;
        }
        self.nodes[node].is_silent = true;
        self.coverage.hit("fault: node stopped and continued");
        self.queue.push(self.now_us + for_us, Event::Continue { node, life });
    }

    fn crash(&mut self, node: usize, machine: bool, stored: Stored) {
        let (had, was) = (self.versions(node), self.nodes[node].identity(node));
        self.count_figures(node);
        self.kill(node, machine);
        let disk = &mut self.nodes[node].disk;
        match stored {
            Stored::AsItWas => {}
            Stored::Older(which) => {
                if !disk.copies.is_empty() {
                    disk.files = disk.copies[(which % disk.copies.len() as u64) as usize].clone();
                    self.coverage.hit("fault: restart with an older copy");
                }
            }
            Stored::Nothing => {
                disk.files.clear();
                self.coverage.hit("fault: restart with nothing");
            }
        }
        self.nodes[node].lost.extend(was.map(|id| id.node));
        if stored == Stored::AsItWas && self.nodes[node].disk.files.contains_key(&Node::snapshot_path(node)) {
            self.coverage.hit("fault: restart with the stored state");
        }
        self.excuse(&had);
    }

    // SIGTERM.
    fn terminate(&mut self, node: usize) {
        let now = self.now_of(node);
        let Some(process) = &mut self.nodes[node].process else { return };
        if process.is_stopping || process.is_stopped {
            return;
        }
        process.is_stopping = true;
        self.coverage.hit("fault: graceful stop");
        for core in 0..self.nodes[node].cores {
            if !self.core(node, core).worker.shutdown(now) {
                self.exits(node);
            }
            if self.nodes[node].process.is_some() {
                let due_us = self.now_us;
                self.wake(node, core, due_us);
            }
        }
    }

    /// A process has ended by itself.
    pub fn gone(&mut self, node: usize) {
        let had = self.versions(node);
        self.count_figures(node);
        self.note(None, || format!("node {node} has ended"));
        self.kill(node, false);
        self.excuse(&had);
    }

    // A supervisor starts no second process beside one that stops.
    fn wait_for_the_end(&mut self, node: usize) {
        let is_stopping = |world: &Self| world.nodes[node].process.as_ref().is_some_and(|process| process.is_stopping);
        let until_us = self.now_us + 20_000_000;
        while is_stopping(self) && self.broken.is_none() && self.now_us < until_us {
            self.nodes[node].disk.is_full = false;
            let next_us = self.now_us + 10_000;
            self.run_until(next_us);
        }
        if is_stopping(self) {
            // It could not save; the supervisor has no more patience.
            self.crash(node, false, Stored::AsItWas);
        }
    }

    /// Starts a node that is down and wanted.
    pub fn bring_up(&mut self, node: usize, cores: usize) {
        if self.nodes[node].process.is_some() || self.nodes[node].is_removed {
            return;
        }
        if self.nodes[node].life == 0 {
            self.coverage.hit("fault: node joins");
        } else if self.nodes[node].cores != cores {
            self.coverage.hit("fault: restart with other cores");
        }
        self.nodes[node].cores = cores;
        self.start(node);
    }

    /// An operator's command, over a connection of its own.
    pub fn operate(&mut self, node: usize, words: &[&[u8]]) {
        self.operator_sends(node, &[command(words)]);
    }

    fn operator_sends(&mut self, node: usize, commands: &[Command]) {
        let client = self.plan.clients.len() + node;
        self.client_reconnects(client);
        self.client_sends(client, commands);
    }

    pub fn follow(&mut self, node: usize, master: usize) {
        if node != master && !self.nodes[node].masters.contains(&master) && !self.nodes[master].is_removed {
            self.coverage.hit("fault: follow");
            self.nodes[node].masters.push(master);
            self.tell_of(node, master, &[b"REPLICAOF"]);
        }
    }

    fn unfollow(&mut self, node: usize, master: usize) {
        if self.nodes[node].masters.contains(&master) {
            self.coverage.hit("fault: unfollow");
            self.nodes[node].masters.retain(|&known| known != master);
            self.tell_of(node, master, &[b"REPLICAOF", b"REMOVE"]);
        }
    }

    // A command about each of the names by which a node knows its master.
    fn tell_of(&mut self, node: usize, master: usize, words: &[&[u8]]) {
        let names: Vec<_> = self.names(node, master).collect();
        if names.len() > 1 {
            self.coverage.hit("fault: two names for one master");
        }
        let commands = names.iter().map(|(name, _)| command(&[words, &[name.as_bytes(), b"6379"]].concat()));
        self.operator_sends(node, &commands.collect::<Vec<_>>());
    }

    // A node is taken out for good; who read through it reads from its masters.
    fn remove(&mut self, node: usize) {
        let up = (0..self.nodes.len()).filter(|&at| !self.nodes[at].is_removed).count();
        if self.nodes[node].is_removed || up < 3 {
            return;
        }
        self.coverage.hit("fault: node removed");
        let masters: Vec<usize> = self.plan_masters(node);
        let followers: Vec<usize> = (0..self.nodes.len()).filter(|&at| self.plan_masters(at).contains(&node)).collect();
        let had = if self.nodes[node].process.is_some() { self.versions(node) } else { self.stored_versions(node) };
        self.count_figures(node);
        self.kill(node, false);
        self.nodes[node].is_removed = true;
        self.excuse(&had);
        for &follower in &followers {
            self.unfollow(follower, node);
            for &master in &masters {
                self.follow(follower, master);
                self.plan.edges.push((follower, master));
            }
        }
        self.plan.edges.retain(|&(follower, master)| follower != node && master != node && follower != master);
    }

    /// An operator lets all nodes forget who will not come back.
    pub fn forget_the_lost(&mut self) {
        let is = |(at, node): (usize, &Node)| node.identity(at).map(|id| id.node);
        let kept: Vec<_> = self.nodes.iter().enumerate().filter(|(_, node)| !node.is_removed).filter_map(is).collect();
        let lost = self.nodes.iter().flat_map(|node| node.lost.iter().copied());
        let all: BTreeSet<_> = lost.chain(self.nodes.iter().enumerate().filter_map(is)).collect();
        let all = all.into_iter().filter(|uuid| !kept.contains(uuid));
        let words = |uuid| command(&[b"MULTIMASTER", b"FORGET", format!("{uuid}").as_bytes()]);
        let commands: Vec<_> = all.map(words).collect();
        let up = (0..self.nodes.len()).find(|&at| self.nodes[at].process.as_ref().is_some_and(|it| !it.is_stopping));
        if let Some(node) = up.filter(|_| !commands.is_empty()) {
            self.coverage.hit("fault: nodes forgotten");
            self.operator_sends(node, &commands);
        }
    }

    fn plan_masters(&self, node: usize) -> Vec<usize> {
        self.plan.edges.iter().filter(|edge| edge.0 == node).map(|edge| edge.1).collect()
    }

    /// Faults are over: everything flows, everybody is up and follows whom they should, clocks are set right, ahead of
    /// every deadline.
    pub fn heal(&mut self) {
        self.note(None, || "faults are over".into());
        let n = self.nodes.len();
        let limits = self.limits.clone();
        for from in 0..n {
            for to in 0..n {
                self.net.delay_us[from][to] = (limits.delay_us.0, limits.delay_us.1.min(2000).max(limits.delay_us.0));
                self.net.us_per_kib[from][to] = 10;
                self.unblock(from, to);
            }
        }
        for node in 0..n {
            self.nodes[node].disk.is_full = false;
            let life = self.nodes[node].life;
            if self.nodes[node].process.as_ref().is_some_and(|process| process.is_stopped) {
                self.go_on(node, life);
            }
            self.wait_for_the_end(node);
        }
        let now_us = self.now_us;
        let ahead_us = self.nodes.iter().map(|node| node.clock.most_ahead_us(now_us)).max().unwrap_or(0) + 10_000_000;
        for node in 0..n {
            self.nodes[node].clock.set_right(ahead_us, now_us);
            let cores = self.nodes[node].cores;
            self.bring_up(node, cores);
        }
        for (follower, master) in self.plan.edges.clone() {
            self.follow(follower, master);
        }
        // Whose node's machine went away has waited long enough.
        (0..self.clients.len()).for_each(|client| self.client_reconnects(client));
    }
}
