"""HTML pages that are one file: nothing is loaded from elsewhere, pictures are embedded."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from html import escape
from pathlib import PurePath

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --faint: #59636e; --line: #d1d9e0;
  --paper: #ffffff; --panel: #f6f8fa; --accent: #0969da; --alarm: #9a3b00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --faint: #9198a1; --line: #3d444d;
  --paper: #0d1117; --panel: #151b23; --accent: #4493f8; --alarm: #f0a35e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 78rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; overflow-wrap: anywhere; }
p, li { overflow-wrap: anywhere; } a { color: var(--accent); }
.faint { color: var(--faint); font-size: .875rem; } .alarm { color: var(--alarm); }
.wide { overflow-x: auto; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9375rem; }
th, td { padding: .3rem .65rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
  background: var(--paper); max-width: 55vw; white-space: normal; overflow-wrap: anywhere; }
thead th { background: var(--panel); } tfoot td { font-weight: 600; }
td.text, th.text { text-align: left; white-space: normal; overflow-wrap: anywhere; }
figure { margin: .75rem 0; } figcaption { color: var(--faint); font-size: .875rem;
  overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; border-radius: 4px; background: #fff; }
.wide > img { max-width: none; }
details > summary { cursor: pointer; padding: .3rem 0; color: var(--accent); }
"""


def document(title: str, body: Sequence[str]) -> str:
    """A whole page of parts of HTML; readable on a phone, in light and in dark."""
    made = time.strftime("%Y-%m-%d %H:%M:%S")
    parts = [*body, f'<p class="faint">Made on {made}.</p>']
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def table(
    heads: Sequence[str],
    lines: Sequence[Sequence[str]],
    *,
    text: Sequence[int] = (),
    last: Sequence[str] = (),
) -> str:
    """A table that scrolls sideways where it is too wide; every cell is escaped.

    Args:
        heads: of the columns, of which the first stays in sight. lines: of cells.
        text: columns of words, which are set to the left and wrapped. last: a line of sums.
    """

    def line(cells: Sequence[str], tag: str) -> str:
        marked = (
            f"<{tag}{' class=text' if i in text else ''}>{escape(str(c))}</{tag}>"
            for i, c in enumerate(cells)
        )
        return f"<tr>{''.join(marked)}</tr>"

    foot = f"<tfoot>{line(last, 'td')}</tfoot>" if last else ""
    return (
        f'<div class="wide"><table><thead>{line(heads, "th")}</thead>'
        f"<tbody>{''.join(line(cells, 'td') for cells in lines)}</tbody>{foot}</table></div>"
    )


def remarks(lines: Sequence[str]) -> str:
    """What belongs under a table, as a list; lines that begin with 'warning' or 'not comparable'
    stand out."""
    items = []
    for line in lines:
        loud = line.startswith(("warning", "not comparable"))
        items.append(f"<li{' class=alarm' if loud else ''}>{escape(line)}</li>")
    return f'<ul class="faint">{"".join(items)}</ul>'


def embedded_image(data: bytes, kind: str, alternative: str, *, scrolls: bool = False) -> str:
    """An image as a part of the page.

    Args:
        kind: 'png' or 'jpeg'.
        scrolls: a narrow screen shows it in its own size and scrolls, instead of making it smaller.
    """
    encoded = base64.b64encode(data).decode()
    shown = (
        f'<img loading="lazy" alt="{escape(alternative)}" src="data:image/{kind};base64,{encoded}">'
    )
    return f'<div class="wide">{shown}</div>' if scrolls else shown


def short_path(path: str) -> str:
    """The last three parts: enough to find the file, without somebody's home directory."""
    return "/".join(PurePath(path).parts[-3:])
