"""`fsprobe.fit` as training asks for it: strengths chosen by track, and told."""

import numpy as np

from fsprobe.heads.fitting import fit_tags
from fsprobe.tagger.judging.out_of_fold import Fitted


def fit_heads(
    features: np.ndarray,
    positive: np.ndarray,
    negative: np.ndarray,
    units: np.ndarray,
    l2: float | None,
) -> Fitted:
    """Converged heads. features float32 `[clip, dim]`; positive, negative `[clip, tag]` weights;
    units int `[clip]`, tracks; l2: the strength, None to choose one per tag.
    """
    found = fit_tags(
        features,
        positive,
        negative,
        l2="auto" if l2 is None else l2,
        validation="support" if l2 is None else "none",
        groups=units,
    )
    head = found.head
    return Fitted(np.asarray(head.kernel), np.asarray(head.bias), np.asarray(found.l2))
