//! Outgoing connections of one core: look up, connect, give up in time. Nothing here ever waits.
//!
//! A dial ends exactly once, by [`Core::dialed`]. The kernel may still be busy with the connect of a dial that timed
//! out; its socket and address stay here, unheard, until it lets go.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use super::address::{RawAddress, stream_socket, tcp_endpoint, tune};
use super::listen::bind_socket;
use super::mailbox::{Mailbox, Resolved};
use super::net::Net;
use super::resolve::{Resolver, literal};
use super::ring::Completion;
use super::token::{Op, Token};
use crate::base::time::Now;
use crate::worker::port::{Core, DialId};

/// All dials of one core.
pub(crate) struct Dials {
    resolver: Resolver,
    mailbox: Arc<Mailbox>,
    source: Option<IpAddr>,
    keepalive_s: u32,
    next_number: u64,
    /// Few at a time (one per peer), so a list is enough.
    dials: Vec<Dial>,
}

/// What a core asked for.
pub(crate) struct Wish {
    pub(crate) dial: DialId,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) timeout_ms: u64,
}

struct Dial {
    number: u64,
    wish: Wish,
    deadline_us: u64,
    /// The core has its answer.
    is_answered: bool,
    connecting: Option<Connecting>,
    /// Addresses not tried yet.
    untried: VecDeque<SocketAddr>,
}

/// Lent to the kernel until its completion. The address is boxed because dials move in their list.
struct Connecting {
    socket: OwnedFd,
    address: Box<RawAddress>,
    target: SocketAddr,
    /// With other addresses left to try, this one may not use up all the time.
    until_us: u64,
}

impl Dials {
    pub(crate) fn new(resolver: Resolver, mailbox: Arc<Mailbox>, source: Option<IpAddr>, keepalive_s: u32) -> Self {
        Self { resolver, mailbox, source, keepalive_s, next_number: 0, dials: Vec::new() }
    }

    /// Begins a dial. It may end before this returns (a bad address, no descriptors left).
    pub(crate) fn begin<C: Core>(&mut self, core: &mut C, net: &mut Net, wish: Wish, now: Now) {
        let number = self.next_number;
        self.next_number += 1;
        let deadline_us = now.mono_us.saturating_add(wish.timeout_ms.saturating_mul(1000));
        let mut dial =
            Dial { number, wish, deadline_us, is_answered: false, connecting: None, untried: VecDeque::new() };
        match literal(&dial.wish.host, dial.wish.port) {
            Some(address) => {
                dial.untried.push_back(address);
                self.dials.push(dial);
                self.try_next(core, net, number, None, now);
            }
            None => {
                let host = dial.wish.host.clone();
                self.resolver.resolve(host, dial.wish.port, number, Arc::clone(&self.mailbox));
                self.dials.push(dial);
            }
        }
    }

    /// The resolver answered some.
    pub(crate) fn collect_resolved<C: Core>(&mut self, core: &mut C, net: &mut Net, now: Now) {
        for Resolved { dial: number, result } in self.mailbox.take_resolved() {
            let Some(dial) = self.dials.iter_mut().find(|dial| dial.number == number) else { continue };
            match result {
                Ok(addresses) => {
                    dial.untried.extend(addresses);
                    self.try_next(core, net, number, None, now);
                }
                Err(error) => self.fail(core, number, error, now),
            }
        }
    }

    /// A connect ended.
    pub(crate) fn connected<C: Core>(&mut self, core: &mut C, net: &mut Net, done: Completion, now: Now) {
        let number = done.token.number;
        let at = self.dials.iter().position(|dial| dial.number == number).expect("a dial outlives its connect");
        let connecting = self.dials[at].connecting.take().expect("only a connect completes as one");
        if self.dials[at].is_answered {
            self.dials.swap_remove(at);
            return;
        }
        if done.result < 0 {
            let error = io::Error::from_raw_os_error(-done.result);
            return self.try_next(core, net, number, Some(format!("{}: {error}", connecting.target)), now);
        }
        let dial = self.dials.swap_remove(at);
        let fd = connecting.socket.into_raw_fd();
        let endpoint = tcp_endpoint(fd);
        let conn = net.adopt(fd);
        core.dialed(dial.wish.dial, Ok((conn, endpoint)), now);
    }

