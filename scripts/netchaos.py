#!/usr/bin/env python3
"""The driving part of netchaos.sh, which see; it expects to be process 1 of network, mount and process namespaces that
vanish with it. The ledger is ledger.py's, links are wire.py's, faults are faults.py's, what may be lost with a killed
node is for holdings.py to say, and the picture is picture.py's.

Clients reach every node over a link of its own that no fault touches, so that an answer that does not come is the
node's doing.
"""
import argparse
import glob
import json
import os
import statistics
import sys
import threading
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import faults  # noqa: E402
import picture  # noqa: E402
import wire  # noqa: E402
from clock import Clock  # noqa: E402
from holdings import GRACE_S, Probes  # noqa: E402
from ledger import CONTESTED, WRITERS, Account, Writer, digest, links_up, progress, wait_until  # noqa: E402
from resp import Client, ReplyError, Server  # noqa: E402

# repl-timeout is short, so that cuts are noticed. Nobody is waited for longer than PATIENCE_S: that is no limit to
# meet, only an end.
PASSWORD, PORT, SILENCE_S, PATIENCE_S = "chaos", 7000, 5, 600


def arguments():
    parser = argparse.ArgumentParser(prog="netchaos.sh")
    parser.add_argument("--server", required=True)
    parser.add_argument("--picture", required=True)
    parser.add_argument("--work", required=True, help="a directory for data and logs")
    parser.add_argument("--topology", choices=["mesh-3", "ring-4"], required=True)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=float, default=300, help="commands a second on each node")
    parser.add_argument("--settle", type=float, default=120, help="seconds within which the nodes must agree")
    parser.add_argument("--jump", type=float, default=120, help="farthest jump of a clock, seconds")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    return parser.parse_args()


class OneConnection(redis.Connection):
    """It is not opened again when it is lost: what is asked over it is asked of one run of a node."""

    was_opened = False

    def _connect(self):
        if self.was_opened:
            raise redis.ConnectionError("the connection was lost")
        self.was_opened = True
        return super()._connect()


class PublicClient:
    """The face of resp.Client over redis-py. It must not send anything twice: an increment is not ours to repeat."""

    def __init__(self, host, timeout):
        self.redis = redis.Redis(connection_pool=redis.ConnectionPool(
            connection_class=OneConnection, max_connections=1, host=host, port=PORT, password=PASSWORD,
            socket_timeout=timeout, retry=Retry(NoBackoff(), 0)))
        self.replies = []

    def send(self, *commands):
        pipe = self.redis.pipeline(transaction=False)
        for words in commands:
            pipe.execute_command(*words)
        try:
            self.replies = pipe.execute(raise_on_error=False)[::-1]
        except redis.ResponseError as error:
            raise ReplyError(str(error)) from error
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise ConnectionError(str(error)) from error

    def read(self):
        reply = self.replies.pop()
        if isinstance(reply, (redis.ConnectionError, redis.TimeoutError)):
            raise ConnectionError(str(reply))
        return ReplyError(str(reply)) if isinstance(reply, Exception) else reply

    def run(self, *words):
        self.send(words)
        reply = self.read()
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def info(self, section):
        return self.run("INFO", section)

    def close(self):
        self.redis.close()
        self.redis.connection_pool.disconnect()


