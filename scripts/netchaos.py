#!/usr/bin/env python3
"""The driving part of netchaos.sh, which see; it expects to be process 1 of network, mount and process namespaces that
vanish with it. The ledger is ledger.py's, links are wire.py's, the picture is picture.py's.

Clients reach every node over a link of its own that no fault touches, so that an answer that does not come is the
node's doing. *Probes*: every second one MSET on each node writes a key of each of the 256 partitions. Streams of an
origin and partition arrive in order, so when another node shows a probe in all partitions it has all that was
acknowledged before. What all others had when a node was killed is firm; what they had not may be lost with it.
"""
import argparse
import glob
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import picture  # noqa: E402
import wire  # noqa: E402
from ledger import WRITERS, Account, Writer, digest, links_up, progress, wait_until  # noqa: E402
from resp import ReplyError, Server  # noqa: E402

PASSWORD, PORT, PARTITIONS = "chaos", 7000, 256
# Delay every link has, and repl-timeout: short, so that cuts are noticed.
DELAY_MS, SILENCE_S = 1, 5


def arguments():
    parser = argparse.ArgumentParser(prog="netchaos.sh")
    parser.add_argument("--server", required=True)
    parser.add_argument("--picture", required=True)
    parser.add_argument("--topology", choices=["mesh-3", "ring-4"], required=True)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=float, default=300, help="commands a second on each node")
    parser.add_argument("--settle", type=float, default=120, help="seconds within which the nodes must agree")
    parser.add_argument("--jump", type=float, default=120, help="farthest jump of a clock, seconds")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", action="store_true", help="keep data and logs")
    return parser.parse_args()


class PublicClient:
    """The face of resp.Client over redis-py. It must not send anything twice: an increment is not ours to repeat."""

    def __init__(self, host, timeout):
        self.redis = redis.Redis(host=host, port=PORT, password=PASSWORD, socket_timeout=timeout,
                                 retry=Retry(NoBackoff(), 0), single_connection_client=True)
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


class Node:
    def __init__(self, number, masters, base, options, library):
        self.number, self.options, self.library = number, options, library
        self.space, self.host = f"node{number}", f"10.201.{number}.2"
        self.directory, self.lock = os.path.join(base, str(number)), threading.Lock()
        self.incarnation, self.firm_until, self.server, self.masters = 0, {}, None, masters
        self.clock = os.path.join(self.directory, "clock")
        os.makedirs(os.path.join(self.directory, "data"))
        self.command = ["ip", "netns", "exec", self.space, options.server, "--port", PORT, "--bind", "0.0.0.0"]
        self.command += ["--requirepass", PASSWORD, "--masterauth", PASSWORD, "--multi-master", "yes"]
        self.command += ["--active-replica", "yes", "--server-threads", 1, "--server-thread-affinity", "no"]
        self.command += ["--enable-debug-command", "yes", "--save", 10, 1, "--dir", os.path.join(self.directory, "data")]
        # A short backlog, so that longer cuts end in merges of whole partitions.
        self.command += ["--repl-timeout", SILENCE_S, "--repl-ping-replica-period", 1, "--repl-backlog-size", "1mb"]
        for host in masters:
            self.command += ["--replicaof", host, PORT]

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
        self.server.wait_ready(60)

    def kill(self, firm_until, down_s):
        """Connections wait until it is back, so each belongs to one incarnation."""
        with self.lock:
            self.firm_until[self.incarnation] = firm_until()
            self.server.kill()
            time.sleep(down_s)
            self.incarnation += 1
            self.start()

    def is_firm(self, incarnation, when):
        return incarnation not in self.firm_until or when < self.firm_until[incarnation]

    def connect(self):
        with self.lock:
            return PublicClient(self.host, 90), self.incarnation


