"""Makes flags of the fields of a configuration, reads them back into one, and parses the flags that
several commands have.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from absl import flags

from extract.errors import InputError
from fsprobe.config import AUTO, is_store_name

FLAGS = flags.FLAGS
flags.disclaim_key_flags()  # they are the calling module's: of its --help and its run.json
Config = TypeVar("Config")
_DEFINE: dict[type, Callable[..., Any]] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


def define(kind: type, **choices: Mapping[str, str]) -> None:
    """A flag for each field of the configuration that has a help text.

    choices: by field, the values it may have and what each is, where only the entry module knows
    them.
    """
    for item in dataclasses.fields(kind):
        help_text = item.metadata.get("help")
        if help_text is None:
            continue
        name = item.metadata["flag"] or item.name
        default: Any = item.default
        meanings = choices.get(item.name, {})
        help_text = " ".join(
            [help_text, *(f"{value}: {text}." for value, text in meanings.items())]
        )
        allowed = list(meanings or item.metadata["choices"])
        if item.type == tuple[int, ...]:
            flags.DEFINE_multi_integer(name, list(default), help_text)
        elif allowed and isinstance(default, tuple):
            flags.DEFINE_multi_enum(name, list(default), allowed, help_text)
        elif isinstance(default, tuple):
            flags.DEFINE_multi_string(name, [str(value) for value in default], help_text)
        elif allowed:
            flags.DEFINE_enum(name, default, allowed, help_text)
        else:
            _DEFINE[type(default)](name, default, help_text)


def read(
    kind: type[Config], parse: Mapping[str, Callable[[Any], Any]] = {}, **given: Any
) -> Config:
    """The configuration that the flags give. parse: by field, the function that makes the field's
    value of the flag's. given: values of fields that are no flags.
    """
    values = dict(given)
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]
        if item.metadata.get("help") is None or item.name in given:
            continue
        value, default = FLAGS[item.metadata["flag"] or item.name].value, item.default
        convert = parse.get(item.name, tuple if isinstance(default, tuple) else None)
        values[item.name] = value if convert is None else convert(value)  # type: ignore[arg-type]
    return kind(**values)


def parse_stores(texts: Sequence[str], flag: str = "store") -> dict[str, str]:
    """Name → directory of each NAME=DIR of a flag, in order. Raises InputError."""
    found: dict[str, str] = {}
    for text in texts:
        name, separator, directory = text.partition("=")
        if not (name and separator and directory):
            raise InputError(f"--{flag}={text}: write it as --{flag}=NAME=DIR")
        if not is_store_name(name):
            raise InputError(f"--{flag}={text}: a name is letters, digits, '_', '.' and '-'")
        if name in found:
            raise InputError(f"--{flag}: the name {name!r} is given twice")
        found[name] = directory
    return found


def parse_l2(text: str) -> float | str:
    """A strength, or `auto`. Raises InputError."""
    if text == AUTO:
        return AUTO
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise InputError(f"--l2={text}: use a positive number or `auto`")
    return number
