"""Published MagnaTagATune figures on the 50 most frequent tags, each with its split and source.

Two splits are in use and differ by about 0.08 mAP for one and the same model: `CLEAN` drops the
clips without any of the 50 tags, `UNFILTERED` keeps them. Figures of the one never stand in a table
with figures of the other.
"""

from dataclasses import dataclass
from typing import NamedTuple

MA_LERCH = "Ma & Lerch, AES 2024"
WON = "Won et al., SMC 2020"
CASTELLON = "Castellon et al., ISMIR 2021"


class Split(NamedTuple):
    """A split of MagnaTagATune, known by its number of clips."""

    name: str
    train: int
    valid: int
    test: int


CLEAN_SPLIT = Split("clean", 15_247, 1_529, 4_332)
UNFILTERED_SPLIT = Split("unfiltered", 18_706, 1_825, 5_329)


@dataclass(frozen=True)
class Published:
    """One published result: a single run unless its source says otherwise, with as many digits as
    printed there.
    """

    model: str
    mAP: str
    roc_auc: str
    source: str
    split: Split


CLEAN = tuple(
    Published(*row, split=CLEAN_SPLIT)
    for row in (
        ("VGGish, linear probe", "0.42", "0.90", MA_LERCH),
        ("OpenL3, linear probe", "0.43", "0.90", MA_LERCH),
        ("PaSST, linear probe", "0.45", "0.91", MA_LERCH),
        ("combined, linear probe", "0.47", "0.92", MA_LERCH),
        ("FCN", "0.4295", "0.9005", WON),
        ("Musicnn", "0.4493", "0.9106", WON),
        ("Sample-level", "0.4422", "0.9058", WON),
        ("Sample-level + SE", "0.4520", "0.9103", WON),
        ("CRNN", "0.3625", "0.8722", WON),
        ("Self-attention", "0.4445", "0.9077", WON),
        ("Harmonic CNN", "0.4611", "0.9127", WON),
        ("Short-chunk CNN", "0.4590", "0.9126", WON),
        ("Short-chunk CNN + Res", "0.4614", "0.9129", WON),
    )
)
UNFILTERED = (Published("Jukebox, probe", "0.41", "0.92", CASTELLON, UNFILTERED_SPLIT),)


def comparable(
    clips: tuple[int, int, int], tags: str, n_way: int, test_clips: str
) -> tuple[Published, ...]:
    """The published figures that a full probe of this kind may stand beside; empty if none.

    clips: number of train, valid and test clips. tags: the pool; n_way: probes of it; test_clips:
    `all` or `tagged`.
    """
    if tags not in ("top50", "top:50") or n_way != 50 or test_clips != "all":
        return ()
    return next((found for found in (CLEAN, UNFILTERED) if found[0].split[1:] == clips), ())