class Network:
    """A hub with a link to each node for clients, and the links between nodes that faults are for."""

    def __init__(self, nodes_count, pairs, seed):
        self.pairs, ends = pairs, []
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
        for link, (a, b) in enumerate(pairs):
            ends.append(((f"node{a}", f"l{link}a", f"10.200.{link}.1"), (f"node{b}", f"l{link}b", f"10.200.{link}.2")))
        self.has_netem = wire.has_netem()
        if not self.has_netem:
            progress("this kernel has no netem: links are TUN devices, and wire.py delays and drops their packets")
        self.wire = wire.Netem(ends) if self.has_netem else wire.Tun(ends, seed)
        self.faults, self.lock = [], threading.Lock()
        self.apply()

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
                self.wire.shape(link, direction, max([DELAY_MS] + [delay for delay, _, _ in mine]),
                                max([0] + [loss for _, loss, _ in mine]), any(cut for _, _, cut in mine))

    def change(self, add=(), remove=()):
        with self.lock:
            self.faults = [fault for fault in self.faults if fault not in remove] + list(add)
            self.apply()


class Probes:
    def __init__(self, nodes):
        self.nodes, self.over = nodes, threading.Event()
        count = len(nodes)
        # Of each node: when each probe began; what each node (first index) shows of each (second): least of all
        # partitions, and how many partitions are behind the last probe.
        self.began, self.shown = [[0.0] for _ in nodes], [[0] * count for _ in nodes]
        self.behind, self.acknowledged = [[0] * count for _ in nodes], [0] * count
        self.tags = tags_of_partitions()
        self.threads = [threading.Thread(target=self.run, args=(node,), daemon=True) for node in nodes]
        for thread in self.threads:
            thread.start()

    def run(self, node):
        client, me = None, node.number
        while not self.over.wait(1.0):
            try:
                if client is None:
                    client = node.connect()[0]
                number = len(self.began[me])
                self.began[me].append(time.monotonic())
                words = [word for tag in self.tags for word in (f"p:{me}:{{{tag}}}", number)]
                client.run("MSET", *words)
                self.acknowledged[me] = number
                for other in range(len(self.nodes)):
                    goal = self.acknowledged[other]
                    values = client.run("MGET", *(f"p:{other}:{{{tag}}}" for tag in self.tags))
                    numbers = [int(value or 0) for value in values]
                    self.shown[me][other] = max(self.shown[me][other], min(numbers))
                    self.behind[me][other] = sum(number < goal for number in numbers)
            except (OSError, ReplyError):
                if client is not None:
                    client.close()
                client = None

    def firm_until(self, node):
        me = node.number
        return self.began[me][min(self.shown[other.number][me] for other in self.nodes if other is not node)]

    def lag(self, node):
        """Seconds since the node had everything that the others had acknowledged."""
        now, me, worst = time.monotonic(), node.number, 0.0
        for other in range(len(self.nodes)):
            if other != me and self.shown[me][other] < self.acknowledged[other]:
                worst = max(worst, now - self.began[other][self.shown[me][other] + 1])
        return worst


def tags_of_partitions():
    found, number = {}, 0
    while len(found) < PARTITIONS:
        crc = 0
        for byte in str(number).encode():
            crc ^= byte << 8
            for _ in range(8):
                crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
        found.setdefault((crc & 16383) >> 6, number)
        number += 1
    return list(found.values())


def plan(options, nodes_count, pairs, has_clock):
    """Faults as (lane, kind, begin, end, detail), at most two at a time and one in a lane; from the seed alone."""
    chance, faults, free = random.Random(options.seed), [], {}
    kinds = ["cut", "oneway", "oneway", "slow", "slow", "isolate", "kill", "kill", "freeze"] + ["jump"] * 2 * has_clock
    slots, bag = [0.0, options.seconds / 40], []
    while True:
        slot = slots.index(min(slots))
        begin = slots[slot] + chance.uniform(1, 6)
        # Each kind in its turn, in an order left to chance, so that short runs have them all as well.
        bag = bag or chance.sample(kinds, len(kinds))
        kind = bag.pop()
        longest = min(40.0, max(4.0, options.seconds / 8))
        end = begin + (chance.uniform(0.2, 3) if kind == "kill" else chance.uniform(2, longest))
        if end > options.seconds:
            return sorted(faults, key=lambda fault: fault[2])
        place = chance.randrange(len(pairs) if kind in ("cut", "oneway", "slow") else nodes_count)
        lane = f"link {pairs[place][0]}-{pairs[place][1]}" if kind in ("cut", "oneway", "slow") else f"node {place}"
        detail = {"oneway": chance.randrange(2), "slow": (chance.randrange(10, 200), chance.randrange(0, 12)),
                  "jump": round(chance.choice([-1, 1]) * chance.uniform(5, options.jump))}.get(kind)
        slots[slot] = end
        if free.get(lane, 0) <= begin:
            free[lane] = end
            faults.append((lane, kind, begin, end, place, detail))


