"""A report as a list of blocks, rendered to Markdown and to one self-contained HTML page that say
the same.

All text is plain: whatever a tag or a folder is called, it is escaped here and nowhere else.
"""

import base64
import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


@dataclass(frozen=True)
class Heading:
    """level 1 is the title of the page."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Bullets:
    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Lines to be shown as they are."""

    text: str


@dataclass(frozen=True)
class Table:
    """rows: texts, one per column of header. The first `left` columns are aligned left, the others
    right.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1


@dataclass(frozen=True)
class Figure:
    """A drawing, made only when asked for. alt: what it shows, for those who do not see it."""

    name: str
    alt: str
    caption: str
    draw: "Callable[[], Drawing]" = field(compare=False)


Block = Heading | Paragraph | Bullets | Code | Table | Figure


def to_markdown(blocks: Sequence[Block], image: Callable[[str], str]) -> str:
    """GitHub-flavoured Markdown. image: name of a figure → where its file is, relative to the
    page.
    """
    return "\n\n".join(_markdown(block, image) for block in blocks) + "\n"


def to_html(blocks: Sequence[Block], images: Mapping[str, tuple[str, int, int]]) -> str:
    """One page without scripts or requests. images: name of a figure → (SVG, width, height in
    px).
    """
    title = next((block.text for block in blocks if isinstance(block, Heading)), "Report")
    body = "\n".join(_html(block, images) for block in blocks)
    return _PAGE.format(title=html.escape(title), style=_STYLE, body=body)


def _markdown(block: Block, image: Callable[[str], str]) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {_escape(text)}"
        case Paragraph(text):
            return _escape(text)
        case Bullets(items):
            return "\n".join(f"- {_escape(item)}" for item in items)
        case Code(text):
            return f"```\n{text}\n```"
        case Table(caption, header, rows, left):
            rule = [":--" if i < left else "--:" for i in range(len(header))]
            lines = [list(map(_escape, header)), rule, *(list(map(_escape, row)) for row in rows)]
            return f"{_escape(caption)}\n\n" + "\n".join(
                f"| {' | '.join(line)} |" for line in lines
            )
        case Figure(name, alt, caption):
            return f"![{_escape(alt)}]({image(name)})\n\n{_escape(caption)}"
    raise TypeError(block)


# What Markdown would take for markup: some signs always, others only before what makes them one.
_MARKUP = re.compile(r"[\\`*|~$]|](?=[(:\[])|<(?=[A-Za-z/!?])|&(?=[#\w])|(?<![^\W_])_|_(?![^\W_])")
_BLOCK_MARK = re.compile(r"^(>|[#+=-]+(?=\s|$)|\d+[.)](?=\s|$))")


def _escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    text = _MARKUP.sub(lambda hit: "\\" + hit.group(), " ".join(text.split()))
    return _BLOCK_MARK.sub(lambda hit: hit.group()[:-1] + "\\" + hit.group()[-1], text)


def _html(block: Block, images: Mapping[str, tuple[str, int, int]]) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{html.escape(text)}</p>"
        case Bullets(items):
            return (
                "<ul>\n" + "\n".join(f"<li>{html.escape(item)}</li>" for item in items) + "\n</ul>"
            )
        case Code(text):
            return f'<pre tabindex="0">{html.escape(text)}</pre>'
        case Table(caption, header, rows, left):
            heads = "".join(
                f'<th scope="col"{_side(i, left)}>{html.escape(text)}</th>'
                for i, text in enumerate(header)
            )
            body = "\n".join(
                "<tr>"
                + "".join(
                    f"<td{_side(i, left)}>{html.escape(text)}</td>" for i, text in enumerate(row)
                )
                + "</tr>"
                for row in rows
            )
            return (
                f'<figure class="table"><figcaption>{html.escape(caption)}</figcaption>\n'
                '<div class="scroll" tabindex="0" role="region" '
                f'aria-label="Table: {html.escape(header[0])} …">'
                f"<table><thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table></div></figure>"
            )
        case Figure(name, alt, caption):
            svg, width, height = images[name]
            data = base64.b64encode(svg.encode()).decode()
            return (
                f'<figure><img src="data:image/svg+xml;base64,{data}" '
                f'width="{width}" height="{height}" '
                f'alt="{html.escape(alt)}">\n<figcaption>{html.escape(caption)}</figcaption></figure>'
            )
    raise TypeError(block)


def _side(column: int, left: int) -> str:
    return ' class="l"' if column < left else ""


_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: #fff; color: #1a1a1a;
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2, h3, h4 { line-height: 1.25; margin: 2rem 0 .5rem; }
h1 { margin-top: .5rem; }
h2 { border-bottom: 1px solid #ccc; padding-bottom: .25rem; }
figure { margin: 1.5rem 0; }
figcaption { color: #444; font-size: .9rem; max-width: 45rem; }
figure.table figcaption { margin-bottom: .4rem; }
img { display: block; max-width: 100%; height: auto; }
.scroll, pre { overflow-x: auto; }
.scroll:focus-visible, pre:focus-visible { outline: 2px solid #0072b2; }
pre { background: #f4f4f4; padding: .6rem .8rem; font-size: .85rem; overflow-wrap: normal; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right;
  white-space: nowrap }
th { border-bottom: 2px solid #888; vertical-align: bottom; }
.l { text-align: left; }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
