"""The models' own packages behind this project's interface: the oracle of the parity tests and
`--backend=package`.

Each function takes the tensors under their published names, so that any weights file this project
reads will do, and returns (clip_frames, versions): `clip_frames` maps float32 `[sample]` at the
model's rate to float32 `[frame, dim]`.
"""

import contextlib
import importlib.metadata
import io
import os
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from extract.embeddings.weights_formats import Tensors
from extract.errors import InputError

ClipFrames = Callable[[np.ndarray], np.ndarray]


def vggish(tensors: Tensors) -> tuple[ClipFrames, dict[str, str]]:
    """torchvggish, with post-processing."""
    with _needs("vggish"):
        import torch
        from torchvggish import torchvggish, vggish_input
    network = torchvggish._vgg().eval()
    # its constructor downloads the parameters that are set here
    post = object.__new__(torchvggish.Postprocessor)
    network.load_state_dict(
        {
            name: torch.tensor(tensor)
            for name, tensor in tensors.items()
            if not name.startswith("pca_")
        }
    )
    post._pca_matrix = torch.tensor(tensors["pca_eigen_vectors"])
    post._pca_means = torch.tensor(tensors["pca_means"].reshape(-1, 1))

    def clip_frames(audio: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            embeddings = post.postprocess(network(vggish_input.waveform_to_examples(audio, 16000)))
        # squeezed by the package when there is one example
        return np.atleast_2d(embeddings.numpy())

    return clip_frames, _versions("torchvggish", "torch")


def openl3(tensors: Tensors) -> tuple[ClipFrames, dict[str, str]]:
    """openl3 with its kapre front end, on TensorFlow."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with warnings.catch_warnings(action="ignore"):
        with _needs("openl3"):
            import openl3
            from openl3 import models
            from tensorflow.keras import Model
            from tensorflow.keras.layers import Flatten, MaxPooling2D
        network = models.AUDIO_MODELS["mel128"](include_frontend=True)
        pooled = Flatten()(
            MaxPooling2D(models.AUDIO_POOLING_SIZES["mel128"][512], padding="same")(network.output)
        )
        model = Model(network.input, pooled)
        model.frontend = "kapre"
    # By order, as Keras loads them: its automatic names count on from one model to the next.
    layers = [
        layer
        for layer in network.layers
        if layer.name.startswith(("batch_norm", "conv2d", "audio_embedding"))
    ]
    counts = {"batch_normalization": 0, "conv2d": 0}
    for layer in layers:
        kind, leaves = layer.name.rstrip("_0123456789"), ("kernel", "bias")
        if kind == "batch_normalization":
            leaves = ("gamma", "beta", "moving_mean", "moving_variance")  # type: ignore[assignment]
        name = layer.name
        if kind in counts:
            counts[kind] += 1
            name = f"{kind}_{counts[kind]}"
        layer.set_weights([tensors[f"{name}/{leaf}"] for leaf in leaves])

    def clip_frames(audio: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings(action="ignore"):  # short or silent audio
            return openl3.get_audio_embedding(audio, 48000, model=model, hop_size=0.1, verbose=0)[0]

    return clip_frames, _versions("openl3", "kapre", "tensorflow")


def torchopenl3(tensors: Tensors) -> tuple[ClipFrames, dict[str, str]]:
    """torchopenl3. DFT buffers that the tensors lack stay as the package computes them."""
    with _needs("torchopenl3"):
        import torch
        import torchopenl3
    network = torchopenl3.models.PytorchOpenl3(
        input_repr="mel128", content_type="music", embedding_size=512
    ).eval()
    network.load_state_dict(
        {name: torch.tensor(tensor) for name, tensor in tensors.items()}, strict=False
    )

    def clip_frames(audio: np.ndarray) -> np.ndarray:
        embeddings, _ = torchopenl3.get_audio_embedding(audio, 48000, model=network, hop_size=0.1)
        return embeddings[0].cpu().numpy()

    return clip_frames, _versions("torchopenl3", "torch")


def passt(
    tensors: Tensors, window: float, hop: float, mode: str
) -> tuple[ClipFrames, dict[str, str]]:
    """hear21passt, the 30 s variant; window and hop in seconds, mode `timestamp` or `scene`."""
    with _importable_passt(), contextlib.redirect_stdout(io.StringIO()):
        with _needs("passt"):
            import torch
            from hear21passt.models.passt import get_model
            from hear21passt.models.preprocess import AugmentMelSTFT
            from hear21passt.wrapper import PasstBasicWrapper
        mel = AugmentMelSTFT(
            n_mels=128,
            sr=32000,
            win_length=800,
            hopsize=320,
            n_fft=1024,
            freqm=48,
            timem=192,
            htk=False,
            fmin=0.0,
            fmax=None,
            norm=1,
            fmin_aug_range=10,
            fmax_aug_range=2000,
        )
        network = get_model(arch="passt_30sec", input_tdim=3000, pretrained=False)
        model = PasstBasicWrapper(
            mel=mel,
            net=network,
            max_model_window=30000,
            scene_hop=10000,
            mode="embed_only",
            timestamp_window=1000 * window,
            timestamp_hop=1000 * hop,
        ).eval()
    # The classifier heads, which the embedding does not use, may be absent.
    network.load_state_dict(
        {name: torch.tensor(tensor) for name, tensor in tensors.items()}, strict=False
    )

    def clip_frames(audio: np.ndarray) -> np.ndarray:
        batch = torch.tensor(audio)[None]
        with (
            torch.no_grad(),
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            frames = (
                model.get_scene_embeddings(batch)[:, None]
                if mode == "scene"
                else model.get_timestamp_embeddings(batch)[0]
            )
        return frames[0].cpu().numpy()

    return clip_frames, _versions("hear21passt", "torch", "torchaudio")


@contextlib.contextmanager
def _needs(extra: str) -> Iterator[None]:
    """Around imports only, so that a bug in a package is not taken for its absence."""
    try:
        yield
    # of compiled parts that do not fit, too
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        python = (
            ", for which openl3 needs Python 3.11"
            if extra == "openl3" and sys.version_info >= (3, 12)
            else ""
        )
        raise InputError(
            f"the {extra} package does not import ({' '.join(str(error).split())[:200]}); install "
            f"it: pip install 'fsprobe[{extra}]'{python}, or use --backend=jax, which needs none"
        ) from error


@contextlib.contextmanager
def _importable_passt() -> Iterator[None]:
    """Let hear21passt import where torchaudio's or timm's compiled parts do not fit torch: it calls
    neither.

    Of torchaudio it uses a mel filter and two masks written in Python, of timm a download helper.
    """
    hub = types.ModuleType("timm.models._hub")
    hub.download_cached_file = None  # type: ignore[attr-defined]
    modules: dict[str, Any] = {
        "timm": types.ModuleType("timm"),
        "timm.models": types.ModuleType("timm.models"),
        hub.__name__: hub,
    }
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
            del sys.modules[name]
        extension = types.ModuleType("torchaudio._extension")
        extension.fail_if_no_align = lambda function: function  # type: ignore[attr-defined]
        extension._IS_TORCHAUDIO_EXT_AVAILABLE = False  # type: ignore[attr-defined]
        extension._IS_ALIGN_AVAILABLE = False  # type: ignore[attr-defined]
        sys.modules["torchaudio._extension"] = extension
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _versions(*names: str) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in names}
