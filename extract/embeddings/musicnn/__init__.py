"""musicnn and its vgg (Pons and Serra, ISMIR 2019 late-breaking), as `musicnn` 0.1.0 has them, in
JAX.

Four models with published weights: MSD_musicnn and MSD_vgg, trained on the Million Song Dataset,
MTT_musicnn and MTT_vgg on MagnaTagATune. Audio at 16 kHz is cut into windows of 187 log-mel frames
(3 s) or, for musicnn, any other length; a frame of the store is a window. Layers with a time axis
of their own are averaged over it within the window.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from extract.embeddings import Embedding, Layer, published, registry
from extract.embeddings.layers import in_float32, in_precision, random_tree
from extract.embeddings.musicnn import frontend, networks
from extract.embeddings.musicnn.tags import TAGS
from extract.embeddings.pretrained import (
    Layout,
    Source,
    from_published,
    jax_provenance,
    obtain,
)
from extract.embeddings.weights_formats import Tensors
from extract.errors import InputError

NAME = "musicnn"
SAMPLE_RATE = frontend.SAMPLE_RATE
MODELS = ("MSD_musicnn", "MTT_musicnn", "MSD_vgg", "MTT_vgg")
LONGEST = 60  # seconds of a window: a batch of such takes gigabytes
MOST = 1 << 30  # bytes of a clip's windows, where they overlap so much that they are
OVERLAP = 4  # times the clip
DATASET = {"MTT": "MagnaTagATune", "MSD": "the Million Song Dataset"}
_LEAVES = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}


@dataclass(frozen=True)
class Config:
    """model: one of `MODELS`. layer: one or several of `layers(model)`; None is penultimate, or
    pool5 for vgg. window, hop in seconds. tail: `keep` a last window that ends with the clip, or
    `drop` what the windows leave over. batch_size: windows per call of `embed`.
    """

    model: str = "MSD_musicnn"
    layer: tuple[str, ...] | None = None
    window: float = 3.0
    hop: float = 3.0
    tail: str = "keep"
    batch_size: int = 36

    def __post_init__(self) -> None:
        for layer in self.names:
            if layer not in layers(self.model):
                raise InputError(
                    f"{self.model} has no layer {layer!r}; it has {', '.join(layers(self.model))}"
                )
        if not self.names or len(set(self.names)) < len(self.names):
            raise InputError(
                f"musicnn layers {', '.join(self.names)}: name each layer once, and at least one"
            )
        for name, value in (("window", self.window), ("hop", self.hop)):
            if not (math.isfinite(value) and frames_in(value) >= 1 and value <= LONGEST):
                raise InputError(
                    f"musicnn {name} {value} s is not between one frame, "
                    f"{frontend.HOP / SAMPLE_RATE} s, and {LONGEST} s"
                )
        if self.model.endswith("vgg") and frames_in(self.window) != networks.WINDOW:
            raise InputError(
                f"{self.model} takes windows of 3 s alone, not {self.window} s; musicnn takes any"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the layers."""
        if self.layer is not None:
            return tuple(self.layer)
        return ("pool5",) if self.model.endswith("vgg") else ("penultimate",)


def frames_in(seconds: float) -> int:
    """Whole log-mel frames: 187 in 3 s."""
    return math.floor(seconds * SAMPLE_RATE / frontend.HOP + 1e-6)


def layers(model: str) -> Mapping[str, int]:
    """Name → width of the layers of a model."""
    return networks.VGG_LAYERS if model.endswith("vgg") else networks.MUSICNN_LAYERS


def _layer(model: str, name: str) -> Layer:
    provenance: dict[str, Any] = {"layer": name}
    if name == "tags":
        provenance["tags"] = list(TAGS[model.partition("_")[0]])
    return Layer(name, layers(model)[name], provenance)


def windows(audio: np.ndarray, config: Config = Config()) -> np.ndarray:
    """`[sample]` → `[window, 1 + sample]`, at least one, as `frontend.windows` describes.

    Raises InputError where a short hop would make more than MOST bytes of them, and more than
    OVERLAP times the clip's own.
    """
    window, hop, keep_tail = frames_in(config.window), frames_in(config.hop), config.tail == "keep"
    count = len(frontend.starts(frontend.num_frames(len(audio)), window, hop, keep_tail))
    size = 4 * count * window * frontend.HOP
    if size > max(MOST, OVERLAP * 4 * len(audio)):
        raise InputError(
            f"musicnn hop {config.hop:g} s: {count:,} windows of a clip of "
            f"{len(audio) / SAMPLE_RATE:,.0f} s take {size / MOST:.1f} GB, more than 1; use a "
            "longer hop, or cut the clip"
        )
    return frontend.windows(audio, window, hop, keep_tail)


