"""The links of netchaos.py between network namespaces: point to point, each direction with its own delay, loss and cut.

Two ways, one face. `Netem` is a veth pair whose ends have a netem queue. Where the kernel has no netem, `Tun` makes
each end a TUN device, and this program, run as `wire.py`, carries packets between them, late or never. Both keep packets
in order and hold at most `LIMIT` of them per direction; what is beyond is lost, as on a real link. Neither is trusted:
`check` sends packets over a link before a run and says what the link did not do.
"""
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time

LIMIT, MTU, PACKETS_A_TURN = 2000, 9000, 64
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x40000000


def run(*words):
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)


def has_netem():
    """Asked of a device of its own, in the network namespace we are in."""
    run("ip", "link", "add", "ask0", "type", "veth", "peer", "name", "ask1")
    words = ["tc", "qdisc", "add", "dev", "ask0", "root", "netem", "delay", "1ms"]
    answer = subprocess.run(words, capture_output=True, check=False)
    run("ip", "link", "del", "ask0")
    return answer.returncode == 0


class Netem:
    def __init__(self, ends):
        """`ends`: for each link the two (namespace, device, address)."""
        self.ends = ends
        for (space, device, _), (other_space, other_device, _) in ends:
            run("ip", "link", "add", device, "netns", space, "type", "veth",
                "peer", "name", other_device, "netns", other_space)
        set_up(ends)

    def shape(self, link, direction, delay_ms, loss_percent, cut):
        space, device, _ = self.ends[link][direction]
        run("tc", "-n", space, "qdisc", "replace", "dev", device, "root", "netem", "limit", LIMIT,
            "delay", f"{delay_ms}ms", "loss", f"{100 if cut else loss_percent}%")

    def close(self):
        for link in self.ends:
            run("ip", "-n", link[0][0], "link", "del", link[0][1])


class Tun:
    def __init__(self, ends, seed):
        files = []
        for link in ends:
            for space, device, _ in link:
                file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
                fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
                run("ip", "link", "set", device, "netns", space)
                files.append(file)
        set_up(ends)
        words = [sys.executable, os.path.abspath(__file__), str(seed), *map(str, files)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, pass_fds=files, text=True)
        for file in files:
            os.close(file)

    def shape(self, link, direction, delay_ms, loss_percent, cut):
        words = [link * 2 + direction, delay_ms / 1000, loss_percent / 100, bool(cut)]
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


def set_up(ends):
    for link in ends:
        for (space, device, address), (_, _, other) in (link, link[::-1]):
            run("ip", "-n", space, "addr", "add", address, "peer", other, "dev", device)
            run("ip", "-n", space, "link", "set", device, "mtu", MTU, "up")


def check(wire, ends):
    """Whether the first link delays, loses and cuts as told, each direction by itself; as a list of complaints."""
    (space, _, address), (other_space, _, other) = ends[0]
    sockets = [udp_socket(space, address), udp_socket(other_space, other)]
    complaints = []

    def expect(is_true, words):
        if not is_true:
            complaints.append(words)

    def shape(direction, *words):
        wire.shape(0, direction, *words)
        time.sleep(0.05)

    shape(0, 80, 0, False)
    shape(1, 1, 0, False)
    for direction in (0, 1):
        got = exchange(sockets, direction, 20)
        fastest = min([took for _, took in got], default=0.0)
        expect(len(got) == 20, f"{len(got)} of 20 packets came in direction {direction}")
        expect([number for number, _ in got] == sorted(number for number, _ in got), "packets overtook each other")
        expect(fastest >= 0.079 if direction == 0 else fastest < 0.079,
               f"the fastest packet in direction {direction} took {fastest * 1000:.0f} ms")
    shape(0, 1, 50, False)
    got = exchange(sockets, 0, 200)
    expect(50 < len(got) < 150, f"{len(got)} of 200 packets came with a loss of 50 %")
    shape(0, 1, 0, True)
    shape(1, 1, 0, False)
    expect(not exchange(sockets, 0, 20), "packets came though the link was cut")
    expect(len(exchange(sockets, 1, 20)) == 20, "packets were lost in the direction that was not cut")
    for end in sockets:
        end.close()
    return complaints


def udp_socket(space, address):
    """A socket of another network namespace; this thread comes back to its own."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(file):
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    with open("/proc/thread-self/ns/net", "rb") as own, open(f"/run/netns/{space}", "rb") as there:
        enter(there)
        try:
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        finally:
            enter(own)
    made.bind((address, 7001))
    made.settimeout(0.4)
    return made


def exchange(sockets, direction, count):
    """What of so many packets came, as (number, seconds it took)."""
    source, target = sockets[direction], sockets[1 - direction]
    for number in range(count):
        source.sendto(struct.pack("=id", number, time.monotonic()), target.getsockname())
    got = []
    while len(got) < count:
        try:
            number, sent = struct.unpack("=id", target.recv(64))
        except socket.timeout:
            break
        got.append((number, time.monotonic() - sent))
    return got


def carry(seed, files):
    """Packets read from one end leave at the other. Ends with its standard input."""
    chance, orders = random.Random(seed), ""
    shapes, waiting = [(0.0, 0.0, False)] * len(files), [0] * len(files)
    due_last, late, number = [0.0] * len(files), [], 0
    where = {file: index for index, file in enumerate(files)}
    poll = select.epoll()
    os.set_blocking(0, False)
    for file in [0, *files]:
        poll.register(file, select.EPOLLIN)
    while True:
        patience = max(0.0, late[0][0] - time.monotonic()) if late else -1
        for file, _ in poll.poll(patience):
            if file == 0:
                text = os.read(0, 1 << 16).decode()
                if not text:
                    return
                *lines, orders = (orders + text).split("\n")
                for line in lines:
                    end, *shape = json.loads(line)
                    shapes[end] = tuple(shape)
                continue
            end = where[file]
            delay, loss, cut = shapes[end]
            for _ in range(PACKETS_A_TURN):
                try:
                    packet = os.read(file, 1 << 16)
                except OSError:
                    break
                if cut or waiting[end] >= LIMIT or chance.random() < loss:
                    continue
                number += 1
                waiting[end] += 1
                due_last[end] = max(due_last[end], time.monotonic() + delay)
                heapq.heappush(late, (due_last[end], number, end, packet))
        now = time.monotonic()
        while late and late[0][0] <= now:
            _, _, end, packet = heapq.heappop(late)
            waiting[end] -= 1
            try:
                os.write(files[end ^ 1], packet)
            except OSError:
                pass


if __name__ == "__main__":
    carry(sys.argv[1], [int(word) for word in sys.argv[2:]])