class Node:
    def __init__(self, number, masters, options, library, clock):
        self.number, self.options, self.library, self.run_clock = number, options, library, clock
        self.space, self.host = f"node{number}", f"10.201.{number}.2"
        self.directory, self.lock = os.path.join(options.work, str(number)), threading.Lock()
        self.incarnation, self.holdings, self.server, self.masters = 0, None, None, masters
        # Of each SIGSTOP its (begin, end), of each SIGKILL the seconds before it that may be lost.
        self.freezes, self.kills = [], []
        self.clock = os.path.join(self.directory, "clock")
        os.makedirs(os.path.join(self.directory, "data"))
        self.command = ["ip", "netns", "exec", self.space, options.server, "--port", PORT, "--bind", "0.0.0.0"]
        self.command += ["--requirepass", PASSWORD, "--masterauth", PASSWORD, "--multi-master", "yes"]
        # Nodes with one core and with two.
        self.command += ["--active-replica", "yes", "--server-threads", 1 + number % 2, "--server-thread-affinity", "no"]
        # Snapshots are asked for, so that it is known what is in them.
        self.command += ["--enable-debug-command", "yes", "--save", "", "--dir", os.path.join(self.directory, "data")]
        self.command += ["--repl-timeout", SILENCE_S, "--repl-ping-replica-period", 1, "--digest-check-period", 10]
        # Backlogs of a second or two and of a minute or more, so that links come back in both ways: by merging whole
        # partitions, and from the backlog.
        self.command += ["--repl-backlog-size", "16mb" if number % 2 else "256kb"]
        for host in masters:
            self.command += ["--replicaof", host, PORT]
        self.set_clock(0)

    def set_clock(self, seconds):
        with open(self.clock + ".new", "w", encoding="ascii") as file:
            file.write(f"{seconds:+.0f}\n")
        os.rename(self.clock + ".new", self.clock)

    def start(self):
        # The monotonic clock stays true: timers and io_uring follow it.
        words = {"LD_PRELOAD": self.library, "FAKETIME_TIMESTAMP_FILE": self.clock, "FAKETIME_CACHE_DURATION": "1",
                 "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DISABLE_SHM": "1"}
        environment = {**os.environ, **(words if self.library else {})}
        command = [str(word) for word in self.command]
        self.server = Server(command, PORT, self.directory, PASSWORD, self.host, environment)
        self.server.wait_ready(PATIENCE_S)

    def kill(self, holdings, down_s):
        """Connections wait until it is back, so each belongs to one incarnation."""
        with self.lock:
            now = self.run_clock.now()
            frozen_s = sum(end - begin for begin, end in self.freezes if end > now - GRACE_S)
            self.server.kill()
            loose_s = holdings.has_been_killed(self.number, now, frozen_s)
            self.kills.append(loose_s)
            progress(f"node {self.number}: what it acknowledged in the last {loose_s:.1f} s may be lost with it")
            time.sleep(down_s)
            self.incarnation += 1
            self.start()

    def is_firm(self, incarnation, when, key):
        return self.holdings.is_firm((self.number, incarnation), when, key)

    def connect(self):
        with self.lock:
            return PublicClient(self.host, PATIENCE_S), self.incarnation


class Network:
    """A hub with a link to each node for clients, and the links between nodes that faults are for."""

    def __init__(self, nodes_count, pairs, seed):
        self.pairs = pairs
        wire.run("ip", "link", "set", "lo", "up")
        wire.run("mount", "-t", "tmpfs", "none", "/run")
        os.mkdir("/run/netns")
        for number in range(nodes_count):
            space = f"node{number}"
            wire.run("ip", "netns", "add", space)
            wire.run("ip", "-n", space, "link", "set", "lo", "up")
            wire.run("ip", "link", "add", f"hub{number}", "type", "veth", "peer", "name", "hub", "netns", space)
            wire.run("ip", "addr", "add", f"10.201.{number}.1/24", "dev", f"hub{number}")
            wire.run("ip", "link", "set", f"hub{number}", "up")
            wire.run("ip", "-n", space, "addr", "add", f"10.201.{number}.2/24", "dev", "hub")
            wire.run("ip", "-n", space, "link", "set", "hub", "up")
        self.wire = self.make_links(seed)
        self.faults, self.lock = [], threading.Lock()
        self.apply()

    def make_links(self, seed):
        ends = [((f"node{a}", f"l{link}a", f"10.200.{link}.1"), (f"node{b}", f"l{link}b", f"10.200.{link}.2"))
                for link, (a, b) in enumerate(self.pairs)]
        ways = [("netem", lambda: wire.Netem(ends))] if wire.has_netem() else []
        for name, make in [*ways, ("TUN devices whose packets wire.py delays and drops", lambda: wire.Tun(ends, seed))]:
            made = make()
            complaints = wire.check(made, ends)
            if not complaints:
                progress(f"links are made with {name}; they delay, lose and cut as told")
                return made
            progress(f"links made with {name} do not do as told: {'; '.join(complaints)}")
            made.close()
        raise SystemExit("failed: no links can be made here that delay, lose and cut packets as told")

    def host(self, of, seen_from):
        """The address of node `of` on its link with `seen_from`."""
        for link, (a, b) in enumerate(self.pairs):
            if {a, b} == {of, seen_from}:
                return f"10.200.{link}.{1 if of == a else 2}"
        raise ValueError("no link")

    def apply(self):
        for link in range(len(self.pairs)):
            for direction in (0, 1):
                mine = [shape for where, ways, shape in self.faults if where == link and direction in ways]
                self.wire.shape(link, direction, *(mine or [(faults.DELAY_MS, 0, False)])[0])

    def change(self, add=(), remove=()):
        with self.lock:
            self.faults = [fault for fault in self.faults if fault not in remove] + list(add)
            self.apply()


