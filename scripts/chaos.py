#!/usr/bin/env python3
"""The driving and accounting part of chaos.sh, which see. Standard library only.

The ledger. Every writer has a connection to one node and keys of its own, so that what a key must hold follows from
what the node answered to one thread:
- `u:` unique keys, written once, some deleted later;  `o:` keys overwritten with a growing number;
- `h:` hashes shared by all, each writer a field of its own with a growing number;
- `c:` counters and `hc:` hash counters that every node increments; `n:` counters of one node;
- `x:` keys that everybody sets and deletes, and `e:` keys that expire: nothing is owed but agreement.
An answer is a promise, unless the node was killed less than the grace period after it: then it may be lost, and only
then. A command without an answer may or may not have happened.
"""
import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from resp import Client, ReplyError, Server, free_port  # noqa: E402

PASSWORD = "chaos"
NODES, WRITERS, BATCH = 3, 2, 20
OWN, SHARED = 200, 50


def arguments():
    parser = argparse.ArgumentParser(prog="chaos.sh")
    parser.add_argument("--server", required=True)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--every", type=float, default=20, help="seconds between faults")
    parser.add_argument("--freeze", type=float, default=30, help="longest freeze, seconds")
    parser.add_argument("--rate", type=float, default=1500, help="commands a second on each node")
    parser.add_argument("--grace", type=float, default=1000, help="milliseconds before a kill that may be lost")
    parser.add_argument("--settle", type=float, default=120, help="seconds within which the nodes must agree")
    parser.add_argument("--memory", type=float, default=1024, help="most MB a node may take")
    parser.add_argument("--threads", type=int, default=1, help="cores each node uses")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--faults", default="kill,wipe,freeze", help="of kill, wipe (kill and empty directory), freeze")
    parser.add_argument("--keep", action="store_true", help="keep data and logs")
    return parser.parse_args()


class Node:
    def __init__(self, number, ports, directory, options):
        self.number, self.port, self.options = number, ports[number], options
        self.directory, self.lock = directory, threading.Lock()
        self.incarnation, self.killed_at, self.server, self.rss_max = 0, {}, None, 0
        self.ended = None
        self.command = [options.server, "--port", self.port, "--bind", "127.0.0.1", "--requirepass", PASSWORD]
        self.command += ["--masterauth", PASSWORD, "--multi-master", "yes", "--active-replica", "yes"]
        self.command += ["--server-threads", options.threads, "--server-thread-affinity", "no"]
        self.command += ["--enable-debug-command", "local", "--save", "10", "1"]
        for other in ports:
            if other != self.port:
                self.command += ["--replicaof", "127.0.0.1", other]

    def start(self):
        data = os.path.join(self.directory, "data")
        os.makedirs(data, exist_ok=True)
        words = [str(word) for word in [*self.command, "--dir", data]]
        self.server = Server(words, self.port, self.directory, PASSWORD)
        self.server.wait_ready(60)

    def kill(self, wipe):
        """Kills and starts again; connections wait meanwhile, so each belongs to one incarnation."""
        with self.lock:
            self.killed_at[self.incarnation] = time.monotonic()
            self.server.kill()
            if wipe:
                shutil.rmtree(os.path.join(self.directory, "data"))
            self.incarnation += 1
            self.start()

    def connect(self):
        with self.lock:
            return Client(self.port, PASSWORD, timeout=self.options.freeze + 60), self.incarnation

    def look(self):
        """Notes memory, and whether the process ended without being told to."""
        if not self.lock.acquire(blocking=False):
            return
        try:
            code = self.server.process.poll()
            if code is not None:
                self.ended = f"node {self.number} ended by itself with code {code}: {self.server.tail()}"
                return
            self.rss_max = max(self.rss_max, self.server.rss_bytes())
        except (OSError, StopIteration):
            pass
        finally:
            self.lock.release()


