"""PaSST, the 30 s variant (Koutini, Schlüter, Eghbal-zadeh and Widmer, Interspeech 2022), as in
`hear21passt`, in JAX.

Audio at 32 kHz. Mode `timestamp`: one window of 160 ms every 50 ms, reflected at both ends, each
embedded on its own. Mode `scene`: the whole clip in one pass; longer than 30 s, the mean over
windows of 30 s, one every 10 s.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from extract.embeddings import Embedding, dsp, packages
from extract.embeddings.layers import in_float32, in_precision, random_tree, rounded
from extract.embeddings.passt_network import DIM, Network, layout, log_mel, num_columns
from extract.embeddings.pretrained import (
    Source,
    from_published,
    jax_provenance,
    obtain,
    to_published,
)
from extract.embeddings.weights_formats import Tensors
from extract.errors import InputError

NAME = "passt"
SAMPLE_RATE = 32000
WINDOW, HOP = 0.16, 0.05  # seconds, of mode `timestamp`
SHORTEST = 4801  # samples that make the 16 STFT frames of one patch
SCENE = 30 * SAMPLE_RATE  # samples the network takes at once
SCENE_HOP = 10 * SAMPLE_RATE
# scenes are filled up to a multiple of this, so that few lengths are compiled
SCENE_STEP = SAMPLE_RATE


def in_samples(window: float, hop: float) -> tuple[int, int]:
    """Seconds of a window and of a hop in samples, as the package rounds them. Raises InputError
    where it could not embed them.
    """
    if not (math.isfinite(window) and math.isfinite(hop)):
        raise InputError(f"PaSST window {window} s, hop {hop} s: both must be finite")
    size, step = (int(1000 * seconds * SAMPLE_RATE / 1000) for seconds in (window, hop))
    if not SHORTEST <= size <= SCENE:
        raise InputError(
            f"PaSST window {window} s is not between {SHORTEST / SAMPLE_RATE:.4f} and 30 s"
        )
    if step < 1:
        raise InputError(f"PaSST hop {hop} s is less than one sample; the authors use 0.05")
    return size, step


def windows(audio: np.ndarray, size: int, hop: int) -> np.ndarray:
    """`[sample]` → `[window, size]`, centred on every `hop`-th sample, the audio reflected at both
    ends.
    """
    return dsp.windows_of(np.pad(audio, size // 2, mode="reflect"), size, hop)


@in_precision
def embed(params: Mapping[str, Any], x: jax.Array) -> jax.Array:
    """Windows `[batch, sample]` → `[batch, 768]`."""
    return Network().apply(params, in_float32(log_mel)(x))


@functools.partial(jax.jit, static_argnames="precision")
@in_precision
def scene(params: Mapping[str, Any], x: jax.Array, length: jax.Array) -> jax.Array:
    """One pass over the first `length` samples of `[batch, sample]`, at most 30 s → `[batch,
    768]`.
    """
    return Network().apply(params, in_float32(log_mel)(x, length), num_columns(length))


def scene_frames(
    params: Mapping[str, Any], audio: np.ndarray, precision: str = "float32"
) -> np.ndarray:
    """`[sample]` → `[1, 768]`. Filled up to full seconds and masked, which compiles at most 30
    programs.
    """
    if len(audio) > SCENE:
        parts = [
            scene(params, part[None], SCENE, precision=precision)
            for part in windows(audio, SCENE, SCENE_HOP)
        ]
        return np.mean(parts, 0)
    filled = dsp.at_least(audio, -(-len(audio) // SCENE_STEP) * SCENE_STEP)
    return np.asarray(scene(params, filled[None], len(audio), precision=precision))


def parameter_shapes() -> Any:
    """The tree of parameters, each a `jax.ShapeDtypeStruct`."""
    return jax.eval_shape(
        Network().init, jax.random.key(0), jax.ShapeDtypeStruct((1, 128, 16), np.float32)
    )


def init_params(key: jax.Array) -> dict[str, Any]:
    """Random parameters."""
    return random_tree(parameter_shapes(), key)


def from_tensors(tensors: Tensors, where: str) -> dict[str, Any]:
    """Parameters from published tensors. Raises InputError, naming `where`, unless they are this
    model's.
    """
    return from_published(tensors, layout(), parameter_shapes(), where)


def build(
    window: float | None = None,
    hop: float | None = None,
    mode: str = "timestamp",
    batch_size: int = 64,
    **source: Any,
) -> Embedding:
    """The embedding; `source` as in `pretrained.Source`. Raises InputError on bad options or
    weights.

    window, hop: seconds, of mode `timestamp`; WINDOW and HOP by default. In scene mode it embeds
    clip by clip: one clip of 30 s is as much work as 250 windows.
    """
    if mode == "scene" and (window is not None or hop is not None):
        raise InputError(
            "passt_window and passt_hop belong to passt_mode=timestamp; a scene is up to 30 s"
        )
    window, hop = WINDOW if window is None else window, HOP if hop is None else hop
    size, step = in_samples(window, hop)
    shortest = size // 2 + 1  # samples for which the package has an embedding
    if mode == "scene":
        size, step, shortest = SCENE, SCENE_HOP, SHORTEST
    origin = Source(**source)
    params, provenance = obtain(origin, NAME, init_params, from_tensors)
    provenance = {"mode": mode, "backend": origin.backend, **provenance}
    by_clip: packages.ClipFrames | None = None
    if origin.backend == "package":
        by_clip, versions = packages.passt(to_published(params, layout()), window, hop, mode)
        provenance |= versions
    else:
        params = rounded(params, origin.precision)
        provenance |= jax_provenance(origin)
        if mode == "scene":
            params = jax.device_put(params)
            by_clip = functools.partial(scene_frames, params, precision=origin.precision)
    lengthen = functools.partial(dsp.at_least, size=shortest)
    embedding = functools.partial(
        Embedding,
        name=NAME,
        sample_rate=SAMPLE_RATE,
        dim=DIM,
        window=size / SAMPLE_RATE,
        hop=step / SAMPLE_RATE,
        provenance=provenance,
    )
    if by_clip is not None:
        return embedding(clip_frames=lambda audio: by_clip(lengthen(audio)), in_workers=False)
    return embedding(
        windows=lambda audio: windows(lengthen(audio), size, step),
        embed=functools.partial(embed, precision=origin.precision),
        params=params,
        batch_size=batch_size,
    )