class Watch:
    """Twice a second: how far each node lags, and how many contested keys are not alike on those that answer."""

    def __init__(self, nodes, probes, clock):
        self.nodes, self.probes, self.clock, self.over = nodes, probes, clock, threading.Event()
        self.keys = [f"x:{n}" for n in range(CONTESTED)]
        self.clients, self.lags, self.unlike = [None] * len(nodes), [[] for _ in nodes], []
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.over.wait(0.5):
            now = self.clock.now()
            # Lag is seen by probes only.
            for node in self.nodes if not self.probes.over.is_set() else ():
                self.lags[node.number].append((now, self.probes.holdings.lag(node.number, now)))
            digests = [digests for digests in self.ask() if digests]
            self.unlike.append((now, sum(len(set(digests)) > 1 for digests in zip(*digests))))

    def ask(self):
        """All at the same time; who does not answer soon is left out."""
        for number, node in enumerate(self.nodes):
            try:
                self.clients[number] = self.clients[number] or Client(PORT, PASSWORD, 0.3, node.host)
                self.clients[number].send(("DEBUG", "DIGEST-VALUE", *self.keys))
            except (OSError, ReplyError):
                self.clients[number] = None
        for number, client in enumerate(self.clients):
            try:
                reply = client.read() if client else None
                yield reply if isinstance(reply, list) else None
            except OSError:
                client.close()
                self.clients[number] = None
                yield None


