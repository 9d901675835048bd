"""What the fields of a configuration are made of: defaults with help texts, and checks."""

import dataclasses
import math
from dataclasses import field
from types import UnionType
from typing import Any, get_args, get_origin

from extract.errors import InputError

FULL = "full"  # the K of a probe that trains on every training clip

KShot = int | str  # a positive integer, 0 for a tag's words alone, or FULL


def setting(
    default: Any,
    help_text: str,
    flag: str | None = None,
    choices: tuple[str, ...] = (),
    recorded: Any = None,
) -> Any:
    """A field that is a flag. flag: its name, if it is not the field's. recorded: the type of what
    run.json has in its place, if that is not the field's.
    """
    return field(
        default=default,
        metadata={"help": help_text, "flag": flag, "choices": choices, "recorded": recorded},
    )


def require(condition: bool, name: str, value: Any, remedy: str) -> None:
    """Raise InputError, naming the argument in backticks, unless the condition holds."""
    if not condition:
        raise InputError(f"`{name}={value}`: {remedy}")


def require_each_once(config: Any, *names: str) -> None:
    """Raise InputError unless each of these fields has one value or more, and none twice."""
    for name in names:
        values = getattr(config, name)
        once = 0 < len(values) == len(set(values))
        require(once, name, values, "give one value or more, each once")


def is_of(value: Any, kind: Any) -> bool:
    """Whether a value has the type that a field is annotated with: a class, a union, or a tuple.
    A whole number is a float too; True and False are no numbers.
    """
    if isinstance(kind, UnionType):
        return any(is_of(value, one) for one in get_args(kind))
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        if not isinstance(value, tuple):
            return False
        if parts[-1] is Ellipsis:
            return all(is_of(part, parts[0]) for part in value)
        return len(value) == len(parts) and all(map(is_of, value, parts))
    if isinstance(value, bool) and kind is not bool:
        return False
    return isinstance(value, int | float if kind is float else kind)


def check_choices(config: Any) -> None:
    """Raise InputError where a field has a value that is not one of its choices, or a number that
    is not finite.
    """
    for item in dataclasses.fields(config):
        value, choices = getattr(config, item.name), item.metadata.get("choices")
        name = item.metadata.get("flag") or item.name
        if choices:
            require(value in choices, name, value, f"use one of {', '.join(choices)}")
        if isinstance(value, float):
            require(
                math.isfinite(value) and value >= 0, name, value, "use a finite number, 0 or more"
            )
