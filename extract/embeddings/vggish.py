"""VGGish (Hershey et al., ICASSP 2017) with PCA and 8-bit quantisation, as `torchvggish` 0.2
computes it, in JAX.

Audio at 16 kHz is cut into examples of 96 STFT frames that do not overlap; each becomes 128
integers from 0 to 255.
"""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from extract.embeddings import Embedding, dsp, packages, registry
from extract.embeddings.layers import (
    Conv3x3,
    Dense,
    in_float32,
    in_precision,
    map_batches,
    max_pool,
    random_tree,
    rounded,
)
from extract.embeddings.pretrained import (
    LINEAR,
    OIHW,
    Layout,
    Source,
    from_published,
    jax_provenance,
    obtain,
    to_published,
)
from extract.embeddings.weights_formats import Tensors

NAME = "vggish"
SAMPLE_RATE = 16000
DIM = 128
FRAMES, BANDS = 96, 64  # of one example
STFT_WINDOW, STFT_HOP, N_FFT = 400, 160, 512  # samples
HOP = FRAMES * STFT_HOP  # samples
WINDOW = HOP - STFT_HOP + STFT_WINDOW  # samples
COMPANION = registry.VGGISH.companion
BATCH_SIZE = 64  # examples per call of `embed`


class Network(nn.Module):
    """Log-mel examples `[batch, frame, band, 1]` → `[batch, 128]`, as `head(trunk(x))`."""

    def setup(self) -> None:
        self.convs = [Conv3x3(features) for features in (64, 128, 256, 256, 512, 512)]
        self.denses = [Dense(features) for features in (4096, 4096, DIM)]

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.trunk(x))

    def trunk(self, x: jax.Array) -> jax.Array:
        """→ `[batch, 12288]`, flattened in height, width, channel order."""
        for i, conv in enumerate(self.convs):
            x = nn.relu(conv(x))
            if i in (0, 1, 3, 5):
                x = max_pool(x)
        return x.reshape(x.shape[0], -1)

    def head(self, x: jax.Array) -> jax.Array:
        for dense in self.denses:
            x = nn.relu(dense(x))
        return x


def windows(audio: np.ndarray) -> np.ndarray:
    """`[sample]` → `[window, 15600]`; the samples after the last whole window are dropped. Where
    the package has none, for less than one window, the audio is filled up with zeros to one.
    """
    return dsp.windows_of(dsp.at_least(audio, WINDOW), WINDOW, HOP)


def log_mel(x: jax.Array) -> jax.Array:
    """`[batch, 15600]` → log-mel magnitudes, `[batch, frame, band]`."""
    frames = dsp.frame(x, STFT_WINDOW, STFT_HOP) * dsp.hann(STFT_WINDOW).astype(np.float32)
    return jnp.log(
        jnp.abs(jnp.fft.rfft(frames, N_FFT)) @ dsp.mel_filters(SAMPLE_RATE, N_FFT, BANDS, 125, 7500)
        + 0.01
    )


def postprocess(pca: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    """`[batch, 128]` → integers 0 to 255, float32: round(63.75 · (clip(E·(x − μ), ±2) + 2))."""
    projected = (x - pca["means"].reshape(-1)) @ pca["eigenvectors"].T
    return jnp.round((jnp.clip(projected, -2, 2) + 2) * (255 / 4))


def embed(params: Mapping[str, Any], x: jax.Array, precision: str = "float32") -> jax.Array:
    """Windows `[batch, 15600]` → `[batch, 128]`."""
    return in_float32(postprocess)(params["pca"], network_output(params, x, precision=precision))


@in_precision
def network_output(params: Mapping[str, Any], x: jax.Array) -> jax.Array:
    """Windows `[batch, 15600]` → what the network yields before post-processing, `[batch, 128]`."""
    network = {"params": params["params"]}

    def trunk(x: jax.Array) -> jax.Array:
        return Network().apply(network, in_float32(log_mel)(x)[..., None], method="trunk")

    # Few examples at a time stay in a CPU's cache; the dense layers read 270 MB of weights, so all
    # at once.
    y = jax.lax.platform_dependent(x, cpu=lambda x: map_batches(trunk, x, 4), default=trunk)
    return Network().apply(network, y, method="head")


def layout() -> Layout:
    """Where the published tensors go. The indices are those of torch modules with ReLUs and pools
    in between.
    """
    names: Layout = {
        "pca/eigenvectors": ("pca_eigen_vectors", None),
        "pca/means": ("pca_means", None),
    }
    for i, index in enumerate((0, 3, 6, 8, 11, 13)):
        names[f"params/convs_{i}/kernel"] = f"features.{index}.weight", OIHW
        names[f"params/convs_{i}/bias"] = f"features.{index}.bias", None
    for i, index in enumerate((0, 2, 4)):
        names[f"params/denses_{i}/kernel"] = f"embeddings.{index}.weight", LINEAR
        names[f"params/denses_{i}/bias"] = f"embeddings.{index}.bias", None
    return names


def parameter_shapes() -> dict[str, Any]:
    """The tree of parameters, each a `jax.ShapeDtypeStruct`."""
    example = jax.ShapeDtypeStruct((1, FRAMES, BANDS, 1), np.float32)
    pca = {
        "eigenvectors": jax.ShapeDtypeStruct((DIM, DIM), np.float32),
        "means": jax.ShapeDtypeStruct((DIM,), np.float32),
    }
    return {**jax.eval_shape(Network().init, jax.random.key(0), example), "pca": pca}


def init_params(key: jax.Array) -> dict[str, Any]:
    """Random parameters."""
    return random_tree(parameter_shapes(), key)


def from_tensors(tensors: Tensors, where: str) -> dict[str, Any]:
    """Parameters from published tensors. Raises InputError, naming `where`, unless they are this
    model's.
    """
    if "pca_means" in tensors:  # published as [128] or [128, 1]; the package reshapes it, too
        tensors = tensors | {"pca_means": tensors["pca_means"].reshape(-1)}
    return from_published(tensors, layout(), parameter_shapes(), where)


def build(batch_size: int = BATCH_SIZE, **source: Any) -> Embedding:
    """The embedding; `source` as in `pretrained.Source`. Raises InputError on bad options or
    weights.
    """
    origin = Source(**source)
    params, provenance = obtain(origin, NAME, init_params, from_tensors, companion=COMPANION)
    common: dict[str, Any] = {
        "name": NAME,
        "sample_rate": SAMPLE_RATE,
        "dim": DIM,
        "window": WINDOW / SAMPLE_RATE,
        "hop": HOP / SAMPLE_RATE,
    }
    provenance = {"backend": origin.backend, **provenance}
    if origin.backend == "package":
        clip_frames, versions = packages.vggish(to_published(params, layout()))
        return Embedding(
            **common,
            clip_frames=lambda audio: clip_frames(dsp.at_least(audio, WINDOW)),
            in_workers=False,
            provenance=provenance | versions,
        )
    return Embedding(
        **common,
        windows=windows,
        embed=functools.partial(embed, precision=origin.precision),
        params=rounded(params, origin.precision),
        batch_size=batch_size,
        provenance=provenance | jax_provenance(origin),
    )
