"""The screen of `onecopy top`, by textual. What it shows is in the other modules."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from rich.console import Group
from rich.padding import Padding
from rich.text import Text
from textual.app import App
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Footer, Input, Static

from onecopy._core.lines import cut, escaped, shown
from onecopy.top.arrange import Sorting, drawn, filtered, fitted, ordered
from onecopy.top.pages import page
from onecopy.top.tables import channels, pools, processes

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from onecopy.observer.several import PoolLook, Watch
    from onecopy.top.cells import Column, Row, Table
    from onecopy.top.pages import Line

__all__ = ["Kind", "Top"]

INTERRUPTED, TERMINATED = 130, 143  # as shells report signals
_EXPENSIVE = 0.05  # seconds

_STYLES = {"": "", "dim": "dim", "good": "green", "warn": "yellow", "bad": "bold red"}
Kind: TypeAlias = Literal["pools", "channels", "processes", "page"]

_KINDS: tuple[Kind, ...] = ("pools", "channels", "processes")


@dataclass
class _View:
    """What is on the screen, or was, before the user went deeper.

    `path` is the pool whose channels or processes are shown; None: those of all pools. `key` is the
    row that a page is about.
    """

    kind: Kind
    path: str | None = None
    key: tuple[object, ...] = ()
    title: str = ""
    filter: str = ""
    cursor: tuple[object, ...] | None = None
    sorting: dict[str, Sorting] = field(default_factory=dict)


def _styled(line: Line) -> Text | Padding:
    if line.title:
        return Text(line.text, "bold")
    return Padding(Text(line.text, _STYLES[line.tone]), (0, 0, 0, 2))


class _Rows(DataTable[Text]):
    """A table whose key for opening a row is shown."""

    BINDINGS: ClassVar = [
        Binding("enter", "select_cursor", "Open", key_display="enter"),
        Binding("home", "scroll_top", show=False),
        Binding("end", "scroll_bottom", show=False),
    ]


class Top(App[int]):
    """The screen.

    Parameters
    ----------
    watch : Watch
        The pools that are watched.
    interval : float
        Seconds between two looks.
    start : str
        The table that is shown first.
    """

    CSS: ClassVar[str] = """
    #head { height: 1; background: $primary; color: $text; }
    #about { height: 1; color: $text-muted; }
    #filter { height: 1; border: none; padding: 0; display: none; }
    #table { height: 1fr; scrollbar-size-vertical: 1; overflow-x: hidden; }
    #page { height: 1fr; scrollbar-size-vertical: 1; display: none; }
    """
    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False
    BINDINGS: ClassVar = [
        Binding("q", "leave", "Quit"),
        Binding("escape", "up", "Back", key_display="esc"),
        Binding("tab", "turn(1)", "View", key_display="tab", priority=True),
        Binding("shift+tab", "turn(-1)", "View", priority=True, show=False),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("less_than_sign", "sort(-1)", "Sort", show=False),
        Binding("greater_than_sign", "sort(1)", "Sort", key_display="<>"),
        Binding("r", "reverse", "Reverse"),
        Binding("space", "pause", "Pause", key_display="space"),
        Binding("ctrl+c", "interrupt", "Quit", priority=True, show=False),
    ]

    def __init__(
        self,
        watch: Watch,
        interval: float,
        start: Kind = "pools",
        *,
        ascii_only: bool = False,
    ) -> None:
        super().__init__()
        self.looks: list[PoolLook] = []
        self._watch = watch
        self._interval = interval
        self._views = [_View(start)]
        self._ascii = ascii_only
        self._problem = ""
        self._paused = self._looking = False
        self._layout: list[tuple[str, int, str]] = []
        self._cells: list[list[Text]] = []
        self._rows: list[Row] = []
        self._widths: dict[str, int] = {}
        self._page: list[Line] = []
        self._page_due = 0.0
        self._page_reads = 0

    @property
    def view(self) -> _View:
        """What is on the screen."""
        return self._views[-1]

    # ---- the frame

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        yield Static(id="head", markup=False)
        yield _Rows(id="table", cursor_type="row")
        with VerticalScroll(id="page"):
            yield Static(id="lines", markup=False)
        yield Static(id="about", markup=False)
        yield Input(id="filter", placeholder="words that a row must have")
        yield Footer(show_command_palette=False, compact=True)

    async def on_mount(self) -> None:
        """Begin to look."""
        self._table.focus()
        if threading.current_thread() is threading.main_thread():
            # The default action would leave the terminal in the mode of the screen.
            asyncio.get_running_loop().add_signal_handler(
                signal.SIGTERM, lambda: self.exit(TERMINATED)
            )
        self.run_worker(self.look(), exit_on_error=True)
        self.set_interval(self._interval, self._tick)

    async def on_unmount(self) -> None:
        """Leave the process as it was."""
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)

    def on_resize(self) -> None:
        """Choose the columns again."""
        self._widths.clear()
        self.show()

    @property
    def _table(self) -> _Rows:
        return self.query_one("#table", _Rows)

    # ---- looking

    def _tick(self) -> None:
        if not self._paused:
            self.run_worker(self.look(), exit_on_error=True)

    async def look(self) -> None:
        """Look at the pools once, in another thread, and show them."""
        if self._looking:  # the last look takes longer than the interval
            return
        self._looking = True
        try:
            self.looks = await asyncio.to_thread(self._watch.look)
            self._problem = ""
        except OSError as error:  # the directory of pools
            self._problem = str(error)
        finally:
            self._looking = False
        if self._page_reads == 0 and self._page_due <= time.perf_counter() and self._is_page():
            await self._read_page()
        else:
            self.show()

    def show(self) -> None:
        """Bring the screen up to date."""
        if not self.is_running or not self.query("#filter"):
            return
        is_page = self._is_page()
        self._table.display = not is_page
        self.query_one("#page").display = is_page
        self.query_one("#head", Static).update(Text(cut(self._head(), self.size.width)))
        if is_page:
            self.query_one("#about", Static).update("")
        else:
            self._show_table()

    def _is_page(self) -> bool:
        return self.view.kind == "page"

    def _head(self) -> str:
        if self._problem:
            return f"cannot look: {escaped(self._problem)}"
        view = self.view
        where = {look.path: shown(look.name) for look in self.looks}.get(view.path or "", "")
        title = view.title or (f"{where}: {view.kind}" if where else view.kind)
        parts = [f"onecopy top > {title}", f"every {self._interval:g} s"]
        if self._paused:
            parts.append("paused")
        if view.filter:
            parts.append(f"filter {escaped(view.filter)!r}")
        return "  ".join(parts)

    # ---- a table

    def _scope(self) -> list[PoolLook]:
        path = self.view.path
        return [look for look in self.looks if path is None or look.path == path]

    def _made(self) -> Table:
        looks = self._scope()
        if self.view.kind == "pools":
            return pools(looks)
        make = channels if self.view.kind == "channels" else processes
        return make(looks, with_pool=len(looks) > 1)

    def _sorting(self) -> Sorting:
        return self.view.sorting.get(self.view.kind, Sorting())

    def _show_table(self) -> None:
        table, sorting = self._made(), self._sorting()
        rows = filtered(ordered(table, sorting), self.view.filter)
        chosen = fitted(table, rows, self.size.width - 1, self._widths)
        self._widths |= {column.key: wide for column, wide in chosen}
        layout = [(each.key, wide, self._title(each, wide, sorting)) for each, wide in chosen]
        cells = [
            [
                Text(
                    drawn(row.cells[each.key], each, wide, ascii_only=self._ascii),
                    _STYLES[row.cells[each.key].tone],
                    no_wrap=True,
                )
                for each, wide in chosen
            ]
            for row in rows
        ]
        keys = [row.key for row in rows]
        if layout == self._layout and keys == [row.key for row in self._rows]:
            for y, (new, old) in enumerate(zip(cells, self._cells, strict=True)):
                for x, (cell, before) in enumerate(zip(new, old, strict=True)):
                    if cell != before or cell.style != before.style:
                        self._table.update_cell_at(Coordinate(y, x), cell)
        else:
            self._fill(layout, cells, keys)
        self._layout, self._cells, self._rows = layout, cells, rows
        nothing = "" if rows else (table.nothing if not table.rows else "No row has this text.")
        self._tell(nothing)

    def _title(self, column: Column, wide: int, sorting: Sorting) -> str:
        title = column.title
        if column.key == sorting.key:
            down = column.right != sorting.backwards
            title += ("v" if down else "^") if self._ascii else ("▼" if down else "▲")
        title = cut(title, wide, "")
        return title.rjust(wide) if column.right else title.ljust(wide)

    def _fill(
        self,
        layout: list[tuple[str, int, str]],
        cells: list[list[Text]],
        keys: list[tuple[object, ...]],
    ) -> None:
        table = self._table
        top, at = table.scroll_y, table.cursor_row
        table.clear(columns=True)
        for key, wide, title in layout:
            table.add_column(Text(title, no_wrap=True), width=wide, key=key)
        for row in cells:
            table.add_row(*row)
        wanted = self.view.cursor
        if wanted in keys:
            at = keys.index(wanted)
        if keys:
            table.move_cursor(row=min(at, len(keys) - 1), scroll=False)
        table.scroll_to(y=top, animate=False, force=True)

    def _tell(self, nothing: str = "") -> None:
        """Describe the row of the cursor, uncut if there is room."""
        row = self._row()
        about = nothing or (row.about if row else "")
        self.query_one("#about", Static).update(Text(cut(about, self.size.width)))

    def _row(self) -> Row | None:
        at = self._table.cursor_row
        return self._rows[at] if 0 <= at < len(self._rows) else None

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Remember the row, so that it stays when others come and go."""
        if self.view.kind != "page" and 0 <= event.cursor_row < len(self._rows):
            self.view.cursor = self._rows[event.cursor_row].key
            self._tell()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Open the row: Enter, or a click on the row of the cursor."""
        if self.view.kind == "page" or not 0 <= event.cursor_row < len(self._rows):
            return
        row = self._rows[event.cursor_row]
        path = str(row.key[0])
        if self.view.kind == "pools":
            self._open(_View("channels", path, sorting=self.view.sorting))
        else:
            title = row.about.partition(": ")[0]
            self._open(_View("page", path, row.key, title))

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """Sort by a column that was clicked; a second click turns the order round."""
        key, now = self._layout[event.column_index][0], self._sorting()
        self._sort(now.turned() if now.key == key else Sorting(key))

    # ---- a page

    async def _read_page(self) -> None:
        """Make the page, in another thread: of hundreds of processes it takes a moment."""
        view, began = self.view, time.perf_counter()
        look = next((each for each in self.looks if each.path == view.path), None)
        self._page_reads += 1
        try:
            lines = await asyncio.to_thread(page, look, view.key)
        finally:
            self._page_reads -= 1
        took = time.perf_counter() - began
        # An expensive page is made less often.
        self._page_due = began + 10 * took if took > _EXPENSIVE else 0.0
        if self.view is view and self.is_running:
            if lines != self._page:
                self._page = lines
                self.query_one("#lines", Static).update(Group(*map(_styled, lines)))
            self.show()

    # ---- keys

    def _open(self, view: _View) -> None:
        self._views.append(view)
        self._turned()

    def _turned(self) -> None:
        """Show another table or page."""
        self._layout, self._rows, self._cells, self._widths = [], [], [], {}
        self._close_filter()
        self.show()
        if self.view.kind == "page":
            self._page = []
            self.query_one("#lines", Static).update("")
            self.run_worker(self._read_page(), exit_on_error=True)
            scroll = self.query_one("#page", VerticalScroll)
            scroll.scroll_home(animate=False)
            scroll.focus()
        else:
            self._table.focus()

    def _close_filter(self) -> None:
        line = self.query_one("#filter", Input)
        line.display = False
        with line.prevent(Input.Changed):
            line.value = self.view.filter

    def action_up(self) -> None:
        """Leave the filter, or the page, or the table of one pool."""
        if self.query_one("#filter").has_focus or self.view.filter:
            self.view.filter = ""
            self._turned()
        elif len(self._views) > 1:
            self._views.pop()
            self._turned()

    def action_turn(self, by: int) -> None:
        """Show the next table of the same pools."""
        view = self.view
        if self.query_one("#filter").has_focus:
            self._table.focus()
            return
        if view.kind == "page":
            return
        kinds = _KINDS if view.path is None else _KINDS[1:]
        view.kind = kinds[(kinds.index(view.kind) + by) % len(kinds)]
        view.cursor = None
        self._turned()

    def action_filter(self) -> None:
        """Type the words that a row must have."""
        if self.view.kind == "page":
            return
        line = self.query_one("#filter", Input)
        line.display = True
        line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter at each letter."""
        self.view.filter = event.value
        self.show()

    def on_input_submitted(self) -> None:
        """Return to the rows, with the filter."""
        self._close_filter()
        self._table.focus()

    def action_sort(self, by: int) -> None:
        """Sort by the next column of those that are shown."""
        if self.view.kind != "page":
            shown_keys = {key for key, _, _ in self._layout}
            columns = [each for each in self._made().columns if each.key in shown_keys]
            self._sort(self._sorting().moved(columns, by))

    def action_reverse(self) -> None:
        """Turn the order round."""
        if self.view.kind != "page":
            self._sort(self._sorting().turned())

    def _sort(self, sorting: Sorting) -> None:
        self.view.sorting[self.view.kind] = sorting
        self.show()

    def action_pause(self) -> None:
        """Stop looking, or look again."""
        self._paused = not self._paused
        self.show()

    def action_leave(self) -> None:
        """End."""
        self.exit(0)

    def action_interrupt(self) -> None:
        """End, as by Ctrl-C."""
        self.exit(INTERRUPTED)
