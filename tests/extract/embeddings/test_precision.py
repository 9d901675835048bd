"""Products in bfloat16: asked for by name, near the others, and recorded."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from extract.embeddings import build
from extract.embeddings.layers import in_float32, in_precision, matmul, rounded
from extract.errors import InputError
from extract.manifest import Manifest
from extract.pipeline.extract_clips import RunConfig, extract_clips
from tests.support.signals import noise


def test_products_round_their_operands_and_sum_in_float32() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 300)).astype(np.float32)
    y = rng.standard_normal((300, 20)).astype(np.float32)
    product = jax.jit(in_precision(matmul), static_argnames="precision")
    np.testing.assert_allclose(product(x, y), x @ y, atol=1e-4)
    short = [np.asarray(jnp.asarray(a, jnp.bfloat16), np.float64) for a in (x, y)]
    found = product(x, y, precision="bfloat16")
    assert found.dtype == np.float32
    # sums of 300 terms in float32; rounding the sum to bfloat16 would be 4e-3 of it
    np.testing.assert_allclose(found, short[0] @ short[1], atol=1e-4)
    assert np.abs(found - x @ y).max() > 1e-3


def test_front_ends_stay_in_float32() -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((50, 50)).astype(np.float32) for _ in range(2))
    both = in_precision(lambda x, y: in_float32(matmul)(x, y))
    np.testing.assert_allclose(both(x, y, precision="bfloat16"), x @ y, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("passt", {"window": 0.16}),
        ("musicnn", {"model": "MSD_vgg"}),
        pytest.param("vggish", {}, marks=pytest.mark.slow),  # faster: the other two
    ],
)
def test_embeddings_are_near_those_in_float32(name: str, options: dict) -> None:
    frames = []
    for precision in ("float32", "bfloat16"):
        embedding = build(name, random_weights=0, precision=precision, **options)
        windows = embedding.windows(noise(embedding.sample_rate, 1))[:2]
        frames.append(np.asarray(jax.jit(embedding.embed)(embedding.params, windows)))
        named = {"bfloat16": {"precision": "bfloat16"}, "float32": {}}[precision]
        assert {k: v for k, v in embedding.provenance.items() if k == "precision"} == named
    difference = np.abs(frames[0] - frames[1]).max() / np.abs(frames[0]).max()
    # bfloat16 keeps 8 bits: 4e-3 of each operand
    assert 0 < difference < 0.03


def test_parameters_are_rounded_once() -> None:
    params = {"a": {"kernel": np.ones((2, 3), np.float32), "bias": np.ones(3, np.float32)}}
    assert rounded(params, "float32") is params
    leaves = rounded(params, "bfloat16")["a"]
    assert (leaves["kernel"].dtype, leaves["bias"].dtype) == (jnp.bfloat16, np.float32)


def test_a_store_never_records_a_precision_that_changed_nothing(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(16000, 1), 16000)
    clips = Manifest(("a",), ("a.wav",), ("train",), ((),))
    embedding = build("musicnn", random_weights=0, precision="bfloat16")
    on_cpu = replace(embedding, provenance={**embedding.provenance, "platform": "cpu"})
    said = "precision bfloat16: on a CPU MSD_musicnn computes in float32 all the same; leave it out"
    with pytest.raises(InputError, match=said):
        extract_clips(clips, tmp_path, on_cpu, tmp_path / "store", RunConfig(num_workers=1))
    assert not (tmp_path / "store").exists()
    assert "gpu" not in embedding.refused_on
    for options in ({"model": "MSD_vgg", "precision": "bfloat16"}, {}):
        assert not build("musicnn", random_weights=0, **options).refused_on


def test_options_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="`precision=half`: must be float32 or bfloat16"):
        build("passt", random_weights=0, precision="half")
    with pytest.raises(InputError, match="precision bfloat16 belongs to backend jax"):
        build("passt", random_weights=0, precision="bfloat16", backend="package")
