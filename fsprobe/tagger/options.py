"""What the texts of flags mean, for the commands around a tagger."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from extract.errors import InputError
from extract.store import Store
from fsprobe import features, flags
from fsprobe.tagger.labelled import read_prevalence
from fsprobe.tagger.training import LABELS


def open_stores(texts: Sequence[str]) -> dict[str, Store]:
    """The stores of --store=NAME=DIR, by name, in order. Raises InputError."""
    return features.open_stores(flags.parse_stores(texts))


def check_outputs(outputs: Mapping[str, str | None], inputs: Mapping[str, str | None]) -> None:
    """flag → its file, where it is given. Raises InputError where an output would take the place of
    an input or of another output.
    """
    taken = {os.path.realpath(path): flag for flag, path in inputs.items() if path}
    for flag, path in outputs.items():
        real = os.path.realpath(path) if path else ""
        if real in taken:
            raise InputError(f"--{flag}: {path} is the file of --{taken[real]} too; name another")
        if real:
            taken[real] = flag


def parse_prevalence(text: str) -> str | float | dict[str, float]:
    """`labels`, a number between 0 and 1, or the path of a CSV `tag,prevalence`."""
    if text == LABELS:
        return LABELS
    try:
        number = float(text)
    except ValueError:
        if Path(text).is_file():
            return read_prevalence(Path(text))
        raise InputError(
            f"--prevalence={text}: use labels, a number between 0 and 1, or a CSV of tag,prevalence"
        ) from None
    if not 0 < number < 1:
        raise InputError(f"--prevalence={text}: a share of clips lies between 0 and 1")
    return number


def parse_renames(texts: Iterable[str], tags: Sequence[str]) -> dict[str, str]:
    """OLD=NEW, where OLD is a tag: names may hold a `=` themselves."""
    found: dict[str, str] = {}
    for text in texts:
        cuts = [place for place, sign in enumerate(text) if sign == "="]
        fitting = [cut for cut in cuts if text[:cut] in tags]
        if not fitting:
            raise InputError(f"--rename={text}: write it as OLD=NEW with a tag of the tagger")
        cut = fitting[-1]
        if text[:cut] in found:
            raise InputError(f"--rename={text}: {text[:cut]!r} is renamed twice")
        found[text[:cut]] = text[cut + 1 :]
    return found