    /// Ends dials whose time is over. Answers when the next one's is.
    pub(crate) fn expire<C: Core>(&mut self, core: &mut C, net: &mut Net, now: Now) -> u64 {
        let mut next = u64::MAX;
        let mut late = Vec::new();
        for dial in self.dials.iter_mut().filter(|dial| !dial.is_answered) {
            if dial.deadline_us <= now.mono_us {
                late.push(dial.number);
                continue;
            }
            next = next.min(dial.deadline_us);
            if let Some(connecting) = dial.connecting.as_mut().filter(|connecting| connecting.until_us != u64::MAX) {
                if connecting.until_us <= now.mono_us {
                    // Its completion goes on to the next address.
                    connecting.until_us = u64::MAX;
                    net.ring.cancel(Token::new(Op::Connect, dial.number));
                } else {
                    next = next.min(connecting.until_us);
                }
            }
        }
        for number in late {
            let Some(dial) = self.dials.iter().find(|dial| dial.number == number) else { continue };
            let doing = if dial.connecting.is_some() { "connecting to" } else { "resolving" };
            let Wish { host, port, timeout_ms, .. } = &dial.wish;
            let error = format!("{doing} {host}:{port} took longer than {timeout_ms} ms");
            if dial.connecting.is_some() {
                net.ring.cancel(Token::new(Op::Connect, number));
            }
            self.fail(core, number, error, now);
        }
        next
    }

    /// Gives up all dials without a word: the core is leaving.
    pub(crate) fn abandon_all(&mut self, net: &mut Net) {
        for dial in &mut self.dials {
            dial.is_answered = true;
            if dial.connecting.is_some() {
                net.ring.cancel(Token::new(Op::Connect, dial.number));
            }
        }
        self.dials.retain(|dial| dial.connecting.is_some());
    }

    /// Nothing of ours is with the kernel.
    pub(crate) fn is_empty(&self) -> bool {
        self.dials.iter().all(|dial| dial.connecting.is_none())
    }

    /// Connects to the next address, or fails with the last error.
    fn try_next<C: Core>(&mut self, core: &mut C, net: &mut Net, number: u64, error: Option<String>, now: Now) {
        let (source, keepalive_s) = (self.source, self.keepalive_s);
        let Some(dial) = self.dials.iter_mut().find(|dial| dial.number == number) else { return };
        if dial.is_answered {
            return;
        }
        let mut error = error.unwrap_or_else(|| format!("{} has no address", dial.wish.host));
        while let Some(target) = dial.untried.pop_front() {
            match open(target, source, keepalive_s) {
                Ok(socket) => {
                    let share_us = dial.deadline_us.saturating_sub(now.mono_us) / (dial.untried.len() as u64 + 1);
                    let until_us = if dial.untried.is_empty() { u64::MAX } else { now.mono_us + share_us };
                    let address = Box::new(RawAddress::new(target));
                    let connecting = Connecting { socket, address, target, until_us };
                    let (fd, address) = (connecting.socket.as_raw_fd(), &connecting.address);
                    // SAFETY: the boxed address is neither moved nor freed before the completion: `connecting` is
                    // only taken in `connected`.
                    unsafe { net.ring.connect(fd, address.as_ptr(), address.len, Token::new(Op::Connect, number)) };
                    dial.connecting = Some(connecting);
                    return;
                }
                Err(cause) => error = format!("{target}: {cause}"),
            }
        }
        self.fail(core, number, error, now);
    }

    fn fail<C: Core>(&mut self, core: &mut C, number: u64, error: String, now: Now) {
        let Some(at) = self.dials.iter().position(|dial| dial.number == number) else { return };
        self.dials[at].is_answered = true;
        let dial = self.dials[at].wish.dial;
        if self.dials[at].connecting.is_none() {
            self.dials.swap_remove(at);
        }
        core.dialed(dial, Err(error), now);
    }
}

fn open(target: SocketAddr, source: Option<IpAddr>, keepalive_s: u32) -> io::Result<OwnedFd> {
    let socket = stream_socket(target)?;
    tune(socket.as_raw_fd(), keepalive_s)?;
    // A source of the other family cannot apply to this target.
    if let Some(source) = source.filter(|source| source.is_ipv4() == target.is_ipv4()) {
        bind_socket(&socket, SocketAddr::new(source, 0))?;
    }
    Ok(socket)
}
