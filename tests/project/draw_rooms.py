"""Draws docs/img/rooms.svg from the imports: `python -m tests.project.draw_rooms`.

A room is a box on its floor, an arrow an import. An import that other arrows imply is not
drawn; each box's tooltip names all of them. The colours can be read on white and on black.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from tests.project.rooms import FLOORS, PACKAGE, ROOT, arrows, floor_of, sources

PICTURE = ROOT / "docs" / "img" / "rooms.svg"
WIDTH, FLOOR, BOX, LETTER, GAP, PASSAGE = 960, 74, 30, 8, 26, 14
STYLE = (
    ".room rect{fill:#eaf1f8;stroke:#4f7ba6}"
    ".room text{fill:#1b2733;text-anchor:middle}"
    "text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#7d8b99}"
    "path{fill:none;stroke:#6f93b8;stroke-width:1.4}"
    "line{stroke:#7d8b99;stroke-opacity:.35;stroke-dasharray:2 5}"
    "marker path{fill:#6f93b8;stroke:none}"
)

Pair = tuple[str, str]
# A room, or where an arrow passes a floor on its way down: the arrow and the floor.
Place = str | tuple[str, str, int]


def told(pairs: set[Pair]) -> set[Pair]:
    """The pairs that no way over others implies."""
    return {
        (start, end) for start, end in pairs if not _led(pairs - {(start, end)}, start, end)
    }


def _led(pairs: set[Pair], start: str, end: str) -> bool:
    """Whether a way of pairs leads from `start` to `end`."""
    seen, new = {start}, {start}
    while new:
        new = {b for a, b in pairs if a in new} - seen
        seen |= new
    return end in seen


def ways(pairs: set[Pair]) -> dict[Pair, list[Place]]:
    """What each arrow meets from its room down, floor by floor."""
    return {
        (start, end): [
            start,
            *((start, end, floor) for floor in range(floor_of(start) - 1, floor_of(end), -1)),
            end,
        ]
        for start, end in sorted(pairs)
    }


def arranged(paths: Iterable[Sequence[Place]]) -> dict[Place, int]:
    """Where on its floor everything stands, so that few arrows cross."""
    floors: list[list[Place]] = [list(sorted(rooms)) for rooms in FLOORS]
    beside: dict[Place, set[Place]] = {}
    for path in paths:
        for place in path[1:-1]:
            floors[place[2]].append(place)  # type: ignore[index,misc]
        for one, other in pairwise(path):
            beside.setdefault(one, set()).add(other)
            beside.setdefault(other, set()).add(one)
    at = {place: WIDTH // 2 for places in floors for place in places}
    for places in floors * 12 + floors[::-1] * 12:
        wanted = {
            place: sum(at[other] for other in beside.get(place, ())) / len(beside[place])
            if beside.get(place)
            else at[place]
            for place in places
        }
        places.sort(key=lambda place: (wanted[place], str(place)))
        spread(places, wanted, at)
    return at


def spread(places: list[Place], wanted: dict[Place, float], at: dict[Place, int]) -> None:
    """Puts each where it is wanted, or as near as those to its left and right allow."""
    pushed: dict[Place, list[float]] = {place: [] for place in places}
    for order, sign in ((places, 1), (places[::-1], -1)):
        edge = -float("inf")  # seen from the side where this pass begins
        for place in order:
            middle = max(sign * wanted[place], edge + width(place) / 2)
            pushed[place].append(sign * middle)
            edge = middle + width(place) / 2 + GAP
    for place in places:
        half = width(place) // 2
        at[place] = min(max(round(sum(pushed[place]) / 2), half), WIDTH - half)


def width(place: Place) -> int:
    """Of a box with its name in it, or of an arrow that passes."""
    return len(label(place)) * LETTER + 20 if isinstance(place, str) else PASSAGE


def label(room: str) -> str:
    """As the room is called on disk."""
    folder = (PACKAGE / room).is_dir()
    return room + "/" if folder else room if room == "_core" else f"{room}.py"


def top(floor: int) -> int:
    """The upper edge of the boxes on a floor; the lowest floor is drawn last."""
    return 14 + (len(FLOORS) - 1 - floor) * FLOOR


def curve(path: Sequence[Place], at: dict[Place, int]) -> str:
    """An arrow as the commands of an SVG path."""
    start, *passed, end = path
    x, y = at[start], top(floor_of(str(start))) + BOX
    drawn = [f"M{x} {y}"]
    stops = [(at[p], top(p[2]), top(p[2]) + BOX) for p in passed]  # type: ignore[index,misc]
    for to, above, below in [*stops, (at[end], top(floor_of(str(end))) - 7, 0)]:
        middle = (y + above) // 2
        drawn.append(f"C{x} {middle} {to} {middle} {to} {above}")
        if below:
            drawn.append(f"V{below}")
        x, y = to, below
    return "".join(drawn)


def drawn(pairs: set[Pair]) -> str:
    """The picture of rooms that import each other like this."""
    paths = ways(told(pairs))
    at = arranged(paths.values())
    height = top(0) + BOX + 34
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>The rooms of src/reverie on their floors, and their imports</title>",
        f"<style>{STYLE}</style>",
        '<marker id="head" viewBox="0 0 8 8" refX="1" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker>',
    ]
    for floor in range(len(FLOORS)):
        y = top(floor) + BOX // 2
        lines.append(f'<line x1="0" x2="{WIDTH}" y1="{y}" y2="{y}"/>')
    lines += [f'<path d="{curve(p, at)}" marker-end="url(#head)"/>' for p in paths.values()]
    for floor, rooms in enumerate(FLOORS):
        for room in rooms:
            imported = ", ".join(sorted(end for start, end in pairs if start == room))
            x, y, wide = at[room], top(floor), width(room)
            lines.append(
                f'<g class="room"><title>{room} imports {imported or "nothing"}</title>'
                f'<rect x="{x - wide // 2}" y="{y}" width="{wide}" height="{BOX}" rx="5"/>'
                f'<text x="{x}" y="{y + 20}">{label(room)}</text></g>'
            )
    lines.append(
        f'<text x="4" y="{height - 8}">An arrow is an import; one that others imply is not '
        "drawn.</text>"
    )
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(drawn(arrows(sources())), "utf-8", newline="\n")
