"""PyTorch weights files, as torch writes them: the formats that are published, and what must never
be loaded.
"""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from extract.embeddings import build, vggish
from extract.embeddings.pretrained import to_published
from extract.embeddings.published import Config, convert
from extract.embeddings.registry import OPENL3
from extract.embeddings.registry import VGGISH as ENTRY
from extract.embeddings.weights_formats import cache_file, read_weights
from extract.errors import InputError
from tests.support import http_server

if os.environ.get("FSPROBE_PARITY") == "required":
    import torch
else:
    torch = pytest.importorskip("torch", reason="torch is not installed; see launch/parity.sh")

pytestmark = pytest.mark.parity
server = http_server.server
VGGISH, PCA = (file.name for file in ENTRY.files[""])


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    return vggish.init_params(jax.random.key(5))


def write_vggish(folder: Path, params: dict[str, Any], zipped: bool = True) -> None:
    tensors = to_published(params, vggish.layout())
    network = {
        name: torch.tensor(tensor) for name, tensor in tensors.items() if not name.startswith("pca")
    }
    pca = {
        name: tensor.astype(np.float64)
        for name, tensor in tensors.items()
        if name.startswith("pca")
    }
    for name, state in ((VGGISH, network), (PCA, pca)):
        torch.save(state, folder / name, _use_new_zipfile_serialization=zipped)


@pytest.mark.parametrize("zipped", [False, True], ids=["old", "zip"])
def test_local_files_convert_and_run(zipped: bool, params: dict[str, Any], tmp_path: Path) -> None:
    write_vggish(tmp_path, params, zipped)
    command = [
        sys.executable,
        "-m",
        "extract.weights",
        "--embedding=vggish",
        f"--weights={tmp_path / VGGISH}",
        f"--cache_dir={tmp_path / 'cache'}",
    ]
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[2])
    for source in ({"cache_dir": tmp_path / "cache"}, {"weights": tmp_path / VGGISH}):
        embedding = build("vggish", **source)
        jax.tree.map(np.testing.assert_array_equal, embedding.params, params)
        assert set(embedding.provenance["weights"]) == {VGGISH, PCA}
    (tmp_path / PCA).unlink()
    with pytest.raises(
        InputError, match=r"its second file vggish_pca_params\*.pth must lie in the same folder"
    ):
        build("vggish", weights=tmp_path / VGGISH)


def test_a_download_with_another_hash_is_refused(
    server: Any, params: dict[str, Any], tmp_path: Path
) -> None:
    """VGGish's hashes are published, and random weights do not have them."""
    write_vggish(tmp_path, params)
    server.files = {f"/{name}": (tmp_path / name).read_bytes() for name in (VGGISH, PCA)}
    with pytest.raises(
        InputError, match=r"SHA-256 .* instead of 10086976; the download was removed"
    ):
        convert(Config("vggish", cache_dir=str(tmp_path / "cache"), base_url=server.url))
    assert not cache_file("vggish", "", tmp_path / "cache").exists()


def test_a_download_of_pth_tar(server: Any, tmp_path: Path) -> None:
    from torchopenl3.models import PytorchOpenl3

    network = PytorchOpenl3(input_repr="mel128", content_type="music", embedding_size=512)
    torch.save(network.state_dict(), tmp_path / "w")
    server.files = {f"/{OPENL3.files['torchopenl3'][0].name}": (tmp_path / "w").read_bytes()}
    server.cut = [1_000_000]
    target = convert(Config("openl3", "torchopenl3", str(tmp_path), base_url=server.url))
    assert server.log == [None, "bytes=1000000-"]
    assert target.is_relative_to(tmp_path)
    embedding = build("openl3", variant="torchopenl3", cache_dir=str(tmp_path))
    assert set(embedding.params) == {"params", "batch_stats", "frontend"}
    assert embedding.provenance["variant"] == "torchopenl3"


class Malicious:
    def __init__(self, trap: Path):
        self.trap = trap

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trap),)


@pytest.mark.parametrize("suffix", ["pth", "pt", "pth.tar"])
@pytest.mark.parametrize("how", ["zip", "old", "pickle", "in an array"])
def test_code_is_never_run(how: str, suffix: str, tmp_path: Path) -> None:
    path, trap = tmp_path / f"w.{suffix}", tmp_path / "trap"
    state: Any = {"x": torch.zeros(1), "evil": Malicious(trap)}
    if how == "in an array":
        state["evil"] = np.array([Malicious(trap)], dtype=object)
    if how == "pickle":
        path.write_bytes(pickle.dumps(state["evil"]))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(
        InputError, match=r"w\.\S+: damaged, or not a PyTorch file of weights only"
    ) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    assert not trap.exists()
    torch.load(path, weights_only=False) if how != "pickle" else pickle.loads(path.read_bytes())
    assert trap.exists()  # it would have


@pytest.mark.parametrize("zipped", [False, True], ids=["old", "zip"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_files_are_refused(zipped: bool, share: float, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"x": torch.zeros(10_000)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match="damaged"):
        read_weights(path)


def test_what_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "w.pt")
    with pytest.raises(InputError, match="holds a Tensor, not a state dict"):
        read_weights(tmp_path / "w.pt")


def test_bfloat16_is_read(tmp_path: Path) -> None:
    values = torch.linspace(-3, 3, 7).bfloat16()
    torch.save({"x": values, "n": torch.tensor(3), "half": values.half()}, tmp_path / "w.pt")
    tensors, _ = read_weights(tmp_path / "w.pt")
    np.testing.assert_array_equal(tensors["x"], values.float().numpy())
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float32)}


ODD = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "meta": lambda: torch.zeros(3, device="meta"),
    "complex": lambda: torch.zeros(3, dtype=torch.complex64),
    "complex array": lambda: np.zeros(3, np.complex64),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_no_plain_arrays_are_refused(kind: str, tmp_path: Path) -> None:
    torch.save({"good": torch.zeros(2), "odd": ODD[kind]()}, tmp_path / "w.pt")
    with pytest.raises(
        InputError,
        match=r"w\.pt: (tensor 'odd' is not a plain array|damaged, or not a PyTorch file)",
    ) as caught:
        read_weights(tmp_path / "w.pt")
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_refused_in_one_line(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "w.pt"))
    command = [
        sys.executable,
        "-m",
        "extract.weights",
        "--embedding=passt",
        f"--weights={tmp_path / 'w.pt'}",
        f"--cache_dir={tmp_path}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 2
    assert "a TorchScript archive" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_torchs_advice_is_not_passed_on(tmp_path: Path) -> None:
    for number, content in enumerate(
        (b"", b"PK\x03\x04junk", b"\x80\x02junk", b"{", pickle.dumps(print), bytes(1000))
    ):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged, or not a PyTorch file") as caught:
            read_weights(path)
        assert "weights_only" not in str(caught.value), content
