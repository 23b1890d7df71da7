#!/usr/bin/env python3
"""The measuring part of verify.sh, which see. Standard library only, and benches/load.rs and redis-benchmark for the
load."""
import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from resp import Server, free_port  # noqa: E402

NODES, VALUE_BYTES, CONNECTIONS, PIPELINE = 3, 64, 50, 16
# The most of each: seconds of a VERIFY, percent by which it slows clients, percent of SET that digests cost.
TAKES_S, SLOWS_PERCENT, COSTS_PERCENT = 1.0, 5.0, 2.0
# Clients are measured in windows of so many seconds that begin with a VERIFY, and without, in turn.
WINDOW_S = 1.0
# The share of the busier core that clients may take.
HALF = 0.5
# What digests cost is measured in turns of so many requests, less than a second: what else goes on in the machine comes
# and goes within seconds and meets both alike.
SLICE_REQUESTS = 200_000


def arguments():
    parser = argparse.ArgumentParser(prog="verify.sh")
    parser.add_argument("--server", required=True)
    parser.add_argument("--load", required=True, help="benches/load.rs, built")
    parser.add_argument("--paced", required=True, help="benches/paced.rs, built")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", default="cost,time,load,flood,damage")
    parser.add_argument("--keys", type=int, default=0)
    parser.add_argument("--damaged", type=int, default=100)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=0, help="of two turns with digests and two without")
    parser.add_argument("--seconds", type=int, default=0, help="of clients that leave every core half of its time")
    parser.add_argument("--window", type=float, default=5.0, help="seconds of flood with one VERIFY, and without")
    parser.add_argument("--ports", type=int, default=0, help="the first of the ports to use; 0: any that is free")
    options = parser.parse_args()
    options.keys = options.keys or (100_000 if options.quick else 1_000_000)
    options.runs = options.runs or (3 if options.quick else 10)
    options.rounds = options.rounds or (3 if options.quick else 190)
    options.seconds = options.seconds or (4 if options.quick else 30)
    return options


def progress(text):
    print(text, file=sys.stderr, flush=True)


def mark(met):
    return "ok " if met else "-- "


class Mesh:
    def __init__(self, options):
        self.options, self.servers, self.taken = options, [], 0
        self.directory = tempfile.mkdtemp(prefix="tutti-verify.")
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise SystemExit("failed: two cores are needed, one for the measured node and one for all else")
        self.first_core, self.last_core = cores[0], cores[-1]

    def port(self):
        self.taken += 1
        return self.options.ports + self.taken if self.options.ports else free_port()

    def start(self, port, others, core):
        directory = tempfile.mkdtemp(dir=self.directory)
        # Those that share their core with the load give way to it, and to the kernel that carries its packets.
        command = ["taskset", "-c", core, *([] if core == self.first_core else ["nice", "-n", "5"]), self.options.server]
        command += ["--port", port, "--bind", "127.0.0.1", "--dir", directory, "--save", ""]
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
        cores = [self.first_core] + [self.last_core] * (NODES - 1)
        servers = [self.start(port, [other for other in ports if other != port], core) for port, core in zip(ports, cores)]
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


def middle(values):
    return statistics.median(values)


def interval(values, rounds=2000):
    """The median, and where it lies in 95 of 100 samples like this one (a bootstrap, alike on every call)."""
    rng = random.Random(1)
    medians = sorted(middle(rng.choices(values, k=len(values))) for _ in range(rounds))
    return middle(values), medians[int(rounds * 0.025)], medians[int(rounds * 0.975)]


def run_load(mesh, server, requests, core):
    command = ["taskset", "-c", core, mesh.options.load, "--port", server.port, "--command", "set"]
    command += ["--connections", CONNECTIONS, "--pipeline", PIPELINE, "--requests", requests]
    command += ["--keys", mesh.options.keys, "--value-bytes", VALUE_BYTES]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"failed: load: {done.stdout}{done.stderr}{server.tail()}")
    return json.loads(done.stdout)