def cause(fault, nodes, network, probes, began, marks, stop):
    """One fault from its begin to its end, whatever happens meanwhile."""
    lane, kind, begin, end, place, detail = fault
    if stop.wait(max(0.0, began + begin - time.monotonic())):
        return
    words = f"{lane}: {kind}" + ("" if detail is None else f" {detail}") + f" for {end - begin:.0f} s"
    progress(words)
    changes = []
    if kind in ("cut", "oneway", "slow"):
        ways = (detail,) if kind == "oneway" else (0, 1)
        changes = [(place, ways, (*detail, False) if kind == "slow" else (DELAY_MS, 0, True))]
    elif kind == "isolate":
        changes = [(link, (0, 1), (DELAY_MS, 0, True)) for link, pair in enumerate(network.pairs) if place in pair]
    start = time.monotonic() - began
    if changes:
        network.change(add=changes)
        stop.wait(end - begin)
        network.change(remove=changes)
    elif kind == "kill":
        nodes[place].kill(lambda: probes.firm_until(nodes[place]), end - begin)
    elif kind == "freeze":
        nodes[place].server.signal(signal.SIGSTOP)
        stop.wait(end - begin)
        nodes[place].server.signal(signal.SIGCONT)
    elif kind == "jump":
        nodes[place].set_clock(detail)
        stop.wait(end - begin)
        nodes[place].set_clock(0)
    marks.append((lane, kind, start, time.monotonic() - began, words))


