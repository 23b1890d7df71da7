"""The ledger chaos.py and netchaos.py keep: writers that note what they were promised, and the account afterwards.

Every writer has a connection to one node and keys of its own, so that what a key must hold follows from what the node
answered to one thread:
- `u:` unique keys, written once, some deleted later, by their writer or by one at another node: then for ever;
- `o:` keys overwritten with a growing number;
- `h:` hashes shared by all, each writer a field of its own with a growing number;
- `c:` counters and `hc:` hash counters that every node increments; `n:` counters of one node;
- `x:` keys that everybody sets and deletes, and `e:` keys that expire: nothing is owed but agreement.
An answer is a promise, unless the node was killed so soon after it that nobody else need have it (`is_firm` of a node):
then it may be lost, and only then. A command without an answer may or may not have happened.
"""
import binascii
import random
import sys
import threading
import time

from resp import ReplyError

WRITERS, BATCH = 2, 20
# Keys of each kind; of `x:` half of the commands take one of the first, which are hot, and half any.
OWN, SHARED, CONTESTED = 200, 50, 2000


class Writer(threading.Thread):
    """With `eras` keys are not shared between the runs of a node: a clock set back while its data was lost may let an
    older write win over a newer one of the next run, and rightly so. With `expiring` false no key has a deadline."""

    def __init__(self, node, number, options, stop, eras=False, expiring=True, now=time.monotonic):
        super().__init__(daemon=True)
        self.node, self.stop, self.options, self.now = node, stop, options, now
        self.name = f"{node.number}.{number}"
        self.random = random.Random(f"{options.seed}.{self.name}")
        self.sequence, self.eras, self.expiring = 0, eras, expiring
        self.era, self.made, self.others = self.name, [], []
        # Key (or (hash, field)) -> the last promise: (value, incarnation, when), and the numbers sent after it.
        self.unique, self.numbers, self.sent = {}, {}, {}
        # Unique keys of other writers, deleted here: the last (incarnation, when); when is None without an answer.
        self.gone = {}
        # Counter -> list of (amount, incarnation, when); when is None without an answer.
        self.added = {}
        self.done, self.unanswered, self.errors = 0, 0, {}

    def run(self):
        client = None
        pause = BATCH * WRITERS / self.options.rate
        while not self.stop.is_set():
            began = time.monotonic()
            batch, answered = [], 0
            try:
                if client is None:
                    client, incarnation = self.node.connect()
                    self.era = f"{self.name}.{incarnation}" if self.eras else self.name
                batch = [self.pick() for _ in range(BATCH)]
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
                        settle(reply, incarnation, self.now())
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
            self.made.append(key)
            return ("SET", key, n), self.keep(self.unique, key, n)
        if kind < 0.18 and len(self.unique) > 100:
            # Mostly long replicated, sometimes just written.
            key = f"u:{me}:{r.randrange(max(1, n - 20_000), n)}"
            if self.unique.get(key, (None,))[0] is not None:
                return ("DEL", key), self.delete(key)
        if kind < 0.20 and self.others:
            made = r.choice(self.others).made
            if made:
                key = made[r.randrange(max(0, len(made) - 3000), len(made))]
                return ("DEL", key), self.delete_elsewhere(key)
        if kind < 0.35:
            key = f"o:{self.era}:{r.randrange(OWN)}"
            return ("SET", key, n), self.keep(self.numbers, key, n)
        if kind < 0.45:
            key = f"h:{r.randrange(SHARED)}"
            return ("HSET", key, self.era, n), self.keep(self.numbers, (key, self.era), n)
        if kind < 0.60:
            return self.count(f"c:{r.randrange(SHARED)}", r.randrange(1, 10))
        if kind < 0.70:
            return self.count(f"n:{self.node.number}:{r.randrange(SHARED)}", 1)
        if kind < 0.80:
            key, by = f"hc:{r.randrange(SHARED)}", r.randrange(1, 10)
            return ("HINCRBY", key, "f", by), self.add(key, by)
        if kind < 0.95 or not self.expiring:
            key = f"x:{r.randrange(r.choice((OWN, CONTESTED)))}"
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

    def delete_elsewhere(self, key):
        def settle(reply, incarnation, when):
            # :0 is no promise, as above; what is promised is not taken back by a later command without an answer.
            if reply == 1 or (when is None and key not in self.gone):
                self.gone[key] = (incarnation, when)
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

    def __init__(self, nodes, writers):
        self.nodes, self.writers = nodes, writers
        self.promises = self.excused = self.broken = 0
        self.increments = self.increments_excused = self.increments_lost = self.increments_extra = 0
        # Counters that must hold one number, since every increment was answered and none may be lost.
        self.exact = 0
        self.examples, self.gone = [], {}
        for writer in writers:
            for key, (incarnation, when) in writer.gone.items():
                firm = when is not None and writer.node.is_firm(incarnation, when, key)
                self.gone[key] = self.gone.get(key, False) or firm

    def broke(self, text):
        self.broken += 1
        if len(self.examples) < 10:
            self.examples.append(text)

    def check(self, reader):
        client = reader.connect()[0]
        self.check_gone(client)
        for writer in self.writers:
            self.check_unique(client, writer)
            self.check_numbers(client, writer)
        self.check_counters(client)
        client.close()

    def check_gone(self, client):
        keys = [key for key, firm in self.gone.items() if firm]
        for key, reply in zip(keys, ask(client, [("GET", key) for key in keys])):
            self.promises += 1
            if reply is not None:
                self.broke(f"{key} is {reply}, deleted at another node, but there")

    def check_unique(self, client, writer):
        keys = [key for key in writer.unique if key not in self.gone]
        for key, reply in zip(keys, ask(client, [("GET", key) for key in keys])):
            value, incarnation, when = writer.unique[key]
            self.promises += 1
            if reply != (None if value is None else b"%d" % value):
                if writer.node.is_firm(incarnation, when, key):
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
                if got <= writer.sent[key] and not writer.node.is_firm(incarnation, when, key):
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
                    elif writer.node.is_firm(incarnation, when, key):
                        firm += by
                    else:
                        grace += by
            got = int(reply or 0)
            self.exact += grace + unknown == 0
            self.increments += firm + grace
            self.increments_excused += max(0, min(grace, firm + grace - got))
            if got < firm:
                self.increments_lost += firm - got
                self.broke(f"{key} is {got}, at least {firm} were promised")
            if got > firm + grace + unknown:
                self.increments_extra += got - firm - grace - unknown
                self.broke(f"{key} is {got}, at most {firm + grace + unknown} were sent")


def partition(key):
    """Of a key (without braces): 64 of the 16384 slots, which are CRC16."""
    return (binascii.crc_hqx(key, 0) & 16383) >> 6


def ask(client, commands, step=500):
    for start in range(0, len(commands), step):
        block = commands[start:start + step]
        client.send(*block)
        for _ in block:
            yield client.read()


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
