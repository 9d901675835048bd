"""PaSST, the 30 s variant (Koutini, Schlüter, Eghbal-zadeh and Widmer, Interspeech 2022), as in
`hear21passt`, in JAX.

Audio at 32 kHz. Mode `timestamp`: one window of 160 ms every 50 ms, reflected at both ends, each
embedded on its own. Mode `scene`: the whole clip in one pass; longer than 30 s, the mean over
windows of 30 s, one every 10 s.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from extract.embeddings import Embedding, dsp, weights_formats
from extract.embeddings.layers import in_float32, in_precision, map_batches, random_tree, rounded
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
MODES = ("timestamp", "scene")
SHORTEST = 4801  # samples that make the 16 STFT frames of one patch
SCENE = 30 * SAMPLE_RATE  # samples the network takes at once
SCENE_HOP = 10 * SAMPLE_RATE
# scenes are filled up to a multiple of this, so that few lengths are compiled
SCENE_STEP = SAMPLE_RATE


@dataclass(frozen=True)
class Config:
    """window, hop in seconds (timestamp mode). mode: see above. batch_size: windows per call of
    `embed`.
    """

    window: float = 0.16
    hop: float = 0.05
    mode: str = "timestamp"
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"unknown PaSST mode {self.mode!r}; there are {', '.join(MODES)}")
        if not (math.isfinite(self.window) and math.isfinite(self.hop)):
            raise InputError(f"PaSST window {self.window} s, hop {self.hop} s: both must be finite")
        if not SHORTEST <= self.window_samples <= SCENE:
            raise InputError(
                f"PaSST window {self.window} s is not between {SHORTEST / SAMPLE_RATE:.4f} and 30 s"
            )
        if self.hop_samples < 1:
            raise InputError(
                f"PaSST hop {self.hop} s is less than one sample; the authors use 0.05"
            )

    @property
    def window_samples(self) -> int:
        return int(1000 * self.window * SAMPLE_RATE / 1000)

    @property
    def hop_samples(self) -> int:
        return int(1000 * self.hop * SAMPLE_RATE / 1000)


def num_frames(num_samples: int, config: Config = Config()) -> int:
    if config.mode == "scene":
        return 1
    padded = max(num_samples, shortest(config)) + config.window_samples // 2 * 2
    return dsp.num_frames(padded, config.window_samples, config.hop_samples)


def frame_times(num_samples: int, config: Config = Config()) -> np.ndarray:
    """Centre of each frame in seconds, `[frame]`."""
    if config.mode == "scene":
        return np.array([num_samples / 2 / SAMPLE_RATE])
    return np.arange(num_frames(num_samples, config)) * config.hop_samples / SAMPLE_RATE


def shortest(config: Config) -> int:
    """Samples for which the package has an embedding; shorter audio is filled up with zeros to so
    many.
    """
    return SHORTEST if config.mode == "scene" else config.window_samples // 2 + 1


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


@functools.partial(jax.jit, static_argnames="config")
def frames(params: Mapping[str, Any], audio: jax.Array, config: Config = Config()) -> jax.Array:
    """Audio in [-1, 1] at 32 kHz, `[batch, sample]` → `[batch, frame, 768]`."""
    audio = jnp.pad(audio, ((0, 0), (0, max(0, shortest(config) - audio.shape[-1]))))
    if config.mode == "scene" and audio.shape[-1] <= SCENE:
        return map_batches(functools.partial(embed, params), audio, 1)[:, None]
    size, hop, batch_size = config.window_samples, config.hop_samples, config.batch_size
    if config.mode == "scene":
        size, hop, batch_size = SCENE, SCENE_HOP, 1
    x = dsp.frame(jnp.pad(audio, ((0, 0), (size // 2, size // 2)), mode="reflect"), size, hop)
    y = map_batches(functools.partial(embed, params), x.reshape(-1, size), batch_size).reshape(
        *x.shape[:2], DIM
    )
    return y.mean(1, keepdims=True) if config.mode == "scene" else y


def parameter_shapes() -> Any:
    """The tree of parameters, each a `jax.ShapeDtypeStruct`."""
    return jax.eval_shape(
        Network().init, jax.random.key(0), jax.ShapeDtypeStruct((1, 128, 16), np.float32)
    )


def init_params(key: jax.Array) -> dict[str, Any]:
    """Random parameters."""
    return random_tree(parameter_shapes(), key)


def load_params(path: str | Path) -> dict[str, Any]:
    """Parameters from a published or a converted weights file."""
    return from_tensors(weights_formats.read_weights(path)[0], str(path))


def from_tensors(tensors: Tensors, where: str) -> dict[str, Any]:
    """Parameters from published tensors. Raises InputError, naming `where`, unless they are this
    model's.
    """
    return from_published(tensors, layout(), parameter_shapes(), where)


def build(
    window: float | None = None,
    hop: float | None = None,
    mode: str = Config.mode,
    batch_size: int = Config.batch_size,
    **source: Any,
) -> Embedding:
    """The embedding; `source` as in `pretrained.Source`. Raises InputError on bad options or
    weights.

    In scene mode it embeds clip by clip: one clip of 30 s is as much work as 250 windows.
    """
    if mode == "scene" and (window is not None or hop is not None):
        raise InputError(
            "passt_window and passt_hop belong to passt_mode=timestamp; a scene is up to 30 s"
        )
    window = Config.window if window is None else window
    hop = Config.hop if hop is None else hop
    config, origin = Config(window, hop, mode, batch_size), Source(**source)
    params, provenance = obtain(origin, NAME, init_params, from_tensors)
    size, step = config.window_samples, config.hop_samples
    if mode == "scene":
        size, step = SCENE, SCENE_HOP
    common: dict[str, Any] = {
        "name": NAME,
        "sample_rate": SAMPLE_RATE,
        "dim": DIM,
        "window": size / SAMPLE_RATE,
        "hop": step / SAMPLE_RATE,
    }
    provenance = {"mode": mode, "backend": origin.backend, **provenance}
    lengthen = functools.partial(dsp.at_least, size=shortest(config))
    if origin.backend == "package":
        from extract.embeddings import packages

        clip_frames, versions = packages.passt(to_published(params, layout()), window, hop, mode)
        return Embedding(
            **common,
            clip_frames=lambda audio: clip_frames(lengthen(audio)),
            in_workers=False,
            provenance=provenance | versions,
        )
    provenance |= jax_provenance(origin)
    params = rounded(params, origin.precision)
    if mode == "scene":
        params = jax.device_put(params)
        return Embedding(
            **common,
            clip_frames=lambda audio: scene_frames(params, lengthen(audio), origin.precision),
            in_workers=False,
            provenance=provenance,
        )
    return Embedding(
        **common,
        windows=lambda audio: windows(lengthen(audio), size, step),
        embed=functools.partial(embed, precision=origin.precision),
        params=params,
        batch_size=config.batch_size,
        provenance=provenance,
    )
