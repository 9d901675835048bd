"""Generated features of MagnaTagATune's shape: its clean split, its 50 tag counts, any width."""

import numpy as np

from fsprobe.heads.data import Data, Labelled
from fsprobe.study.episodes import Episode, draw_episode

CLIPS = {"train": 15_247, "valid": 1_529, "test": 4_332}
# clips per top-50 tag and split, in the order of python -m extract.prepare --dataset=magnatagatune
COUNTS = {
    "train": (
        3469,
        3300,
        2492,
        2104,
        2088,
        1892,
        1837,
        1571,
        1615,
        1491,
        1340,
        1392,
        1446,
        1214,
        1273,
        1050,
        1071,
        873,
        913,
        855,
        832,
        832,
        862,
        738,
        753,
        816,
        733,
        742,
        726,
        744,
        687,
        670,
        596,
        545,
        540,
        490,
        473,
        470,
        434,
        470,
        476,
        447,
        417,
        491,
        414,
        383,
        418,
        370,
        286,
        356,
    ),
    "valid": (
        507,
        271,
        249,
        252,
        245,
        190,
        186,
        236,
        195,
        98,
        108,
        170,
        149,
        80,
        114,
        43,
        150,
        50,
        102,
        61,
        70,
        81,
        41,
        75,
        54,
        46,
        32,
        94,
        77,
        55,
        49,
        154,
        71,
        61,
        40,
        10,
        50,
        32,
        62,
        14,
        46,
        45,
        64,
        64,
        43,
        43,
        56,
        16,
        54,
        3,
    ),
    "test": (
        875,
        699,
        806,
        598,
        394,
        516,
        496,
        564,
        495,
        467,
        508,
        344,
        231,
        435,
        330,
        381,
        174,
        373,
        264,
        295,
        282,
        245,
        189,
        273,
        248,
        162,
        251,
        166,
        192,
        196,
        249,
        102,
        159,
        135,
        110,
        188,
        142,
        148,
        153,
        160,
        122,
        142,
        141,
        20,
        116,
        131,
        67,
        119,
        165,
        131,
    ),
}


def labels(split: str) -> np.ndarray:
    """bool `[clip, tag]`; the same on every call."""
    rng = np.random.default_rng([1, *split.encode()])
    out = np.zeros((CLIPS[split], 50), bool)
    for tag, count in enumerate(COUNTS[split]):
        out[rng.choice(len(out), count, replace=False), tag] = True
    return out


def data(dim: int) -> Data:
    """Unit normal noise with a direction of its own for each tag, float32."""
    rng = np.random.default_rng([2, dim])
    directions = rng.standard_normal((50, dim), dtype=np.float32) * np.float32(2 / np.sqrt(dim))
    parts = []
    for split, count in CLIPS.items():
        marks = labels(split)
        noise = rng.standard_normal((count, dim), dtype=np.float32)
        parts.append(Labelled(noise + marks.astype(np.float32) @ directions, marks))
    return Data(*parts)


def episodes(num_seeds: int, n_way: int, k_shot: int) -> list[Episode]:
    """As fsprobe.sweep draws them; every peer gets the same ones."""
    marks = labels("train")
    return [
        draw_episode(seed, marks, np.arange(len(marks)), n_way, k_shot) for seed in range(num_seeds)
    ]
