#!/usr/bin/env python3
"""The driving and accounting part of chaos.sh, which see. Standard library only. The ledger is ledger.py's."""
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
from ledger import WRITERS, Account, Writer, digest, links_up, progress, wait_until  # noqa: E402
from resp import Client, Server, free_port  # noqa: E402

PASSWORD = "chaos"
NODES = 3


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

    def is_firm(self, incarnation, when, _key):
        killed = self.killed_at.get(incarnation)
        return killed is None or when < killed - self.options.grace / 1000

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

    for writer in writers:
        writer.others = [other for other in writers if other.node is not writer.node]

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
    account = Account(nodes, writers)
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
