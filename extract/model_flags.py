"""Flags for the options of models, made from the registry: shared by `extract.run` and
`extract.weights`.
"""

from typing import Any

from absl import flags

from extract.embeddings import registry
from extract.embeddings.registry import Option
from extract.errors import InputError

FLAGS = flags.FLAGS


def define(option: Option) -> None:
    """A flag for the option. None, its default, leaves the option to the model."""
    match option.kind:
        case "choice":
            flags.DEFINE_enum(option.flag, None, option.choices, option.help)
        case "choices":
            flags.DEFINE_multi_enum(option.flag, None, option.choices, option.help)
        case "integer":
            flags.DEFINE_integer(option.flag, None, option.help)
        case "number":
            flags.DEFINE_float(option.flag, None, option.help, lower_bound=0)
        case _:
            flags.DEFINE_string(option.flag, None, option.help)


def given(name: str) -> dict[str, Any]:
    """The options of model `name` that were given as flags, by their names in `build`. Raises
    InputError if a flag of another model was given, or no model has that name.
    """
    model = registry.model(name)
    options = {}
    for flag, (_, owners) in registry.options().items():
        if flag not in FLAGS or (value := FLAGS[flag].value) is None:
            continue
        if name not in owners:
            raise InputError(
                f"--{flag} is no option of --embedding={name}, but of {', '.join(owners)}"
            )
        options[model.argument(flag)] = value
    return options
