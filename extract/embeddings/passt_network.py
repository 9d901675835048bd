"""PaSST's front end and transformer: audio at 32 kHz → 768 values per window, for any length up to
30 s.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from extract.embeddings import dsp
from extract.embeddings.layers import Dense
from extract.embeddings.pretrained import LINEAR, OIHW, Layout

DIM, DEPTH, HEADS = 768, 12, 12
SAMPLE_RATE, N_FFT, HOP, STFT_WINDOW, BANDS = 32000, 1024, 320, 800, 128
PATCH, STRIDE = 16, 10  # STFT frames, and mel bands
ROWS, COLUMNS = 1 + (BANDS - PATCH) // STRIDE, 300  # patches that the position tables know
LONG = 1024  # tokens above which attention goes head by head, to keep its weights small in memory


def log_mel(x: jax.Array, length: jax.Array | None = None) -> jax.Array:
    """`[batch, sample]` → scaled log-mel power, `[batch, band, frame]`, one frame per 320 samples.

    length: of the audio, where `x` is longer than it; frames beyond 1 + (length − 1) // 320 are
    then meaningless.
    """
    # Pre-emphasis without a sample before the first, fixed at 0.97 in training and use alike.
    x = x[:, 1:] - 0.97 * x[:, :-1]
    index = jnp.arange(-N_FFT // 2, x.shape[1] + N_FFT // 2)
    last = (x.shape[1] if length is None else length - 1) - 1
    # reflected at both ends
    x = jnp.take(x, jnp.clip(last - jnp.abs(last - jnp.abs(index)), 0), axis=1)
    margin = (N_FFT - STFT_WINDOW) // 2
    window = np.pad(dsp.hann(STFT_WINDOW, periodic=False), margin).astype(np.float32)
    spectrum = jnp.fft.rfft(dsp.frame(x, N_FFT, HOP) * window)
    power = spectrum.real**2 + spectrum.imag**2
    mel = jnp.einsum("btf,fm->bmt", power, dsp.mel_filters(SAMPLE_RATE, N_FFT, BANDS, 0, 15000))
    return (jnp.log(mel + 1e-5) + 4.5) / 5


def num_columns(num_samples: int | jax.Array) -> int | jax.Array:
    """Patches along time."""
    return 1 + (1 + (num_samples - 1) // HOP - PATCH) // STRIDE


class Block(nn.Module):
    """A pre-norm transformer block over `[batch, token, 768]`, of which the first `queries` tokens
    go on.
    """

    queries: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        y = _norm("norm1")(x)
        query, key, value = jnp.moveaxis(
            Dense(3 * DIM, name="qkv")(y).reshape(*x.shape[:2], 3, HEADS, -1), 2, 0
        )
        y = attend(query[:, : self.queries], key, value, mask)
        x = x[:, : self.queries] + Dense(DIM, name="proj")(y)
        y = Dense(4 * DIM, name="fc1")(_norm("norm2")(x))
        return x + Dense(DIM, name="fc2")(nn.gelu(y, approximate=False))


def attend(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Softmax attention over `[batch, token, head, dim]` → `[batch, query, head · dim]`; mask: bool
    `[token]`.
    """

    def one_head(arrays: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        q, k, v = arrays
        logits = jnp.einsum("bqd,bkd->bqk", q, k) * (DIM // HEADS) ** -0.5
        if mask is not None:
            logits = jnp.where(mask, logits, -jnp.inf)
        return jnp.einsum("bqk,bkd->bqd", jax.nn.softmax(logits), v)

    heads = (jnp.moveaxis(query, 2, 0), jnp.moveaxis(key, 2, 0), jnp.moveaxis(value, 2, 0))
    y = jax.lax.map(one_head, heads) if key.shape[1] > LONG else jax.vmap(one_head)(heads)
    return jnp.moveaxis(y, 0, 2).reshape(*query.shape[:2], DIM)


class Network(nn.Module):
    """Log-mel images `[batch, band, frame]` → `[batch, 768]`, the mean of the class and the
    distillation token.
    """

    @nn.compact
    def __call__(self, x: jax.Array, columns: jax.Array | None = None) -> jax.Array:
        """columns: how many columns of patches there are in truth, where `x` is longer."""
        table = nn.initializers.normal(0.02)
        frequency = self.param("frequency_positions", table, (1, ROWS, 1, DIM))
        time = self.param("time_positions", table, (1, 1, COLUMNS, DIM))
        special = self.param("special_positions", table, (1, 2, DIM)) + jnp.concatenate(
            [self.param(name, table, (1, 1, DIM)) for name in ("cls", "dist")], 1
        )
        x = nn.Conv(DIM, (PATCH, PATCH), STRIDE, "VALID", name="patches")(x[..., None])
        batch, rows, width = x.shape[:3]
        x = (x + time[:, :, :width] + frequency).reshape(batch, rows * width, DIM)
        x = jnp.concatenate([jnp.broadcast_to(special, (batch, 2, DIM)), x], 1)
        mask = None
        if columns is not None:
            mask = jnp.concatenate([jnp.ones(2, bool), jnp.tile(jnp.arange(width) < columns, rows)])
        for i in range(DEPTH):
            # Nothing reads the patches after the last block, so they are not computed there.
            x = Block(2 if i == DEPTH - 1 else None, name=f"blocks_{i}")(x, mask)
        return _norm("norm")(x).mean(1)


def _norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-6, use_fast_variance=False, name=name)


def layout() -> Layout:
    """Where the published tensors go; the classifier heads are not used."""
    names: Layout = {
        "params/cls": ("cls_token", None),
        "params/dist": ("dist_token", None),
        "params/special_positions": ("new_pos_embed", None),
        "params/frequency_positions": ("freq_new_pos_embed", (0, 2, 3, 1)),
        "params/time_positions": ("time_new_pos_embed", (0, 2, 3, 1)),
        "params/patches/kernel": ("patch_embed.proj.weight", OIHW),
        "params/patches/bias": ("patch_embed.proj.bias", None),
        "params/norm/scale": ("norm.weight", None),
        "params/norm/bias": ("norm.bias", None),
    }
    for i in range(DEPTH):
        for norm in ("norm1", "norm2"):
            names[f"params/blocks_{i}/{norm}/scale"] = f"blocks.{i}.{norm}.weight", None
            names[f"params/blocks_{i}/{norm}/bias"] = f"blocks.{i}.{norm}.bias", None
        for dense, published in (
            ("qkv", "attn.qkv"),
            ("proj", "attn.proj"),
            ("fc1", "mlp.fc1"),
            ("fc2", "mlp.fc2"),
        ):
            names[f"params/blocks_{i}/{dense}/kernel"] = f"blocks.{i}.{published}.weight", LINEAR
            names[f"params/blocks_{i}/{dense}/bias"] = f"blocks.{i}.{published}.bias", None
    return names
