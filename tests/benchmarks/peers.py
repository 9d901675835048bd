"""The same probes by other means: PyTorch in a plain loop and under torch.func.vmap, scikit-learn.

Every function gets arrays in memory and does the paper's protocol: Adam with coupled L2, batches of
8 reshuffled every epoch, the whole validation set after each. None stops early, so all do the same
number of steps. Beside JAX on a GPU, PyTorch has the same GPU.
"""

import os
from collections.abc import Sequence

import jax
import numpy as np
import torch

from fsprobe.batch.spec import ProbeSpec
from fsprobe.config import SolverConfig
from fsprobe.heads.data import Data


def use_the_same_device() -> None:
    """Let new tensors be where JAX's arrays are."""
    on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    torch.set_default_device("cuda" if on_gpu else "cpu")


def tensor(array: np.ndarray) -> torch.Tensor:
    """An array on that device."""
    return torch.from_numpy(array).to(torch.get_default_device())


class Tensors:
    """Data on torch's side."""

    def __init__(self, data: Data) -> None:
        self.train, self.train_labels, self.valid, self.valid_labels = (
            tensor(np.ascontiguousarray(array, np.float32))
            for part in (data.train, data.valid)
            for array in (part.features, part.positive)
        )


def torch_loop(specs: Sequence[ProbeSpec], data: Tensors, config: SolverConfig) -> list[float]:
    """Validation losses after the last epoch. The strong plain version: no Lightning, no data
    loader, fused Adam.
    """
    losses = []
    for spec in specs:
        torch.manual_seed(spec.seed)
        tags = tensor(np.asarray(spec.tags))
        x = data.train[tensor(np.asarray(spec.support))]
        y = data.train_labels[tensor(np.asarray(spec.support))][:, tags]
        valid_y = data.valid_labels[:, tags].contiguous()
        probe = torch.nn.Linear(x.shape[1], len(tags))
        optimizer = torch.optim.Adam(
            probe.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        criterion = torch.nn.BCEWithLogitsLoss()
        for _ in range(config.max_epochs):
            for batch in torch.randperm(len(x)).split(config.batch_size):
                optimizer.zero_grad(set_to_none=True)
                criterion(probe(x[batch]), y[batch]).backward()
                optimizer.step()
            with torch.no_grad():
                loss = criterion(probe(data.valid), valid_y)
        losses.append(float(loss))
    return losses


def torch_vmap(specs: Sequence[ProbeSpec], data: Tensors, config: SolverConfig) -> list[float]:
    """The same, all specs at once: they must have equally many tags and clips, so that nothing is
    padded.
    """
    x = torch.stack([data.train[tensor(np.asarray(spec.support))] for spec in specs])
    tags = [tensor(np.asarray(spec.tags)) for spec in specs]
    y = torch.stack(
        [
            data.train_labels[tensor(np.asarray(spec.support))][:, t]
            for spec, t in zip(specs, tags, strict=True)
        ]
    )
    valid_y = torch.stack([data.valid_labels[:, t] for t in tags])
    bound = x.shape[2] ** -0.5
    w = torch.empty(len(specs), x.shape[2], y.shape[2]).uniform_(-bound, bound)
    b = torch.empty(len(specs), y.shape[2]).uniform_(-bound, bound)
    state = [torch.zeros_like(p) for p in (w, w, b, b)]

    def loss(
        params: tuple[torch.Tensor, torch.Tensor], x: torch.Tensor, y: torch.Tensor
    ) -> torch.Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(x @ params[0] + params[1], y)

    gradient = torch.func.vmap(torch.func.grad(loss))
    validate = torch.func.vmap(loss, in_dims=(0, None, 0))
    take = torch.func.vmap(lambda rows, batch: rows[batch])
    step, losses = 0, torch.zeros(len(specs))
    with torch.no_grad():
        for _ in range(config.max_epochs):
            order = torch.rand(x.shape[:2]).argsort(1)
            for batch in order.split(config.batch_size, 1):
                step += 1
                grads = gradient((w, b), take(x, batch), take(y, batch))
                for p, g, first, second in zip((w, b), grads, state[::2], state[1::2], strict=True):
                    g = g.add(p, alpha=config.weight_decay)
                    first.lerp_(g, 0.1)
                    second.mul_(0.999).addcmul_(g, g, value=0.001)
                    denominator = second.sqrt().div_((1 - 0.999**step) ** 0.5).add_(1e-8)
                    p.addcdiv_(first, denominator, value=-config.learning_rate / (1 - 0.9**step))
            losses = validate((w, b), data.valid, valid_y)
    return losses.tolist()


def sklearn_fit(specs: Sequence[ProbeSpec], data: Data, path: Sequence[float]) -> list[float]:
    """The least validation loss over a path of regularised logistic regressions, one-vs-rest.

    path: strengths in units of the support clips' mean squared distance from their mean. All cores,
    a tag at a time, where a cell is worth a process.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    losses = []
    for spec in specs:
        x = data.train.features[spec.support]
        y = data.train.positive[spec.support][:, spec.tags]
        scale = float(np.mean(np.sum((x - x.mean(axis=0)) ** 2, axis=1)))
        cores = len(os.sched_getaffinity(0)) if len(x) >= 100 else 1
        least = float("inf")
        for strength in path:
            model = LogisticRegression(C=1 / (len(x) * strength * scale), max_iter=1000)
            fitted = OneVsRestClassifier(model, n_jobs=cores).fit(x, y)
            logits = np.stack(
                [
                    data.valid.features @ one.coef_[0] + one.intercept_[0]
                    for one in fitted.estimators_
                ],
                1,
            )
            loss = np.logaddexp(
                0, np.where(data.valid.positive[:, spec.tags], -logits, logits)
            ).mean()
            least = min(least, float(loss))
        losses.append(least)
    return losses


def sklearn_metrics(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Average precision and ROC-AUC of `[row, clip]`, a row at a time → `[row, 2]`."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    return np.array(
        [
            (average_precision_score(y, s), roc_auc_score(y, s))
            for s, y in zip(scores, labels, strict=True)
        ]
    )
