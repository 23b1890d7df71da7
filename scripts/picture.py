"""The picture netchaos.py writes: SVG made by hand, with faults as bars and measurements as lines over one time axis."""
from html import escape

LEFT, WIDTH, LANE, GRAPH, GAP = 130, 1000, 16, 140, 34
COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b"]
FAULTS = {"cut": "#d62728", "oneway": "#ff7f0e", "slow": "#bcbd22", "isolate": "#8c564b", "kill": "#000000",
          "freeze": "#1f77b4", "jump": "#9467bd"}


def draw(path, title, seconds, lanes, faults, graphs):
    """`faults`: (lane, kind, begin, end, words); `graphs`: (title, {name: [(when, value)]})."""
    scale = WIDTH / max(seconds, 1)
    parts, y = [text(LEFT, 22, title, "font-size='15'")], 40
    for number, kind in enumerate(FAULTS):
        parts.append(f"<rect x='{LEFT + number * 90}' y='{y}' width='10' height='10' fill='{FAULTS[kind]}'/>")
        parts.append(text(LEFT + 14 + number * 90, y + 9, kind))
    y += 24
    for lane in lanes:
        parts.append(text(LEFT - 8, y + 11, lane, "text-anchor='end'"))
        parts.append(f"<rect x='{LEFT}' y='{y}' width='{WIDTH}' height='{LANE - 2}' fill='#f2f2f2'/>")
        for where, kind, begin, end, words in faults:
            if where == lane:
                parts.append(f"<rect x='{LEFT + begin * scale:.1f}' y='{y}' height='{LANE - 2}' "
                             f"width='{max(2.0, (end - begin) * scale):.1f}' fill='{FAULTS[kind]}'>"
                             f"<title>{escape(words)}</title></rect>")
        y += LANE
    for name, lines in graphs:
        y += GAP
        parts += graph(y, name, lines, scale)
        y += GRAPH
    step = next(step for step in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 3600) if seconds / step <= 14 or step == 3600)
    for when in range(0, int(seconds) + 1, step):
        parts.append(text(LEFT + when * scale, y + 14, f"{when} s", "text-anchor='middle'"))
    whole = "\n".join(parts)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"<svg xmlns='http://www.w3.org/2000/svg' width='{LEFT + WIDTH + 40}' height='{y + 30}' "
                   f"font-family='sans-serif' font-size='11'>\n<rect width='100%' height='100%' fill='white'/>\n"
                   f"{whole}\n</svg>\n")


def graph(y, name, lines, scale):
    top = max([value for line in lines.values() for _, value in line] + [1])
    parts = [text(LEFT, y - 6, name), text(LEFT - 8, y + 9, f"{top:.0f}", "text-anchor='end'"),
             text(LEFT - 8, y + GRAPH, "0", "text-anchor='end'"),
             f"<rect x='{LEFT}' y='{y}' width='{WIDTH}' height='{GRAPH}' fill='none' stroke='#aaaaaa'/>"]
    for number, (label, line) in enumerate(lines.items()):
        points = " ".join(f"{LEFT + when * scale:.1f},{y + GRAPH - value / top * GRAPH:.1f}" for when, value in line)
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='1.3'/>")
        parts.append(text(LEFT + WIDTH - 70 * (len(lines) - number), y - 6, label, f"fill='{colour}'"))
    return parts


def text(x, y, words, more=""):
    return f"<text x='{x:.1f}' y='{y:.1f}' {more}>{escape(str(words))}</text>"
