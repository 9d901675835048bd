"""Everything a sweep can be told, as frozen hashable dataclasses. A default lives here and nowhere
else.

`fsprobe.sweep` bridges its flags to these; the defaults are the paper's protocol (Ma & Lerch, AES
2024, §3, and the authors' public code).
"""

from dataclasses import dataclass, field

AUTO = "auto"
FULL = "full"  # the K of a probe that trains on every training clip

KShot = int | str  # a positive integer or FULL


@dataclass(frozen=True)
class SolverConfig:
    """How one probe is trained. name: `adam`, or `lbfgs` (regularised, to convergence), which takes
    l2 alone.
    """

    name: str = "adam"
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4  # L2 coupled into the gradient, as torch.optim.Adam's weight_decay
    batch_size: int = 8
    max_epochs: int = 400
    patience: int = 10  # epochs without a lower validation loss before stopping
    restore_best: bool = (
        True  # test the weights of the best epoch; False: the last, as the authors' code does
    )
    hidden: int = 0  # units of a hidden layer; 0: the probe is linear
    l2: float | str = AUTO  # a strength, or AUTO: chosen per probe by the validation loss
    matmul_precision: str = (
        "float32"  # or tensorfloat32, bfloat16: of matrix products, where the device has them
    )
    standardize: str = "none"  # or train (by the training clips' statistics), frame (framenorm)


@dataclass(frozen=True)
class GridConfig:
    """Which probes: every n_way × k_shot × seed, over tags drawn from one pool."""

    n_way: tuple[int, ...] = (2, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50)
    k_shot: tuple[KShot, ...] = (1, 5, 10, 15, 20)
    num_seeds: int = 5
    seed: int = 0  # the first of num_seeds consecutive seeds
    tags: str = "top50"
    on_scarce: str = "error"
    test_clips: str = "all"  # or tagged: only test clips with at least one of the probe's tags

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.num_seeds)


@dataclass(frozen=True)
class SweepConfig:
    """One run of `fsprobe.sweep`."""

    manifest: str
    stores: tuple[
        tuple[str, str], ...
    ]  # (name, directory), in the order `combined` concatenates them
    embeddings: tuple[str, ...]
    out: str
    missing: str = "error"
    weight_norms: bool = False  # write the weights' L1 norms per feature
    dataset: str = ""  # its name, for captions
    timeout_minutes: float = 0  # stop cleanly after this long; 0: never
    device_memory_gb: float = 0  # that a device may use; 0: measured
    grid: GridConfig = field(default_factory=GridConfig)
    solver: SolverConfig = field(default_factory=SolverConfig)
