#!/usr/bin/env python3
"""The measuring part of bench.sh, which see. Standard library only."""
import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from resp import Server, free_port  # noqa: E402

CONNECTIONS, VALUE_BYTES, KEYS = 50, 64, 100_000
# redis-benchmark's name of each, and how many of the requests of a SET run it gets.
COMMANDS = [("set", 1.0), ("get", 1.0), ("incr", 1.0), ("mset", 0.25), ("hset", 1.0)]
REQUESTS = {1: 800_000, 16: 1_600_000}
# Most CPU per request and least requests per second, as shares of redis-server in the same run.
TARGETS = {1: (0.75, 1.0), 16: (0.55, 1.6)}
BYTES_PER_KEY_TARGET = 140
# A run is made of so many slices, the two servers in turn: what else goes on in the machine, and beside a virtual one,
# comes and goes and meets both alike. Slices of a twentieth of a second would mostly measure caches that the other server
# has just used (HSET at pipeline 16: 0.58 instead of 0.50).
SLICES = 4


def main():
    options = arguments()
    bench = Bench(options)
    try:
        result = {"machine": machine(), "busy_percent": busy_percent(), "runs": options.runs, "connections": CONNECTIONS, "value_bytes": VALUE_BYTES}
        if result["busy_percent"] > 10:
            progress(f"    warning: other programs keep this machine {result['busy_percent']} % busy: requests/s and "
                     "latencies mean little, CPU per request is less disturbed")
        parts = options.parts.split(",")
        if "load" in parts:
            result["load"] = bench.load()
        if "latency" in parts:
            result["latency"] = bench.latency()
        if "shards" in parts:
            result["shards"] = bench.shards()
        if "memory" in parts:
            result["memory"] = bench.memory()
        print(json.dumps(result))
        return 0
    finally:
        bench.stop_all()
        shutil.rmtree(bench.directory, ignore_errors=True)


def arguments():
    parser = argparse.ArgumentParser(prog="bench.sh")
    parser.add_argument("--server", required=True)
    parser.add_argument("--paced", required=True)
    parser.add_argument("--load", required=True)
    parser.add_argument("--redis", default="redis-server")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--parts", default="load,latency,shards,memory")
    parser.add_argument("--commands", default=",".join(name for name, _ in COMMANDS))
    parser.add_argument("--pipelines", default="1,16")
    parser.add_argument("--loader", choices=("own", "redis-benchmark"), default="own")
    parser.add_argument("--rate", type=int, default=0)
    options = parser.parse_args()
    options.runs = options.runs or (2 if options.quick else 5)
    options.scale = 0.15 if options.quick else 1.0
    return options


def machine():
    model = ""
    with open("/proc/cpuinfo") as info:
        model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), "")
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release()}


