"""musicnn's weights: pip, the wheel, the cache, and one line where something is missing."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file, save_file

from extract.embeddings import build, musicnn
from extract.embeddings.published import Config, convert
from extract.embeddings.registry import MUSICNN
from extract.embeddings.weights_formats import cache_file
from extract.errors import InputError
from extract.manifest import Manifest, write_manifest
from tests.support.commands import Commands
from tests.support.musicnn_wheel import wheel

REPO = Path(__file__).parents[3]
NO_NETWORK = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_NO_INDEX": "0"}


Get = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def get(commands: Commands) -> Get:
    return partial(commands.run, "extract.weights", "--embedding=musicnn")


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert len(last) <= 320 + len(sys.executable)
    return last


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    convert(Config("musicnn", cache_dir=str(folder), weights=str(wheel())))
    return folder


def test_pip_fetches_from_the_users_index(tmp_path: Path, get: Get) -> None:
    """A folder of wheels as the index, by pip's own settings."""
    links = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel().parent)}
    first = get(f"--cache_dir={tmp_path}", **links)
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip() == str(cache_file("musicnn", "", tmp_path))
    assert "musicnn==0.1.0 (29 MB): fetching it by pip" in first.stderr
    again = get(f"--cache_dir={tmp_path}", **NO_NETWORK)  # it is there: nothing is fetched
    assert (again.returncode, again.stdout) == (0, first.stdout)
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"musicnn.safetensors", ".musicnn.safetensors.lock"}


def test_a_run_fetches_by_itself_and_says_so(tmp_path: Path, commands: Commands) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 16000)
    write_manifest(tmp_path / "m.csv", Manifest(("a",), ("a.wav",), ("train",), ((),)))
    flags = [
        *(f"--manifest={tmp_path / 'm.csv'}", f"--audio_root={tmp_path}"),
        *("--embedding=musicnn", "--musicnn_window=0.3", "--num_workers=1"),
        *(f"--cache_dir={tmp_path / 'cache'}", f"--store={tmp_path / 's'}"),
    ]
    run = partial(commands.run, "extract.run", *flags)
    assert "pip cannot fetch it" in one_line(run(**NO_NETWORK))
    assert not (tmp_path / "s").exists()
    links = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel().parent)}
    first = run(**links)
    assert first.returncode == 0, first.stderr
    assert "musicnn==0.1.0 (29 MB): fetching it by pip" in first.stderr
    assert run(**NO_NETWORK).returncode == 0


def test_without_network_and_cache_one_line_says_what_to_do(tmp_path: Path, get: Get) -> None:
    line = one_line(get(f"--cache_dir={tmp_path}", **NO_NETWORK))
    assert "pip cannot fetch it" in line
    assert "give --weights=FILE" in line


def test_without_pip_one_line_says_so(tmp_path: Path, get: Get) -> None:
    (tmp_path / "blocked" / "pip").mkdir(parents=True)
    (tmp_path / "blocked" / "pip" / "__init__.py").write_text(
        'raise ModuleNotFoundError("No module named pip")\n'
    )
    line = one_line(get(f"--cache_dir={tmp_path}", PYTHONPATH=f"{tmp_path / 'blocked'}:{REPO}"))
    assert "has no pip" in line and "--weights=FILE" in line and "ensurepip" in line


def test_the_cache_holds_all_four_models(cache: Path) -> None:
    tensors = load_file(cache_file("musicnn", "", cache))
    assert {name.partition("/")[0] for name in tensors} == set(musicnn.MODELS)
    assert sum(tensor.size for tensor in tensors.values()) == 2 * (792_079 + 607_030)
    for model in musicnn.MODELS:
        embedding = build("musicnn", model=model, cache_dir=str(cache))
        from_wheel = build("musicnn", model=model, weights=str(wheel()))
        jax.tree.map(np.testing.assert_array_equal, embedding.params, from_wheel.params)
        assert embedding.provenance["weights"] == from_wheel.provenance["weights"]
        assert MUSICNN.wheel is not None
        assert embedding.provenance["weights"] == {MUSICNN.wheel.file: MUSICNN.wheel.sha256}


def test_the_converted_file_will_do(cache: Path, tmp_path: Path) -> None:
    converted = cache_file("musicnn", "", cache)
    build("musicnn", weights=str(converted))
    target = convert(Config("musicnn", cache_dir=str(tmp_path), weights=str(converted)))
    assert load_file(target).keys() == load_file(converted).keys()


def test_other_files_are_refused(tmp_path: Path) -> None:
    for name, content, message in (
        ("w.whl", b"PK", r"w\.whl: SHA-256 [0-9a-f]{12}… instead of f38a4890c648…"),
        ("w.pth", b"", r"w\.pth: weights are read from musicnn-0\.1\.0.* and \.safetensors files"),
        ("w.safetensors", b"{", r"w\.safetensors: not a readable safetensors file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            build("musicnn", weights=str(tmp_path / name))
    save_file({"x": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="is missing; is this the weights file of another model"):
        build("musicnn", weights=str(tmp_path / "other.safetensors"))
    target = cache_file("musicnn", "", tmp_path)
    save_file({"x": np.zeros(3, np.float32)}, target)
    with pytest.raises(InputError, match=r"was not made from musicnn-0\.1\.0.*delete it"):
        convert(Config("musicnn", cache_dir=str(tmp_path)))


def test_a_mirror_is_chosen_by_pip(get: Get) -> None:
    assert "choose that by pip config" in one_line(get("--base_url=http://x"))
