"""Products in float32, also on devices whose default is TF32 or bfloat16."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def in_float32(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """`function` with matrix products in float32, unless its caller has set
    `jax.default_matmul_precision`, as a sweep does from `--matmul_precision`. By themselves GPUs
    keep 10 bits of a product's operands, and TPUs 7.
    """

    @functools.wraps(function)
    def computed(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        chosen = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
        with jax.default_matmul_precision(chosen or "float32"):
            return function(*args, **kwargs)

    return computed
