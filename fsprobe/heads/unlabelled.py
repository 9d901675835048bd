"""Clips that nobody has labelled, in a fit. Two ways:

weak_negatives: they enter as negatives with a small weight, for most clips have no given tag.
self_training: a teacher's confident answers become their labels, hardened to yes or no (after the
noisy student of Won et al., "Semi-supervised music tagging transformer", ISMIR 2021). Soft labels
of a linear teacher on the same features would teach nothing: at its own weights their gradient is
zero.

The weight is an array: what all unlabelled clips of a tag count together, as a share of what its
labelled clips count.
"""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import Array

from fsprobe.heads.data import Data, Labelled, Task
from fsprobe.heads.solvers.solver import Fitted, Path, Products, Settings
from fsprobe.heads.strengths import DUAL_PATH, cell_by_path, choose

WEAK_NEGATIVES, SELF_TRAINING = "weak_negatives", "self_training"
CONFIDENT = 0.9  # a teacher's probability of its answer


def weak_negatives(labels: Labelled, rest: Array, weight: Array) -> Labelled:
    """The labels with a negative weight on the rest. rest: bool `[clip]`, what nobody has labelled;
    its labels are zeros. weight: `[]`.
    """
    positive, negative = labels.weights
    each = _shared_out(labels, rest[:, None], weight)
    return Labelled(labels.features, positive, negative + each)


def self_training(labels: Labelled, rest: Array, weight: Array, logits: Array) -> Labelled:
    """The labels with a teacher's confident answers on the rest. logits: the teacher's, `[clip,
    tag]`.
    """
    probability = jax.nn.sigmoid(logits)
    yes, no = (p >= CONFIDENT for p in (probability, 1.0 - probability))
    positive, negative = labels.weights
    each = _shared_out(labels, rest[:, None] & (yes | no), weight)
    return Labelled(labels.features, positive + each * yes, negative + each * no)


def _shared_out(labels: Labelled, chosen: Array, weight: Array) -> Array:
    """`[clip, tag]`: the weight of each chosen clip, the same for all of a tag."""
    positive, negative = labels.weights
    known = jnp.sum(positive + negative, axis=0)
    return chosen * (weight * known / jnp.maximum(jnp.sum(chosen, axis=0), 1))


def unlabelled_cell(
    path: Callable[..., Path],
    task: Task,
    products: Products | None,
    data: Data,
    settings: Settings,
) -> Fitted:
    """A solver's `unlabelled_cell`, given its `path`: one probe, for which all training clips
    beside its support count as unlabelled. In cross-validation they are never held out.
    """
    # the strengths of few-shot probes without unlabelled clips: few labels need no weaker ones
    settings = replace(settings, path=settings.path or DUAL_PATH)
    train = data.train.of_tags(task.tags)
    count = train.features.shape[0]
    places = jnp.where(task.clip_mask, task.support, count)  # padding falls off the end
    support = jnp.zeros(count, bool).at[places].set(True, mode="drop")
    folds = jnp.full(count, -1).at[places].set(task.folds, mode="drop")
    labels = Labelled(train.features, *(w * support[:, None] for w in train.weights))
    valid = data.valid.of_tags(task.tags)
    weight = jnp.asarray(settings.unlabelled_weight)
    if settings.unlabelled == SELF_TRAINING:
        teacher = cell_by_path(path, task, products, data, settings).head
        labels = self_training(labels, ~support, weight, teacher.score(train.features))
    else:
        labels = weak_negatives(labels, ~support, weight)
    fits = path(labels, jnp.ones(count, bool), folds, valid, settings)
    return choose(fits, jnp.arange(task.tags.size), task.tag_mask)