def drive(nodes, network, options, has_clock):
    probes, stop, over = Probes(nodes), threading.Event(), threading.Event()
    writers = [Writer(node, number, options, stop, True, False) for node in nodes for number in range(WRITERS)]
    for writer in writers:
        writer.others = [other for other in writers if other.node is not writer.node]
        writer.start()
    began, marks, failures = time.monotonic(), [], []
    lags, behind = {f"node {node.number}": [] for node in nodes}, {f"node {node.number}": [] for node in nodes}

    def watch():
        while not over.wait(0.5):
            for node in nodes:
                when, name = time.monotonic() - began, f"node {node.number}"
                lags[name].append((when, probes.lag(node)))
                behind[name].append((when, max(probes.behind[node.number])))

    def cause_noted(fault):
        try:
            cause(fault, nodes, network, probes, began, marks, stop)
        except (OSError, SystemExit) as error:
            failures.append(f"{fault}: {error}")
            stop.set()

    faults = plan(options, len(nodes), network.pairs, has_clock)
    progress(f"{options.topology}, seed {options.seed}; {options.seconds:.0f} s of load with {len(faults)} faults")
    threads = [threading.Thread(target=cause_noted, args=(fault,), daemon=True) for fault in faults]
    threading.Thread(target=watch, daemon=True).start()
    for thread in threads:
        thread.start()
    stop.wait(options.seconds)
    for thread in threads:
        thread.join(90)
    stop.set()
    for writer in writers:
        writer.join(120)
    probes.over.set()
    for thread in probes.threads:
        thread.join(120)
    ended = [f"node {node.number} ended: {node.server.tail()}" for node in nodes if node.server.process.poll() is not None]
    if ended or failures:
        raise SystemExit("failed: " + "; ".join(ended + failures))
    healed = time.monotonic()
    linked = wait_until(options.settle, lambda: all(links_up(node) == len(node.masters) for node in nodes))
    agreed = wait_until(options.settle, lambda: len({digest(node) for node in nodes}) == 1)
    over.set()
    marks_end = time.monotonic() - began
    sums = {str(node.connect()[0].run("MULTIMASTER", "DIGEST")) for node in nodes}
    account = Account(nodes, writers)
    for node in nodes:
        account.check(node)
    mismatches = sum(int(node.connect()[0].info("all").get("digest_mismatches", 0)) for node in nodes)
    picture.draw(options.picture, f"{options.topology}, seed {options.seed}: healed at {healed - began:.0f} s, agreed "
                 f"{'never' if agreed is None else f'{agreed:.1f} s'} later", marks_end,
                 [f"node {node.number}" for node in nodes] + [f"link {a}-{b}" for a, b in network.pairs], marks,
                 [("lag: seconds since a node had all that others had acknowledged", lags),
                  ("divergence: partitions in which a node is behind another's last probe, of 256", behind)])
    errors = {}
    for writer in writers:
        for kind, count in writer.errors.items():
            errors[kind] = errors.get(kind, 0) + count
    result = {
        "topology": options.topology, "seconds": options.seconds, "seed": options.seed, "netem": network.has_netem,
        "client": f"redis-py {redis.__version__}", "clock_jumps": has_clock,
        "faults": {kind: sum(mark[1] == kind for mark in marks) for kind in picture.FAULTS},
        "answered": sum(writer.done for writer in writers), "errors": errors,
        "unanswered": sum(writer.unanswered for writer in writers),
        "linked_after_s": linked and round(linked, 1), "agreed_after_s": agreed and round(agreed, 1),
        "lag_max_s": round(max(lag for line in lags.values() for _, lag in line), 1),
        "promises_checked": account.promises, "promises_broken": account.broken,
        "deletes_elsewhere_checked": sum(account.gone.values()), "lost_with_killed_nodes": account.excused,
        "increments_checked": account.increments, "increments_lost": account.increments_lost,
        "increments_extra": account.increments_extra, "increments_lost_with_killed_nodes": account.increments_excused,
        "digest_mismatches": mismatches, "picture": options.picture,
    }
    unexpected = {kind: count for kind, count in errors.items() if kind != "LOADING"}
    complaints = [
        (linked is None, f"not all links came back within {options.settle:.0f} s"),
        (agreed is None or len(sums) != 1, f"the nodes did not agree within {options.settle:.0f} s"),
        (account.broken > 0, f"{account.broken} promises are broken, such as: " + "; ".join(account.examples)),
        (mismatches > 0, f"{mismatches} mismatches of digests were found"),
        (bool(unexpected), f"unexpected errors: {unexpected}"),
    ]
    result["ok"] = not any(is_true for is_true, _ in complaints)
    for is_true, words in complaints:
        if is_true:
            print(f"failed: {words}", file=sys.stderr)
    print(json.dumps(result), flush=True)
    return 0 if result["ok"] else 1


def main():
    options = arguments()
    base = tempfile.mkdtemp(prefix="tutti-netchaos.")
    # Being asked to end is the same as failing: what was started is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    count = int(options.topology[-1])
    pairs = [(0, 1), (1, 2), (0, 2)] if options.topology == "mesh-3" else [(n, (n + 1) % count) for n in range(count)]
    nodes, network = [], None
    try:
        network = Network(count, pairs, options.seed)
        library = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)
        if library is None:
            progress("there is no libfaketime: clocks stay true here, the simulator moves them")
        for number in range(count):
            masters = [n for n in range(count) if n != number] if options.topology == "mesh-3" else [(number - 1) % count]
            nodes.append(Node(number, [network.host(n, number) for n in masters], base, options, library))
            nodes[-1].set_clock(0)
            nodes[-1].start()
        if wait_until(30, lambda: all(links_up(node) == len(node.masters) for node in nodes)) is None:
            raise SystemExit("failed: the links did not come up within 30 s")
        return drive(nodes, network, options, library is not None)
    finally:
        for node in nodes:
            if node.server:
                node.server.stop()
        if network:
            network.wire.close()
        if options.keep:
            progress(f"data and logs are in {base}")
        else:
            shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
