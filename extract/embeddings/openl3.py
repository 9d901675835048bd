"""OpenL3, audio subnetwork "mel128, music, 512" (Cramer, Wu, Salamon and Bello, ICASSP 2019), in
JAX.

Audio at 48 kHz, preceded by half a second of zeros, is cut into windows of 1 s, one every 0.1 s;
each becomes a log-mel image and 512 values. Two packages carry this model and their front ends
differ, so that equal weights give different embeddings (`variant`): `openl3` 0.4.2 with
kapre, and `torchopenl3` 1.0.1, which the paper used.
"""

import functools
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from extract.embeddings import Embedding, dsp, packages
from extract.embeddings.layers import (
    Conv3x3,
    in_float32,
    in_precision,
    map_batches,
    max_pool,
    random_tree,
)
from extract.embeddings.openl3_frontend import (
    BANDS,
    BINS,
    FRAMES,
    N_FFT,
    drop_plain_dft,
    log_mel,
    mel_filters,
)
from extract.embeddings.pretrained import (
    OIHW,
    Layout,
    Source,
    from_published,
    jax_provenance,
    obtain,
    to_published,
)
from extract.embeddings.weights_formats import Tensors
from extract.errors import InputError

NAME = "openl3"
SAMPLE_RATE = 48000
DIM = 512
WINDOW = 48000  # samples
HOP = 4800  # samples
FEATURES = (64, 64, 128, 128, 256, 256, 512, 512)
TRUNK = 6  # convolutions before the last pool


class Network(nn.Module):
    """Log-mel image `[batch, band, frame, 1]` → `[batch, 512]`, as `head(trunk(x))`."""

    def setup(self) -> None:
        self.convs = [Conv3x3(features) for features in FEATURES]
        # norms[i] stands before convs[i]
        self.norms = [nn.BatchNorm(use_running_average=True, epsilon=1e-3) for _ in FEATURES]

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.trunk(x))

    def trunk(self, x: jax.Array) -> jax.Array:
        """→ `[batch, 16, 24, 256]`."""
        x = self.norms[0](x)
        for i in range(TRUNK):
            x = nn.relu(self.norms[i + 1](self.convs[i](x)))
            if i % 2:
                x = max_pool(x)
        return x

    def head(self, x: jax.Array) -> jax.Array:
        x = nn.relu(self.norms[7](self.convs[6](x)))
        return self.convs[7](x).max((1, 2))


