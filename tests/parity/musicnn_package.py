"""musicnn's own front end and graph, from its wheel: what the parity tests, the goldens and the
benchmarks hold against.
"""

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import librosa
import numpy as np

SCRIPT = Path(__file__).parent / "musicnn_graph.py"
LEGACY = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def unpacked(wheel: Path, folder: Path) -> Path:
    """folder, with the package in it."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def log_mel(audio: np.ndarray) -> np.ndarray:
    """The package's front end, as it was under NumPy 1: `[sample]` → float32 `[frame, 96]`."""
    mel = librosa.feature.melspectrogram(y=audio, sr=16000, n_fft=512, hop_length=256, n_mels=96)
    half: np.ndarray = mel.T.astype(np.float16).astype(np.float32)
    return np.log10(10000 * half + 1)


def run_graphs(
    package: Path,
    jobs: Sequence[tuple[str, np.ndarray]],
    scratch: Path,
    weights: Mapping[str, np.ndarray] | None = None,
) -> list[dict[str, np.ndarray]]:
    """Of every (model, windows), layer → `[window, ...]` by the package's graph, in one process;
    windows: log-mel `[window, frame, 96]`. weights: by published name, instead of the package's.
    """
    command = [sys.executable, str(SCRIPT), str(package)]
    targets = [scratch / f"layers{i}.npz" for i in range(len(jobs))]
    for i, (model, windows) in enumerate(jobs):
        np.save(scratch / f"windows{i}.npy", windows)
        command += [model, str(scratch / f"windows{i}.npy"), str(targets[i])]
    if weights is not None:
        np.savez(scratch / "weights.npz", **weights)
        command.append(f"--weights={scratch / 'weights.npz'}")
    subprocess.run(command, check=True, capture_output=True, env=os.environ | LEGACY)
    found = []
    for target in targets:
        with np.load(target) as arrays:
            found.append(dict(arrays))
    return found


def averaged(name: str, layer: np.ndarray) -> np.ndarray:
    """`[window, width]`: the layer over time, and for pools over mel, as a store holds it."""
    if name.startswith("pool"):
        return layer.mean((1, 2))
    if name in ("mean_pool", "max_pool", "penultimate", "tags"):
        return layer.reshape(len(layer), -1)
    return layer.reshape(*layer.shape[:2], -1).mean(1)
