"""musicnn and vgg: what was published about them, windows of any clip, and the networks held
against plain NumPy. Against the package's own graph: tests/parity/test_parity_musicnn.py.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import soundfile

from extract.embeddings import build, musicnn
from extract.embeddings.musicnn import filters, frontend, networks
from extract.embeddings.musicnn.tags import TAGS
from extract.errors import InputError
from extract.manifest import Manifest, write_manifest
from extract.store import open_store
from tests.support import golden
from tests.support.commands import Commands
from tests.support.musicnn_wheel import wheel
from tests.support.signals import noise, silence, tones

RATE = musicnn.SAMPLE_RATE
SECONDS = 3.2  # one window and a tail


@pytest.fixture(scope="module")
def params() -> Any:
    return golden.musicnn_params("musicnn")


# --- what was published


def test_the_published_tags_from_audio_to_store(
    real_data: Path, tmp_path: Path, commands: Commands
) -> None:
    """The ten tags of the package's README, in its order."""
    name = "joram-moments_of_clarity-08-solipsism-59-88.mp3"
    write_manifest(tmp_path / "m.csv", Manifest(("joram",), (name,), ("test",), (("techno",),)))
    flags = [
        f"--manifest={tmp_path / 'm.csv'}",
        *(f"--audio_root={real_data / 'audio'}", "--embedding=musicnn"),
        *("--musicnn_model=MTT_musicnn", "--musicnn_layer=tags", "--musicnn_tail=drop"),
        *(f"--weights={wheel()}", f"--store={tmp_path / 's'}", "--num_workers=1"),
    ]
    done = commands.run("extract.run", *flags)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 clips seem to be MagnaTagATune's" in done.stderr
    store = open_store(tmp_path / "s")
    tags, mean = store.meta["provenance"]["tags"], store.features[0, :50]
    top = [tags[i] for i in np.argsort(-mean)[:10]]
    assert top == [
        *("techno", "electronic", "synth", "fast", "beat"),
        *("drums", "no vocals", "no vocal", "dance", "ambient"),
    ]
    np.testing.assert_allclose(
        np.sort(mean)[::-1][:10],
        [0.585, 0.541, 0.419, 0.272, 0.213, 0.120, 0.095, 0.080, 0.073, 0.060],
        atol=6e-4,  # three digits were published
    )


@pytest.mark.parametrize(
    ("model", "mean", "variance", "values", "count"),
    [
        ("MTT_musicnn", 1.594, 1.747, 792_079, 64),
        ("MSD_musicnn", 2.198, 1.585, 792_079, 64),
        ("MTT_vgg", 1.591, 1.748, 607_030, 36),
        ("MSD_vgg", 2.182, 1.599, 607_030, 36),
    ],
)
def test_the_wheel_holds_the_published_weights(
    model: str, mean: float, variance: float, values: int, count: int
) -> None:
    leaves = jax.tree.leaves(params := build("musicnn", weights=wheel(), model=model).params)
    assert (sum(leaf.size for leaf in leaves), len(leaves)) == (values, count)
    norm = params["batch_normalization"]
    assert float(norm["mean"][0]) == pytest.approx(mean, abs=5e-4)
    assert float(norm["var"][0]) == pytest.approx(variance, abs=5e-4)


def test_the_output_tags() -> None:
    for tags in TAGS.values():
        assert len(tags) == len(set(tags)) == 50
    assert (TAGS["MTT"][3], TAGS["MTT"][-1]) == ("techno", "choral")
    assert (TAGS["MSD"][0], TAGS["MSD"][-1]) == ("rock", "happy")


# --- windows


@pytest.mark.parametrize(
    ("frames", "tail", "expected"),
    [
        (10, "keep", [0]),
        (187, "keep", [0]),
        (188, "keep", [0, 1]),
        (188, "drop", [0]),
        (374, "keep", [0, 187]),
        (400, "keep", [0, 187, 213]),
        (400, "drop", [0, 187]),
    ],
)
def test_the_last_window_ends_with_the_clip(frames: int, tail: str, expected: list[int]) -> None:
    found = frontend.starts(frames, 187, 187, tail == "keep")
    assert found.tolist() == expected
    config = musicnn.Config(tail=tail)
    samples = (frames - 1) * 256 + 17
    assert len(musicnn.windows(silence(1, samples), config)) == len(expected)


def test_29_seconds_make_nine_windows_and_a_tail() -> None:
    audio = noise(RATE, 29.1)
    assert len(musicnn.windows(audio, musicnn.Config(tail="drop"))) == 9
    assert len(musicnn.windows(audio)) == 10


def test_windows_that_would_fill_the_memory_are_refused() -> None:
    """Ten minutes at a hop of 16 ms: 37,313 windows of 3 s. Without overlap nothing is refused."""
    audio = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (600 * RATE,), (0,))
    config = musicnn.Config(hop=0.016)
    with pytest.raises(InputError, match=r"hop 0\.016 s: 37,315 windows of a clip of 600 s take 6"):
        musicnn.windows(audio, config)
    assert len(musicnn.windows(noise(RATE, 10), config)) == 440
    hours = musicnn.Config(window=0.016, hop=0.016)
    assert len(musicnn.windows(audio, hours)) == 37501