class Writer(threading.Thread):
    def __init__(self, node, number, options, stop):
        super().__init__(daemon=True)
        self.node, self.stop, self.options = node, stop, options
        self.name = f"{node.number}.{number}"
        self.random = random.Random(f"{options.seed}.{self.name}")
        self.sequence = 0
        # Key (or (hash, field)) -> the last promise: (value, incarnation, when), and the numbers sent after it.
        self.unique, self.numbers, self.sent = {}, {}, {}
        # Counter -> list of (amount, incarnation, when); when is None without an answer.
        self.added = {}
        self.done, self.unanswered, self.errors = 0, 0, {}

    def run(self):
        client = None
        pause = BATCH * WRITERS / self.options.rate
        while not self.stop.is_set():
            began = time.monotonic()
            batch = [self.pick() for _ in range(BATCH)]
            answered = 0
            try:
                if client is None:
                    client, incarnation = self.node.connect()
                for command, _ in batch:
                    self.note_sent(command)
                client.send(*(command for command, _ in batch))
                for command, settle in batch:
                    reply = client.read()
                    answered += 1
                    if isinstance(reply, ReplyError):
                        kind = str(reply).split(" ")[0]
                        self.errors[kind] = self.errors.get(kind, 0) + 1
                    else:
                        settle(reply, incarnation, time.monotonic())
                        self.done += 1
            except (OSError, ConnectionError, ReplyError):
                if client is not None:
                    for command, settle in batch[answered:]:
                        settle(None, incarnation, None)
                        self.unanswered += 1
                    client.close()
                    client = None
                time.sleep(0.05)
            time.sleep(max(0.0, pause - (time.monotonic() - began)))
        if client is not None:
            client.close()

    def note_sent(self, command):
        if command[0] == "SET" and command[1].startswith("o:"):
            self.sent[command[1]] = int(command[2])
        elif command[0] == "HSET":
            self.sent[(command[1], command[2])] = int(command[3])

    def pick(self):
        """A command, and what to note when its reply is known (reply None and when None: no answer came)."""
        self.sequence += 1
        n, r, me = self.sequence, self.random, self.name
        kind = r.random()
        if kind < 0.15:
            key = f"u:{me}:{n}"
            return ("SET", key, n), self.keep(self.unique, key, n)
        if kind < 0.18 and len(self.unique) > 100:
            # Mostly long replicated, sometimes just written.
            key = f"u:{me}:{r.randrange(max(1, n - 20_000), n)}"
            if self.unique.get(key, (None,))[0] is not None:
                return ("DEL", key), self.delete(key)
        if kind < 0.35:
            key = f"o:{me}:{r.randrange(OWN)}"
            return ("SET", key, n), self.keep(self.numbers, key, n)
        if kind < 0.45:
            key = f"h:{r.randrange(SHARED)}"
            return ("HSET", key, me, n), self.keep(self.numbers, (key, me), n)
        if kind < 0.60:
            return self.count(f"c:{r.randrange(SHARED)}", r.randrange(1, 10))
        if kind < 0.70:
            return self.count(f"n:{self.node.number}:{r.randrange(SHARED)}", 1)
        if kind < 0.80:
            key, by = f"hc:{r.randrange(SHARED)}", r.randrange(1, 10)
            return ("HINCRBY", key, "f", by), self.add(key, by)
        if kind < 0.95:
            key = f"x:{r.randrange(OWN)}"
            return (("DEL", key) if r.random() < 0.3 else ("SET", key, f"{me}.{n}")), ignore
        return ("SET", f"e:{r.randrange(OWN)}", n, "PX", r.randrange(1, 5000)), ignore

    def keep(self, ledger, key, value):
        def settle(reply, incarnation, when):
            if when is not None:
                ledger[key] = (value, incarnation, when)
        return settle

    def delete(self, key):
        def settle(reply, incarnation, when):
            # A node that came back empty may not have the key yet: :0 is no delete, and no answer is no promise.
            if when is None:
                self.unique.pop(key, None)
            elif reply == 1:
                self.unique[key] = (None, incarnation, when)
        return settle

    def count(self, key, by):
        return ("INCRBY", key, by), self.add(key, by)

    def add(self, key, by):
        def settle(reply, incarnation, when):
            self.added.setdefault(key, []).append((by, incarnation, when))
        return settle


def ignore(reply, incarnation, when):
    pass


