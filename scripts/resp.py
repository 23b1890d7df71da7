"""What the scripts share, with nothing but Python's library: a RESP client, server processes, free ports."""
import os
import signal
import socket
import subprocess
import time


class ReplyError(Exception):
    """The server answered with an error."""


class Client:
    """One connection. `run` sends one command and waits; `send` and `read` pipeline."""

    def __init__(self, port, password=None, timeout=30.0, host="127.0.0.1"):
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb", buffering=1 << 16)
        if password:
            self.run("AUTH", password)

    def run(self, *words):
        self.send(words)
        reply = self.read()
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def send(self, *commands):
        self.socket.sendall(b"".join(encode(words) for words in commands))

    def read(self):
        """The next reply: bytes, int, list, None, or a ReplyError as a value."""
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ReplyError(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            length = int(rest)
            if length < 0:
                return None
            data = self.file.read(length + 2)
            if len(data) != length + 2:
                raise ConnectionError("the server closed the connection")
            return data[:-2]
        if kind == b"*":
            return None if int(rest) < 0 else [self.read() for _ in range(int(rest))]
        raise ConnectionError(f"not a reply: {line!r}")

    def info(self, section=""):
        """INFO as a dictionary of texts."""
        lines = self.run("INFO", *([section] if section else [])).decode().split("\r\n")
        return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))

    def close(self):
        self.file.close()
        self.socket.close()


def encode(words):
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        if not isinstance(word, bytes):
            word = str(word).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(parts)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A server process of ours, ended by its id."""

    def __init__(self, command, port, directory, password=None, host="127.0.0.1", environment=None):
        self.port, self.password, self.log = port, password, os.path.join(directory, "log")
        self.host = host
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=environment)
        self.pid = self.process.pid

    def wait_ready(self, seconds=30.0):
        end = time.monotonic() + seconds
        while True:
            try:
                client = Client(self.port, self.password, 5.0, self.host)
                client.run("PING")
                client.close()
                return self
            except (OSError, ReplyError) as error:
                if self.process.poll() is not None:
                    raise SystemExit(f"failed: the server on port {self.port} ended at once:\n{self.tail()}")
                if time.monotonic() > end:
                    raise SystemExit(f"failed: no answer on port {self.port}: {error}\n{self.tail()}")
                time.sleep(0.02)

    def tail(self, lines=8):
        with open(self.log, errors="replace") as log:
            return "".join(log.readlines()[-lines:])

    def client(self, timeout=30.0):
        return Client(self.port, self.password, timeout, self.host)

    def cpu_seconds(self):
        """User and system time of the process so far, its kernel workers included, to the nanosecond."""
        # The process' CPU clock, numbered as clock_getcpuclockid does: the sum of which /proc/PID/stat shows two parts,
        # each rounded down to 10 ms.
        return time.clock_gettime(~self.pid << 3 | 2)

    def cpu_ns(self):
        """The same in nanoseconds, as the scheduler counts it."""
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            try:
                with open(f"/proc/{self.pid}/task/{task}/schedstat") as stat:
                    total += int(stat.read().split()[0])
            except OSError:
                pass  # It has ended.
        return total

    def rss_bytes(self):
        with open(f"/proc/{self.pid}/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))

    def signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=10.0):
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
