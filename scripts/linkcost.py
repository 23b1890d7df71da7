#!/usr/bin/env python3
"""The measuring part of linkcost.sh, which see. Standard library only; links go through relay.py, which counts.

A *link* is directed: its reader dials its writer and is sent writes. Its bytes are those of both directions; what a
node receives comes over the links it reads and, as acknowledgements and signs of life, over those it writes.
"""
import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from relay import Relay  # noqa: E402
from resp import Server, free_port  # noqa: E402

NODES, KEY_BYTES, BATCH = 5, 16, 200
# Nothing is judged before what is under way has arrived: late copies count too.
SETTLE_S = 3.0
# The most of each: bytes per second on an idle link, and what a return may cost against the same writes live.
IDLE_BYTES_S, RETURN_SHARE = 1000, 1.05
# What one crossing of a write may take beyond its key and value, the news of who has applied what included.
EXTRA_BYTES = 60
WAYS = {
    "term": "stopped with SIGTERM, which saves; started again",
    "kill": "a snapshot, then SIGKILL; started again",
    "remove": "REPLICAOF REMOVE of all masters; REPLICAOF again",
    "cut": "all its links cut; healed",
    "restart": "as term, and another node started again meanwhile",
    "backlog": "as cut, with a backlog of 1 MB: whole partitions",
}


def arguments():
    parser = argparse.ArgumentParser(prog="linkcost.sh")
    parser.add_argument("--server", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", default="once,idle,return")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--writes", type=int, default=0)
    parser.add_argument("--value", type=int, default=64, help="bytes of a value")
    parser.add_argument("--threads", type=int, default=1, help="cores of each node")
    parser.add_argument("--idle", type=float, default=0, help="seconds of idling that are measured")
    parser.add_argument("--rounds", type=int, default=1, help="returns of each way")
    parser.add_argument("--ports", type=int, default=0, help="the first of 25 ports to use; 0: any that are free")
    parser.add_argument("--keep", action="store_true", help="keep data and logs")
    options = parser.parse_args()
    options.writes = options.writes or (20_000 if options.quick else 100_000)
    options.idle = options.idle or (10.0 if options.quick else 30.0)
    return options


def progress(text):
    print(text, file=sys.stderr, flush=True)


