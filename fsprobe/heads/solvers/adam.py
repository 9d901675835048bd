"""The paper's way to fit a probe: Adam, coupled L2, early stopping on the validation loss."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from fsprobe.config import SolverConfig
from fsprobe.heads.cross_validation import FOLDS
from fsprobe.heads.data import Data, Task, balanced, bce, on_real_clips
from fsprobe.heads.early_stopping import Progress, all_epochs, epochs_ahead, progress_after
from fsprobe.heads.neural import Params, logits, probe_module, to_head
from fsprobe.heads.solvers.solver import Solver, Steps

_INIT, _ORDER, _DROPOUT = 0, 1, 2  # what a key is for


class AdamState(NamedTuple):
    """Under cross-validation params, moments and best_params have a leading axis `[model]`: one
    model per fold, which does not see that fold, and a last one that sees all clips.
    """

    params: Params
    moments: optax.OptState
    best_params: Params
    progress: Progress


def coupled_adam(
    learning_rate: Array | float, weight_decay: Array | float
) -> optax.GradientTransformation:
    """g ← ∇L + weight_decay·w, then Adam(0.9, 0.999, 1e-8): torch.optim.Adam(weight_decay=…), not
    AdamW.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_adam(eps=1e-8),
        optax.scale(-learning_rate),
    )


def shuffled(key: Array, items: Array, count: Array) -> Array:
    """`[clip]` with its first `count` entries in random order and the rest behind them.

    A clip's sorting key depends on its position and the random key alone, so the order does not
    depend on padding. Only about as many entries are sorted as are real.
    """

    def of(size: int) -> Array:
        position = jnp.arange(size)
        # partitionable threefry: the i-th draw does not depend on how many are drawn
        draws = jnp.where(position < count, jax.random.uniform(key, (size,)), jnp.inf)
        order = lax.sort((draws, items[:size]), num_keys=1)[1]
        return jnp.concatenate([order, items[size:]])

    return on_real_clips(of, count, items.shape[0])


@dataclass(frozen=True, eq=False)
class _Training:
    """One probe in training. positive, known: `[tag, clip]`, as in `bce`; `[model, tag, clip]`
    under cross-validation.
    """

    config: SolverConfig
    task: Task
    data: Data
    positive: Array
    known: Array | None
    validate_every: int

    @property
    def optimizer(self) -> optax.GradientTransformation:
        return coupled_adam(self.config.learning_rate, self.config.weight_decay)

    @property
    def cross_validated(self) -> bool:
        return self.config.validation == "support"

    def batch_loss(self, params: Params, batch: Array, real: Array, dropout: Array | None) -> Array:
        """Of the support clips at positions `batch`."""
        clips = self.data.train.features[self.task.support[batch]]
        scores = logits(params, clips, by_tag=True, dropout=dropout)
        known = None if self.known is None else self.known[:, batch]
        return bce(scores, self.positive[:, batch], known, self.task.tag_mask[:, None] & real)

    def step(
        self, i: Array, carry: tuple[Params, optax.OptState], order: Array, key: Array, size: int
    ) -> tuple[Params, optax.OptState]:
        """One batch: the i-th `size` clips of `order`."""
        params, moments = carry
        dropout = jax.random.fold_in(key, i) if self.config.hidden else None
        batch = lax.dynamic_slice(order, (i * size,), (size,))
        real = i * size + jnp.arange(size) < self.task.num_support
        gradient = jax.grad(self.batch_loss)(params, batch, real, dropout)
        updates, moments = self.optimizer.update(gradient, moments, params)
        return optax.apply_updates(params, updates), moments

    def epoch(
        self, number: Array, params: Params, moments: optax.OptState
    ) -> tuple[Params, optax.OptState]:
        """All support clips once, in a fresh order, in batches, the last one short."""
        key, dropout = (
            jax.random.fold_in(jax.random.fold_in(jax.random.key(self.task.seed), purpose), number)
            for purpose in (_ORDER, _DROPOUT)
        )
        positions = jnp.arange(self.task.support.shape[0])
        size = min(self.config.batch_size, positions.size)
        order = shuffled(key, positions, self.task.num_support)
        order = jnp.pad(order, (0, size))  # the last batch may reach past the end
        steps = (self.task.num_support + size - 1) // size
        return lax.fori_loop(
            0, steps, lambda i, carry: self.step(i, carry, order, dropout, size), (params, moments)
        )

    def models_epoch(
        self, number: Array, params: Params, moments: optax.OptState
    ) -> tuple[Params, optax.OptState]:
        """`epoch`, of every model if there are several."""
        if not self.cross_validated:
            return self.epoch(number, params, moments)
        return jax.vmap(
            lambda positive, known, params, moments: replace(
                self, positive=positive, known=known
            ).epoch(number, params, moments)
        )(self.positive, self.known, params, moments)

    def validation_loss(self, params: Params) -> Array:
        """On the validation clips, or of each support clip under the model that has not seen it."""
        if self.cross_validated:
            clips = self.data.train.features[self.task.support]
            scores = jax.vmap(lambda params: logits(params, clips, by_tag=True))(params)
            unseen = jnp.take_along_axis(scores, self.task.folds[None, None], axis=0)[0]
            mask = self.task.tag_mask[:, None] & self.task.clip_mask
            return bce(unseen, self.positive[-1], self.known[-1], mask)  # type: ignore[index]
        clips, positive, negative = self.data.valid.of_tags(self.task.tags)
        positive, known = balanced(positive, negative, jnp.ones((len(clips), 1), bool), 0)
        mask = jnp.broadcast_to(self.task.tag_mask, positive.shape)
        return bce(logits(params, clips), positive, known, mask)

    def interval(self, state: AdamState) -> AdamState:
        """Epochs, up to validate_every, and what validation says of them."""
        before, every = state.progress, self.validate_every
        # a constant, for lockstep
        count = epochs_ahead(before, self.config, every) if every > 1 else 1

        def next_epoch(i: Array, carry: tuple[AdamState, Params]) -> tuple[AdamState, Params]:
            state, trail = carry
            params, moments = self.models_epoch(before.epoch + i, state.params, state.moments)
            trail = jax.tree.map(lambda kept, new: kept.at[i].set(new), trail, params)
            return state._replace(params=params, moments=moments), trail

        trail = jax.tree.map(lambda leaf: jnp.zeros((every, *leaf.shape), leaf.dtype), state.params)
        state, trail = lax.fori_loop(0, count, next_epoch, (state, trail))
        if self.config.validation == "none":
            progress = all_epochs(before, count, self.config)
        else:
            progress = progress_after(self.validation_loss, trail, count, before, self.config)
        improved, best = progress.best_epoch > before.epoch, progress.best_epoch - before.epoch - 1
        best_params = jax.tree.map(
            lambda kept, old: jnp.where(improved, kept[best], old), trail, state.best_params
        )
        return state._replace(best_params=best_params, progress=progress)


