"""Make the picture of `onecopy top` in the guide, from a pool that is in use.

Usage: python tools/top_picture.py POOL docs/pictures/top.svg
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from onecopy.observer.several import Watch
from onecopy.top.app import Top

SIZE = (92, 13)
SECONDS = 3.0


async def picture(pool: str) -> str:
    """Return the screen as SVG, after a few looks."""
    app = Top(Watch([pool]), 1.0, "channels")
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause(SECONDS)
        await pilot.press("down", "down")
        await pilot.pause()
        return app.export_screenshot(title=f"onecopy top {pool}")


def local(svg: str) -> str:
    """Replace the font that the picture would fetch from the network."""
    svg = re.sub(r"@font-face\s*{[^}]*}\s*", "", svg)
    return svg.replace("Fira Code, monospace", "DejaVu Sans Mono, Menlo, Consolas, monospace")


def main() -> int:
    """Write the picture."""
    if len(sys.argv) != 3:
        sys.stderr.write(f"{__doc__}")
        return 2
    text = local(asyncio.run(picture(sys.argv[1])))
    lines = [line.rstrip() for line in text.splitlines()]
    Path(sys.argv[2]).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