def cost(mesh):
    """SET at pipeline 16 with digests and without, in short turns, on one node that logs for peers. It has a core of its
    own and is kept busy all the time, so that requests per second are one by CPU per request, whose unit is a nanosecond;
    CPU decides, because it is less disturbed by what else runs."""
    server = mesh.start(mesh.port(), [], core=mesh.first_core)
    client = server.client()
    fill(server, mesh.options.keys)
    requests = SLICE_REQUESTS // (4 if mesh.options.quick else 1)
    state = "yes"

    def run(switch):
        nonlocal state
        if switch != state:
            client.run("DEBUG", "SLOT-DIGESTS", switch)
            state = switch
        cpu, began = server.cpu_ns(), time.monotonic()
        rps = run_load(mesh, server, requests, mesh.last_core)["rps"]
        cpu_ns, took_s = server.cpu_ns() - cpu, time.monotonic() - began
        return {"cpu_us": cpu_ns / 1000 / requests, "rps": rps, "busy": cpu_ns / 1e9 / took_s}

    run("yes")
    rounds = []
    for _ in range(mesh.options.rounds):
        # What drifts meets both, and each is once the one that comes after the keys were counted.
        turns = [(switch, run(switch)) for switch in ("yes", "no", "no", "yes")]
        rounds.append({switch: [figures for at, figures in turns if at == switch] for switch in ("yes", "no")})

    def of(switch, figure):
        return middle([statistics.mean(turn[figure] for turn in each[switch]) for each in rounds])

    def ratios(figure):
        return [sum(turn[figure] for turn in each["yes"]) / sum(turn[figure] for turn in each["no"]) for each in rounds]

    dearer = interval([100 * (ratio - 1) for ratio in ratios("cpu_us")])
    slower = interval([100 * (1 - ratio) for ratio in ratios("rps")])
    result = {
        "set_rps_with": round(of("yes", "rps")), "set_rps_without": round(of("no", "rps")),
        "set_cpu_us_with": round(of("yes", "cpu_us"), 3), "set_cpu_us_without": round(of("no", "cpu_us"), 3),
        "costs_cpu_percent": round(dearer[0], 2), "costs_cpu_percent_between": [round(at, 2) for at in dearer[1:]],
        "costs_rps_percent": round(slower[0], 2), "costs_rps_percent_between": [round(at, 2) for at in slower[1:]],
        "core_busy_percent": round(100 * of("yes", "busy")), "rounds": len(rounds), "met": dearer[0] < COSTS_PERCENT,
    }
    progress(f"    {mark(result['met'])}digests cost {dearer[0]:.2f} % of a SET at pipeline {PIPELINE} (95 of 100: {dearer[1]:.2f}"
             f" to {dearer[2]:.2f}; target under {COSTS_PERCENT:.0f} %): {result['set_cpu_us_with']} us of CPU with,"
             f" {result['set_cpu_us_without']} without, medians of {len(rounds)} rounds of 4 x {requests:,} requests. In requests/s"
             f" {slower[0]:.2f} % ({slower[1]:.2f} to {slower[2]:.2f}): {result['set_rps_with']:,} with,"
             f" {result['set_rps_without']:,} without, the core {result['core_busy_percent']} % busy")
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


def run_paced(mesh, server, rate, seconds, *words):
    command = ["taskset", "-c", mesh.last_core, *urgent(), mesh.options.paced, "--port", server.port, "--rate", rate]
    command += ["--seconds", seconds, "--connections", CONNECTIONS, "--pipeline", PIPELINE, "--command", "set"]
    command += ["--keys", mesh.options.keys, "--sleep", "yes", *words]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"failed: paced: {done.stdout}{done.stderr}{server.tail()}")
    return json.loads(done.stdout)


def cpu_seconds(servers):
    """Of the first core and of the last, on which the clients are: what our processes have taken."""
    clients = resource.getrusage(resource.RUSAGE_CHILDREN)
    others = sum(server.cpu_ns() for server in servers[1:]) / 1e9
    return servers[0].cpu_ns() / 1e9, others + clients.ru_utime + clients.ru_stime


def half_busy(mesh, servers):
    """SETs per second that leave the busier core half of its time, and what share of it they take."""
    rate, share, seconds = 50_000.0, 0.0, 1 if mesh.options.quick else 2
    for _ in range(4):
        before, began = cpu_seconds(servers), time.monotonic()
        run_paced(mesh, servers[0], int(rate), seconds)
        took = time.monotonic() - began
        tried, share = rate, max((now - was) / took for was, now in zip(before, cpu_seconds(servers)))
        rate = min(max(rate * HALF / max(share, 0.05), rate / 3), rate * 3)
    return int(tried / 1000) * 1000, share


def urgent():
    """Words before a command that give it its core whenever it wants it, as far as we may."""
    for words in (["chrt", "-f", "1"], ["nice", "-n", "-20"]):
        if subprocess.run([*words, "true"], capture_output=True).returncode == 0:
            return words
    return []


