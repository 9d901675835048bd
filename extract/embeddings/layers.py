"""What the pretrained models share beside signal processing: 3×3 convolutions, parameter trees,
inner batches.
"""

import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.lax import optimization_barrier

Kernel = jax.Array
Product = Callable[[jax.Array, Kernel], jax.Array]

# Winograd's minimal filtering F(m, 3): m outputs of a 3-tap filter from m + 2 products, as
# output · ((taps · kernel) ⊙ (data · input)) (Lavin and Gray, "Fast Algorithms for Convolutional
# Neural Networks",
# CVPR 2016, section 4). F(4, 3) halves the products of the direct form, F(2, 3) takes two thirds.
_F4 = (
    np.array(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
    ),
    np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
    np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]),
)
_F2 = (
    np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
    np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2,
    np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
)


class Conv3x3(nn.Module):
    """3×3 SAME convolution with bias: `[batch, height, width, in]` → `[batch, height, width,
    features]`.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param(
            "kernel", nn.initializers.he_normal(), (3, 3, x.shape[-1], self.features)
        )
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        return jax.lax.platform_dependent(x, kernel, cpu=_conv3x3_cpu, default=_conv3x3) + bias


def _conv3x3(x: jax.Array, kernel: Kernel) -> jax.Array:
    """`[batch, height, width, in]`, `[3 or 1, 3, in, out]` → `[batch, height, width, out]`."""
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _conv3x3_cpu(x: jax.Array, kernel: Kernel) -> jax.Array:
    """The same by minimal filtering: XLA's CPU convolution runs near peak FLOP/s, so only fewer
    FLOPs are faster.
    """
    height, width, channels = x.shape[1:]
    # nine multiply-adds that fuse into one loop; a product with one row has no reuse to gain from
    if channels == 1:
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        taps = [
            x[:, i : i + height, j : j + width] * kernel[i, j, 0]
            for i in range(3)
            for j in range(3)
        ]
        return sum(taps[1:], taps[0])
    if channels <= 128:  # few channels make thin matrix products, where the second transform pays
        return _filter(x, kernel, 1, _F4, lambda x, kernel: _filter(x, kernel, 2, _F2, matmul))
    return _filter(x, kernel, 1, _F4, lambda x, kernel: _conv3x3(x, kernel[None]))


def _filter(
    x: jax.Array, kernel: Kernel, axis: int, algorithm: Sequence[np.ndarray], product: Product
) -> jax.Array:
    """Filter `x` along `axis` with the kernel's leading axis, zero-padded; `product` does the
    kernel's other axes.
    """
    data, taps, output = algorithm
    step, length = len(output), x.shape[axis]
    tiles = -(-length // step)
    x = jnp.pad(x, [(1, step * tiles + 1 - length) if a == axis else (0, 0) for a in range(x.ndim)])
    phases = [
        jax.lax.slice_in_dim(x, j, j + step * (tiles - 1) + 1, step, axis) for j in range(len(data))
    ]
    kernels = jnp.tensordot(jnp.asarray(taps, x.dtype), kernel, 1)
    # Without the barriers XLA fuses each transform into all its consumers and computes it many
    # times over.
    products = [
        optimization_barrier(product(optimization_barrier(combine(row, phases)), kernels[q]))
        for q, row in enumerate(data)
    ]
    y = jnp.stack([combine(row, products) for row in output], axis + 1)
    y = y.reshape(*y.shape[:axis], step * tiles, *y.shape[axis + 2 :])
    return jax.lax.slice_in_dim(y, 0, length, 1, axis)


def combine(weights: np.ndarray, arrays: Sequence[jax.Array]) -> jax.Array:
    """The arrays' sum with these weights; what stands at a zero is left out."""
    terms = [
        array if weight == 1 else array * weight.astype(array.dtype)
        for weight, array in zip(weights, arrays, strict=True)
        if weight
    ]
    return sum(terms[1:], terms[0])


