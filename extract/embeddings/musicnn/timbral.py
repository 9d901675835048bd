"""musicnn's first convolutions: filters over time and mel whose outputs are maximised over mel."""

from collections.abc import Mapping

import jax

Layer = Mapping[str, jax.Array]  # kernel `[taps, bands, 1, out]`, bias `[out]`
Norm = tuple[jax.Array, jax.Array]  # factor and summand, `[out]` each


def across_mel(layer: Layer, norm: Norm, x: jax.Array) -> jax.Array:
    """Filters `[7, height]`: `[batch, frame, band]` → `[batch, frame, out]`, the maximum over mel
    positions of the normalised ReLU; three zeros at both ends in time, none in mel.
    """
    y = jax.lax.conv_general_dilated(
        x[..., None],
        layer["kernel"],
        (1, 1),
        [(3, 3), (0, 0)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return (jax.nn.relu(y + layer["bias"]) * norm[0] + norm[1]).max(2)


def along_time(layer: Layer, norm: Norm, x: jax.Array) -> jax.Array:
    """The same with filters `[taps, 1]`, as many frames out as in: TensorFlow's SAME."""
    y = jax.lax.conv_general_dilated(
        x[..., None],
        layer["kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return (jax.nn.relu(y + layer["bias"]) * norm[0] + norm[1]).max(2)