class Run:
    def __init__(self, nodes, network, options, has_clock, clock):
        self.nodes, self.network, self.options, self.clock = nodes, network, options, clock
        self.has_clock, self.stop, self.broken, self.caused = has_clock, threading.Event(), [], []
        self.probes = Probes(nodes, clock)
        for node in nodes:
            node.holdings = self.probes.holdings
        self.watch = Watch(nodes, self.probes, clock)
        self.writers = [Writer(node, number, options, self.stop, eras=True, expiring=False, now=clock.now)
                        for node in nodes for number in range(WRITERS)]
        for writer in self.writers:
            writer.others = [other for other in self.writers if other.node is not writer.node]

    def cause(self, fault):
        try:
            if faults.cause(fault, self.nodes, self.network, self.probes, self.clock, self.stop):
                self.caused.append(fault)
        except (OSError, SystemExit) as error:
            self.broken.append(f"{fault.words}: {error}")
            self.stop.set()

    def load(self):
        """All faults under load, then some more load, then none."""
        planned = faults.plan(self.options, len(self.nodes), self.network.pairs, self.has_clock)
        progress(f"{self.options.topology}, seed {self.options.seed}; {self.options.seconds:.0f} s of load with "
                 f"{len(planned)} faults")
        self.began = self.clock.now()
        for fault in planned:
            fault.begin, fault.end = fault.begin + self.began, fault.end + self.began
        threads = [threading.Thread(target=self.cause, args=(fault,), daemon=True) for fault in planned]
        for thread in [self.probes, self.watch.thread, *self.writers, *threads]:
            thread.start()
        self.clock.wait_until(self.began + self.options.seconds, self.stop)
        for thread in threads:
            thread.join(PATIENCE_S)
        self.healed = max((fault.end for fault in self.caused), default=self.began)
        self.stop.set()
        for writer in self.writers:
            writer.join(PATIENCE_S)
        self.probes.stop()
        self.quiet = self.clock.now()
        for node in self.nodes:
            if node.server.process.poll() is not None:
                self.broken.append(f"node {node.number} ended by itself: {node.server.tail()}")
        if self.broken:
            raise SystemExit("failed: " + "; ".join(self.broken))

    def settle(self):
        """Waits for links and agreement; the seconds it took, None for never."""
        def since(limit, what):
            return None if wait_until(limit, what) is None else round(self.clock.now() - self.quiet, 1)

        limit = self.options.settle
        self.linked = since(limit, lambda: all(links_up(node) == len(node.masters) for node in self.nodes))
        self.agreed = since(limit, lambda: len({digest(node) for node in self.nodes}) == 1)
        # For the picture.
        time.sleep(1)
        self.watch.over.set()
        self.watch.thread.join(PATIENCE_S)

    def check(self):
        clients = [node.connect()[0] for node in self.nodes]
        self.probes.look_back(clients[0])
        account = Account(self.nodes, self.writers)
        for node in self.nodes:
            account.check(node)
        digests = {str(client.run("MULTIMASTER", "DIGEST")) for client in clients}
        verified = [verify(client) for client in clients]
        mismatches = sum(int(client.info("replication")["digest_mismatches"]) for client in clients)
        return account, digests, verified, mismatches

    def report(self):
        account, digests, verified, mismatches = self.check()
        options, errors = self.options, {}
        for writer in self.writers:
            for kind, count in writer.errors.items():
                errors[kind] = errors.get(kind, 0) + count
        lags = [value for line in self.watch.lags for _, value in line]
        kinds = {kind: sum(fault.kind == kind for fault in self.caused) for kind in faults.KINDS}
        caught_up = next((when for when, *values in zip((when for when, _ in self.watch.lags[0]),
                                                        *([lag for _, lag in line] for line in self.watch.lags))
                          if when >= self.healed and max(values) < 1.5), None)
        merges, resumes = (sum(numbers) for numbers in zip(*self.probes.comebacks.values()))
        kills = [loose_s for node in self.nodes for loose_s in node.kills]
        result = {
            "topology": options.topology, "seconds": options.seconds, "seed": options.seed,
            "links": type(self.network.wire).__name__.lower(), "client": f"redis-py {redis.__version__}",
            "faults": kinds, "stood_still_s": round(self.clock.stalled_s),
            "answered": sum(writer.done for writer in self.writers), "errors": errors,
            "unanswered": sum(writer.unanswered for writer in self.writers), "snapshots": self.probes.saves,
            "partitions_merged": merges, "resumes": resumes,
            "caught_up_after_s": caught_up and round(caught_up - self.healed, 1),
            "linked_after_s": self.linked, "agreed_after_s": self.agreed,
            "lag_median_s": round(statistics.median(lags), 2), "lag_max_s": round(max(lags), 1),
            "keys_unlike_max": max(unlike for _, unlike in self.watch.unlike),
            "promises_checked": account.promises, "promises_broken": account.broken,
            "deletes_elsewhere_checked": sum(account.gone.values()), "lost_with_killed_nodes": account.excused,
            "may_be_lost_at_kills_s": {"median": round(statistics.median(kills or [0]), 1),
                                       "max": round(max(kills, default=0), 1), "limit": GRACE_S},
            "increments_checked": account.increments, "increments_lost": account.increments_lost,
            "increments_extra": account.increments_extra, "increments_lost_with_killed_nodes": account.increments_excused,
            "counters_known_exactly": account.exact, "verify": verified, "digest_mismatches": mismatches,
            "picture": options.picture,
        }
        few = [kind for kind, count in kinds.items() if count < 3 and (kind != "jump" or self.has_clock)]
        unexpected = {kind: count for kind, count in errors.items() if kind != "LOADING"}
        complaints = [
            (self.linked is None, f"not all links came back within {options.settle:.0f} s"),
            (self.agreed is None or len(digests) != 1, f"the nodes did not agree within {options.settle:.0f} s"),
            (caught_up is None, "some node still lagged when the load ended"),
            (account.broken > 0, f"{account.broken} promises are broken, such as: " + "; ".join(account.examples)),
            (mismatches > 0 or set(verified) != {"equal"}, f"VERIFY found {verified}, and {mismatches} mismatches"),
            (bool(unexpected), f"unexpected errors: {unexpected}"),
            (bool(self.probes.complaints), "; ".join(self.probes.complaints)),
            (options.seconds >= 300 and not (merges and resumes), f"only {merges} partitions merged and {resumes} resumes"),
            (options.seconds >= 60 and bool(few), f"too few faults of the kinds {few}"),
        ]
        result["ok"] = not any(is_true for is_true, _ in complaints)
        self.draw(result)
        for is_true, words in complaints:
            if is_true:
                print(f"failed: {words}", file=sys.stderr)
        print(json.dumps(result), flush=True)
        return 0 if result["ok"] else 1

    def draw(self, result):
        options, began = self.options, self.began
        lanes = [f"node {node.number}" for node in self.nodes] + [faults.link_lane(pair) for pair in self.network.pairs]
        lanes += [f"clock {node.number}" for node in self.nodes] if self.has_clock else []
        picture.draw(
            options.picture,
            f"Chaos on {options.topology}: {result['answered']:,} commands, {len(self.caused)} faults in "
            f"{options.seconds:.0f} s (seed {options.seed})",
            f"{result['promises_broken']} of {result['promises_checked']:,} promises broken, "
            f"{result['increments_lost'] + result['increments_extra']} of {result['increments_checked']:,} increments "
            f"lost or doubled; " + ("the nodes never agreed" if self.agreed is None else
                                    f"equal digests {self.agreed:.1f} s after the load"),
            self.clock.now() - began, self.quiet - began, faults.KINDS, lanes,
            [(lane, fault.kind, fault.begin - began, fault.end - began, fault.short, fault.words)
             for fault in self.caused for lane in fault.lanes],
            {f"node {number}": [(when - began, lag) for when, lag in line] for number, line in enumerate(self.watch.lags)},
            [(when - began, count) for when, count in self.watch.unlike], len(self.watch.keys))


def verify(client):
    try:
        return client.run("MULTIMASTER", "VERIFY").split(b"\r\n")[0].removeprefix(b"result:").decode()
    except ReplyError as error:
        return str(error)


def main():
    options = arguments()
    clock, count = Clock(), int(options.topology[-1])
    pairs = [(0, 1), (1, 2), (0, 2)] if options.topology == "mesh-3" else [(n, (n + 1) % count) for n in range(count)]
    network = Network(count, pairs, options.seed)
    library = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)
    if library is None:
        progress("there is no libfaketime: clocks stay true here, the simulator moves them")
    nodes = []
    for number in range(count):
        masters = [n for n in range(count) if n != number] if options.topology == "mesh-3" else [(number - 1) % count]
        nodes.append(Node(number, [network.host(n, number) for n in masters], options, library, clock))
        nodes[-1].start()
    if wait_until(30, lambda: all(links_up(node) == len(node.masters) for node in nodes)) is None:
        raise SystemExit("failed: the links did not come up within 30 s")
    run = Run(nodes, network, options, library is not None, clock)
    run.load()
    run.settle()
    status = run.report()
    for node in nodes:
        node.server.stop()
    network.wire.close()
    return status


if __name__ == "__main__":
    sys.exit(main())
