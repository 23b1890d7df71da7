#!/usr/bin/env python3
"""The measuring part of verify.sh, which see. Standard library only, and benches/load.rs and redis-benchmark for the
load."""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from resp import Server, free_port  # noqa: E402

NODES, VALUE_BYTES, CONNECTIONS = 3, 64, 50
# The most of each: seconds of a VERIFY, percent by which it slows clients, percent of SET that digests cost.
TAKES_S, SLOWS_PERCENT, COSTS_PERCENT = 1.0, 5.0, 2.0


def arguments():
    parser = argparse.ArgumentParser(prog="verify.sh")
    parser.add_argument("--server", required=True)
    parser.add_argument("--load", default="", help="benches/load.rs, built; the part `cost` needs it")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", default="cost,time,load,damage")
    parser.add_argument("--keys", type=int, default=0)
    parser.add_argument("--damaged", type=int, default=100)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--window", type=float, default=5.0, help="seconds of load with one VERIFY, and without")
    parser.add_argument("--ports", type=int, default=0, help="the first of the ports to use; 0: any that is free")
    options = parser.parse_args()
    options.keys = options.keys or (100_000 if options.quick else 1_000_000)
    options.runs = options.runs or (3 if options.quick else 10)
    return options


def progress(text):
    print(text, file=sys.stderr, flush=True)


def mark(met):
    return "ok " if met else "-- "


class Mesh:
    def __init__(self, options):
        self.options, self.servers, self.taken = options, [], 0
        self.directory = tempfile.mkdtemp(prefix="tutti-verify.")

    def port(self):
        self.taken += 1
        return self.options.ports + self.taken if self.options.ports else free_port()

    def start(self, port, others, core=None):
        directory = tempfile.mkdtemp(dir=self.directory)
        command = ["taskset", "-c", core] if core is not None else []
        command += [self.options.server, "--port", port, "--bind", "127.0.0.1", "--dir", directory, "--save", ""]
        command += ["--multi-master", "yes", "--active-replica", "yes", "--server-threads", "1"]
        command += ["--server-thread-affinity", "no", "--enable-debug-command", "local"]
        command += ["--digest-check-period", "0", "--loglevel", "warning"]
        for other in others:
            command += ["--replicaof", "127.0.0.1", other]
        server = Server([str(word) for word in command], port, directory)
        self.servers.append(server)
        return server.wait_ready()

    def start_all(self):
        ports = [self.port() for _ in range(NODES)]
        servers = [self.start(port, [other for other in ports if other != port]) for port in ports]
        for server in servers:
            wait_until(30, lambda: links_up(server) == NODES - 1, "the links are up")
        fill(servers[0], self.options.keys)
        client = servers[0].client()
        wait_until(120, lambda: field(verify(client, "DIGESTS")[0], "result") == "equal", "the nodes hold the same")
        return servers

    def stop_all(self):
        for server in self.servers:
            server.stop()
        self.servers = []


def wait_until(seconds, is_so, what):
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise SystemExit(f"failed: not within {seconds} s: {what}")
        time.sleep(0.1)


def links_up(server):
    client = server.client()
    lines = client.run("MULTIMASTER", "STATUS").decode().split("\r\n")
    client.close()
    return sum(line.startswith("master:") and "state=connected" in line for line in lines)


def name(number):
    # As redis-benchmark names its keys, so that its load goes to keys that are there.
    return b"key:%012d" % number


def fill(server, count):
    client, value, step = server.client(), b"v" * VALUE_BYTES, 1000
    for start in range(0, count, step):
        block = range(start, min(start + step, count))
        client.send(*((b"SET", name(n), value) for n in block))
        for _ in block:
            if client.read() != b"OK":
                raise SystemExit(f"failed: SET on port {server.port}")
    client.close()


def verify(client, *words):
    """The report as lines, and how long it took."""
    began = time.monotonic()
    report = client.run("MULTIMASTER", "VERIFY", *words).decode()
    return report.split("\r\n"), time.monotonic() - began


def field(lines, wanted):
    return next(line.split(":", 1)[1] for line in lines if line.startswith(wanted + ":"))