class Mesh:
    def __init__(self, options):
        self.options, self.servers, self.relay, self.round = options, [None] * NODES, None, 0
        self.backlog = "64mb"
        self.directory = tempfile.mkdtemp(prefix="tutti-linkcost.")
        count = NODES + NODES * (NODES - 1)
        ports = list(range(options.ports, options.ports + count)) if options.ports else free_ports(count)
        self.ports = ports[:NODES]
        pairs = [(reader, writer) for reader in range(NODES) for writer in range(NODES) if reader != writer]
        # By (reader, writer): number and port at the relay.
        self.links = {pair: (number, ports[NODES + number]) for number, pair in enumerate(pairs)}

    def start(self):
        self.relay = Relay([(port, self.ports[writer]) for (_, writer), (_, port) in self.links.items()])
        for number in range(NODES):
            os.mkdir(os.path.join(self.directory, str(number)))
            self.start_node(number)
        self.wait_linked()

    def start_node(self, number):
        directory = os.path.join(self.directory, str(number))
        command = [self.options.server, "--port", self.ports[number], "--bind", "127.0.0.1", "--dir", directory]
        command += ["--multi-master", "yes", "--active-replica", "yes", "--server-threads", self.options.threads]
        command += ["--server-thread-affinity", "no", "--save", 3600, 1, "--repl-backlog-size", self.backlog]
        for port in self.masters(number):
            command += ["--replicaof", "127.0.0.1", port]
        self.servers[number] = Server([str(word) for word in command], self.ports[number], directory)
        self.servers[number].wait_ready()

    def start_again(self, backlog):
        """All nodes, on their data."""
        self.backlog = backlog
        for server in self.servers:
            server.stop(30)
        for number in range(NODES):
            self.start_node(number)
        self.wait_linked()
        self.wait_equal()

    def masters(self, number):
        return [port for (reader, _), (_, port) in self.links.items() if reader == number]

    def links_of(self, number):
        return [at for pair, (at, _) in self.links.items() if number in pair]

    def run(self, number, *words):
        client = self.servers[number].client()
        try:
            return client.run(*words)
        finally:
            client.close()

    def write(self, count, writers):
        """So many writes, shared by these nodes and sent by all of them at once; keys are those of the last time."""
        self.round += 1
        threads = [threading.Thread(target=self.write_at, args=(writer, range(at, count, len(writers))))
                   for at, writer in enumerate(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def write_at(self, number, names):
        client = self.servers[number].client()
        for at in range(0, len(names), BATCH):
            batch = names[at:at + BATCH]
            values = ((b"%d:%d:" % (self.round, name)).ljust(self.options.value, b"v") for name in batch)
            client.send(*((b"SET", b"w".ljust(KEY_BYTES - 10, b".") + b"%010d" % name, value)
                          for name, value in zip(batch, values)))
            for _ in batch:
                if client.read() != b"OK":
                    raise SystemExit(f"failed: SET on node {number}")
        client.close()

    def wait_equal(self, numbers=range(NODES), seconds=120):
        def digests():
            return {repr(self.run(number, "MULTIMASTER", "DIGEST")) for number in numbers}
        wait_until(seconds, lambda: len(digests()) == 1, "the nodes hold the same")

    def wait_linked(self):
        def linked(number):
            return self.servers[number].client().info("replication").get("connected_masters") == str(NODES - 1)
        wait_until(30, lambda: all(linked(number) for number in range(NODES)), "all links are up")
        time.sleep(SETTLE_S)

    def compared(self, number):
        client = self.servers[number].client()
        try:
            return int(client.info("replication")["digest_comparisons"])
        finally:
            client.close()

    def figures(self):
        """By link: records its reader has taken and its writer has sent, duplicates, bytes to the reader and back."""
        status = [self.run(number, "MULTIMASTER", "STATUS").decode().split("\r\n") for number in range(NODES)]
        nodes = [lines[0].split(":")[1] for lines in status]
        counts, figures = self.relay.counts(), {}
        for (reader, writer), (number, port) in self.links.items():
            master = next((row for row in rows(status[reader], "master") if row["addr"] == f"127.0.0.1:{port}"), {})
            feed = next((row for row in rows(status[writer], "reader") if row["node"] == nodes[reader]), {})
            figures[reader, writer] = {
                "records_in": int(master.get("records_in", 0)), "records_out": int(feed.get("records_out", 0)),
                "duplicates": int(master.get("duplicates", 0)), "full_merges": int(master.get("full_merges", 0)),
                "bytes": counts[number][0], "bytes_back": counts[number][1],
            }
        return figures

    def stop(self):
        for server in filter(None, self.servers):
            server.stop()
        if self.relay:
            self.relay.close()
        if not self.options.keep:
            shutil.rmtree(self.directory, ignore_errors=True)
        else:
            progress(f"    kept: {self.directory}")


def free_ports(count):
    ports = set()
    while len(ports) < count:
        ports.add(free_port())
    return sorted(ports)


def rows(lines, kind):
    """The lines of MULTIMASTER STATUS of one kind as dictionaries."""
    return [dict(pair.split("=", 1) for pair in line.split(":", 1)[1].split(",") if "=" in pair)
            for line in lines if line.startswith(kind + ":")]


def wait_until(seconds, is_so, what):
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise SystemExit(f"failed: not within {seconds} s: {what}")
        time.sleep(0.1)


def grown(after, before):
    return {pair: {name: after[pair][name] - before[pair][name] for name in after[pair]} for pair in after}


class Report:
    """Lines of the table, and whether every bound was met."""

    def __init__(self):
        self.lines, self.is_met = [], True

    def add(self, what, figure, bound=None, is_met=None):
        self.is_met = self.is_met and is_met is not False
        mark = "  " if is_met is None else "ok" if is_met else "--"
        self.lines.append((mark, what, figure, bound or ""))
        progress(f"    {mark} {what}: {figure}{f' ({bound})' if bound else ''}")

    def show(self):
        widths = [max(len(line[column]) for line in self.lines) for column in (1, 2)]
        progress("")
        for mark, what, figure, bound in self.lines:
            progress(f"  {mark}  {what:<{widths[0]}}  {figure:>{widths[1]}}  {bound}".rstrip())
        progress("")


def crossings(mesh, report, title, writers):
    """Writes of these nodes: how often each crosses each link, by the nodes' books and by the bytes that passed."""
    writes, before = mesh.options.writes, mesh.figures()
    mesh.write(writes, writers)
    mesh.wait_equal()
    time.sleep(SETTLE_S)
    links = grown(mesh.figures(), before)
    # Of each writer, as they were dealt.
    written = {writer: len(range(at, writes, len(writers))) for at, writer in enumerate(writers)}
    size = KEY_BYTES + mesh.options.value
    most, duplicates, crossing, stray, is_met = 0.0, 0, 0.0, 0, True
    for (_, writer), link in links.items():
        count = written.get(writer, 0)
        is_met = is_met and link["records_in"] == link["records_out"] == count
        duplicates += link["duplicates"]
        if count:
            most = max(most, link["records_in"] / count)
            crossing = max(crossing, link["bytes"] / count)
        else:
            stray = max(stray, link["bytes"])
    report.add(f"{title}: crossings of a write by the books, most", f"{most:.4f}", "1 on every link, at both ends", is_met)
    report.add(f"{title}: duplicates", f"{duplicates}", "0", duplicates == 0)
    report.add(f"{title}: bytes of a write on a link, most", f"{crossing:.1f}",
               f"its {size} and less than {EXTRA_BYTES} more; twice would be {2 * size}", crossing < size + EXTRA_BYTES)
    if stray:
        bound = size * writes * 5 // 100
        report.add(f"{title}: bytes on a link whose writer wrote nothing, most", f"{stray:,}", f"under {bound:,}",
                   stray < bound)
    return {"crossings_most": most, "duplicates": duplicates, "bytes_per_write_most": round(crossing, 1),
            "bytes_without_writes_most": stray, "bytes": max(link["bytes"] for link in links.values()),
            "records_in_most": max(link["records_in"] for link in links.values())}


def idle(mesh, report):
    compared = [mesh.compared(number) for number in range(NODES)]
    before, began = mesh.figures(), time.monotonic()
    time.sleep(mesh.options.idle)
    links, took = grown(mesh.figures(), before), time.monotonic() - began
    rates = sorted((link["bytes"] + link["bytes_back"]) / took for link in links.values())
    compared = sum(mesh.compared(number) for number in range(NODES)) - sum(compared)
    report.add(f"idle for {took:.0f} s: bytes a second on a link, both ways, most", f"{rates[-1]:.0f}",
               f"under {IDLE_BYTES_S}", rates[-1] < IDLE_BYTES_S)
    report.add("idle: partitions compared by digests meanwhile, all links", f"{compared}", "not 0", compared > 0)
    return {"seconds": round(took, 1), "bytes_per_second_most": round(rates[-1], 1),
            "bytes_per_second_least": round(rates[0], 1), "partitions_compared": compared}


class Absence:
    """One node goes, in a way, and returns."""

    def __init__(self, mesh, way):
        self.mesh, self.way, self.node = mesh, way, NODES - 1

    def leave(self):
        mesh, server = self.mesh, self.mesh.servers[self.node]
        if self.way in ("term", "restart"):
            server.stop(30)
        elif self.way == "kill":
            mesh.run(self.node, "BGSAVE")
            wait_until(60, lambda: server.client().info("persistence")["rdb_bgsave_in_progress"] == "0", "it is saved")
            server.kill()
        elif self.way == "remove":
            for port in mesh.masters(self.node):
                mesh.run(self.node, "REPLICAOF", "REMOVE", "127.0.0.1", port)
        else:
            mesh.relay.cut(mesh.links_of(self.node))

    def meanwhile(self):
        if self.way == "restart":
            # What it wrote before is now of a run that no link is heard directly of.
            self.mesh.servers[0].stop(30)
            self.mesh.start_node(0)
            self.mesh.wait_equal(range(NODES - 1))
            time.sleep(SETTLE_S)

    def come_back(self):
        if self.way == "remove":
            for port in self.mesh.masters(self.node):
                self.mesh.run(self.node, "REPLICAOF", "127.0.0.1", port)
        elif self.way in ("cut", "backlog"):
            self.mesh.relay.heal()
        else:
            self.mesh.start_node(self.node)

    def measure(self, report, base):
        mesh = self.mesh
        if self.way == "backlog":
            mesh.start_again("1mb")
        before = mesh.figures()
        self.leave()
        mesh.write(mesh.options.writes, [number for number in range(NODES) if number != self.node])
        mesh.wait_equal([number for number in range(NODES) if number != self.node])
        self.meanwhile()
        counts = mesh.relay.counts()
        began = time.monotonic()
        self.come_back()
        mesh.wait_equal()
        took = time.monotonic() - began
        mesh.wait_linked()
        received = self.received(mesh.relay.counts()) - self.received(counts)
        after = mesh.figures()
        if self.way in ("term", "kill", "restart"):
            before = {pair: dict.fromkeys(link, 0) for pair, link in before.items()}
        links = [link for (reader, _), link in grown(after, before).items() if reader == self.node]
        records, duplicates, merges = (sum(link[name] for link in links)
                                       for name in ("records_in", "duplicates", "full_merges"))
        share = received / base
        is_met = None if self.way == "backlog" else share <= RETURN_SHARE
        report.add(f"return ({WAYS[self.way]}): bytes received", f"{received:,}",
                   f"{share:.3f} of the base, at most {RETURN_SHARE}" if is_met is not None else f"{share:.3f} of the base",
                   is_met)
        # One master may have started again meanwhile: the others can stream all of it.
        report.add(f"return ({self.way}): records, duplicates, whole partitions",
                   f"{records:,} / {duplicates:,} / {merges}", f"equal after {took:.1f} s",
                   None if self.way == "backlog" else merges == 0)
        if self.way == "backlog":
            mesh.start_again("64mb")
        return {"way": self.way, "bytes": received, "share": round(share, 4), "records_in": records,
                "duplicates": duplicates, "full_merges": merges, "seconds": round(took, 2)}

    def received(self, counts):
        """Bytes towards the node, over the links it reads and those it writes."""
        return (sum(counts[at][0] for (reader, _), (at, _) in self.mesh.links.items() if reader == self.node)
                + sum(counts[at][1] for (_, writer), (at, _) in self.mesh.links.items() if writer == self.node))


def measure(mesh, report):
    parts, result = mesh.options.parts.split(","), {"nodes": NODES, "writes": mesh.options.writes}
    result["value_bytes"], result["threads"] = mesh.options.value, mesh.options.threads
    mesh.start()
    progress(f"    {NODES} nodes in a full mesh, {len(mesh.links)} links; {mesh.options.writes:,} writes each time")
    if {"once", "return"} & set(parts):
        result["one_writer"] = crossings(mesh, report, "one writer", [0])
    if "once" in parts:
        result["all_write"] = crossings(mesh, report, "all write", list(range(NODES)))
    if "idle" in parts:
        result["idle"] = idle(mesh, report)
    if "return" in parts:
        base = result["base_bytes"] = result["one_writer"]["bytes"]
        report.add(f"the base: bytes of {mesh.options.writes:,} writes on one link, live", f"{base:,}")
        result["returns"] = [Absence(mesh, way).measure(report, base)
                             for way in mesh.options.ways.split(",") for _ in range(mesh.options.rounds)]
    result["met"] = report.is_met
    return result


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = arguments()
    mesh, report = Mesh(options), Report()
    try:
        result = measure(mesh, report)
        report.show()
        print(json.dumps(result))
        return 0 if report.is_met else 1
    except KeyboardInterrupt:
        progress("stopped")
        return 130
    finally:
        mesh.stop()


if __name__ == "__main__":
    sys.exit(main())