@pytest.mark.parametrize("seconds", [1.5, 3.0, 6.0])
def test_seconds_are_whole_frames(seconds: float) -> None:
    frames = {1.5: 93, 3.0: 187, 6.0: 375}[seconds]
    assert musicnn.frames_in(seconds) == frames
    embedding = build("musicnn", random_weights=0, window=seconds, hop=seconds)
    assert embedding.window == frames * 256 / RATE
    assert embedding.windows(noise(RATE, 7)).shape[1] == 1 + (frames - 1) * 256 + 512


def log_mel(audio: np.ndarray) -> np.ndarray:
    """The front end by librosa, `[frame, 96]`."""
    import librosa

    mel = librosa.feature.melspectrogram(y=audio, sr=RATE, n_fft=512, hop_length=256, n_mels=96)
    return np.log10(10000 * mel.T.astype(np.float16).astype(np.float32) + 1)


@pytest.mark.parametrize("kind", [noise, tones, silence])
def test_the_front_end_is_librosas(kind: Any) -> None:
    audio = np.clip(4 * kind(RATE, SECONDS), -1, 1)  # loud: mel power beyond 6.55
    frames = np.concatenate(jax.jit(frontend.log_mel)(frontend.windows(audio, 187, 187, False)))
    expected = log_mel(audio)[: len(frames)]
    # float32 sums in another order may fall on the other side of a rounding to float16: then they
    # differ by a step, log10(1 + 2^-10)
    np.testing.assert_allclose(frames, expected, atol=4.3e-4)
    assert (np.abs(frames - expected) < 1e-5).mean() > 0.99


@pytest.mark.parametrize("samples", [1, 255, 256, 10_000, 47_000])
def test_short_clips_repeat_their_frames(samples: int) -> None:
    audio = noise(RATE, samples / RATE)
    (frames,) = jax.jit(frontend.log_mel)(frontend.windows(audio, 187, 187, True))
    expected = log_mel(audio)
    assert len(expected) == 1 + samples // 256 < 187
    np.testing.assert_allclose(frames, np.resize(expected, (187, 96)), atol=4.3e-4)


def test_what_float16_cannot_hold_is_its_largest() -> None:
    audio = 2000 * noise(RATE, 1)
    (frames,) = jax.jit(frontend.log_mel)(frontend.windows(audio, 187, 187, True))
    assert np.isfinite(frames).all()
    assert float(frames.max()) == pytest.approx(np.log10(10000 * 65504 + 1), abs=1e-5)


# --- networks


def direct(
    layer: dict[str, np.ndarray], norm: dict[str, np.ndarray], x: np.ndarray, pad: tuple[int, int]
) -> np.ndarray:
    """`[frame, band]` → `[frame, out]` in float64: convolution, ReLU, normalisation, and only then
    the maximum over mel.
    """
    kernel = layer["kernel"][:, :, 0].astype(np.float64)
    patches = np.lib.stride_tricks.sliding_window_view(np.pad(x, (pad, (0, 0))), kernel.shape[:2])
    y = np.maximum(np.einsum("tpij,ijo->tpo", patches, kernel) + layer["bias"], 0)
    y = (y - norm["mean"]) / np.sqrt(norm["var"] + 0.001) * norm["scale"] + norm["bias"]
    return y.max(1)