def cost(mesh):
    """SET at pipeline 16 with digests and without, in turn, on one node that logs for peers and has a core of its own.
    Throughput decides; CPU per request, which is less disturbed by what else runs, is printed beside it."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2 or not mesh.options.load:
        raise SystemExit("failed: the part `cost` needs two cores and --load")
    server = mesh.start(mesh.port(), [], core=cores[0])
    client = server.client()
    fill(server, mesh.options.keys)
    requests = 1_000_000 if mesh.options.quick else 4_000_000
    command = ["taskset", "-c", cores[-1], mesh.options.load, "--port", server.port, "--command", "set"]
    command += ["--connections", CONNECTIONS, "--pipeline", 16, "--requests", requests]
    command += ["--keys", mesh.options.keys, "--value-bytes", VALUE_BYTES]

    def run(switch):
        client.run("DEBUG", "SLOT-DIGESTS", switch)
        cpu = server.cpu_seconds()
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"failed: load: {done.stdout}{done.stderr}{server.tail()}")
        rps = json.loads(done.stdout)["rps"]
        return {"cpu_us": (server.cpu_seconds() - cpu) * 1e6 / requests, "rps": rps}

    run("yes")
    pairs = []
    for turn in range(mesh.options.runs):
        # Which comes first changes, so that what drifts hits both.
        order = ("no", "yes") if turn % 2 else ("yes", "no")
        pairs.append({switch: run(switch) for switch in order})
    client.run("DEBUG", "SLOT-DIGESTS", "yes")

    def middle(switch, figure):
        return statistics.median(pair[switch][figure] for pair in pairs)

    slower = [100 * (1 - pair["yes"]["rps"] / pair["no"]["rps"]) for pair in pairs]
    dearer = [100 * (pair["yes"]["cpu_us"] / pair["no"]["cpu_us"] - 1) for pair in pairs]
    percent = statistics.median(slower)
    result = {
        "set_rps_with": round(middle("yes", "rps")), "set_rps_without": round(middle("no", "rps")),
        "set_cpu_us_with": round(middle("yes", "cpu_us"), 3), "set_cpu_us_without": round(middle("no", "cpu_us"), 3),
        "costs_percent": round(percent, 2), "costs_percent_range": [round(f(slower), 1) for f in (min, max)],
        "costs_cpu_percent": round(statistics.median(dearer), 2),
        "costs_cpu_percent_range": [round(f(dearer), 1) for f in (min, max)],
        "pairs": len(pairs), "met": percent < COSTS_PERCENT,
    }
    progress(f"    {mark(result['met'])}digests cost {result['costs_percent']} % of SET throughput at pipeline 16 (target"
             f" under {COSTS_PERCENT:.0f} %; median of {len(pairs)} pairs, range {result['costs_percent_range']}):"
             f" {result['set_rps_with']:,} requests/s with, {result['set_rps_without']:,} without; CPU per request"
             f" {result['costs_cpu_percent']} % more ({result['set_cpu_us_with']} us, {result['set_cpu_us_without']} us;"
             f" range {result['costs_cpu_percent_range']})")
    mesh.stop_all()
    return result


def take_time(mesh, servers):
    client, result = servers[0].client(), {}
    for kind, words in (("data", ()), ("digests", ("DIGESTS",))):
        times, cpus = [], []
        for _ in range(mesh.options.runs):
            before = [server.cpu_seconds() for server in servers]
            lines, took = verify(client, *words)
            if field(lines, "result") != "equal":
                raise SystemExit("failed: the nodes are not equal:\n" + "\n".join(lines))
            times.append(took)
            cpus.append(max(server.cpu_seconds() - cpu for server, cpu in zip(servers, before)))
        result[kind] = {"seconds": round(statistics.median(times), 3), "seconds_most": round(max(times), 3),
                        "cpu_seconds_of_a_node": round(statistics.mean(cpus), 3), "met": max(times) < TAKES_S}
        progress(f"    {mark(result[kind]['met'])}VERIFY ({kind}) of {mesh.options.keys:,} keys with {NODES - 1} peers:"
                 f" {result[kind]['seconds']} s, at most {result[kind]['seconds_most']} s (target {TAKES_S:.0f} s),"
                 f" {result[kind]['cpu_seconds_of_a_node']} s of CPU on the busiest node")
    return result


def slow_down(mesh, servers):
    """Requests per second of clients that write as fast as they can to one node, in windows with one VERIFY and
    without, in turn; and while the VERIFY lasted."""
    client = servers[0].client(timeout=120)
    command = ["redis-benchmark", "-p", servers[0].port, "-c", CONNECTIONS, "-P", 16, "-d", VALUE_BYTES]
    command += ["-r", mesh.options.keys, "-n", 2_000_000_000, "-t", "set", "-q"]
    load = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    result = {}
    try:
        time.sleep(2)

        def done():
            return int(client.info("stats")["total_commands_processed"])

        def window(words):
            began, before, during, took, lines = time.monotonic(), done(), None, None, None
            if words is not None:
                lines, took = verify(client, *words)
                during = (done() - before) / (time.monotonic() - began)
            time.sleep(max(0.0, mesh.options.window - (time.monotonic() - began)))
            return (done() - before) / (time.monotonic() - began), during, took, lines

        window(None)
        for kind, words in (("data", ()), ("digests", ("DIGESTS",))):
            shares, whiles, times, results = [], [], [], []
            quiet = window(None)[0]
            for _ in range(max(3, mesh.options.runs // 2)):
                rate, during, took, lines = window(words)
                after = window(None)[0]
                shares.append(rate / ((quiet + after) / 2))
                whiles.append(during / ((quiet + after) / 2))
                times.append(took)
                results.append(field(lines, "result"))
                quiet = after
            percent = 100 * (1 - statistics.median(shares))
            during = 100 * (1 - statistics.median(whiles))
            result[kind] = {"slows_percent": round(percent, 1), "slows_percent_while_it_lasts": round(during, 1),
                            "slows_percent_range": [round(100 * (1 - f(shares)), 1) for f in (max, min)],
                            "seconds": round(statistics.median(times), 3), "results": results,
                            "clients_rps": round(quiet), "met": percent < SLOWS_PERCENT}
            found = ", ".join(sorted(set(results)))
            progress(f"    {mark(result[kind]['met'])}VERIFY ({kind}) under load takes {result[kind]['seconds']} s and"
                     f" slows clients by {percent:.1f} % over {mesh.options.window:.0f} s (target {SLOWS_PERCENT:.0f} %,"
                     f" {during:.1f} % while it lasts) at {quiet:,.0f} SET/s; result: {found}")
    finally:
        load.terminate()
        load.wait()
    wait_until(60, lambda: field(verify(client)[0], "result") == "equal", "the nodes hold the same after the load")
    return result


def damage(mesh, servers):
    client, sick = servers[0].client(), servers[1].client()
    step, wanted = mesh.options.keys // mesh.options.damaged, {}
    for n in range(mesh.options.damaged):
        key, how = name(n * step), ("VALUE", "STAMP", "ABSENCE")[n % 3]
        if sick.run("DEBUG", "DAMAGE", how, key) != 1:
            raise SystemExit(f"failed: {key!r} could not be damaged")
        wanted[key.decode()] = how
    lines, took = verify(client)
    found = [line.split("key=", 1)[1] for line in lines if line.startswith("difference:")]
    again, _ = verify(client)
    digests = {server.client().run("DEBUG", "DIGEST") for server in servers}
    result = {
        "damaged": len(wanted), "found": len(set(found) & set(wanted)), "found_wrongly": len(set(found) - set(wanted)),
        "repaired": int(field(lines, "keys_repaired")), "seconds": round(took, 3), "result": field(lines, "result"),
        "again": field(again, "result"), "digests_alike": len(digests) == 1,
    }
    result["met"] = (result["found"] == len(wanted) and not result["found_wrongly"] and result["again"] == "equal"
                     and result["digests_alike"] and result["result"] == "repaired")
    progress(f"    {mark(result['met'])}of {len(wanted)} keys damaged on one node {result['found']} were found, and"
             f" {result['found_wrongly']} others; {result['repaired']} repairs in {result['seconds']} s; then the nodes"
             f" are {result['again']}, and their DEBUG DIGEST is {'one' if result['digests_alike'] else 'not one'}")
    return result


def main():
    options = arguments()
    parts, mesh, result = options.parts.split(","), Mesh(options), {"keys": options.keys, "nodes": NODES}
    try:
        if "cost" in parts:
            result["cost"] = cost(mesh)
        if {"time", "load", "damage"} & set(parts):
            servers = mesh.start_all()
            if "time" in parts:
                result["time"] = take_time(mesh, servers)
            if "load" in parts:
                result["load"] = slow_down(mesh, servers)
            if "damage" in parts:
                result["damage"] = damage(mesh, servers)
                result["repairs"] = [server.client().info("replication")["digest_repairs"] for server in servers]
        print(json.dumps(result))
        return 0 if result.get("damage", {"met": True})["met"] else 1
    finally:
        mesh.stop_all()
        shutil.rmtree(mesh.directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