def _training(config: SolverConfig, task: Task, data: Data, validate_every: int) -> _Training:
    positive, negative = jax.tree.map(
        lambda part: part[task.support, task.tags[:, None]], data.train[1:]
    )
    if config.validation == "support":
        negative = ~positive if negative is None else negative
        seen = task.folds != jnp.arange(FOLDS + 1)[:, None]  # `[model, clip]`; the last sees all
        positive, negative = (jnp.where(seen[:, None], part, 0) for part in (positive, negative))
    positive, known = balanced(positive, negative, task.clip_mask, -1)
    return _Training(config, task, data, positive, known, validate_every)


@lru_cache(maxsize=64)
def adam(config: SolverConfig, validate_every: int = 1) -> Steps:
    """Adam for one probe, in steps.

    validate_every: how many epochs are trained before `fsprobe.heads.early_stopping` finds the best
    of them. It applies to linear probes with validation="valid"; all others go epoch by epoch,
    because with a hidden layer the loss is not convex.
    """
    every = validate_every if config.validation == "valid" and not config.hidden else 1
    optimizer = coupled_adam(config.learning_rate, config.weight_decay)

    def init(task: Task, data: Data) -> AdamState:
        key = jax.random.fold_in(jax.random.key(task.seed), _INIT)
        params = probe_module(task.tags.shape[0], config.hidden).init(key, data.train.features[:1])
        if config.validation == "support":
            params = jax.tree.map(lambda leaf: jnp.stack([leaf] * (FOLDS + 1)), params)
            moments = jax.vmap(optimizer.init)(params)
        else:
            moments = optimizer.init(params)
        # a task without clips is padding
        return AdamState(params, moments, params, Progress.start(task.num_support == 0))

    def advance(state: AdamState, task: Task, data: Data, num_epochs: Array | int) -> AdamState:
        training = _training(config, task, data, every)
        stop = state.progress.epoch + num_epochs
        return lax.while_loop(
            lambda s: ~s.progress.done & (s.progress.epoch < stop), training.interval, state
        )

    def head(state: AdamState) -> Any:
        params = state.best_params if config.restore_best else state.params
        if config.validation == "support":
            params = jax.tree.map(lambda leaf: leaf[-1], params)
        return to_head(params)

    return Steps(init, advance, head)


SOLVER = Solver(
    "adam",
    "the paper's, with early stopping",
    steps=adam,
    settings=frozenset(
        ("learning_rate", "weight_decay", "batch_size", "max_epochs", "patience", "restore_best")
    )
    | {"hidden", "matmul_precision", "standardize", "validation"},
)