def max_pool(
    x: jax.Array, window: tuple[int, int] = (2, 2), stride: tuple[int, int] = (2, 2)
) -> jax.Array:
    """VALID maximum of `[batch, height, width, channel]`; by slices, since XLA's reduce_window is
    slow on a CPU.
    """
    x = optimization_barrier(x)  # or XLA would compute it once for each slice
    for axis, (size, step) in enumerate(zip(window, stride, strict=True), 1):
        count = (x.shape[axis] - size) // step + 1
        parts = [
            jax.lax.slice_in_dim(x, i, i + step * (count - 1) + 1, step, axis) for i in range(size)
        ]
        x = functools.reduce(jnp.maximum, parts)
    return x


def map_batches(function: Callable[[jax.Array], Any], x: jax.Array, size: int) -> Any:
    """`function` of `[row, ...]`, an array or a tree of such, applied `size` rows at a time, in
    order: memory does not grow with the rows.
    """
    rows = x.shape[0]
    size = min(size, rows)
    batches = -(-rows // size)
    x = jnp.pad(x, [(0, batches * size - rows)] + [(0, 0)] * (x.ndim - 1))
    y = jax.lax.map(function, x.reshape(batches, size, *x.shape[1:]))
    return jax.tree.map(lambda y: y.reshape(batches * size, *y.shape[2:])[:rows], y)


def in_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with products in float32: GPUs and TPUs default to TF32 or bfloat16, with which
    the models were not checked against their packages.
    """
    return in_precision(function)


def in_precision(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with products in float32, or with `precision="bfloat16"` where it is called so:
    operands rounded to bfloat16, sums in float32; convolutions that XLA does as such, on GPUs and
    TPUs, are in the device's own fast precision. Front ends inside it stay `in_float32`.
    """

    @functools.wraps(function)
    def chosen(*args: Any, precision: str = "float32") -> Any:
        with jax.default_matmul_precision(precision):
            return function(*args)

    del chosen.__wrapped__  # whose signature lacks the precision
    return chosen


def matmul(x: jax.Array, y: jax.Array) -> jax.Array:
    """x @ y in the precision of the `in_precision` around it. In bfloat16 the operands are rounded
    here: a CPU knows no default precision, and a GPU's is TF32.
    """
    if jax.config.jax_default_matmul_precision != "bfloat16":  # type: ignore[attr-defined]
        return x @ y
    return jnp.matmul(
        x.astype(jnp.bfloat16), y.astype(jnp.bfloat16), preferred_element_type=jnp.float32
    )


class Dense(nn.Dense):
    """flax's, with `matmul`."""

    dot_general: Any = staticmethod(lambda x, kernel, *_, **__: matmul(x, kernel))


def rounded(params: Any, precision: str) -> Any:
    """The parameters as products in that precision read them, once and not in every batch."""
    if precision != "bfloat16":
        return params
    return {
        name: rounded(leaf, precision)
        if isinstance(leaf, Mapping)
        else np.asarray(leaf).astype(jnp.bfloat16)
        if name == "kernel" and np.ndim(leaf) == 2
        else leaf
        for name, leaf in params.items()
    }


def random_tree(shapes: Any, key: jax.Array) -> Any:
    """A float32 tree of the given shapes, drawn by NumPy so that goldens hold on every JAX version
    and device.

    Leaves called kernel get He's variance 2/fan_in, scale and var lie around 1, all others around
    0. Each leaf depends on the key and on its own path only.
    """

    def draw(path: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
        of_path = zlib.crc32("/".join(path).encode())
        rng = np.random.default_rng([*np.asarray(jax.random.key_data(key)).ravel(), of_path])
        x = rng.standard_normal(shape, dtype=np.float32)
        if path[-1] == "kernel":
            return x * np.float32(np.sqrt(2 / np.prod(shape[:-1])))
        if path[-1] in ("scale", "var"):
            return 1 + np.float32(0.2) * np.tanh(x)
        return x * np.float32(0.1)

    return unflatten_dict(
        {path: draw(path, leaf.shape) for path, leaf in flatten_dict(shapes).items()}
    )
