"""`fsprobe.fit` as training asks for it: strengths chosen by track, and each choice recorded."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from extract.errors import InputError
from fsprobe.config import AUTO
from fsprobe.heads.fitting import fit_tags
from fsprobe.heads.head import Head
from fsprobe.heads.solvers.solver import SCALES
from fsprobe.heads.words.mixture import heads_from_words, leave_one_out
from fsprobe.heads.words.prior import unit_prior
from fsprobe.tagger.judging.out_of_fold import Fitted
from fsprobe.tagger.tagger import Tagger
from fsprobe.words.vectors import Words, vectors_of


def fit_heads(
    features: np.ndarray,
    positive: np.ndarray,
    negative: np.ndarray,
    units: np.ndarray,
    l2: float | str,
    prior: Head | None = None,
) -> Fitted:
    """Converged heads. features float32 `[clip, dim]`; positive, negative `[clip, tag]` weights;
    units int `[clip]`, tracks, negative for clips that are never held out; l2: the strength,
    or `auto`: one is chosen for each tag, as is the scale of the prior, which is 1 otherwise.

    A tag that cannot be learnt takes the labels of one that can: equal shapes compile once.
    """
    can = _can_be_learnt(positive, negative)
    stand_in = np.where(can, np.arange(len(can)), int(np.argmax(can)))
    (kernel, bias), l2s, _, scales = fit_tags(
        features,
        positive[:, stand_in],
        negative[:, stand_in],
        l2=l2,
        validation="support" if l2 == AUTO else "none",
        prior=prior,
        scales=SCALES,
        groups=units,
    )
    return Fitted(np.asarray(kernel), np.asarray(bias), l2s, None if prior is None else scales)


class FitFromWords:
    """fit_heads, each tag's weights pulled to the head that its name gives, mixed from the heads of
    the other tags (`fsprobe.heads.words.mixture`): of the tagger there is, or of these tags' own
    first fits without a prior. A tag without a vector starts from 0.
    """

    def __init__(self, words: Words, tags: Sequence[str], tagger: Tagger | None = None) -> None:
        """tags: in the order of the labels' columns. Raises InputError if none has a vector, or if
        the tags that heads are mixed from have fewer than two: one says nothing of another.
        """
        known = tagger.tags if tagger else ()
        kept = [row for row, tag in enumerate(known) if tag not in tags]
        vectors = vectors_of(words, [*(known[row] for row in kept), *tags])[0]
        self.others, self.vectors = vectors[: len(kept)], vectors[len(kept) :]
        self.head = None
        if tagger and kept:
            self.head = Head(jnp.asarray(tagger.kernel[kept]), jnp.asarray(tagger.bias[kept]))
        mixed = self.others if kept else self.vectors
        told = len(np.unique(mixed[mixed.any(axis=1)], axis=0))
        if told < 2:
            raise InputError(
                f"`prior=words`: heads are mixed from {len(mixed)} tags, with {told} different "
                "vectors; it takes two"
            )

    def __call__(
        self,
        features: np.ndarray,
        positive: np.ndarray,
        negative: np.ndarray,
        units: np.ndarray,
        l2: float | str,
    ) -> Fitted:
        """As fit_heads."""
        if self.head is None:
            own = fit_heads(features, positive, negative, units, l2)
            learnt = _can_be_learnt(positive, negative)[:, None]
            head = Head(jnp.asarray(own.kernel), jnp.asarray(own.bias))
            start = leave_one_out(head, self.vectors * learnt, features)
        else:
            start = heads_from_words(self.head, self.others, self.vectors, features)
        prior = unit_prior(start, jnp.asarray(features))
        return fit_heads(features, positive, negative, units, l2, prior)


def _can_be_learnt(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """bool `[tag]`: has a positive and a negative clip."""
    return np.asarray((positive > 0).any(axis=0) & (negative > 0).any(axis=0))