class Account:
    """Compares what was promised with what the nodes hold."""

    def __init__(self, nodes, writers, grace_s):
        self.nodes, self.writers, self.grace_s = nodes, writers, grace_s
        self.promises = self.excused = self.broken = 0
        self.increments = self.increments_excused = self.increments_lost = self.increments_extra = 0
        self.examples = []

    def is_firm(self, node, incarnation, when):
        killed = node.killed_at.get(incarnation)
        return killed is None or when < killed - self.grace_s

    def broke(self, text):
        self.broken += 1
        if len(self.examples) < 10:
            self.examples.append(text)

    def check(self, reader):
        client = reader.connect()[0]
        for writer in self.writers:
            self.check_unique(client, writer)
            self.check_numbers(client, writer)
        self.check_counters(client)
        client.close()

    def check_unique(self, client, writer):
        keys = list(writer.unique)
        for key, reply in zip(keys, ask(client, [("GET", key) for key in keys])):
            value, incarnation, when = writer.unique[key]
            self.promises += 1
            if reply != (None if value is None else b"%d" % value):
                if self.is_firm(writer.node, incarnation, when):
                    what = "deleted, but there" if value is None else f"should be {value}"
                    self.broke(f"{key} is {reply}, {what}")
                else:
                    self.excused += 1

    def check_numbers(self, client, writer):
        keys = list(writer.numbers)
        commands = [("HGET", *key) if isinstance(key, tuple) else ("GET", key) for key in keys]
        for key, reply in zip(keys, ask(client, commands)):
            value, incarnation, when = writer.numbers[key]
            self.promises += 1
            got = -1 if reply is None else int(reply)
            if not value <= got <= writer.sent[key]:
                if got <= writer.sent[key] and not self.is_firm(writer.node, incarnation, when):
                    self.excused += 1
                else:
                    self.broke(f"{key} is {reply}, should be {value}")

    def check_counters(self, client):
        keys = sorted({key for writer in self.writers for key in writer.added})
        commands = [("HGET", key, "f") if key.startswith("hc:") else ("GET", key) for key in keys]
        for key, reply in zip(keys, ask(client, commands)):
            firm = grace = unknown = 0
            for writer in self.writers:
                for by, incarnation, when in writer.added.get(key, ()):
                    if when is None:
                        unknown += by
                    elif self.is_firm(writer.node, incarnation, when):
                        firm += by
                    else:
                        grace += by
            got = int(reply or 0)
            self.increments += firm + grace
            self.increments_excused += max(0, min(grace, firm + grace - got))
            if got < firm:
                self.increments_lost += firm - got
                self.broke(f"{key} is {got}, at least {firm} were promised")
            if got > firm + grace + unknown:
                self.increments_extra += got - firm - grace - unknown
                self.broke(f"{key} is {got}, at most {firm + grace + unknown} were sent")


def ask(client, commands, step=500):
    for start in range(0, len(commands), step):
        block = commands[start:start + step]
        client.send(*block)
        for _ in block:
            yield client.read()


def cause_faults(nodes, options, stop, log):
    chance, wanted = random.Random(options.seed), options.faults.split(",")
    end = time.monotonic() + options.seconds
    while time.monotonic() + options.every < end and not stop.wait(options.every):
        node, what = chance.choice(nodes), chance.choice(wanted)
        if what == "freeze":
            seconds = min(chance.uniform(1, options.freeze), max(1, end - time.monotonic()))
            progress(f"node {node.number} is frozen for {seconds:.0f} s")
            log.append(("freeze", node.number))
            node.server.signal(signal.SIGSTOP)
            time.sleep(seconds)
            node.server.signal(signal.SIGCONT)
        else:
            progress(f"node {node.number} is killed and starts again {'empty' if what == 'wipe' else 'on its data'}")
            log.append((what, node.number))
            node.kill(what == "wipe")
    stop.wait(max(0.0, end - time.monotonic()))