def slow_down(mesh, servers):
    """Clients at half of what the machine sustains, with VERIFYs and without, in turn."""
    rate, share = half_busy(mesh, servers)
    result = {"rate": rate, "core_busy_percent": round(100 * share)}
    for kind, words in (("data", "MULTIMASTER VERIFY"), ("digests", "MULTIMASTER VERIFY DIGESTS")):
        told = run_paced(mesh, servers[0], rate, mesh.options.seconds, "--beside", words, "--every", 2 * WINDOW_S)
        takes = [run["seconds"] for run in told["beside"]]
        results = sorted({run["reply"] for run in told["beside"]})
        beside, alone = told["with"], told["without"]
        if not takes:
            raise SystemExit(f"failed: no answer to {words} within {mesh.options.seconds} s at {rate:,} SET/s")
        served = {"with": beside["came"] / beside["seconds"], "without": alone["came"] / alone["seconds"]}
        slows = 100 * (1 - served["with"] / served["without"])
        later = 100 * (beside["mean_us"] / alone["mean_us"] - 1)
        each = {"verifies": len(takes), "seconds": round(middle(takes), 3), "seconds_most": round(max(takes), 3),
                "results": results, "slows_percent": round(slows, 2), "mean_latency_percent": round(later, 1),
                "during": told["during"], "with": beside, "without": alone}
        each["met_time"] = each["seconds_most"] < TAKES_S and results == ["result:equal"]
        # Those who get all they ask for are slower if they get it later.
        each["p50_percent"] = round(100 * (beside["p50_us"] / alone["p50_us"] - 1), 1)
        each["met"] = slows < SLOWS_PERCENT and each["p50_percent"] < SLOWS_PERCENT
        result[kind] = each
        at = ", ".join(f"{name[:-3]} {beside[name]:.0f} us with, {alone[name]:.0f} without" for name in ("p50_us", "p99_us"))
        at += f"; while it lasts p50 {told['during']['p50_us']:.0f} us, p99 {told['during']['p99_us']:.0f}"
        progress(f"    {mark(each['met_time'])}VERIFY ({kind}) at {rate:,} SET/s (busier core {100 * share:.0f} % busy): {each['seconds']}"
                 f" s, at most {each['seconds_most']} s of {len(takes)} (target {TAKES_S:.0f} s);"
                 f" {', '.join(results)}")
        progress(f"    {mark(each['met'])}it slows these clients by {slows:.2f} % in the second in which it runs (target {SLOWS_PERCENT:.0f} %):"
                 f" {served['with']:,.0f} SET/s served with, {served['without']:,.0f} without; latencies: {at}")
    return result


def flood(mesh, servers):
    """Clients that write as fast as they can: more than the other nodes can take, so there is no target. Requests per
    second in windows with one VERIFY and without, in turn; and while the VERIFY lasted."""
    client = servers[0].client(timeout=120)
    command = ["taskset", "-c", mesh.last_core, mesh.options.load, "--port", servers[0].port, "--command", "set"]
    command += ["--connections", CONNECTIONS, "--pipeline", PIPELINE, "--requests", 10**12]
    command += ["--keys", mesh.options.keys, "--value-bytes", VALUE_BYTES]
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

        for kind, words in (("data", ()), ("digests", ("DIGESTS",))):
            shares, whiles, times, results = [], [], [], []
            quiet = window(None)[0]
            for _ in range(3):
                rate, during, took, lines = window(words)
                after = window(None)[0]
                shares.append(100 * (1 - rate / ((quiet + after) / 2)))
                whiles.append(100 * (1 - during / ((quiet + after) / 2)))
                times.append(took)
                results.append(field(lines, "result"))
                quiet = after
            result[kind] = {"slows_percent": round(middle(shares), 1), "seconds": round(middle(times), 3),
                            "slows_percent_while_it_lasts": round(middle(whiles), 1),
                            "slows_percent_range": [round(f(shares), 1) for f in (min, max)],
                            "results": results, "clients_rps": round(quiet)}
            found = ", ".join(sorted(set(results)))
            progress(f"       VERIFY ({kind}) under a flood of {quiet:,.0f} SET/s, more than the nodes sustain (no target):"
                     f" {middle(times):.2f} s, {found}; it slows clients by {middle(whiles):.1f} % while it lasts,"
                     f" {middle(shares):.1f} % over {mesh.options.window:.0f} s")
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


def is_met(result):
    """Whether no target in it, or in a part of it, is missed."""
    if not isinstance(result, dict):
        return True
    return result.get("met", True) and result.get("met_time", True) and all(map(is_met, result.values()))


def main():
    options = arguments()
    parts, mesh, result = options.parts.split(","), Mesh(options), {"keys": options.keys, "nodes": NODES}
    try:
        if "cost" in parts:
            result["cost"] = cost(mesh)
        if {"time", "load", "flood", "damage"} & set(parts):
            servers = mesh.start_all()
            if "time" in parts:
                result["time"] = take_time(mesh, servers)
            if "load" in parts:
                result["load"] = slow_down(mesh, servers)
            if "flood" in parts:
                result["flood"] = flood(mesh, servers)
            if "damage" in parts:
                result["damage"] = damage(mesh, servers)
                result["repairs"] = [server.client().info("replication")["digest_repairs"] for server in servers]
        print(json.dumps(result))
        # Short runs show that everything works, and no more.
        judged = result.get("damage") if options.quick else result
        return 0 if is_met(judged) else 1
    finally:
        mesh.stop_all()
        shutil.rmtree(mesh.directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
