"""Who holds what of whom, as netchaos.py knows it from outside: which acknowledged writes may go with a killed node.

*Probes*: twice a second one MSET on each node writes a key of each of the 256 partitions. What a node accepted in one
of its runs (from its start to its kill) reaches others per partition in the order it was accepted, so a node that shows
a probe of a run in all partitions has everything that this run had acknowledged before the probe began. Each node is
also told to write a snapshot every few seconds; once it is finished, what the node showed before is safe from its kill.

So a write may be lost only if its node was killed, and no node that went on, and no snapshot, had a later probe of the
same run: never if it was acknowledged `GRACE_S` before the kill or earlier, however long links were cut, and never if
in the end a later probe of its run and partition is there.
"""
import threading

from ledger import partition, progress
from resp import ReplyError

PARTITIONS = 256
PROBE_EVERY_S, SAVE_EVERY_S, GRACE_S = 0.5, 3.0, 10.0


class Holdings:
    """The bookkeeping; a run is (node, incarnation), its probes are numbered from 1."""

    def __init__(self, count):
        # When the run began, then when each probe did.
        self.began = {(node, 0): [0.0] for node in range(count)}
        self.acknowledged = dict.fromkeys(self.began, 0)
        # By node: run -> last probe it shows, or its last finished snapshot has.
        self.shown, self.saved = [{} for _ in range(count)], [{} for _ in range(count)]
        self.incarnations, self.lock = [0] * count, threading.Lock()
        # Run -> when: acknowledged later it may be lost. Run -> when the run was killed, and how much earlier is too
        # early in any case.
        self.loose_after, self.killed_at, self.grace = {}, {}, {}
        # Run -> by partition the last probe that is there in the end.
        self.survived = {}

    def run_of(self, node):
        with self.lock:
            return node, self.incarnations[node]

    def probe(self, run, when):
        with self.lock:
            self.began[run].append(when)
            return len(self.began[run]) - 1

    def answered(self, run, number):
        with self.lock:
            self.acknowledged[run] = max(self.acknowledged[run], number)
        self.show(run, run, number)

    def show(self, seen_at, run, number):
        """`seen_at`: the run that was asked; when it has been killed meanwhile, it proves nothing any more."""
        node, incarnation = seen_at
        with self.lock:
            if incarnation == self.incarnations[node]:
                self.shown[node][run] = max(self.shown[node].get(run, 0), number)

    def all_shown(self, node):
        with self.lock:
            return dict(self.shown[node])

    def has_saved(self, seen_at, held):
        node, incarnation = seen_at
        with self.lock:
            if incarnation == self.incarnations[node]:
                self.saved[node] = held

    def has_been_killed(self, node, when, frozen_s):
        """`frozen_s`: for how long it could do nothing shortly before."""
        with self.lock:
            run = (node, self.incarnations[node])
            self.killed_at[run], self.grace[run] = when, GRACE_S + frozen_s
            self.incarnations[node] += 1
            self.began[(node, run[1] + 1)], self.acknowledged[(node, run[1] + 1)] = [when], 0
            self.shown[node] = dict(self.saved[node])
            for ended in self.killed_at:
                best = max(shown.get(ended, 0) for shown in self.shown)
                bound = max(self.began[ended][best], self.killed_at[ended] - self.grace[ended])
                self.loose_after[ended] = min(self.loose_after.get(ended, bound), bound)
            return when - self.loose_after[run]

    def is_firm(self, run, when, key):
        if run not in self.loose_after or when < self.loose_after[run]:
            return True
        name = key[0] if isinstance(key, tuple) else key
        return run in self.survived and when < self.began[run][self.survived[run][partition(name.encode())]]

    def missing(self, node):
        """Of each run that the node does not show to its end: (run, first probe it lacks began when)."""
        with self.lock:
            shown = self.shown[node]
            return [(run, self.began[run][shown.get(run, 0) + 1]) for run, number in self.acknowledged.items()
                    if shown.get(run, 0) < number]

    def lag(self, node, now):
        """For how long the node has not had everything that running others had acknowledged, in seconds."""
        return max((now - began for run, began in self.missing(node) if run not in self.killed_at), default=0.0)


class Probes:
    def __init__(self, nodes, clock):
        self.nodes, self.clock, self.over = nodes, clock, threading.Event()
        self.holdings, self.tags, self.saves, self.complaints = Holdings(len(nodes)), tags_of_partitions(), 0, []
        # Run -> (partitions merged whole, resumes from a backlog) of its links, as last seen.
        self.comebacks = {}
        self.threads = [threading.Thread(target=self.attend, args=(node,), daemon=True) for node in nodes]

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(600)

    def attend(self, node):
        client = None
        while not self.over.wait(PROBE_EVERY_S):
            try:
                if client is None:
                    client, incarnation = node.connect()
                    run, saving, save_due = (node.number, incarnation), None, 0.0
                self.probe(client, run)
                self.look(client, run)
                if saving is None and self.clock.now() >= save_due:
                    held, save_due = self.holdings.all_shown(node.number), self.clock.now() + SAVE_EVERY_S
                    client.run("BGSAVE")
                    saving = held
                elif saving is not None:
                    info = client.info("persistence")
                    if int(info["rdb_bgsave_in_progress"]) == 0:
                        if info["rdb_last_bgsave_status"] != "ok":
                            raise ReplyError("a snapshot failed")
                        self.holdings.has_saved(run, saving)
                        self.saves, saving = self.saves + 1, None
                        self.comebacks[run] = comebacks(client.info("replication"))
            except OSError:
                if client is not None:
                    client.close()
                client = None
            except ReplyError as error:
                if not str(error).startswith("LOADING"):
                    self.complaints.append(f"node {node.number}: {error}")
                    progress(self.complaints[-1])

    def names(self, run):
        return [f"p:{run[0]}.{run[1]}:{{{tag}}}" for tag in self.tags]

    def probe(self, client, run):
        number = self.holdings.probe(run, self.clock.now())
        client.run("MSET", *(word for name in self.names(run) for word in (name, number)))
        self.holdings.answered(run, number)

    def look(self, client, run):
        missing = [other for other, _ in self.holdings.missing(run[0])]
        ended = [other for other in missing if other in self.holdings.killed_at]
        # Of runs that have ended one at a time: some will never be complete.
        turn = ended[len(self.holdings.began[run]) % len(ended):][:1] if ended else []
        for other in [other for other in missing if other not in ended] + turn:
            values = client.run("MGET", *self.names(other))
            self.holdings.show(run, other, min(int(value or 0) for value in values))

    def look_back(self, client):
        """In the end: what is there of the runs that were killed."""
        for run in self.holdings.killed_at:
            self.holdings.survived[run] = [int(value or 0) for value in client.run("MGET", *self.names(run))]


def comebacks(info):
    return tuple(sum(int(value) for name, value in info.items() if name.startswith("master") and name.endswith(ending))
                 for ending in ("full_merges", "resumes"))


def tags_of_partitions():
    """A hash tag of each partition."""
    found, number = {}, 0
    while len(found) < PARTITIONS:
        found.setdefault(partition(str(number).encode()), number)
        number += 1
    return [found[at] for at in range(PARTITIONS)]
