"""The links of linkcost.py as it sees them: every connection of a link goes through here and its bytes are counted,
not read. A program of its own, so that its work does not stand in the way of the load.

`Relay` is what scripts use; run as a program it takes `port target` pairs and obeys lines of its standard input.
"""
import json
import os
import selectors
import signal
import socket
import subprocess
import sys

BYTES_A_TURN = 1 << 18


class Relay:
    """`links`: for each the port to listen on and the port to pass on to, all on 127.0.0.1."""

    def __init__(self, links):
        words = [sys.executable, os.path.abspath(__file__), *(f"{listen}:{target}" for listen, target in links)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.counts()

    def ask(self, *order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("failed: the relay ended")
        return json.loads(answer)

    def counts(self):
        """For each link the bytes that went to who opened it (a reader), and from it."""
        return self.ask("counts")

    def cut(self, links):
        """Ends the connections of these links (by number), and lets no new ones through."""
        return self.ask("cut", *links)

    def heal(self):
        return self.ask("heal")

    def close(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Side:
    """One end of a connection, and what waits to be written to it."""

    def __init__(self, sock, link, direction):
        self.socket, self.link, self.direction = sock, link, direction
        self.other, self.waiting = None, memoryview(b"")

    def events(self):
        # Bounded: nothing is read while the other end has not taken what was read before.
        wanted = selectors.EVENT_READ if not self.other.waiting else 0
        return wanted | (selectors.EVENT_WRITE if self.waiting else 0)


class Relaying:
    """The program."""

    def __init__(self, pairs):
        self.selector = selectors.DefaultSelector()
        self.targets, self.counts = [target for _, target in pairs], [[0, 0] for _ in pairs]
        self.sides, self.closed = set(), set()
        for link, (listen, _) in enumerate(pairs):
            listener = socket.create_server(("127.0.0.1", listen), backlog=64)
            self.selector.register(listener, selectors.EVENT_READ, ("listener", link))
        self.selector.register(sys.stdin, selectors.EVENT_READ, ("orders", None))

    def run(self):
        while True:
            for key, mask in self.selector.select():
                kind, what = key.data
                if kind == "orders":
                    line = sys.stdin.readline()
                    if not line:
                        return
                    self.obey(*json.loads(line))
                elif kind == "listener":
                    self.accept(key.fileobj, what)
                elif what in self.sides:
                    self.move(what, mask)

    def obey(self, order, *links):
        if order == "cut":
            self.closed |= set(links)
            while side := next((side for side in self.sides if side.link in self.closed), None):
                self.end(side)
        elif order == "heal":
            self.closed = set()
        print(json.dumps(self.counts), flush=True)

    def accept(self, listener, link):
        near, _ = listener.accept()
        if link in self.closed:
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", self.targets[link]), 1)
        except OSError:
            near.close()
            return
        sides = [Side(near, link, 1), Side(far, link, 0)]
        for side, other in (sides, sides[::-1]):
            side.other = other
            side.socket.setblocking(False)
            side.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sides.add(side)
            self.selector.register(side.socket, selectors.EVENT_READ, ("side", side))

    def move(self, side, mask):
        try:
            if mask & selectors.EVENT_READ and not side.other.waiting:
                taken = side.socket.recv(BYTES_A_TURN)
                if not taken:
                    self.end(side)
                    return
                self.counts[side.link][side.direction] += len(taken)
                side.other.waiting = memoryview(taken)
                self.flush(side.other)
            if mask & selectors.EVENT_WRITE:
                self.flush(side)
        except BlockingIOError:
            pass
        except OSError:
            self.end(side)
            return
        for each in (side, side.other):
            # With nothing wanted, only the wish to write of the other end moves this one again.
            self.want(each)

    def flush(self, side):
        try:
            sent = side.socket.send(side.waiting)
        except BlockingIOError:
            return
        side.waiting = side.waiting[sent:]

    def want(self, side):
        wanted, data = side.events(), ("side", side)
        if side.socket in self.selector.get_map():
            if wanted:
                self.selector.modify(side.socket, wanted, data)
            else:
                self.selector.unregister(side.socket)
        elif wanted:
            self.selector.register(side.socket, wanted, data)

    def end(self, side):
        for each in (side, side.other):
            self.sides.discard(each)
            if each.socket in self.selector.get_map():
                self.selector.unregister(each.socket)
            each.socket.close()


if __name__ == "__main__":
    # Who started us says when it is over.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Relaying([tuple(int(port) for port in word.split(":")) for word in sys.argv[1:]]).run()
