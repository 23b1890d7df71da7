"""The faults of netchaos.py: what is planned, from the seed alone, and how each is caused and ended.

A fault has lanes, and no two faults are in one lane at once: `node` for its process, `clock` for its time, `link` for
the wire between two. So a node may be killed while it is cut off and its clock is wrong, but not while it is frozen.
"""
import random
import signal
from dataclasses import dataclass

from ledger import progress

# Kind -> (what it is, in words; its colour in the picture).
KINDS = {
    "cut": ("link cut both ways", "#d55e00"), "oneway": ("link cut one way", "#e69f00"),
    "slow": ("link slow and lossy", "#b8a800"), "isolate": ("all links of a node cut", "#c06090"),
    "kill": ("killed (SIGKILL)", "#222222"), "freeze": ("frozen (SIGSTOP)", "#0072b2"),
    "jump": ("clock wrong", "#009e73"),
}
# Faults at a time; delay every link has.
AT_ONCE, DELAY_MS = 3, 1


@dataclass
class Fault:
    kind: str
    # Of the node, or of the link.
    place: int
    begin: float
    end: float
    # oneway: which direction is cut; slow: (delay in ms, loss in percent); jump: seconds.
    detail: object
    # For the log, and for a bar in the picture.
    words: str
    short: str
    lanes: list


def plan(options, nodes_count, pairs, has_clock):
    chance, faults, free = random.Random(options.seed), [], {}
    kinds = [kind for kind in KINDS if kind != "jump" or has_clock]
    # The last is over while there still is load, so that the picture shows how nodes catch up.
    over, longest = options.seconds * 0.94, min(40.0, max(3.0, options.seconds / 8))
    pause, deck, slots = min(4.0, options.seconds / 40), [], [0.2 * number for number in range(AT_ONCE)]
    while True:
        slot = slots.index(min(slots))
        # Each kind in its turn, in an order left to chance, so that short runs have them all as well.
        deck = deck or chance.sample(kinds, len(kinds))
        kind = deck.pop()
        on_link = kind in ("cut", "oneway", "slow")

        def lanes_of(place):
            if kind == "isolate":
                return [link_lane(pair) for pair in pairs if place in pair]
            return [link_lane(pairs[place]) if on_link else f"clock {place}" if kind == "jump" else f"node {place}"]

        # Where it can begin soonest; mostly that is at once, and then chance decides.
        starts = {place: max([slots[slot]] + [free.get(lane, 0.0) for lane in lanes_of(place)])
                  for place in range(len(pairs) if on_link else nodes_count)}
        place = chance.choice([place for place, start in starts.items() if start == min(starts.values())])
        begin = starts[place] + chance.uniform(0.2, 1) * pause
        end = begin + (chance.uniform(0.2, 3) if kind == "kill" else chance.uniform(2, longest))
        if end > over:
            return sorted(faults, key=lambda fault: fault.begin)
        detail = {"oneway": chance.randrange(2), "slow": (chance.randrange(10, 200), chance.randrange(0, 12)),
                  "jump": round(chance.choice([-1, 1]) * chance.uniform(5, options.jump))}.get(kind)
        lanes = lanes_of(place)
        free.update(dict.fromkeys(lanes, end))
        slots[slot] = end
        faults.append(Fault(kind, place, begin, end, detail, *describe(kind, pairs, place, detail), lanes))


def link_lane(pair):
    return f"link {pair[0]}-{pair[1]}"


def describe(kind, pairs, place, detail):
    """In words, and in few letters."""
    if kind == "oneway":
        source, target = pairs[place] if detail == 0 else pairs[place][::-1]
        return f"nothing from {source} to {target}", f"{source} \u2192 {target}"
    if kind == "slow":
        return f"{link_lane(pairs[place])} {detail[0]} ms, {detail[1]} % lost", f"{detail[0]} ms"
    if kind == "cut":
        return f"{link_lane(pairs[place])} cut", ""
    if kind == "jump":
        return f"clock {place} {detail:+} s", f"{detail:+} s"
    return f"node {place} " + {"isolate": "isolated", "kill": "killed", "freeze": "frozen"}[kind], ""


def cause(fault, nodes, network, probes, clock, stop):
    """From its begin to its end, which are set to what they really were."""
    if clock.wait_until(fault.begin, stop):
        return False
    progress(f"{fault.words}, {fault.end - fault.begin:.1f} s")
    began, wires = clock.now(), []
    if fault.kind == "isolate":
        wires = [(link, (0, 1), (DELAY_MS, 0, True)) for link, pair in enumerate(network.pairs) if fault.place in pair]
    elif fault.kind == "slow":
        wires = [(fault.place, (0, 1), (*fault.detail, False))]
    elif fault.kind in ("cut", "oneway"):
        wires = [(fault.place, (fault.detail,) if fault.kind == "oneway" else (0, 1), (DELAY_MS, 0, True))]
    if wires:
        network.change(add=wires)
        clock.wait_until(fault.end, stop)
        network.change(remove=wires)
    elif fault.kind == "kill":
        nodes[fault.place].kill(probes.holdings, fault.end - fault.begin)
    elif fault.kind == "freeze":
        node = nodes[fault.place]
        node.server.signal(signal.SIGSTOP)
        clock.wait_until(fault.end, stop)
        node.server.signal(signal.SIGCONT)
        node.freezes.append((began, clock.now()))
    elif fault.kind == "jump":
        nodes[fault.place].set_clock(fault.detail)
        clock.wait_until(fault.end, stop)
        nodes[fault.place].set_clock(0)
    fault.begin, fault.end = began, clock.now()
    return True
