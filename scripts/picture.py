"""The picture netchaos.py writes: SVG made by hand. Faults are bars in lanes, lag and divergence areas over one time."""
from html import escape

LEFT, WIDTH, RIGHT = 110, 1010, 30
LANE, STRIP, GRAPH, GAP = 18, 44, 110, 42
INK, FAINT, GRID, LAG, UNLIKE = "#222222", "#777777", "#e4e4e4", "#4a6fa5", "#a5584a"


def draw(path, title, subtitle, seconds, load_ends, kinds, lanes, faults, lags, unlike, keys):
    """`kinds`: kind -> (words, colour); `faults`: (lane, kind, begin, end, short, words); `lags`: name -> [(when, seconds)];
    `unlike`: [(when, keys)] of so many `keys`."""
    def x(when):
        return LEFT + when / max(seconds, 1) * WIDTH

    parts = [text(LEFT, 26, title, "font-size='17' font-weight='bold'"), text(LEFT, 46, subtitle, f"fill='{FAINT}'")]
    parts += legend(kinds, 62)
    top = y = 104
    for lane in lanes:
        parts += lane_of(lane, [fault for fault in faults if fault[0] == lane], kinds, x, y)
        # A little room between nodes, links and clocks.
        after = lanes[lanes.index(lane) + 1:][:1]
        y += LANE + (8 if after and after[0].split()[0] != lane.split()[0] else 2)
    y += GAP
    parts.append(text(LEFT, y - 8, "Lag: for how long a node has not had everything the others had acknowledged, "
                      "in seconds (measured every half second)", "font-weight='bold'"))
    most = nice(max([value for line in lags.values() for _, value in line] + [1]))
    for name, line in lags.items():
        parts += area(line, most, x, y, STRIP, LAG) + [text(LEFT - 34, y + STRIP / 2 + 4, name, "text-anchor='end'")]
        y += STRIP + 6
    y += GAP - 6
    parts.append(text(LEFT, y - 8, f"Divergence: how many of {keys:,} keys that all nodes set and delete are not alike on "
                      "the nodes that answer", "font-weight='bold'"))
    parts += area(unlike, nice(max([count for _, count in unlike] + [1])), x, y, GRAPH, UNLIKE)
    y += GRAPH
    step = next((step for step in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600) if seconds / step <= 14), 3600)
    lines = []
    for when in range(0, int(seconds) + 1, step):
        lines.append(f"<path d='M{x(when):.1f},{top}V{y}' stroke='{GRID}'/>")
        parts.append(text(x(when), y + 16, f"{when} s", f"text-anchor='middle' fill='{FAINT}'"))
    parts.append(f"<path d='M{x(load_ends):.1f},{top - 4}V{y}' stroke='{INK}' stroke-dasharray='3,3'/>")
    parts.append(text(x(load_ends) - 4, top - 6, "end of load", f"text-anchor='end' fill='{FAINT}'"))
    whole = "\n".join(lines + parts)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {LEFT + WIDTH + RIGHT} {y + 30}' "
                   f"font-family='Helvetica, Arial, sans-serif' font-size='12' fill='{INK}'>\n"
                   f"<rect width='100%' height='100%' fill='white'/>\n{whole}\n</svg>\n")


def legend(kinds, y):
    parts, at = [], LEFT
    for words, colour in kinds.values():
        parts.append(f"<rect x='{at}' y='{y}' width='11' height='11' rx='2' fill='{colour}'/>")
        parts.append(text(at + 16, y + 10, words))
        at += 34 + 6.2 * len(words)
    return parts


def lane_of(name, faults, kinds, x, y):
    parts = [text(LEFT - 8, y + LANE - 5, name, "text-anchor='end'"),
             f"<rect x='{LEFT}' y='{y}' width='{WIDTH}' height='{LANE}' fill='#f4f4f4'/>"]
    for _, kind, begin, end, short, words in faults:
        wide = max(2.5, x(end) - x(begin))
        parts.append(f"<rect x='{x(begin):.1f}' y='{y + 1}' width='{wide:.1f}' height='{LANE - 2}' rx='2' "
                     f"fill='{kinds[kind][1]}'><title>{escape(words)}, {end - begin:.1f} s</title></rect>")
        if short and wide > 6 + 5.2 * len(short):
            parts.append(text(x(begin) + wide / 2, y + LANE - 5.5, short, "text-anchor='middle' font-size='9' fill='white'"))
    return parts


def area(line, most, x, y, height, colour):
    """A filled curve from 0 to `most`, both written beside it."""
    parts = [text(LEFT - 6, y + 9, f"{most:g}", f"text-anchor='end' font-size='10' fill='{FAINT}'"),
             text(LEFT - 6, y + height, "0", f"text-anchor='end' font-size='10' fill='{FAINT}'")]
    if line:
        ends = [(0, 0), *line, (line[-1][0], 0)]
        points = [f"{x(when):.1f},{y + height - value / most * height:.1f}" for when, value in ends]
        # What lies on a level line between its neighbours shows nothing.
        levels = [point.split(",")[1] for point in points]
        bends = [point for at, point in enumerate(points) if set(levels[max(0, at - 1):at + 2]) != {levels[at]}]
        parts.append(f"<path d='M{'L'.join([points[0], *bends])}Z' fill='{colour}' fill-opacity='0.35' "
                     f"stroke='{colour}' stroke-linejoin='round'/>")
    parts.append(f"<path d='M{LEFT},{y + height}h{WIDTH}' stroke='{FAINT}'/>")
    return parts


def nice(value):
    """The next round number."""
    return next(step * 10 ** power for power in range(10) for step in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
                if step * 10 ** power >= value)


def text(x, y, words, more=""):
    return f"<text x='{x:.1f}' y='{y:.1f}' {more}>{escape(str(words))}</text>"
