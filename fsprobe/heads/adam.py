"""The paper's way to fit a probe: Adam, coupled L2, early stopping on the validation loss."""

from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from fsprobe.config import SolverConfig
from fsprobe.heads.early_stopping import epochs_ahead, progress_after
from fsprobe.heads.head import Data, Params, Progress, Solver, Task, bce, logits, module

_INIT, _ORDER, _DROPOUT = 0, 1, 2  # what a key is for


class AdamState(NamedTuple):
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

    A clip's sorting key depends on its position and the key alone, so padding changes no order.
    """
    position = jnp.arange(items.shape[0])
    # partitionable threefry: the i-th draw does not depend on how many are drawn
    draws = jnp.where(position < count, jax.random.uniform(key, items.shape), jnp.inf)
    return lax.sort((draws, items), num_keys=1)[1]


@lru_cache(maxsize=64)
def adam(config: SolverConfig, validate_every: int = 1) -> Solver:
    """The paper's solver. Each epoch visits the support clips in a fresh order, in batches, the
    last one short.

    validate_every: epochs that are trained before `fsprobe.heads.early_stopping` asks which of them
    was the best, if the probe is linear; with a hidden layer the loss is not convex, and every
    epoch is validated.
    """
    every = 1 if config.hidden else validate_every
    optimizer = coupled_adam(config.learning_rate, config.weight_decay)

    def init(task: Task, data: Data) -> AdamState:
        key = jax.random.fold_in(jax.random.key(task.seed), _INIT)
        params = module(task.tags.shape[0], config.hidden).init(key, data.train[:1])
        inf, zero = jnp.float32(jnp.inf), jnp.int32(0)
        # a task without clips is padding
        return AdamState(
            params,
            optimizer.init(params),
            params,
            Progress(zero, inf, inf, zero, task.num_support == 0),
        )

    def advance(state: AdamState, task: Task, data: Data, num_epochs: Array | int) -> AdamState:
        labels = data.train_labels[task.support, task.tags[:, None]]
        valid_labels = data.valid_labels[:, task.tags]
        valid_mask = jnp.broadcast_to(task.tag_mask, valid_labels.shape)
        positions = jnp.arange(task.support.shape[0])
        size = min(config.batch_size, positions.size)

        def loss(params: Params, batch: Array, real: Array, dropout: Array | None) -> Array:
            scores = logits(params, data.train[task.support[batch]], by_tag=True, dropout=dropout)
            return bce(scores, labels[:, batch], task.tag_mask[:, None] & real)

        def step(
            i: Array, carry: tuple[Params, optax.OptState], order: Array, key: Array
        ) -> tuple[Params, optax.OptState]:
            params, moments = carry
            dropout = jax.random.fold_in(key, i) if config.hidden else None
            batch = lax.dynamic_slice(order, (i * size,), (size,))
            real = i * size + jnp.arange(size) < task.num_support
            gradient = jax.grad(loss)(params, batch, real, dropout)
            updates, moments = optimizer.update(gradient, moments, params)
            return optax.apply_updates(params, updates), moments

        def epoch(
            number: Array, params: Params, moments: optax.OptState
        ) -> tuple[Params, optax.OptState]:
            key, dropout = (
                jax.random.fold_in(jax.random.fold_in(jax.random.key(task.seed), purpose), number)
                for purpose in (_ORDER, _DROPOUT)
            )
            order = shuffled(key, positions, task.num_support)
            order = jnp.pad(order, (0, size))  # the last batch may reach past the end
            steps = (task.num_support + size - 1) // size
            return lax.fori_loop(
                0, steps, lambda i, carry: step(i, carry, order, dropout), (params, moments)
            )

        def val_loss(params: Params) -> Array:
            return bce(logits(params, data.valid), valid_labels, valid_mask)

        def next_epoch(i: Array, carry: tuple[AdamState, Params]) -> tuple[AdamState, Params]:
            state, trail = carry
            params, moments = epoch(state.progress.epoch + i, state.params, state.moments)
            return state._replace(params=params, moments=moments), jax.tree.map(
                lambda kept, new: kept.at[i].set(new), trail, params
            )

        def interval(state: AdamState) -> AdamState:
            before = state.progress
            count = (
                epochs_ahead(before, config, every) if every > 1 else 1
            )  # a constant, for lockstep
            trail = jax.tree.map(
                lambda leaf: jnp.zeros((every, *leaf.shape), leaf.dtype), state.params
            )
            state, trail = lax.fori_loop(0, count, next_epoch, (state, trail))
            progress = progress_after(val_loss, trail, count, before, config)
            improved, best = (
                progress.best_epoch > before.epoch,
                progress.best_epoch - before.epoch - 1,
            )
            best_params = jax.tree.map(
                lambda kept, old: jnp.where(improved, kept[best], old), trail, state.best_params
            )
            return state._replace(best_params=best_params, progress=progress)

        stop = state.progress.epoch + num_epochs
        return lax.while_loop(
            lambda s: ~s.progress.done & (s.progress.epoch < stop), interval, state
        )

    def weights(state: AdamState) -> Params:
        return state.best_params if config.restore_best else state.params

    return Solver(init, advance, weights)
