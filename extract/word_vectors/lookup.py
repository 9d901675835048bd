"""From a table of word vectors to vectors of tags: the rule.

1. The whole tag: as it is written, in lower case, Capitalised or in CAPITALS; its blanks as they
   are, or as `_` or `-` ("hip hop" is found as hip-hop).
2. Else the mean over its words that have a vector, letter case as above. Words are runs of letters
   and digits.
3. A word of five letters or more that the table lacks counts as misspelt: it takes the vector of
   the word one edit away (a letter added, lost, changed, or two swapped; never the first) that
   comes first in the table, if that is among its first 100,000: published tables list frequent
   words first, and end in names that would explain any typing.
4. A tag has no vector if no word of it has one, or only words that mean little alone: see LITTLE.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

# (place in the table, vector) by word: those of the words asked for that the table has.
TableRows = dict[str, tuple[int, np.ndarray]]
Find = Callable[[Collection[str]], TableRows]

LITTLE = frozenset(
    {"a", "an", "and", "at", "by", "for", "from", "in", "no", "not", "of", "on", "or", "the"}
    | {"to", "with", "without"}
)
SHORTEST_MISSPELT = 5  # letters: of shorter words too many are one edit away
LAST_CORRECT = 100_000  # place in the table
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class TagVectors:
    """vectors: float32 `[tag, dim]`, a row for each of `tags`; `missing` have none.

    spelling: the word used for a misspelt one. partial: by tag, its words without a vector.
    """

    tags: tuple[str, ...]
    vectors: np.ndarray
    missing: tuple[str, ...]
    spelling: dict[str, str] = field(default_factory=dict)
    partial: dict[str, tuple[str, ...]] = field(default_factory=dict)


def tag_vectors(tags: Sequence[str], find: Find, *, words: bool = True) -> TagVectors:
    """The vectors of tags by the rule above. words: False for a table whose entries are whole tags;
    then steps 2 and 3 are left out.
    """
    asked = {form for tag in tags for form in whole_forms(tag)}
    if words:
        asked |= {form for tag in tags for word in split(tag) for form in cases(word)}
    found = find(asked)
    spelling: dict[str, str] = {}
    if words:
        near, spelling = _misspelt(_unknown(tags, found), find)
        found |= near
    vectors = {tag: _vector(tag, found, spelling, words) for tag in tags}
    kept = {tag: vector for tag, (vector, _) in vectors.items() if vector is not None}
    used = {word for tag in kept for word in split(tag)}
    return TagVectors(
        tuple(kept),
        np.array(list(kept.values()), np.float32),
        tuple(tag for tag in vectors if tag not in kept),
        {word: right for word, right in spelling.items() if word in used},
        {tag: lacking for tag, (_, lacking) in vectors.items() if lacking},
    )


def split(tag: str) -> list[str]:
    """The words of a tag, in order: runs of letters and digits."""
    return re.findall(r"[^\W_]+", tag)


def cases(word: str) -> list[str]:
    """The word as it is written, in lower case, Capitalised and in CAPITALS; without repeats."""
    return list(dict.fromkeys((word, word.lower(), word.capitalize(), word.upper())))


def whole_forms(tag: str) -> list[str]:
    """How a table may write the whole tag, in order of preference."""
    joined = (tag, *(sign.join(tag.split()) for sign in "_-"))
    return list(dict.fromkeys(form for text in joined for form in cases(text)))


def one_edit_away(word: str) -> Iterator[str]:
    """Every string that one edit behind the first letter makes of the word, with the letters a to z
    and the word's own.
    """
    letters = sorted({*_LETTERS, *word})
    for i in range(1, len(word) + 1):
        head, tail = word[:i], word[i:]
        yield from (head + letter + tail for letter in letters)
        if tail:
            yield head + tail[1:]
            yield from (head + letter + tail[1:] for letter in letters)
        if len(tail) > 1:
            yield head + tail[1] + tail[0] + tail[2:]


def _first(forms: Sequence[str], found: TableRows) -> np.ndarray | None:
    return next((found[form][1] for form in forms if form in found), None)


def _unknown(tags: Sequence[str], found: TableRows) -> list[str]:
    """The words, once each, of tags that are not found whole, that are not found either."""
    return list(
        dict.fromkeys(
            word
            for tag in tags
            if _first(whole_forms(tag), found) is None
            for word in split(tag)
            if _first(cases(word), found) is None
        )
    )


def _misspelt(unknown: Sequence[str], find: Find) -> tuple[TableRows, dict[str, str]]:
    """What the table has one edit away from the unknown words, and which of it each one means."""
    edits = {
        word: set(one_edit_away(word.lower()))
        for word in unknown
        if len(word) >= SHORTEST_MISSPELT and word.isalpha()
    }
    if not edits:
        return {}, {}
    near = find(set().union(*edits.values()))
    near = {word: hit for word, hit in near.items() if hit[0] < LAST_CORRECT}
    candidates = {word: strings & near.keys() for word, strings in edits.items()}
    return near, {
        word: min(strings, key=lambda string: near[string][0])
        for word, strings in candidates.items()
        if strings
    }


def _vector(
    tag: str, found: TableRows, spelling: dict[str, str], words: bool
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """(vector or None, words without one)."""
    whole = _first(whole_forms(tag), found)
    if whole is not None or not words:
        return whole, ()
    vectors = {word: _first([*cases(word), spelling.get(word, word)], found) for word in split(tag)}
    if not any(
        vector is not None and word.lower() not in LITTLE for word, vector in vectors.items()
    ):
        return None, ()
    have = [vector for word in split(tag) if (vector := vectors[word]) is not None]
    return np.mean(have, axis=0), tuple(w for w, vector in vectors.items() if vector is None)