@in_precision
def all_layers(params: Any, x: jax.Array, model: str) -> dict[str, jax.Array]:
    """Windows `[batch, 1 + sample]` → layer → `[batch, width]`."""
    network = networks.vgg if model.endswith("vgg") else networks.musicnn
    return network(params, in_float32(frontend.log_mel)(x))


def embed(
    params: Any, x: jax.Array, model: str, names: tuple[str, ...], precision: str = "float32"
) -> jax.Array:
    """Windows `[batch, 1 + sample]` → the layers side by side, `[batch, width]`.

    Every layer is computed, whichever are wanted: so a layer has the same bits alone and beside
    others, and what is not needed costs little.
    """
    found = jax.lax.optimization_barrier(all_layers(params, x, model, precision=precision))
    return jnp.concatenate([found[name] for name in names], -1)


def layout(model: str = "") -> Layout:
    """Where the published tensors go, below the model's name; of all models unless one is named."""
    names: Layout = {}
    for name in [model] if model else MODELS:
        for layer, leaves in networks.shapes(name.partition("_")[2]).items():
            for leaf in leaves:
                of_norm = layer.startswith("batch_normalization")
                there = _LEAVES[leaf] if of_norm else leaf
                names[f"{name}/{layer}/{leaf}"] = f"{name}/{layer}/{there}", None
    return names


def parameter_shapes(model: str = "") -> dict[str, Any]:
    """The tree of parameters of a model, or of all, each a `jax.ShapeDtypeStruct`."""
    return {
        name: networks.shapes(name.partition("_")[2]) for name in ([model] if model else MODELS)
    }


def init_params(key: jax.Array, model: str = Config.model) -> Any:
    """Random parameters of one model."""
    return random_tree(networks.shapes(model.partition("_")[2]), key)


def from_tensors(tensors: Tensors, where: str, model: str = "") -> dict[str, Any]:
    """Model → parameters, of all models unless one is named. Raises InputError, naming `where`,
    unless the tensors are these models'.
    """
    return from_published(tensors, layout(model), parameter_shapes(model), where)


def _refused_on(model: str, precision: str) -> dict[str, str]:
    """musicnn's products are convolutions, which a CPU computes in float32 whatever is asked."""
    if precision == "float32" or model.endswith("vgg"):
        return {}
    return {
        "cpu": f"precision {precision}: on a CPU {model} computes in float32 all the same; leave "
        "it out, or take MSD_vgg or MTT_vgg"
    }


def build(
    model: str = Config.model,
    layer: str | tuple[str, ...] | list[str] | None = None,
    window: float = Config.window,
    hop: float = Config.hop,
    tail: str = Config.tail,
    batch_size: int = Config.batch_size,
    **source: Any,
) -> Embedding:
    """The embedding; `source` as in `pretrained.Source`, fetched by pip if it is not there yet.

    layer: a name or several; several lie side by side and go into a store each. Raises InputError
    on bad options or weights.
    """
    chosen = (layer,) if isinstance(layer, str) else None if layer is None else tuple(layer)
    config, origin = Config(model, chosen, window, hop, tail, batch_size), Source(**source)
    params, provenance = obtain(
        origin,
        NAME,
        lambda key: {model: init_params(key, model)},
        functools.partial(from_tensors, model=model),
        wheel=registry.MUSICNN.wheel,
        get=lambda: published.convert(
            published.Config(NAME, cache_dir=str(origin.cache_dir) if origin.cache_dir else None)
        ),
    )
    corpus = model.partition("_")[0]
    parts = [_layer(model, name) for name in config.names]
    provenance = {
        "package": "musicnn",
        "version": "0.1.0",
        "licence": "ISC",
        "model": model,
        "trained_on": DATASET[corpus],
        **(parts[0].provenance if len(parts) == 1 else {}),
        "window_frames": frames_in(window),
        "hop_frames": frames_in(hop),
        "tail": tail,
        **provenance,
        **jax_provenance(origin),
    }
    return Embedding(
        name=NAME,
        sample_rate=SAMPLE_RATE,
        dim=sum(part.width for part in parts),
        window=frames_in(window) * frontend.HOP / SAMPLE_RATE,
        hop=frames_in(hop) * frontend.HOP / SAMPLE_RATE,
        windows=functools.partial(windows, config=config),
        embed=functools.partial(embed, model=model, names=config.names, precision=origin.precision),
        params=params[model],
        batch_size=config.batch_size,
        provenance=provenance,
        layers=tuple(parts) if len(parts) > 1 else (),
        trained_on=DATASET[corpus],
        trained_tags=TAGS[corpus],
        refused_on=_refused_on(model, origin.precision),
    )
