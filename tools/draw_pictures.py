"""Draw the pictures of the README and the guide: docs/pictures/*.svg.

Usage: python tools/draw_pictures.py [--check]

With ``--check`` nothing is written: it fails if a picture differs from what would be drawn.
"""

from __future__ import annotations

import sys
from pathlib import Path

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"

# Both on white and on a dark page: each picture has a background of its own.
STYLE = """
  text { font-family: system-ui, "DejaVu Sans", sans-serif; font-size: 15px; fill: #1f2933 }
  .small { font-size: 13px; fill: #52606d }
  .mono { font-family: ui-monospace, "DejaVu Sans Mono", monospace }
  .title { font-weight: 600 }
  .middle { text-anchor: middle }
  .process { fill: #e3f2fd; stroke: #1565c0; stroke-width: 1.5 }
  .dead { fill: #f5f5f5; stroke: #9e9e9e; stroke-width: 1.5; stroke-dasharray: 5 4 }
  .pool { fill: #fff8e1; stroke: #b8860b; stroke-width: 1.5 }
  .part { fill: #ffffff; stroke: #b8860b }
  .full { fill: #ffcc80; stroke: #b8860b }
  .copy { fill: #ef9a9a; stroke: #b71c1c }
  .line { stroke: #1565c0; stroke-width: 2; fill: none }
  .handle { stroke: #2e7d32; stroke-width: 2; fill: none; stroke-dasharray: 6 4 }
  .heavy { stroke: #b71c1c; stroke-width: 4; fill: none }
"""
TIPS = {"blue": "#1565c0", "green": "#2e7d32", "red": "#b71c1c"}


class Picture:
    """A picture that grows by boxes, texts and arrows."""

    def __init__(self, width: int, height: int, title: str) -> None:
        tips = "".join(
            f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" '
            f'markerHeight="9" markerUnits="userSpaceOnUse" orient="auto">'
            f'<path d="M0 0 8 4 0 8z" fill="{color}"/></marker>'
            for name, color in TIPS.items()
        )
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
            f' width="{width}" height="{height}" role="img" aria-label="{title}">',
            f"<title>{title}</title>",
            f"<style>{STYLE}</style>",
            f"<defs>{tips}</defs>",
            f'<rect width="{width}" height="{height}" rx="10" fill="#ffffff"/>',
        ]

    def box(self, x: int, y: int, width: int, height: int, kind: str, radius: int = 6) -> None:
        """Draw a rectangle."""
        self._parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}" '
            f'class="{kind}"/>'
        )

    def text(self, x: int, y: int, words: str, kind: str = "") -> None:
        """Write a line."""
        self._parts.append(f'<text x="{x}" y="{y}" class="{kind}">{words}</text>')

    def arrow(self, path: str, kind: str, tip: str) -> None:
        """Draw an arrow along an SVG path."""
        self._parts.append(f'<path d="{path}" class="{kind}" marker-end="url(#{tip})"/>')

    def process(self, x: int, y: int, name: str, does: str, kind: str = "process") -> None:
        """Draw a process."""
        self.box(x, y, 190, 62, kind, 10)
        self.text(x + 95, y + 27, name, "middle mono title")
        self.text(x + 95, y + 48, does, "middle small")

    def __str__(self) -> str:
        return "\n".join([*self._parts, "</svg>", ""])


def one_pool() -> Picture:
    """Draw one pool and four processes."""
    it = Picture(900, 400, "One pool and four processes")
    it.process(20, 20, "camera.py", "writes each picture once")
    it.process(243, 20, "viewer.py", "reads the newest one")
    it.process(466, 20, "recorder.py", "reads each of them")
    it.process(689, 20, "detector.py", "killed by kill -9", "dead")
    it.box(20, 170, 860, 180, "pool", 12)
    it.text(36, 335, "one pool: one file in memory, mapped by every process; no server", "title")
    it.text(36, 209, "frames", "small")
    for number in range(8):
        it.box(110 + 54 * number, 189, 48, 30, "full" if number in {1, 2} else "part", 4)
        it.text(134 + 54 * number, 209, str(number), "middle small")
    it.text(36, 254, "stream", "small")
    it.box(110, 234, 210, 30, "part", 4)
    it.text(122, 254, "handles of frames 1, 2", "small")
    it.text(36, 296, "and", "small")
    it.text(110, 296, "queues, objects by name, lists, dicts, locks, values", "small")
    it.arrow("M115 82 V126 Q115 140 129 140 H174 Q188 140 188 154 V187", "line", "blue")
    it.arrow("M242 187 V154 Q242 140 256 140 H324 Q338 140 338 126 V84", "line", "blue")
    it.arrow("M242 154 Q242 140 256 140 H547 Q561 140 561 126 V84", "line", "blue")
    it.arrow("M784 82 V218", "handle", "green")
    it.text(784, 242, "what it held", "middle small")
    it.text(784, 259, "becomes free again", "middle small")
    it.text(36, 380, "blue: data, written once and read in place.", "small")
    it.text(
        330,
        380,
        "What is sent is a handle of 64 bits, at the same cost for 1 KB and 1 GB.",
        "small",
    )
    return it


def by_pipe() -> Picture:
    """Draw how a queue of multiprocessing sends an array to two processes."""
    it = Picture(900, 250, "An array through a pipe is copied several times for each receiver")
    it.process(20, 90, "producer", "one array")
    it.process(690, 20, "consumer 1", "its own copy")
    it.process(690, 160, "consumer 2", "its own copy")
    for y in (20, 160):  # a row for each consumer
        it.box(270, y, 130, 62, "copy")
        it.text(335, y + 28, "pickle: bytes", "middle small")
        it.text(335, y + 46, "a first copy", "middle small")
        it.box(480, y, 130, 62, "copy")
        it.text(545, y + 28, "pipe: 64 KiB", "middle small")
        it.text(545, y + 46, "at a time", "middle small")
        it.arrow(f"M212 121 L266 {y + 31}", "heavy", "red")
        it.arrow(f"M402 {y + 31} H476", "heavy", "red")
        it.arrow(f"M612 {y + 31} H686", "heavy", "red")
    return it


def by_pool() -> Picture:
    """Draw how onecopy sends an array to two processes."""
    it = Picture(900, 270, "An array in a pool is written once and read in place")
    it.process(20, 20, "producer", "writes the array")
    it.process(690, 20, "consumer 1", "reads it in place")
    it.process(690, 170, "consumer 2", "reads it in place")
    it.box(290, 120, 280, 110, "pool", 12)
    it.text(430, 146, "pool", "middle title")
    it.box(310, 160, 240, 50, "full")
    it.text(430, 190, "the array: one copy", "middle")
    it.arrow("M115 82 V171 Q115 185 129 185 H306", "line", "blue")
    it.arrow("M552 175 H620 Q634 175 634 161 V65 Q634 51 648 51 H686", "line", "blue")
    it.arrow("M552 200 H686", "line", "blue")
    it.arrow("M212 44 H684", "handle", "green")
    it.text(430, 36, "a handle: 64 bits", "middle small")
    return it


DRAWINGS = {"one-pool": one_pool, "by-pipe": by_pipe, "by-pool": by_pool}


def main() -> int:
    """Write the pictures, or compare them."""
    different = []
    for name, draw in DRAWINGS.items():
        path, text = PICTURES / f"{name}.svg", str(draw())
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != text:
            different.append(path.name)
    for name in different:
        sys.stdout.write(f"docs/pictures/{name} is not what tools/draw_pictures.py draws: run it\n")
    return len(different)


if __name__ == "__main__":
    sys.exit(main())
