"""Get the published weights of a model, once, and keep them as one .safetensors file.

    python -m extract.weights --embedding=passt
    python -m extract.weights --embedding=openl3 --openl3_variant=torchopenl3
    python -m extract.weights --embedding=vggish --weights=downloads/vggish-10086976.pth

Downloads from where the authors keep the files (with progress, resume, and a hash check where a
hash is published), or takes a local copy, checks that every tensor fits the model, and writes the
cache that `extract.run` looks in. PyTorch files (vggish, passt, torchopenl3) need torch here, and
only here: pip install 'fsprobe[convert]'.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from extract.download import fetch
from extract.embeddings import weights_formats
from extract.embeddings.pretrained import to_published
from extract.errors import InputError
from extract.shell import run

_TORCHVGGISH = "https://github.com/harritaylor/torchvggish/releases/download/v0.1"


@dataclass(frozen=True)
class Published:
    """A file to download; sha256: the leading hex digits that its authors publish (in torch.hub's
    file names).
    """

    base_url: str
    name: str
    sha256: str = ""


PUBLISHED: dict[tuple[str, str], tuple[Published, ...]] = {
    ("vggish", ""): (
        Published(_TORCHVGGISH, "vggish-10086976.pth", "10086976"),
        Published(_TORCHVGGISH, "vggish_pca_params-970ea276.pth", "970ea276"),
    ),
    ("openl3", "openl3"): (
        Published(
            "https://github.com/marl/openl3/raw/models", "openl3_audio_mel128_music-v0_4_0.h5.gz"
        ),
    ),
    ("openl3", "torchopenl3"): (
        Published(
            "https://github.com/torchopenl3/torchopenl3-models/raw/master",
            "torchopenl3_mel128_music_512.pth.tar",
        ),
    ),
    ("passt", ""): (
        Published(
            "https://github.com/kkoutini/PaSST/releases/download/v0.0.5",
            "passt-s-f128-30sec-p16-s10-ap.473-swa.pt",
        ),
    ),
}


@dataclass(frozen=True)
class Config:
    """cache_dir: None for the user's. weights: a local file instead of a download. base_url: a
    mirror's folder.
    """

    embedding: str
    variant: str = ""
    cache_dir: str | None = None
    weights: str | None = None
    base_url: str | None = None


def convert(config: Config) -> Path:
    """Write the cache file and return its path. Raises InputError; then nothing is half-written."""
    files = PUBLISHED[config.embedding, config.variant]
    target = weights_formats.cache_file(config.embedding, config.variant, config.cache_dir)
    if config.weights:
        _convert(config, Path(config.weights), target)
        return target
    if any(file.name.endswith(weights_formats.TORCH_SUFFIXES) for file in files):
        weights_formats.import_torch(files[0].name)  # before a long download rather than after it
    folder = target.parent / "downloads"
    found = {file.name for file in files if (folder / file.name).exists()}
    paths = [
        fetch(
            f"{(config.base_url or file.base_url).rstrip('/')}/{file.name}",
            folder / file.name,
            sha256=file.sha256,
        )
        for file in files
    ]
    try:
        _convert(config, paths[0], target)
    except InputError as error:
        for path in paths:
            if path.name not in found:
                path.unlink()
        fix = (
            f"{', '.join(found)} lay there before: delete and run again"
            if found
            else "the download was removed: run again"
        )
        raise InputError(f"{error}; {fix}") from error
    for path in paths:  # the cache holds all of it
        path.unlink()
    return target


def _convert(config: Config, path: Path, target: Path) -> None:
    model: Any = importlib.import_module(f"extract.embeddings.{config.embedding}")
    tensors, files = weights_formats.read_weights(path, getattr(model, "COMPANION", ""))
    options = {"variant": config.variant} if config.variant else {}
    params = model.from_tensors(tensors, str(path), **options)
    layout = model.layout(**options)
    # what the model needs and no more: published files also hold classifiers
    weights_formats.write_weights(target, to_published(params, layout), files)


def define_flags() -> None:
    from extract.embeddings.openl3 import VARIANTS
    from extract.embeddings.openl3 import Config as OpenL3

    names = sorted({name for name, _ in PUBLISHED})
    flags.DEFINE_enum("embedding", None, names, "Whose weights.")
    flags.DEFINE_enum("openl3_variant", OpenL3.variant, VARIANTS, "Which package's OpenL3.")
    flags.DEFINE_string(
        "cache_dir", Config.cache_dir, "Where to keep them; by default the user's cache directory."
    )
    flags.DEFINE_string(
        "weights",
        Config.weights,
        "A local copy, instead of a download: .pth, .pth.tar, .pt, .h5, "
        ".h5.gz or .safetensors. VGGish: the network's, with the PCA's file beside it.",
    )
    flags.DEFINE_string(
        "base_url", Config.base_url, "A mirror's folder that holds the published files."
    )


def main() -> None:
    values = flags.FLAGS
    if values.embedding is None:
        raise InputError("--embedding is missing; see --help")
    if values.weights and values.base_url:
        raise InputError(
            "--weights is a local copy, --base_url a place to download from; give one of them"
        )
    if values.embedding != "openl3" and values["openl3_variant"].present:
        raise InputError(
            f"--openl3_variant is no option of --embedding={values.embedding}; leave it out"
        )
    variant = values.openl3_variant if values.embedding == "openl3" else ""
    try:
        print(
            convert(
                Config(values.embedding, variant, values.cache_dir, values.weights, values.base_url)
            )
        )
    except ModuleNotFoundError as error:
        raise InputError(
            f"{error}; converting weights needs: pip install 'fsprobe[extract]'"
        ) from error


if __name__ == "__main__":
    define_flags()
    run(main)
