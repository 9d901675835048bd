"""What the texts of flags mean, for the commands around a tagger."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from extract.errors import InputError
from extract.files import is_number
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
        other = taken.setdefault(os.path.realpath(path), flag) if path else flag
        if other != flag:
            raise InputError(f"--{flag}: {path} is the file of --{other} too; name another")


def parse_prevalence(text: str) -> str | float | dict[str, float]:
    """`labels`, a number between 0 and 1, or the path of a CSV `tag,prevalence`."""
    if text == LABELS:
        return LABELS
    if not is_number(text) and Path(text).is_file():
        return read_prevalence(Path(text))
    number = float(text) if is_number(text) else math.nan
    if not 0 < number < 1:
        raise InputError(
            f"--prevalence={text}: use labels, a number between 0 and 1, or a CSV of tag,prevalence"
        )
    return number


def parse_renames(texts: Iterable[str], tags: Sequence[str]) -> dict[str, str]:
    """OLD=NEW, where OLD is a tag: names may hold a `=` themselves."""
    found: dict[str, str] = {}
    for text in texts:
        olds = [text[:i] for i, sign in enumerate(text) if sign == "=" and text[:i] in tags]
        if not olds:
            raise InputError(f"--rename={text}: write it as OLD=NEW with a tag of the tagger")
        if olds[-1] in found:
            raise InputError(f"--rename={text}: {olds[-1]!r} is renamed twice")
        found[olds[-1]] = text[len(olds[-1]) + 1 :]
    return found
