"""musicnn's first convolutions: filters over time and mel whose outputs are maximised over mel.

They are nine tenths of the model's arithmetic (2.7 of 2.8 GFLOP a window of 3 s). Their kernels
have one input channel and are large, so they are matrix products in disguise, which XLA's CPU
convolution runs near peak FLOP/s; there, fewer FLOPs and fatter products are what helps.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from extract.embeddings.layers import combine, map_batches

Layer = Mapping[str, jax.Array]  # kernel `[taps, bands, 1, out]`, bias `[out]`
Norm = tuple[jax.Array, jax.Array]  # factor and summand, `[out]` each

# Minimal filtering F(3, 3): three outputs of a filter of three taps from five products, as
# output · ((taps · kernel) ⊙ (data · input)) (Lavin and Gray, CVPR 2016, with points 0, 1, -1, 2,
# ∞). F(2, 2) saves less, F(4, 4) moves more data than it saves products, F(5, 5) loses a digit.
_STEP = 3
_DATA = np.array(
    [[2, -1, -2, 1, 0], [0, -2, -1, 1, 0], [0, 2, -3, 1, 0], [0, -1, 0, 1, 0], [0, 2, -1, -2, 1]]
)
_TAPS = np.array([[3, 0, 0], [-3, -3, -3], [-1, 1, -1], [1, 2, 4], [0, 0, 6]]) / 6
_OUTPUT = np.array([[1, 1, 1, 1, 0], [0, 1, -1, 2, 0], [0, 1, 1, 4, 1]])
_FRAMES = 4  # frames of output that `along_time` takes from one row of a product


def across_mel(layer: Layer, norm: Norm, x: jax.Array) -> jax.Array:
    """Filters `[7, height]`: `[batch, frame, band]` → `[batch, frame, out]`, the maximum over mel
    positions of the normalised ReLU; three zeros at both ends in time, none in mel.
    """
    return _largest(
        layer,
        norm,
        x,
        lambda x, kernel: jax.lax.platform_dependent(
            x, kernel, cpu=filtered_across_mel, default=direct_across_mel
        ),
    )


def along_time(layer: Layer, norm: Norm, x: jax.Array) -> jax.Array:
    """The same with filters `[taps, 1]`, as many frames out as in: TensorFlow's SAME."""
    return _largest(
        layer,
        norm,
        x,
        lambda x, kernel: jax.lax.platform_dependent(
            x, kernel, cpu=banded_along_time, default=direct_along_time
        ),
    )


def by_window(function: Callable[[jax.Array], Any], x: jax.Array) -> Any:
    """function(x), on a CPU window by window, which stays in its cache; elsewhere as many windows
    at a time as make 12,000 frames, which need some gigabytes.
    """
    return jax.lax.platform_dependent(
        x,
        cpu=lambda x: map_batches(function, x, 1),
        default=lambda x: map_batches(function, x, max(1, 12_000 // x.shape[1])),
    )


def _largest(
    layer: Layer,
    norm: Norm,
    x: jax.Array,
    maximum: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:
    """max over positions of factor · relu(z + bias) + summand, where maximum(x, kernel) is that of
    z.

    A rising function of z where the factor is positive, a falling one where it is negative: so the
    largest value is that of the largest z, or of the smallest, which is minus the largest of −z.

    Each convolution has a loop over windows of its own, and its kernel is ready before the loop: on
    two cores XLA takes three quarters of the time that one loop for all convolutions takes.
    """
    factor, summand = norm
    sign = jnp.where(factor < 0, -1.0, 1.0).astype(factor.dtype)
    kernel = jax.lax.optimization_barrier(layer["kernel"][:, :, 0] * sign)
    z = sign * by_window(lambda x: maximum(x, kernel), x)
    return jax.nn.relu(z + layer["bias"]) * factor + summand


def direct_across_mel(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`[batch, frame, band]`, `[7, height, out]` → the largest z over mel `[batch, frame, out]`."""
    return _conv(x, kernel, 1, (3, 3)).max(2)


def filtered_across_mel(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same. Every third band is a channel of its own: then the filter is three filters a third
    as high, and three neighbouring positions are the three outputs of a filter of three taps.

    XLA computes products, combinations and maximum as one, on all cores, as long as all are
    convolutions, sums, multiples and maxima: with a `where` in it each product ran on one core.
    """
    bands, height = x.shape[2], kernel.shape[1]
    positions = bands - height + 1
    tall, steps = -(-height // _STEP), -(-positions // _STEP)
    kernel = jnp.pad(kernel, ((0, 0), (0, _STEP * tall - height), (0, 0)))
    phases = 2 * _STEP - 1
    length = steps + tall - 1
    x = jnp.pad(x, ((0, 0), (0, 0), (0, max(0, _STEP * (length + 1) - bands))))
    inputs = [x[:, :, phase::_STEP][:, :, :length] for phase in range(phases)]
    kernels = [kernel[:, phase::_STEP] for phase in range(_STEP)]
    products = [
        _conv(combine(data, inputs), combine(taps, kernels), 1, (3, 3))
        for data, taps in zip(_DATA, _TAPS, strict=True)
    ]
    best = None
    for phase, row in enumerate(_OUTPUT):
        y = combine(row, products)
        beyond = _STEP * np.arange(steps) + phase >= positions  # of the filled up last step
        if beyond.any():
            y = y + np.where(beyond, -np.inf, 0).astype(np.float32)[:, None]
        best = y if best is None else jnp.maximum(best, y)
    assert best is not None
    return best.max(2)


def direct_along_time(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`[batch, frame, band]`, `[taps, 1, out]` → the largest z over mel, `[batch, frame, out]`."""
    taps = len(kernel)
    return _conv(x, kernel, 1, ((taps - 1) // 2, taps // 2)).max(2)


def banded_along_time(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same. Four frames of output from one row of a product: 51 columns alone are too few to be
    fast. The kernel stands in it four times, each a frame later (a Toeplitz matrix).
    """
    batch, frames = x.shape[:2]
    taps, _, out = kernel.shape
    rows = -(-frames // _FRAMES)
    shifted = [jnp.pad(kernel, ((i, _FRAMES - 1 - i), (0, 0), (0, 0))) for i in range(_FRAMES)]
    before = (taps - 1) // 2
    after = (rows - 1) * _FRAMES + taps + _FRAMES - 1 - before - frames
    y = _conv(x, jnp.concatenate(shifted, -1), _FRAMES, (before, after)).max(2)
    return y.reshape(batch, rows * _FRAMES, out)[:, :frames]


def _conv(x: jax.Array, kernel: jax.Array, stride: int, pad: tuple[int, int]) -> jax.Array:
    """`[batch, frame, band]`, `[taps, height, out]` → `[batch, frame, position, out]`; stride and
    padding are those of time.
    """
    return jax.lax.conv_general_dilated(
        x[..., None],
        kernel[:, :, None],
        (stride, 1),
        [pad, (0, 0)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
