//! Name look-ups on threads of their own: `getaddrinfo` blocks for as long as a dead name server likes.
//!
//! At most [`THREADS_MAX`] threads, started when needed; look-ups of one name at the same time are one look-up. The
//! queue is bounded by what dials are outstanding. Threads are never joined: one may hang in libc for ever.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::mailbox::{Mailbox, Resolved};

/// A dead name blocks one thread; this many dead names block the look-ups of others, for their time limit.
const THREADS_MAX: usize = 16;

/// A thread without work ends after this time.
const THREAD_IDLE: Duration = Duration::from_secs(10);

/// The resolver of a node, shared by all cores.
#[derive(Clone, Default)]
pub(crate) struct Resolver {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<LookUp>,
    running: Vec<LookUp>,
    threads: usize,
    idle: usize,
}

struct LookUp {
    host: String,
    askers: Vec<Asker>,
}

struct Asker {
    mailbox: Arc<Mailbox>,
    dial: u64,
    port: u16,
}

/// An address that needs no look-up.
pub(crate) fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port))
}

impl Resolver {
    /// Looks `host` up and puts the answer into `mailbox`.
    pub(crate) fn resolve(&self, host: String, port: u16, dial: u64, mailbox: Arc<Mailbox>) {
        let asker = Asker { mailbox, dial, port };
        let mut state = self.shared.lock();
        let State { waiting, running, .. } = &mut *state;
        if let Some(same) = waiting.iter_mut().chain(running).find(|look_up| look_up.host == host) {
            same.askers.push(asker);
            return;
        }
        state.waiting.push_back(LookUp { host, askers: vec![asker] });
        if state.idle > 0 {
            self.shared.work.notify_one();
        } else if state.threads < THREADS_MAX {
            let shared = Arc::clone(&self.shared);
            let spawned = thread::Builder::new().name("tutti-resolve".into()).spawn(move || shared.work());
            match spawned {
                Ok(_) => state.threads += 1,
                // With other threads at work the look-up only waits; else it ends by the dial's time limit.
                Err(error) => tracing::warn!("no thread to resolve names: {error}"),
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(look_up) = state.waiting.pop_front() {
                let host = look_up.host.clone();
                state.running.push(look_up);
                drop(state);
                let addresses = addresses_of(&host);
                state = self.lock();
                let at = state.running.iter().position(|look_up| look_up.host == host);
                let look_up = state.running.swap_remove(at.expect("only we remove what we run"));
                drop(state);
                answer(look_up, &addresses);
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let (woken, timeout) = self.work.wait_timeout(state, THREAD_IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.waiting.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

fn addresses_of(host: &str) -> Result<Vec<SocketAddr>, String> {
    match (host, 0).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => Err(format!("could not resolve {host}: {error}")),
    }
}

fn answer(look_up: LookUp, addresses: &Result<Vec<SocketAddr>, String>) {
    for asker in look_up.askers {
        let mut result = addresses.clone();
        result.iter_mut().flatten().for_each(|address| address.set_port(asker.port));
        asker.mailbox.put_resolved(Resolved { dial: asker.dial, result });
    }
}