def windows(audio: np.ndarray) -> np.ndarray:
    """`[sample]` → `[window, 48000]`, at least one: both packages centre the first window on the
    first sample and fill up the last.
    """
    count = 1 + max(0, -(-(len(audio) - WINDOW // 2) // HOP))
    after = (count - 1) * HOP + WINDOW // 2 - len(audio)
    return dsp.windows_of(np.pad(audio, (WINDOW // 2, after)), WINDOW, HOP)


@in_precision
def embed(params: Mapping[str, Any], x: jax.Array) -> jax.Array:
    """Windows `[batch, 48000]` → `[batch, 512]`."""
    network = {name: params[name] for name in ("params", "batch_stats")}

    def trunk(x: jax.Array) -> jax.Array:
        image = in_float32(log_mel)(x, params.get("frontend"))[..., None]
        return Network().apply(network, image, method="trunk")

    # One window at a time stays in a CPU's cache; the head is small enough to go in one batch.
    y = jax.lax.platform_dependent(x, cpu=lambda x: map_batches(trunk, x, 1), default=trunk)
    return Network().apply(network, y, method="head")


def layout(variant: str) -> Layout:
    """Where the published tensors go."""
    keras = variant == "openl3"
    norm_leaves = (
        ("params", "scale", "gamma" if keras else "weight"),
        ("params", "bias", "beta" if keras else "bias"),
        ("batch_stats", "mean", "moving_mean" if keras else "running_mean"),
        ("batch_stats", "var", "moving_variance" if keras else "running_var"),
    )
    separator = "/" if keras else "."
    names: Layout = {}
    for i in range(len(FEATURES)):
        conv = f"conv2d_{i + 1}" if i < len(FEATURES) - 1 else "audio_embedding_layer"
        names[f"params/convs_{i}/kernel"] = (
            (f"{conv}/kernel", None) if keras else (f"{conv}.weight", OIHW)
        )
        names[f"params/convs_{i}/bias"] = f"{conv}{separator}bias", None
        for collection, leaf, published in norm_leaves:
            names[f"{collection}/norms_{i}/{leaf}"] = (
                f"batch_normalization_{i + 1}{separator}{published}",
                None,
            )
    if not keras:
        names["frontend/mel"] = "speclayer.mel_basis", None
        names["frontend/dft_real"] = "speclayer.dft_real_kernels", None
        names["frontend/dft_imag"] = "speclayer.dft_imag_kernels", None
    return names


def parameter_shapes() -> Any:
    """The tree of parameters, each a `jax.ShapeDtypeStruct`."""
    image = jax.ShapeDtypeStruct((1, BANDS, FRAMES, 1), np.float32)
    return jax.eval_shape(Network().init, jax.random.key(0), image)


def init_params(key: jax.Array, variant: str = "openl3") -> dict[str, Any]:
    """Random parameters."""
    params: dict[str, Any] = random_tree(parameter_shapes(), key)
    if variant == "torchopenl3":
        params["frontend"] = {"mel": mel_filters(variant)}
    return params


def from_tensors(tensors: Tensors, where: str, variant: str = "") -> dict[str, Any]:
    """Parameters from published tensors. Raises InputError, naming `where`, unless they are this
    model's.
    """
    found = "torchopenl3" if any(name.startswith("speclayer.") for name in tensors) else "openl3"
    if variant and variant != found:
        raise InputError(
            f"{where}: holds weights of variant {found}, not {variant}; choose with "
            f"--openl3_variant"
        )
    if found == "openl3":
        tensors = _keras_numbered({name: tensor for name, tensor in tensors.items() if "/" in name})
    shapes: dict[str, Any] = dict(parameter_shapes())
    if found == "torchopenl3":
        kernel = jax.ShapeDtypeStruct((BINS, 1, N_FFT), np.float32)
        shapes["frontend"] = {
            "mel": jax.ShapeDtypeStruct((BANDS, BINS), np.float32),
            "dft_real": kernel,
            "dft_imag": kernel,
        }
    names = layout(found)
    if "speclayer.dft_real_kernels" not in tensors:
        # a converted file, from which a plain DFT was dropped
        names = {path: place for path, place in names.items() if "/dft_" not in path}
    params: dict[str, Any] = from_published(tensors, names, shapes, where)
    if "dft_real" in params.get("frontend", {}):
        drop_plain_dft(params["frontend"])
    return params


def _keras_numbered(tensors: Tensors) -> Tensors:
    """Layers numbered in file order from 1: Keras counts on through a session, and loads by order,
    not by name.
    """
    numbers: dict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))
    names = {"audio_embedding_layer": "audio_embedding_layer"}
    for layer in dict.fromkeys(tensor.rsplit("/", 1)[0] for tensor in tensors):
        kind = layer.rstrip("_0123456789")
        names.setdefault(layer, f"{kind}_{next(numbers[kind])}")
    return {
        "/".join((names[layer], leaf)): tensors[f"{layer}/{leaf}"]
        for layer, leaf in (tensor.rsplit("/", 1) for tensor in tensors)
    }


def build(variant: str = "openl3", batch_size: int = 32, **source: Any) -> Embedding:
    """The embedding; variant: whose front end and weights; `source` as in `pretrained.Source`.
    Raises InputError on bad options or weights.
    """
    origin = Source(**source)
    params, provenance = obtain(
        origin,
        NAME,
        functools.partial(init_params, variant=variant),
        functools.partial(from_tensors, variant=variant),
        variant=variant,
    )
    common: dict[str, Any] = {
        "name": NAME,
        "sample_rate": SAMPLE_RATE,
        "dim": DIM,
        "window": WINDOW / SAMPLE_RATE,
        "hop": HOP / SAMPLE_RATE,
    }
    provenance = {"variant": variant, "backend": origin.backend, **provenance}
    if origin.backend == "package":
        package = packages.openl3 if variant == "openl3" else packages.torchopenl3
        clip_frames, versions = package(to_published(params, layout(variant)))
        return Embedding(
            **common, clip_frames=clip_frames, in_workers=False, provenance=provenance | versions
        )
    return Embedding(
        **common,
        windows=windows,
        embed=functools.partial(embed, precision=origin.precision),
        params=params,
        batch_size=batch_size,
        provenance=provenance | jax_provenance(origin),
    )
