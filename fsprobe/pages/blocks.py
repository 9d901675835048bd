"""A report as a list of blocks, and the two templates that write it: Markdown, and one
self-contained HTML page that says the same. Only sounds are not in the page but linked.

All text is plain: whatever a tag or a folder is called, the templates escape it. Jinja replaced two
functions that put the pages together from strings: 81 lines of Python went, 102 of templates came.
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

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


@dataclass(frozen=True)
class Sounds:
    """Clips to play. clips: (what it is, the sound's URL relative to the page, or "" where there is
    nothing to play).
    """

    caption: str
    clips: Sequence[tuple[str, str]]


Block = Heading | Paragraph | Bullets | Code | Table | Figure | Sounds


def to_markdown(blocks: Sequence[Block], image: Callable[[str], str]) -> str:
    """GitHub-flavoured Markdown. image: name of a figure → where its file is, relative to the
    page.
    """
    template = _environment(finalize=_escape).get_template("report.md.jinja")
    return template.render(blocks=blocks, image=image).rstrip("\n") + "\n"


def to_html(blocks: Sequence[Block], images: Mapping[str, tuple[str, int, int]]) -> str:
    """One page without scripts or requests. images: name of a figure → (SVG, width, height in
    px).
    """
    encoded = {
        name: {"data": base64.b64encode(svg.encode()).decode(), "width": width, "height": height}
        for name, (svg, width, height) in images.items()
    }
    title = next((block.text for block in blocks if isinstance(block, Heading)), "Report")
    template = _environment(autoescape=True).get_template("report.html.jinja")
    plays = any(isinstance(block, Sounds) for block in blocks)
    return template.render(blocks=blocks, images=encoded, title=title, plays=plays)


def _environment(**options: Any) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fsprobe.pages"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    environment.filters["cells"] = lambda row: Markup(" | ").join(map(Markup, map(_escape, row)))
    return environment


# What Markdown would take for markup: some signs always, others only before what makes them one.
_MARKUP = re.compile(r"[\\`*|~$]|](?=[(:\[])|<(?=[A-Za-z/!?])|&(?=[#\w])|(?<![^\W_])_|_(?![^\W_])")
_BLOCK_MARK = re.compile(r"^(>|[#+=-]+(?=\s|$)|\d+[.)](?=\s|$))")


def _escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line; what a template calls safe is left alone."""
    if isinstance(text, Markup):
        return text
    text = _MARKUP.sub(lambda hit: "\\" + hit.group(), " ".join(text.split()))
    return _BLOCK_MARK.sub(lambda hit: hit.group()[:-1] + "\\" + hit.group()[-1], text)
