"""Make tests/support/goldens/*.npz with the models' own packages, in the environment of launch/parity.sh:

    .venv-parity/bin/python -m tests.parity.make_goldens

Weights and audio come from seeded generators (tests/support/golden.py), so only what the packages compute
is stored.
"""

import contextlib
import functools
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import jax
import numpy as np

from extract.embeddings import musicnn, openl3, packages, passt, vggish
from extract.embeddings.pretrained import to_published
from tests.parity import musicnn_package
from tests.support import golden
from tests.support.musicnn_wheel import wheel

Arrays = dict[str, np.ndarray]
MUSICNN_SECONDS = 3.2
VGGISH_SECONDS, OPENL3_SECONDS, PASST_SECONDS, SCENE_SECONDS = 2.2, 0.65, 0.3, 1.0


def make_vggish() -> Arrays:
    audio = golden.audio(vggish.SAMPLE_RATE, VGGISH_SECONDS)
    clip_frames, _ = packages.vggish(to_published(golden.vggish_params(), vggish.layout()))
    from torchvggish import vggish_input

    log_mel = vggish_input.waveform_to_examples(audio, vggish.SAMPLE_RATE)[:, 0].detach().numpy()
    return {
        "log_mel": log_mel[:, ::8].astype(np.float32),
        "frames": clip_frames(audio).astype(np.uint8),
    }


def make_openl3(variant: str) -> Arrays:
    audio = golden.audio(openl3.SAMPLE_RATE, OPENL3_SECONDS)
    params = openl3.init_params(jax.random.key(0), variant)
    clip_frames, _ = getattr(packages, variant)(to_published(params, openl3.layout(variant)))
    return {"frames": clip_frames(audio)}


def make_passt() -> Arrays:
    tensors = to_published(passt.init_params(jax.random.key(0)), passt.layout())
    audio = golden.audio(passt.SAMPLE_RATE, SCENE_SECONDS)
    timestamp, _ = packages.passt(tensors, passt.WINDOW, passt.HOP, "timestamp")
    scene, _ = packages.passt(tensors, passt.WINDOW, passt.HOP, "scene")
    import torch
    from hear21passt import base30sec

    with (
        contextlib.redirect_stdout(io.StringIO()),
        mock.patch.object(base30sec, "get_model_passt"),
        torch.no_grad(),
    ):
        mel = base30sec.get_basic_model(mode="embed_only").mel.eval()
        log_mel = mel(torch.tensor(audio)[None])[0].numpy()
    return {
        "frames": timestamp(audio[: round(PASST_SECONDS * passt.SAMPLE_RATE)]),
        "scene": scene(audio),
        "log_mel": log_mel[:, ::10],
    }


@functools.cache
def made_by_graphs() -> dict[str, Arrays]:
    """Of `musicnn` and `vgg`, in one process of TensorFlow."""
    windows = musicnn_package.log_mel(golden.audio(musicnn.SAMPLE_RATE, MUSICNN_SECONDS))[
        None, :187
    ]
    kinds = ("musicnn", "vgg")
    published = {
        name: golden.musicnn_params(kind)[path.split("/")[1]][path.split("/")[2]]
        for kind in kinds
        for path, (name, _) in musicnn.layout(f"MSD_{kind}").items()
    }
    with tempfile.TemporaryDirectory() as folder:
        package = musicnn_package.unpacked(wheel(), Path(folder))
        jobs = [(f"MSD_{kind}", windows) for kind in kinds]
        found = musicnn_package.run_graphs(package, jobs, Path(folder), published)
    return {
        kind: {name: musicnn_package.averaged(name, layer) for name, layer in layers.items()}
        for kind, layers in zip(kinds, found, strict=True)
    }


MAKERS: dict[str, Callable[[], Arrays]] = {
    "vggish": make_vggish,
    "openl3": lambda: make_openl3("openl3"),
    "torchopenl3": lambda: make_openl3("torchopenl3"),
    "passt": make_passt,
    "musicnn": lambda: made_by_graphs()["musicnn"],
    "vgg": lambda: made_by_graphs()["vgg"],
}


def main() -> None:
    golden.FOLDER.mkdir(exist_ok=True)
    for name, make in MAKERS.items():
        np.savez_compressed(golden.FOLDER / f"{name}.npz", **make())
        print(f"{name}: {(golden.FOLDER / f'{name}.npz').stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    main()