@pytest.mark.parametrize("frames", [1, 50])
@pytest.mark.parametrize("conv", ["conv2d", "conv2d_1", "conv2d_2", "conv2d_3", "conv2d_4"])
def test_first_convolutions_in_every_form(params: Any, conv: str, frames: int) -> None:
    """As XLA has them, and as they are computed on a CPU; with factors of both signs."""
    number = {name: i for name, i, _ in (*networks.TIMBRAL, *networks.TEMPORAL)}[conv]
    layer, norm = params[conv], params[networks.norm_name(number)]
    assert (norm["scale"] < 0).any() and (norm["scale"] > 0).any()
    x = np.random.default_rng(0).standard_normal((frames, 96)).astype(np.float32)
    taps = len(layer["kernel"])
    across = conv in ("conv2d", "conv2d_1")
    expected = direct(layer, norm, x, (3, 3) if across else ((taps - 1) // 2, taps // 2))
    factor = norm["scale"] / np.sqrt(norm["var"] + np.float32(0.001))
    convolve = filters.across_mel if across else filters.along_time
    forms = (
        (filters.direct_across_mel, filters.filtered_across_mel)
        if across
        else (filters.direct_along_time, filters.banded_along_time)
    )

    @jax.jit
    def compute(layer: Any, norm: Any, x: jax.Array) -> Any:
        return convolve(layer, norm, x)[0], *(form(x, layer["kernel"][:, :, 0]) for form in forms)

    folded = (factor, norm["bias"] - norm["mean"] * factor)
    actual, plain, other = compute(layer, folded, x[None])
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()
    assert np.abs(plain - other).max() <= 1e-5 * np.abs(plain).max()


@pytest.mark.parametrize(
    ("window", "stride"), [((4, 1), (2, 2)), ((2, 2), (2, 2)), ((4, 4), (4, 4)), ((4, 1), (2, 1))]
)
def test_pools(window: tuple[int, int], stride: tuple[int, int]) -> None:
    x = np.random.default_rng(0).standard_normal((2, 11, 7, 3)).astype(np.float32)
    views = np.lib.stride_tricks.sliding_window_view(x, window, (1, 2))
    expected = views[:, :: stride[0], :: stride[1]].max((-1, -2))
    np.testing.assert_array_equal(networks.max_pool(x, window, stride), expected)


@pytest.mark.parametrize("kind", ["musicnn", "vgg"])
def test_goldens(kind: str) -> None:
    """What the package's graph computed from seeded weights."""
    expected = golden.load(kind)
    audio = golden.audio(RATE, SECONDS)
    model = f"MSD_{kind}"
    found = jax.jit(musicnn.all_layers, static_argnums=2)(
        golden.musicnn_params(kind), frontend.windows(audio, 187, 187, False), model
    )
    assert found.keys() == expected.keys() == musicnn.layers(model).keys()
    for name, layer in expected.items():
        golden.assert_agree(found[name], layer)


def test_a_layer_is_the_same_alone_and_beside_others() -> None:
    audio = noise(RATE, 1)
    together = build(
        "musicnn", random_weights=0, window=0.4, hop=0.4, layer=["cnn1", "tags", "timbral"]
    )
    assert [(layer.name, layer.width) for layer in together.layers] == [
        ("cnn1", 64), ("tags", 50), ("timbral", 408),
    ]  # fmt: skip
    both = np.asarray(jax.jit(together.embed)(together.params, together.windows(audio)))
    alone = build("musicnn", random_weights=0, window=0.4, hop=0.4, layer="tags")
    assert alone.layers == ()
    tags = jax.jit(alone.embed)(alone.params, alone.windows(audio))
    np.testing.assert_array_equal(both[:, 64:114], tags)


@pytest.mark.parametrize("samples", [1, 3000])
def test_frames_of_any_clip_are_finite(params: Any, samples: int) -> None:
    embedding = build("musicnn", random_weights=0, window=0.4, hop=0.4)
    for audio in (silence(RATE, samples / RATE), noise(RATE, samples / RATE)):
        frames = jax.jit(embedding.embed)(params, embedding.windows(audio))
        assert frames.shape == (1, 200)
        assert np.isfinite(frames).all()


# --- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "MTT_resnet"}, "musicnn_model=MTT_resnet`: must be MSD_musicnn or"),
        ({"layer": "pool3"}, "MSD_musicnn has no layer 'pool3'; it has timbral"),
        ({"model": "MSD_vgg", "layer": "cnn1"}, "MSD_vgg has no layer 'cnn1'; it has pool1"),
        ({"layer": ["tags", "tags"]}, "name each layer once"),
        ({"layer": []}, "at least one"),
        ({"window": 0.01}, r"musicnn window 0\.01 s is not between"),
        ({"hop": float("nan")}, "musicnn hop nan s is not between"),
        ({"window": 61.0}, "and 60 s"),
        ({"model": "MSD_vgg", "window": 6.0}, "takes windows of 3 s alone"),
        ({"tail": "cut"}, "musicnn_tail=cut`: must be keep or drop"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build("musicnn", random_weights=0, **options)


def test_defaults() -> None:
    embedding = build("musicnn", random_weights=0)
    assert (embedding.dim, embedding.hop, embedding.sample_rate) == (200, 2.992, 16000)
    provenance = embedding.provenance
    assert provenance["model"] == "MSD_musicnn"
    assert provenance["layer"] == "penultimate"
    assert provenance["licence"] == "ISC"
    assert build("musicnn", random_weights=0, model="MTT_vgg").provenance["layer"] == "pool5"


def test_several_layers_from_the_command_line(tmp_path: Path, commands: Commands) -> None:
    soundfile.write(tmp_path / "a.wav", noise(RATE, 1.1), RATE)
    write_manifest(tmp_path / "m.csv", Manifest(("a",), ("a.wav",), ("train",), ((),)))
    flags = [
        f"--manifest={tmp_path / 'm.csv'}",
        *(f"--audio_root={tmp_path}", "--embedding=musicnn", "--random_weights=0"),
        *("--musicnn_window=0.4", "--musicnn_hop=0.2", f"--store={tmp_path / 's'}"),
        *("--musicnn_layer=cnn1", "--musicnn_layer=mean_pool", "--num_workers=1"),
    ]
    for _ in range(2):
        done = commands.run("extract.run", *flags)
        assert done.returncode == 0, done.stderr
    assert open_store(tmp_path / "s" / "cnn1").dim == 64
    assert open_store(tmp_path / "s" / "mean_pool").meta["provenance"]["layer"] == "mean_pool"
    checked = commands.run("extract.verify", f"--store={tmp_path / 's'}")
    assert checked.returncode == 0
    assert checked.stdout.count("1 clips done and finite") == 2
    with pytest.raises(InputError, match=r"holds a store for each of 2 layers \(cnn1, mean_pool\)"):
        open_store(tmp_path / "s")
