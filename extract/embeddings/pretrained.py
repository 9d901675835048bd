"""From the options of a run to parameters: a weights file, the cache, or random numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from extract.embeddings import weights_formats
from extract.embeddings.weights_formats import Tensors
from extract.errors import InputError
from extract.wheels import Wheel

# path in a parameter tree → (published name, axes that transpose the published array, or None)
Layout = dict[str, tuple[str, tuple[int, ...] | None]]
OIHW = (2, 3, 1, 0)  # torch's convolution kernel → flax's HWIO
LINEAR = (1, 0)  # torch's [out, in] → flax's [in, out]


@dataclass(frozen=True)
class Source:
    """weights: a file, or None for the cache. cache_dir: None for the user's. random_weights: a
    seed, or None.

    backend: `jax`, or `package` for the model's own package. precision: of the network's products,
    in JAX.
    """

    weights: str | Path | None = None
    cache_dir: str | Path | None = None
    random_weights: int | None = None
    backend: str = "jax"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.backend == "package" and self.precision != "float32":
            raise InputError(f"precision {self.precision} belongs to backend jax; leave one out")
        if self.random_weights is not None and not 0 <= self.random_weights < 2**31:
            raise InputError(
                f"--random_weights={self.random_weights}: a seed is from 0 to {2**31 - 1}"
            )
        if self.weights is not None and self.random_weights is not None:
            raise InputError(
                f"weights {str(self.weights)!r} and random weights exclude each other; give one of "
                f"them"
            )


def obtain(
    source: Source,
    name: str,
    init: Callable[[jax.Array], Any],
    convert: Callable[[Tensors, str], Any],
    *,
    variant: str = "",
    companion: str = "",
    wheel: Wheel | None = None,
    get: Callable[[], object] | None = None,
) -> tuple[Any, dict[str, Any]]:
    """(parameters, provenance). get: called where the cache has no weights yet, to put them there.

    Raises InputError if there are no weights, naming the command that gets them.
    """
    if source.random_weights is not None:
        return init(jax.random.key(source.random_weights)), {
            "weights": f"random, seed {source.random_weights}"
        }
    path = (
        Path(source.weights)
        if source.weights
        else weights_formats.cache_file(name, variant, source.cache_dir)
    )
    if not source.weights and not path.exists() and get is not None:
        get()
    if not source.weights and not path.exists():
        command = f"python -m extract.weights --embedding={name}"
        command += f" --{name}_variant={variant}" if variant else ""
        command += f" --cache_dir={source.cache_dir}" if source.cache_dir else ""
        raise InputError(f"{path}: no weights of {name} there; get them with: {command}")
    tensors, files = weights_formats.read_weights(path, companion, wheel)
    return convert(tensors, str(path)), {"weights": files}


def jax_provenance(source: Source) -> dict[str, str]:
    """precision is recorded only where it is not float32, as stores from before it was an option
    have none.
    """
    named = {} if source.precision == "float32" else {"precision": source.precision}
    return {"jax": jax.__version__, "platform": jax.default_backend(), **named}


def from_published(tensors: Tensors, layout: Layout, shapes: Any, where: str) -> Any:
    """Parameter tree like `shapes`. Raises InputError where a tensor is missing or does not fit."""
    leaves = {}
    wanted = flatten_dict(shapes, sep="/")
    for path, (name, axes) in layout.items():
        if name not in tensors:
            raise InputError(
                f"{where}: tensor {name!r} is missing; is this the weights file of another model?"
            )
        leaf = tensors[name]
        if axes and leaf.ndim == len(axes):
            leaf = leaf.transpose(axes)
        if leaf.shape != wanted[path].shape:
            raise InputError(
                f"{where}: tensor {name!r} has shape {list(tensors[name].shape)}, which does not "
                f"fit {list(wanted[path].shape)}; is this the weights file of another model?"
            )
        leaves[path] = leaf
    return unflatten_dict(leaves, sep="/")


def to_published(params: Any, layout: Layout) -> Tensors:
    """The inverse, for the leaves that there are: tensors under their published names."""
    leaves = {path: np.asarray(leaf) for path, leaf in flatten_dict(params, sep="/").items()}
    return {
        name: leaves[path].transpose(np.argsort(axes)) if axes else leaves[path]
        for path, (name, axes) in layout.items()
        if path in leaves
    }
