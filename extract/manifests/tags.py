"""How people write tags and names: lists with other separators, spellings that only a computer
takes for different names, missing values.

Two spellings are the same name if they are equal after Unicode's NFKC_Casefold (Unicode Standard,
section 3.13, D145 and D146), with runs of blanks taken as one: then they differ in case, blanks,
Unicode form or invisible characters alone.
"""

import ast
import collections
import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from extract.errors import InputError
from extract.manifest import parse_tags

LIST = "list"  # as a separator: lists as Python, JSON and NumPy print them
# What pandas, R and spreadsheets write where there is no value, folded.
MISSING = frozenset(
    ("nan", "-nan", "na", "n/a", "#n/a", "#na", "<na>", "none", "null", "nil", "nat", "-", "?")
)
# Default_Ignorable_Code_Point of Unicode: zero-width and directional marks, variation selectors, …
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_NAMED = 3  # examples in a message


@dataclass(frozen=True)
class TagStyle:
    """How a column of tags is written.

    separator: the text between two tags, or `list`: ['rock', 'jazz']. normalize: fold every tag,
    and leave out what looks like a missing value.
    """

    separator: str = "|"
    normalize: bool = False

    def __post_init__(self) -> None:
        if not self.separator:
            raise InputError("--tag_separator is empty; give the text between two tags, or `list`")


@functools.lru_cache(1 << 16)
def clean(text: str) -> str:
    """In Unicode's form NFKC, without invisible characters, runs of blanks as one, none outside."""
    visible = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    return unicodedata.normalize("NFKC", " ".join(visible.split()))


@functools.lru_cache(1 << 16)
def fold(text: str) -> str:
    """What two spellings of one name have in common: `clean`, and without case."""
    return clean(unicodedata.normalize("NFKC", clean(text).casefold()))


def read_tags(text: str, style: TagStyle, where: str) -> tuple[str, ...]:
    """The tags of a cell, in order, without repeats. Raises InputError on a tag that no manifest
    can hold.
    """
    tags = _read_list(text, where) if style.separator == LIST else text.split(style.separator)
    if style.separator != "|":
        tags = [tag.strip() for tag in tags if tag.strip()]
    if style.normalize:
        folded = [fold(tag) for tag in tags]
        tags = [tag for tag in folded if tag and tag not in MISSING]
    bad = next((tag for tag in tags if "|" in tag), "")
    if bad and style.separator != "|":
        raise InputError(f"{where}: tag {bad!r} holds a '|', which separates tags; rename the tag")
    try:
        return parse_tags("|".join(tags), where)
    except InputError as error:
        hint = "" if style.normalize else "; --normalize_tags mends blanks"
        raise InputError(f"{error}{hint}") from None


def _read_list(text: str, where: str) -> list[str]:
    """['rock', 'jazz'] with any brackets, quotes or none, commas or none. A cell that is no list is
    one tag.
    """
    text = text.strip()
    if not text or (text[0], text[-1]) not in (("[", "]"), ("(", ")"), ("{", "}")):
        return [text]
    inner = text[1:-1]
    quoted = _QUOTED.findall(inner)
    if not quoted:
        return inner.split(",")
    between = _QUOTED.sub(" ", inner).replace(",", " ").split()
    if set(between) - {"None", "nan", "null"}:
        raise InputError(f"{where}: {text!r} is not read as a list of tags: {between[0]!r}")
    return [str(ast.literal_eval(token)) for token in quoted]


def doubts(counts: Mapping[str, int], style: TagStyle) -> list[str]:
    """One sentence for each kind of tag that was probably not meant as written, with the flag that
    corrects it. counts: clips per tag.
    """
    lists: dict[str, list[str]] = collections.defaultdict(list)
    for tag in counts:
        if separator := _separator_within(tag):
            lists[separator].append(tag)
    found = [
        f"{_examples(tags, counts)} looks like a list, and is read as one tag; if it is a list, "
        f"pass --tag_separator={separator}"
        for separator, tags in lists.items()
    ]
    if style.normalize:
        return found
    if missing := [tag for tag in counts if fold(tag) in MISSING]:
        found.append(
            f"{_examples(missing, counts)} looks like a missing value, and is read as a tag; "
            "--normalize_tags leaves it out"
        )
    if same := _spellings(counts):
        more = f" ({len(same)} tags have several spellings)" if len(same) > 1 else ""
        found.append(
            f"the tags {_spelt(same[0])} differ only in case, blanks, Unicode form or invisible "
            f"characters{more}; --normalize_tags makes them one"
        )
    return found


def _separator_within(tag: str) -> str:
    """What --tag_separator should be if the tag is a list; empty if it does not look like one."""
    if tag[:1] in "[({" and tag[-1:] in "])}" and len(tag) > 1 and ("'" in tag or '"' in tag):
        return LIST
    if tag[:1] == "[" or tag[-1:] == "]":
        return LIST
    return "';'" if ";" in tag else "," if "," in tag else ""


def _spellings(names: Iterable[str]) -> list[list[str]]:
    """The names that have several spellings, each with all of them, sorted."""
    spelt: dict[str, set[str]] = collections.defaultdict(set)
    for name in names:
        spelt[fold(name)].add(name)
    return [sorted(names) for _, names in sorted(spelt.items()) if len(names) > 1]


def _spelt(names: Sequence[str]) -> str:
    """The first of the names in words, with escapes where else they would look the same."""
    shown = repr if len({name.lower() for name in names}) == 1 else ascii
    return " and ".join(map(shown, names[:_NAMED]))


def _examples(tags: Sequence[str], counts: Mapping[str, int]) -> str:
    """The commonest tag, with its number of clips and how many there are like it."""
    first = max(tags, key=lambda tag: (counts[tag], tag))
    name = repr(first) if len(first) <= 60 else f"{first[:60]!r}…"
    more = f", and {len(tags) - 1} more like it" if len(tags) > 1 else ""
    return f"the tag {name} ({counts[first]} clips{more})"


def one_spelling(names: Sequence[str], note: Callable[[str], None]) -> tuple[str, ...]:
    """The names, each in its commonest spelling, cleaned ("" stays). note(sentence) is called with
    the spellings that were taken as one name, and with what looks like a missing value.
    """
    counts = collections.Counter(name for name in names if clean(name))
    commonest: dict[str, str] = {}
    for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        commonest.setdefault(fold(name), clean(name))
    if same := _spellings(counts):
        more = f", and so on for {len(same)} groups" if len(same) > 1 else ""
        note(f"the groups {_spelt(same[0])} are taken as one{more}")
    if missing := [name for name in counts if fold(name) in MISSING]:
        note(
            f"the group {missing[0]!r} ({counts[missing[0]]} clips) looks like a missing value, "
            "and is kept together as one group; leave the cell empty where nothing is known"
        )
    return tuple(commonest.get(fold(name), "") for name in names)
