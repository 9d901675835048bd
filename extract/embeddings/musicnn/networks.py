"""The two networks: log-mel windows `[batch, frame, 96]` → every layer, averaged within the window.

Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging", ISMIR
2019 late-breaking. In both, batch normalisation comes after the ReLU.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from extract.embeddings.layers import Conv3x3, max_pool
from extract.embeddings.musicnn.filters import across_mel, along_time, by_window

Params = Mapping[str, Mapping[str, jax.Array]]
Layers = dict[str, jax.Array]

WINDOW = 187  # frames; vgg takes no other
TIMBRAL = (("conv2d", 1, (7, 38, 1, 204)), ("conv2d_1", 2, (7, 67, 1, 204)))
TEMPORAL = (
    ("conv2d_2", 3, (128, 1, 1, 51)),
    ("conv2d_3", 4, (64, 1, 1, 51)),
    ("conv2d_4", 5, (32, 1, 1, 51)),
)
MIDDLE = (
    ("conv2d_5", 6, (7, 561, 1, 64)),
    ("conv2d_6", 7, (7, 64, 1, 64)),
    ("conv2d_7", 8, (7, 64, 1, 64)),
)
MUSICNN_LAYERS = {
    "timbral": 408, "temporal": 153, "cnn1": 64, "cnn2": 64, "cnn3": 64,
    "mean_pool": 753, "max_pool": 753, "penultimate": 200, "tags": 50,
}  # fmt: skip
VGG_LAYERS = {"pool1": 128, "pool2": 128, "pool3": 128, "pool4": 128, "pool5": 128, "tags": 50}
# window and stride; the first has stride 2 in mel, too, which `_every_other_band` has taken already
POOLS = (((4, 1), (2, 1)), ((2, 2), (2, 2)), ((2, 2), (2, 2)), ((2, 2), (2, 2)), ((4, 4), (4, 4)))


def musicnn(params: Params, x: jax.Array) -> Layers:
    """`[batch, frame, 96]`, any number of frames → name → `[batch, width]`."""
    front = _front(params, _normalise(params, 0, x))
    middle: list[jax.Array] = []
    for conv, i, _ in MIDDLE:
        y = _normalise(
            params, i, jax.nn.relu(_conv1d(params[conv], middle[-1] if middle else front))
        )
        middle.append(y + middle[-1] if middle else y)
    pooled = jnp.concatenate([front, *middle], -1)
    largest, mean = pooled.max(1), pooled.mean(1)
    # max and mean of each channel are neighbours in the flattened input of the dense layer
    both = jnp.stack([largest, mean], -1).reshape(len(x), -1)
    dense = jax.nn.relu(_dense(params["dense"], _normalise(params, 9, both)))
    penultimate = _normalise(params, 10, dense)
    tags = jax.nn.sigmoid(_dense(params["dense_1"], penultimate))
    return {
        "timbral": mean[:, :408],
        "temporal": mean[:, 408:561],
        **{f"cnn{i + 1}": y.mean(1) for i, y in enumerate(middle)},
        "mean_pool": mean,
        "max_pool": largest,
        "penultimate": penultimate,
        "tags": tags,
    }


def _front(params: Params, x: jax.Array) -> jax.Array:
    """Timbral and temporal features side by side, `[batch, frame, 561]`."""
    timbral = [across_mel(params[conv], _norm(params, i), x) for conv, i, _ in TIMBRAL]
    temporal = [along_time(params[conv], _norm(params, i), x) for conv, i, _ in TEMPORAL]
    return jnp.concatenate(timbral + temporal, -1)


def vgg(params: Params, x: jax.Array) -> Layers:
    """`[batch, 187, 96]` → name → `[batch, width]`."""

    def pools(x: jax.Array) -> tuple[jax.Array, ...]:
        y, found = x[..., None], []
        for i, (window, stride) in enumerate(POOLS, 1):
            layer = params[f"{i}CNN"]
            y = Conv3x3(128).apply({"params": layer}, y) if i > 1 else _every_other_band(layer, y)
            y = max_pool(_normalise(params, i, jax.nn.relu(y)), window, stride)
            y = jax.lax.optimization_barrier(y)  # or XLA would compute it for each that reads it
            found.append(y)
        return (*(y.mean((1, 2)) for y in found), y.reshape(len(y), -1))

    *means, flat = by_window(pools, _normalise(params, 0, x))
    layers = {f"pool{i}": mean for i, mean in enumerate(means, 1)}
    layers["tags"] = jax.nn.sigmoid(_dense(params["dense"], flat))
    return layers


def _every_other_band(layer: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    """A 3×3 SAME convolution of `[batch, frame, band, 1]` at bands 0, 2, 4, …: the first pool, one
    band high, takes no others.
    """
    y = jax.lax.conv_general_dilated(
        x,
        layer["kernel"],
        (1, 2),
        ((1, 1), (1, 0)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y + layer["bias"]


def shapes(kind: str) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
    """Of the parameters of `musicnn` or `vgg`: layer → leaf → shape."""
    if kind == "musicnn":
        convs = {conv: shape for conv, _, shape in (*TIMBRAL, *TEMPORAL, *MIDDLE)}
        widths = [1, *(shape[-1] for shape in convs.values()), 1506, 200]
        kernels = convs | {"dense": (1506, 200), "dense_1": (200, 50)}
    else:
        kernels = {f"{i}CNN": (3, 3, 1 if i == 1 else 128, 128) for i in range(1, 6)}
        kernels["dense"] = (256, 50)
        widths = [1] + 5 * [128]
    tree = {name: {"kernel": shape, "bias": shape[-1:]} for name, shape in kernels.items()}
    for i, width in enumerate(widths):
        tree[norm_name(i)] = dict.fromkeys(("scale", "bias", "mean", "var"), (width,))
    return {
        name: {leaf: jax.ShapeDtypeStruct(shape, np.float32) for leaf, shape in leaves.items()}
        for name, leaves in tree.items()
    }


def norm_name(number: int) -> str:
    """TensorFlow's name of the batch normalisation of that number."""
    return f"batch_normalization_{number}" if number else "batch_normalization"


def _norm(params: Params, number: int) -> tuple[jax.Array, jax.Array]:
    """Factor and summand of a batch normalisation, `[channel]` each."""
    norm = params[norm_name(number)]
    factor = norm["scale"] / jnp.sqrt(norm["var"] + 0.001)
    return factor, norm["bias"] - norm["mean"] * factor


def _normalise(params: Params, number: int, x: jax.Array) -> jax.Array:
    factor, summand = _norm(params, number)
    return x * factor + summand


def _dense(layer: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    return x @ layer["kernel"] + layer["bias"]


def _conv1d(layer: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    """Seven taps over time with three zeros at both ends: `[batch, frame, in]` → `[…, out]`."""
    kernel = layer["kernel"][:, :, 0]
    y = jax.lax.conv_general_dilated(
        x, kernel, (1,), [(3, 3)], dimension_numbers=("NHC", "HIO", "NHC")
    )
    return y + layer["bias"]