def progress(text):
    print(f"    {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def links_up(node):
    try:
        info = node.connect()[0].info("replication")
    except (OSError, ReplyError):
        return 0
    return sum(value == "up" for name, value in info.items()
               if name.startswith("master") and name.endswith("link_status") and "global" not in name)


def wait_until(seconds, what):
    began = time.monotonic()
    while not what():
        if time.monotonic() - began > seconds:
            return None
        time.sleep(0.1)
    return time.monotonic() - began


def digest(node):
    return node.connect()[0].run("DEBUG", "DIGEST")


def main():
    options = arguments()
    base = tempfile.mkdtemp(prefix="tutti-chaos.")
    ports = [free_port() for _ in range(NODES)]
    nodes = []
    try:
        for number in range(NODES):
            directory = os.path.join(base, str(number))
            os.makedirs(directory)
            nodes.append(Node(number, ports, directory, options))
            nodes[-1].start()
        if wait_until(30, lambda: all(links_up(node) == NODES - 1 for node in nodes)) is None:
            raise SystemExit("failed: the links did not come up within 30 s")
        return drive(nodes, options)
    finally:
        for node in nodes:
            if node.server:
                node.server.stop()
        if options.keep:
            progress(f"data and logs are in {base}")
        else:
            shutil.rmtree(base, ignore_errors=True)


def drive(nodes, options):
    progress(f"seed {options.seed}; {options.seconds:.0f} s of load, a fault every {options.every:.0f} s")
    stop, over, faults = threading.Event(), threading.Event(), []
    writers = [Writer(node, number, options, stop) for node in nodes for number in range(WRITERS)]

    def watch():
        while not over.wait(1.0):
            for node in nodes:
                node.look()
                if node.ended:
                    stop.set()

    threading.Thread(target=watch, daemon=True).start()
    for writer in writers:
        writer.start()
    cause_faults(nodes, options, stop, faults)
    stop.set()
    for writer in writers:
        writer.join(options.freeze + 90)
        if writer.is_alive() and not any(node.ended for node in nodes):
            raise SystemExit(f"failed: a command on node {writer.node.number} was never answered")
    ended = [node.ended for node in nodes if node.ended]
    if ended:
        raise SystemExit("failed: " + "; ".join(ended))
    linked = wait_until(options.settle, lambda: all(links_up(node) == NODES - 1 for node in nodes))
    # Keys that expire would change digests while we look.
    time.sleep(5.5)
    agreed = wait_until(options.settle, lambda: len({digest(node) for node in nodes}) == 1)
    over.set()
    account = Account(nodes, writers, options.grace / 1000)
    for node in nodes:
        account.check(node)
    errors = {}
    for writer in writers:
        for kind, count in writer.errors.items():
            errors[kind] = errors.get(kind, 0) + count
    memory = [round(node.rss_max / 1e6) for node in nodes]
    result = {
        "seconds": options.seconds, "seed": options.seed, "answered": sum(writer.done for writer in writers),
        "unanswered": sum(writer.unanswered for writer in writers), "errors": errors,
        "kills": sum(kind == "kill" for kind, _ in faults), "wipes": sum(kind == "wipe" for kind, _ in faults),
        "freezes": sum(kind == "freeze" for kind, _ in faults),
        "linked_after_s": linked and round(linked, 1), "agreed_after_s": agreed and round(agreed, 1),
        "promises_checked": account.promises, "promises_broken": account.broken,
        "lost_with_killed_nodes": account.excused,
        "increments_checked": account.increments, "increments_lost": account.increments_lost,
        "increments_extra": account.increments_extra, "increments_lost_with_killed_nodes": account.increments_excused,
        "keys": [node.connect()[0].run("DBSIZE") for node in nodes], "rss_max_mb": memory,
    }
    unexpected = {kind: count for kind, count in errors.items() if kind not in ("LOADING",)}
    complaints = [
        (linked is None, f"not all links came back within {options.settle:.0f} s"),
        (agreed is None, f"the nodes did not agree within {options.settle:.0f} s"),
        (account.broken > 0, f"{account.broken} promises are broken, such as: " + "; ".join(account.examples)),
        (max(memory) > options.memory, f"a node took {max(memory)} MB, more than {options.memory:.0f}"),
        (bool(unexpected), f"unexpected errors: {unexpected}"),
    ]
    failures = [text for is_true, text in complaints if is_true]
    result["ok"] = not failures
    progress(f"{result['answered']:,} commands answered, {result['unanswered']:,} cut off by {len(faults)} faults "
             f"({result['kills']} kills, {result['wipes']} kills with loss of data, {result['freezes']} freezes)")
    progress(f"{account.promises:,} promises and {account.increments:,} increments checked on all nodes: "
             f"{account.broken} broken; {account.excused} and {account.increments_excused} went with killed nodes "
             f"within {options.grace:.0f} ms of the kill")
    progress(f"agreement after {result['agreed_after_s']} s, most memory of a node {max(memory)} MB")
    print(json.dumps(result))
    for text in failures:
        print(f"failed: {text}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
