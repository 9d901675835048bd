"""Flags of a command out of the fields of its configuration, and back."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from absl import flags

FLAGS = flags.FLAGS
flags.disclaim_key_flags()  # they are the calling module's: of its --help and its run.json
Config = TypeVar("Config")


def define(kind: type, whole: Sequence[str] = (), **choices: list[str]) -> None:
    """A flag for each field of the configuration that has a help text.

    whole: fields of several whole numbers. choices: by field, the values it may have, where only
    the entry module knows them.
    """
    for item in dataclasses.fields(kind):
        help_text = item.metadata.get("help")
        if help_text is None:
            continue
        name = item.metadata["flag"] or item.name
        default: Any = item.default
        allowed = choices.get(item.name) or list(item.metadata["choices"])
        if isinstance(default, bool):
            flags.DEFINE_bool(name, default, help_text)
        elif default and isinstance(default, tuple) and name in whole:
            flags.DEFINE_multi_integer(name, list(default), help_text)
        elif allowed and isinstance(default, tuple):
            flags.DEFINE_multi_enum(name, list(default), allowed, help_text)
        elif isinstance(default, tuple):
            flags.DEFINE_multi_string(name, [str(value) for value in default], help_text)
        elif allowed:
            flags.DEFINE_enum(name, default, allowed, help_text)
        elif isinstance(default, int):
            flags.DEFINE_integer(name, default, help_text)
        elif isinstance(default, float):
            flags.DEFINE_float(name, default, help_text)
        else:
            flags.DEFINE_string(name, default, help_text)


def read(
    kind: type[Config], parse: Mapping[str, Callable[[Any], Any]] = {}, **given: Any
) -> Config:
    """The configuration that the flags say. parse: by field, what makes its value of the flag's.
    given: fields that are no flags.
    """
    values = dict(given)
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]
        if item.metadata.get("help") is None or item.name in given:
            continue
        value, default = FLAGS[item.metadata["flag"] or item.name].value, item.default
        convert = parse.get(item.name, tuple if isinstance(default, tuple) else None)
        values[item.name] = value if convert is None else convert(value)  # type: ignore[arg-type]
    return kind(**values)
