"""Tables for a terminal whose numbers are never cut, with a title above and remarks below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group

WORDS_WIDTH = 16  # to which the words of a table are folded where it is too wide


class WholeTable:
    """A table whose numbers are never cut: on a narrow terminal only the words are folded."""

    def __init__(self, table: Any, least: int) -> None:
        self.table, self.least = table, least

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Any:
        width = max(options.max_width, self.least)
        yield from console.render(self.table, options.update(max_width=width))


def text_table(
    heads: Sequence[str],
    lines: Sequence[Sequence[str]],
    *,
    words: int = 1,
    last: Sequence[str] = (),
    spaced: bool = False,
    sections: Sequence[int] = (),
) -> WholeTable:
    """A table whose first ``words`` columns are text.

    Args:
        last: a line of means. spaced: a rule between the lines. sections: lines, by their place,
            before which a rule stands.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=spaced)
    least = 1
    for place, head in enumerate(heads):
        cells = [*(line[place] for line in lines), *([last[place]] if last else [])]
        if place < words:
            table.add_column(Text(head), overflow="fold")
            least += 3 + min(WORDS_WIDTH, max(cell_len(text) for text in (head, *cells)))
        else:
            # a head may be broken between words, a number nowhere
            parts = [*head.split(), *(part for text in cells for part in text.split("\n"))]
            width = max(cell_len(part) for part in parts)
            table.add_column(Text(head), justify="right", width=width)
            least += 3 + width
    for place, line in enumerate(lines):
        if place in sections:
            table.add_section()
        table.add_row(*map(Text, line))
    if last:
        table.add_section()
        table.add_row(*map(Text, last))
    return WholeTable(table, least)


def titled(title: str, table: WholeTable, below: Sequence[str] = ()) -> Group:
    """A title, a table, and lines of text below it, for ``Console().print(..., soft_wrap=True)``.

    Nothing in the texts is taken for markup.
    """
    from rich.console import Group
    from rich.text import Text

    return Group(Text(title), table, *map(Text, below))
