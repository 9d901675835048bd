"""All settings of a sweep, as frozen hashable dataclasses. A default, a help text and the values
that are allowed stand here and nowhere else: `fsprobe.flags` makes flags of the fields, and
`to_json` and `from_json` write a configuration to run.json and read it back.

The defaults are the paper's protocol (Ma & Lerch, AES 2024, §3, and the authors' public code).
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from extract.errors import InputError
from fsprobe.settings import FULL, KShot, check_choices, is_of, require, require_each_once, setting
from fsprobe.words.config import WordsConfig

AUTO = "auto"
COMBINED = "combined"  # the embedding that has all stores side by side
MOST = 2**31 - 1

Config = TypeVar("Config")


def is_store_name(text: str) -> bool:
    """Whether a store may be called so. A name stands in flags, and becomes that of a folder."""
    return re.fullmatch(r"\w[\w.-]*", text) is not None


def shot_order(k_shot: KShot) -> float:
    """Sorting key of K: numbers first, `full` last."""
    return math.inf if k_shot == FULL else float(k_shot)


@dataclass(frozen=True)
class SolverConfig:
    """How one probe is trained. Each solver of `fsprobe.heads.solvers` uses some of the fields."""

    name: str = setting("adam", "How heads are fitted.", flag="solver")
    learning_rate: float = setting(1e-4, "Adam's step size.")
    # L2 coupled into the gradient, as torch.optim.Adam's weight_decay
    weight_decay: float = setting(1e-4, "L2 added to Adam's gradient, weights and bias alike.")
    batch_size: int = setting(8, "Clips per step of Adam.")
    max_epochs: int = setting(400, "Epochs of Adam at most.")
    patience: int = setting(10, "Epochs without a lower validation loss before Adam stops.")
    restore_best: bool = setting(
        True,
        "Test the weights of Adam's best epoch; --norestore_best: the last, as the authors' code "
        "does.",
    )
    hidden: int = setting(
        0, "Units of a hidden layer with ReLU and dropout 0.5, trained by Adam; 0: none."
    )
    l2: float | str = setting(
        AUTO,
        "Strength of the penalty l2/2 |w|^2, or `auto`: chosen for each probe as --validation "
        "says. scikit-learn's C is 1 / (clips * l2).",
    )
    validation: str = setting(
        "valid",
        "What chooses strengths and epochs. valid: the validation clips, as in the paper. support: "
        "cross-validation inside the support set. none: nothing (all of Adam's epochs, a fixed "
        "strength).",
        choices=("valid", "support", "none"),
    )
    matmul_precision: str = setting(
        "float32",
        "Precision of matrix products, where the device has a faster one (bfloat16: its fastest, "
        "which on a GPU is TF32). A CPU computes in float32.",
        choices=("float32", "tensorfloat32", "bfloat16"),
    )
    standardize: str = setting(
        "none",
        "none: features as they are. train: each dimension standardised by its mean and deviation "
        "over all training clips. frame: the statistics of standardised frames, which `combined` "
        "and A+B always have.",
        choices=("none", "train", "frame"),
    )

    unlabelled: str = setting(
        "none",
        "What a probe makes of the training clips beside its support: nothing; negatives of a "
        "small weight; or a teacher's confident answers (the probe without them) as labels. On "
        "real data they helped little, and negatives of a large weight did harm "
        "(results/reference/unlabelled).",
        choices=("none", "weak_negatives", "self_training"),
    )
    unlabelled_weight: float = setting(
        0.1, "What the unlabelled clips count together, as a share of the labelled ones."
    )

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("batch_size", "max_epochs", "patience"):
            value = getattr(self, name)
            require(1 <= value <= MOST, name, value, f"use a whole number from 1 to {MOST}")
        require(self.hidden >= 0, "hidden", self.hidden, "use 0 or more units")
        strength = isinstance(self.l2, float | int) and 0 < self.l2 < math.inf
        require(strength or self.l2 == AUTO, "l2", self.l2, "use a positive number or `auto`")


@dataclass(frozen=True)
class GridConfig:
    """Which probes: every n_way × k_shot × seed, over tags drawn from one pool."""

    n_way: tuple[int, ...] = setting(
        (2, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50), "Tags per episode. Repeatable."
    )
    k_shot: tuple[KShot, ...] = setting(
        (1, 5, 10, 15, 20),
        "Support clips per tag; 0: none, by --words alone; or `full`: every training clip. "
        "Repeatable.",
    )
    num_seeds: int = setting(5, "Seeds per cell: each draws its own episode.")
    seed: int = setting(0, "The first seed; the others follow it.")
    tags: str = setting(
        "top50",
        "The pool episodes draw from: top50, top:N, tail (all below the 50 most frequent), all, or "
        "file:PATH with one tag a line.",
    )
    on_scarce: str = setting(
        "error",
        "Where a tag has fewer than K training clips left: stop with an error, train on the fewer "
        "that it has, or drop the tag and draw another.",
        choices=("error", "fewer", "drop_tag"),
    )
    test_clips: str = setting(
        "all",
        "Test on all test clips, or on those with at least one of the N tags, as the authors' code "
        "does.",
        choices=("all", "tagged"),
    )

    def __post_init__(self) -> None:
        check_choices(self)
        require_each_once(self, "n_way", "k_shot")
        for n_way in self.n_way:
            require(n_way >= 1, "n_way", n_way, "use a whole number of tags, 1 or more")
        for k_shot in self.k_shot:
            counted = isinstance(k_shot, int) and k_shot >= 0
            remedy = "use a whole number (0: by words alone) or `full`"
            require(counted or k_shot == FULL, "k_shot", k_shot, remedy)
        require(self.num_seeds >= 1, "num_seeds", self.num_seeds, "use 1 or more")
        seeds_fit = 0 <= self.seed <= MOST + 1 - self.num_seeds
        require(seeds_fit, "seed", self.seed, f"seeds must be 0 to {MOST}")

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.num_seeds)

    @property
    def max_shot(self) -> int:
        """The largest K, `full` apart; 0 if there is none."""
        return max((k_shot for k_shot in self.k_shot if isinstance(k_shot, int)), default=0)


@dataclass(frozen=True)
class SweepConfig:
    """One run of `fsprobe.sweep`. stores: (name, directory), in the order `combined` concatenates
    them.
    """

    manifest: str = setting(
        "", "manifest.csv of extract.prepare: clips, splits and tags. Required."
    )
    stores: tuple[tuple[str, str], ...] = setting(
        (),
        "NAME=DIR: features by extract.run or extract.import_arrays. Repeatable; `combined` "
        "concatenates stores in the order given.",
        flag="store",
    )
    embeddings: tuple[str, ...] = setting(
        (),
        "A store's name, A+B for two or more side by side, or `combined`: all. Repeatable. "
        "Default: every store and, with two or more, `combined`.",
        flag="embedding",
    )
    out: str = setting("", "Directory of the results. Required.")
    missing: str = setting(
        "error",
        "Where a store lacks a clip that has a split: stop, or drop the clip for every embedding.",
        choices=("error", "drop"),
    )
    weight_norms: bool = setting(
        False,
        "Write the weights' L1 norm per feature, for the report's weight shares and correlations.",
    )
    save_heads: bool = setting(
        False, "Write every head to OUT/heads/EMBEDDING.safetensors, on the store's own features."
    )
    dataset: str = setting("", "Name of the data set, for the captions of fsprobe.report.")
    timeout_minutes: float = setting(
        0.0,
        "Stop cleanly after this long, with exit code 75; the same command goes on. 0: never.",
    )
    device_memory_gb: float = setting(
        0.0,
        "Memory that a device may use, in GB; probes are packed into it. 0: half of "
        "what an accelerator offers; on a CPU half of the host's free memory, divided among its "
        "CPU devices.",
    )
    grid: GridConfig = field(default_factory=GridConfig)
    solver: SolverConfig = field(default_factory=SolverConfig)
    words: WordsConfig = field(default_factory=WordsConfig)

    def __post_init__(self) -> None:
        check_choices(self)
        if 0 in self.grid.k_shot and not self.words.directory:
            raise InputError("`k_shot=0`: a tag's words alone; give `words=DIR` of extract.words")
        if self.words.test_manifest and self.grid.k_shot != (0,):
            raise InputError(
                f"`test_manifest={self.words.test_manifest}`: only with `k_shot=0`; for few shots "
                "sweep that corpus by itself"
            )
        for name in ("manifest", "out"):
            if not getattr(self, name):
                raise InputError(f"`{name}` is required; see --help")
        if not self.stores:
            raise InputError("`store=NAME=DIR` is required at least once; see --help")
        names = [name for name, _ in self.stores]
        if len(set(names)) < len(names):
            raise InputError(f"`store`: the name {max(names, key=names.count)!r} is given twice")
        chosen = self.embeddings or (*names, *([COMBINED] if len(names) > 1 else []))
        object.__setattr__(self, "embeddings", tuple(dict.fromkeys(chosen)))


def to_json(config: Any) -> dict[str, Any]:
    """A configuration as JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_json(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """The configuration that `to_json` made these values of. Fields that they lack, because an
    older version wrote them, have their defaults. Raises InputError on values that no configuration
    of this kind has.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"not a {kind.__name__}: {values!r}")
    arguments = {}
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]
        if item.name not in values:
            continue
        value = values[item.name]
        if dataclasses.is_dataclass(item.type):
            value = from_json(item.type, value)  # type: ignore[arg-type]
        arguments[item.name] = _tuples(value)
        if not is_of(arguments[item.name], item.metadata.get("recorded") or item.type):
            raise InputError(
                f"not a {kind.__name__}: `{item.name}={str(value)[:80]}` is no "
                f"{getattr(item.type, '__name__', item.type)}"
            )
    return kind(**arguments)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
