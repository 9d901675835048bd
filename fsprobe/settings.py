"""What the fields of a configuration are made of: defaults with help texts, and checks."""

import dataclasses
import math
from dataclasses import field
from typing import Any

from extract.errors import InputError

FULL = "full"  # the K of a probe that trains on every training clip

KShot = int | str  # a positive integer, 0 for a tag's words alone, or FULL


def setting(
    default: Any, help_text: str, flag: str | None = None, choices: tuple[str, ...] = ()
) -> Any:
    """A field that is a flag. flag: its name, if it is not the field's."""
    return field(default=default, metadata={"help": help_text, "flag": flag, "choices": choices})


def require(condition: bool, name: str, value: Any, remedy: str) -> None:
    """Raise InputError, naming the argument in backticks, unless the condition holds."""
    if not condition:
        raise InputError(f"`{name}={value}`: {remedy}")


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