def busy_percent(seconds=2.0):
    """How busy the machine is while we do nothing: what others do disturbs every figure."""
    def times():
        with open("/proc/stat") as stat:
            fields = [int(word) for word in stat.readline().split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    total, idle = times()
    time.sleep(seconds)
    total, idle = [after - before for after, before in zip(times(), (total, idle))]
    return round(100 * (1 - idle / max(total, 1)))


def progress(text):
    print(text, file=sys.stderr, flush=True)


class Bench:
    def __init__(self, options):
        self.options, self.servers = options, []
        self.directory = tempfile.mkdtemp(prefix="tutti-bench.")
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise SystemExit("failed: two cores are needed, one for the server and one for the load")
        self.server_core, self.load_core = cores[0], cores[1]

    def start(self, kind, extra=(), cores=None, threads=1):
        """A pinned server on a free port: `redis` or `tutti`."""
        port, directory = free_port(), tempfile.mkdtemp(dir=self.directory)
        cores = cores or [self.server_core]
        command = ["taskset", "-c", ",".join(map(str, cores))]
        if kind == "redis":
            command += [self.options.redis, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        else:
            command += [self.options.server, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", directory]
            command += ["--server-threads", threads]
        server = Server([str(word) for word in [*command, *extra]], port, directory)
        self.servers.append(server)
        return server.wait_ready()

    def stop_all(self):
        for server in self.servers:
            server.stop()
        self.servers = []

    def redis_benchmark(self, server, test, pipeline, requests, cores=None):
        """CPU microseconds of the server per request, and requests per second."""
        cores = cores or [self.load_core]
        command = ["taskset", "-c", ",".join(map(str, cores)), "redis-benchmark", "-p", server.port, "-c", CONNECTIONS]
        command += ["-d", VALUE_BYTES, "-r", KEYS, "-n", requests, "-P", pipeline, "-t", test, "--csv"]
        cpu, began = server.cpu_seconds(), time.monotonic()
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        took, cpu = time.monotonic() - began, server.cpu_seconds() - cpu
        lines = [line for line in done.stdout.splitlines() if line and not line.startswith('"test"')]
        if done.returncode != 0 or not lines:
            raise SystemExit(f"failed: redis-benchmark -t {test}: {done.stdout}{done.stderr}{server.tail()}")
        rps = float(lines[-1].split(",")[1].strip('"'))
        return cpu * 1e6 / requests, min(rps, requests / took * 1.2)

    def own_load(self, server, test, pipeline, requests):
        """The same with benches/load.rs. redis-benchmark would measure itself: it spends 12 us on a request (4.6 of them
        on telling epoll what it waits for) and half a microsecond on a pipelined one, more than a server does."""
        command = ["taskset", "-c", self.load_core, self.options.load, "--port", server.port, "--command", test]
        command += ["--connections", CONNECTIONS, "--pipeline", pipeline, "--requests", requests]
        command += ["--keys", KEYS, "--value-bytes", VALUE_BYTES]
        cpu = server.cpu_seconds()
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        cpu = server.cpu_seconds() - cpu
        if done.returncode != 0:
            raise SystemExit(f"failed: load --command {test}: {done.stdout}{done.stderr}{server.tail()}")
        result = json.loads(done.stdout)
        return cpu * 1e6 / result["requests"], result["rps"]

    def load(self):
        wanted = self.options.commands.split(",")
        pipelines = [int(word) for word in self.options.pipelines.split(",")]
        pair = {"redis": self.start("redis"), "tutti": self.start("tutti")}
        for server in pair.values():
            fill(server, KEYS)
        rows = []
        for pipeline in pipelines:
            load = self.own_load if self.options.loader == "own" else self.redis_benchmark
            for test, share in COMMANDS:
                if test not in wanted:
                    continue
                requests = max(int(REQUESTS[pipeline] * share * self.options.scale / SLICES), 2000)
                figures = {kind: [] for kind in pair}
                for _ in range(self.options.runs):
                    slices = {kind: [] for kind in pair}
                    for at in range(SLICES):
                        for kind in sorted(pair, reverse=at % 2 == 0):
                            slices[kind].append(load(pair[kind], test, pipeline, requests))
                    for kind, parts in slices.items():
                        figures[kind].append((statistics.mean(cpu for cpu, _ in parts), statistics.harmonic_mean([rps for _, rps in parts])))
                row = {"command": test, "pipeline": pipeline}
                for kind, runs in figures.items():
                    row[f"{kind}_cpu_us"] = round(statistics.median(cpu for cpu, _ in runs), 3)
                    row[f"{kind}_cpu_us_range"] = [round(f(cpu for cpu, _ in runs), 3) for f in (min, max)]
                    row[f"{kind}_rps"] = round(statistics.median(rps for _, rps in runs))
                    row[f"{kind}_rps_range"] = [round(f(rps for _, rps in runs)) for f in (min, max)]
                # The median of the ratios of the runs: each run met its own part of what else the machine does.
                pairs = list(zip(figures["tutti"], figures["redis"]))
                row["cpu_ratio"] = round(statistics.median(ours[0] / max(theirs[0], 0.001) for ours, theirs in pairs), 3)
                row["rps_ratio"] = round(statistics.median(ours[1] / theirs[1] for ours, theirs in pairs), 3)
                row["met"] = row["cpu_ratio"] <= TARGETS[pipeline][0] and row["rps_ratio"] >= TARGETS[pipeline][1]
                rows.append(row)
                progress("    " + load_line(row))
        self.stop_all()
        return rows

    def latency(self):
        """Both servers get the same number of requests per second, one that both sustain with ease."""
        pair = {"redis": self.start("redis"), "tutti": self.start("tutti")}
        for server in pair.values():
            fill(server, KEYS)
        rate = self.options.rate or self.sustained(pair)
        seconds = 2 if self.options.quick else 10
        rows = []
        for command in ("get", "set"):
            figures = {kind: [] for kind in pair}
            for _ in range(self.options.runs):
                for kind, server in pair.items():
                    words = ["taskset", "-c", self.load_core, self.options.paced, "--port", server.port]
                    words += ["--rate", rate, "--seconds", seconds, "--connections", CONNECTIONS]
                    words += ["--command", command, "--keys", KEYS]
                    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
                    if done.returncode != 0:
                        raise SystemExit(f"failed: {command} at {rate}/s on {kind}: {done.stderr}")
                    figures[kind].append(json.loads(done.stdout))
            row = {"command": command, "rate": rate}
            for kind, runs in figures.items():
                for name in ("p50_us", "p99_us", "p999_us"):
                    row[f"{kind}_{name}"] = round(statistics.median(run[name] for run in runs), 1)
            rows.append(row)
            progress("    " + latency_line(row))
        self.stop_all()
        return rows

    def sustained(self, pair):
        """Half of what the slower of the two does without pipelining, in round numbers."""
        rates = [self.redis_benchmark(server, "get", 1, 100_000)[1] for server in pair.values()]
        return max(int(min(rates) * 0.5 / 1000) * 1000, 1000)

    def shards(self):
        """Two shards against one: CPU per request, with load and server on both cores; half the commands hop."""
        cores = [self.server_core, self.load_core]
        pair = {n: self.start("tutti", cores=cores, threads=n, extra=["--server-thread-affinity", "no"]) for n in (1, 2)}
        rows = []
        for pipeline in (1, 16):
            requests = int(REQUESTS[pipeline] * self.options.scale)
            figures = {n: [] for n in pair}
            for _ in range(self.options.runs):
                for n, server in pair.items():
                    figures[n].append(self.redis_benchmark(server, "set", pipeline, requests, cores))
            row = {"command": "set", "pipeline": pipeline}
            for n, runs in figures.items():
                row[f"shards_{n}_cpu_us"] = round(statistics.median(cpu for cpu, _ in runs), 3)
                row[f"shards_{n}_rps"] = round(statistics.median(rps for _, rps in runs))
            row["cpu_ratio"] = round(row["shards_2_cpu_us"] / max(row["shards_1_cpu_us"], 0.001), 3)
            rows.append(row)
            progress("    " + shards_line(row))
        self.stop_all()
        return rows

    def memory(self):
        """Resident bytes per key, 16-byte keys and 64-byte values, in multi-master mode. Fixed buffers (the backlog, the
        receive buffers) are filled first, so that the difference is the keys'."""
        count = int(1_000_000 * (0.2 if self.options.quick else 1.0))
        result = {"keys": count, "key_bytes": 16, "value_bytes": VALUE_BYTES}
        for kind, extra in (("redis", ()), ("tutti", ("--multi-master", "yes", "--active-replica", "yes"))):
            server = self.start(kind, extra)
            fill(server, 700_000, distinct=100)
            before = server.rss_bytes()
            fill(server, count, prefix="mem")
            time.sleep(1.0)
            result[f"{kind}_bytes_per_key"] = round((server.rss_bytes() - before) / count, 1)
            server.stop()
        result["target"] = BYTES_PER_KEY_TARGET
        result["met"] = result["tutti_bytes_per_key"] <= BYTES_PER_KEY_TARGET
        progress("    " + memory_line(result))
        return result


def fill(server, count, distinct=None, prefix="key"):
    """SETs `count` times, in pipelines of 1000; keys as redis-benchmark names them (key:%012d, 16 bytes)."""
    client, value, step = server.client(), b"v" * VALUE_BYTES, 1000
    for start in range(0, count, step):
        block = range(start, min(start + step, count))
        client.send(*((b"SET", b"%s:%012d" % (prefix.encode(), n % (distinct or count)), value) for n in block))
        for _ in block:
            reply = client.read()
            if reply != b"OK":
                raise SystemExit(f"failed: SET on port {server.port} answered {reply!r}")
    client.close()


def mark(met):
    return "ok " if met else "-- "


def load_line(row):
    cpu, rps = TARGETS[row["pipeline"]]
    return (
        f"{mark(row['met'])}{row['command'].upper():5} pipeline {row['pipeline']:2}:"
        f" CPU/request {row['tutti_cpu_us']:7.2f} us against {row['redis_cpu_us']:7.2f},"
        f" ratio {row['cpu_ratio']:.2f} (target {cpu:.2f});"
        f" requests/s {row['tutti_rps']:>9,} against {row['redis_rps']:>9,},"
        f" ratio {row['rps_ratio']:.2f} (target {rps:.1f})"
    )


def latency_line(row):
    both = ", ".join(f"{q} {row[f'tutti_{k}']:.0f}/{row[f'redis_{k}']:.0f}"
                     for q, k in (("p50", "p50_us"), ("p99", "p99_us"), ("p99.9", "p999_us")))
    return f"   {row['command'].upper():5} at {row['rate']:,}/s, microseconds tutti/redis: {both}"


def shards_line(row):
    return (
        f"   {row['command'].upper():5} pipeline {row['pipeline']:2}: two shards {row['shards_2_cpu_us']:.2f} us CPU/request,"
        f" one {row['shards_1_cpu_us']:.2f}, ratio {row['cpu_ratio']:.2f};"
        f" requests/s {row['shards_2_rps']:,} and {row['shards_1_rps']:,} (load on the same cores)"
    )


def memory_line(row):
    return (
        f"{mark(row['met'])}memory: {row['tutti_bytes_per_key']} bytes per key against {row['redis_bytes_per_key']}"
        f" of redis-server, {row['keys']:,} keys of {row['key_bytes']} bytes with {row['value_bytes']}-byte values"
        f" (target {row['target']})"
    )


if __name__ == "__main__":
    sys.exit(main())
