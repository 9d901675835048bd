"""A tagger as a value: a head with the calibration, thresholds and names that belong to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Source:
    """A store that the features come from.

    name: as in --store=NAME=DIR. embedding, dim, aggregation, provenance: of its store.json. array:
    `features` or `features_framenorm`. width: how many columns of the kernel are its own.
    """

    name: str
    embedding: str
    array: str
    dim: int
    width: int
    aggregation: str
    settings: Mapping[str, Any] = field(default_factory=dict)  # sample_rate (Hz), window, hop (s)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights(self) -> list[str]:
        """SHA-256 of the weights' files, sorted; or the words that stand for them."""
        found = self.provenance.get("weights", [])
        return sorted(map(str, found.values() if isinstance(found, Mapping) else [found]))


@dataclass(frozen=True, eq=False)
class Tagger:
    """A head with what belongs to it; row i of every tensor is tags[i].

    training: per tag what `fsprobe.train` knows of it (positives, negatives, tracks, roc_auc with
    roc_auc_interval, strength, prevalence, highest_probability, verdict …). shared: what the tags
    have in common (the pooled slope, how prevalence and thresholds were chosen).
    """

    tags: tuple[str, ...]
    kernel: np.ndarray
    bias: np.ndarray
    calibration: np.ndarray
    threshold: np.ndarray
    embedding: str
    sources: tuple[Source, ...]
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    shared: Mapping[str, Any] = field(default_factory=dict)
    manifest_sha256: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def aggregation(self) -> str:
        """That of the stores; joined by `+` where they differ."""
        return "+".join(dict.fromkeys(source.aggregation for source in self.sources))

    @property
    def highest(self) -> np.ndarray:
        """float32 `[tag]`: the highest probability that a tag may get."""
        values = [self.training.get(tag, {}).get("highest_probability", 1.0) for tag in self.tags]
        return np.array(values, np.float32)

    def take(self, rows: Sequence[int]) -> "Tagger":
        """The tagger of the given rows, in the given order."""
        rows = list(rows)
        tags = tuple(self.tags[row] for row in rows)
        return replace(
            self,
            tags=tags,
            training={tag: self.training[tag] for tag in tags if tag in self.training},
            kernel=self.kernel[rows],
            bias=self.bias[rows],
            calibration=self.calibration[rows],
            threshold=self.threshold[rows],
        )
