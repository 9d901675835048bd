"""fsprobe.pages.blocks: any name survives Markdown and HTML."""

import html
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fsprobe.pages.blocks import Bullets, Heading, Paragraph, Sounds, Table, to_html, to_markdown

anything = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
markup = st.text(st.sampled_from("ab _*`[]()<>|~\\$&;#-+1.!:"), min_size=1, max_size=20)


@given(anything | markup)
@example("~~a~~")
@settings(deadline=None, max_examples=300)
def test_any_name_survives_markdown_and_html(name):
    name = " ".join(name.split()) or "x"
    blocks = [Paragraph(name), Bullets([f"x {name}"]), Table("c", ["h"], [[name]])]
    page = to_html([Heading(1, name), *blocks], {})
    body = page[page.index("<body>") :]
    assert [
        html.unescape(found) for found in re.findall(r"<(?:h1|p)>(.*?)</(?:h1|p)>", body, re.S)
    ] == [name, name]
    assert html.unescape(re.search(r"<td[^>]*>(.*?)</td>", body, re.S).group(1)) == name
    markdown_it = pytest.importorskip("markdown_it")
    rendered = (
        markdown_it.MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .parse(to_markdown(blocks, str))
    )
    texts = [
        "".join(child.content for child in token.children)
        for token in rendered
        if token.type == "inline"
    ]
    assert texts == [name, f"x {name}", "c", "h", name]


@given(anything | markup)
@settings(deadline=None, max_examples=100)
def test_clips_to_play_keep_their_names_and_addresses(name):
    name = " ".join(name.split()) or "x"
    blocks = [Heading(1, "t"), Sounds("c", [(name, "a%20b.ogg#t=1,2"), (name, "")])]
    page = to_html(blocks, {})
    assert [html.unescape(s) for s in re.findall(r"<span>(.*?)</span>", page)] == [name, name]
    assert re.findall(r'<audio[^>]* src="([^"]*)"', page) == ["a%20b.ogg#t=1,2"]
    assert "media-src 'self' file:" in page and "media-src" not in to_html(blocks[:1], {})
    markdown_it = pytest.importorskip("markdown_it")
    tokens = markdown_it.MarkdownIt("commonmark").parse(to_markdown(blocks, str))
    inline = [token for token in tokens if token.type == "inline"][2:]
    texts = ["".join(child.content for child in token.children) for token in inline]
    assert texts == [f"{name} (listen)", name]
    (link,) = [c for token in inline for c in token.children if c.type == "link_open"]
    assert link.attrs["href"] == "a%20b.ogg#t=1,2"
