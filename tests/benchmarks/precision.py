r"""What reduced precision of matrix products costs in mAP: a sweep with operands rounded as an
accelerator would.

    bash launch/mtat_posteriors.sh DATA; d=.cache/mtat_posteriors
    python -m tests.benchmarks.precision --manifest=$d/manifest.csv
    --store=msd_musicnn=$d/msd_musicnn --n_way=50 \
      --store=jamendo_musicnn=$d/jamendo_musicnn --k_shot=10 --on_scarce=fewer --num_seeds=20
      --out=$d/precision

Takes the flags of `fsprobe.sweep`. A CPU's products are float32 whatever --matmul_precision says,
so the clips and the weights are rounded to the significands of TF32 (10 bits) and bfloat16 (7 bits)
before they are multiplied; sums stay float32, and so does the gradient's other operand.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax import Array, lax

from extract.shell import run
from fsprobe import shell
from fsprobe.heads import neural
from fsprobe.heads.solvers import adam
from fsprobe.study.execute import sweep
from fsprobe.sweep import config_from_flags

SIGNIFICANDS = {"float32": 23, "tensorfloat32": 10, "bfloat16": 7}


def rounded(plain: Callable[..., Array], bits: int) -> Callable[..., Array]:
    """`fsprobe.heads.neural.logits` with operands of so many bits; derivatives pass the rounding
    by.
    """

    def short(x: Array) -> Array:
        return x + lax.stop_gradient(
            lax.reduce_precision(x, exponent_bits=8, mantissa_bits=bits) - x
        )

    return lambda params, x, **options: plain(jax.tree.map(short, params), short(x), **options)


def main() -> int:
    config, plain = config_from_flags(), neural.logits
    means: dict[str, dict[str, Any]] = {}
    for name, bits in SIGNIFICANDS.items():
        adam.logits = rounded(plain, bits)  # type: ignore[attr-defined]
        jax.clear_caches()
        with shell.computing():
            rows = sweep(replace(config, out=f"{config.out}/{name}"))
        means[name] = {
            embedding: [row.mAP for row in rows if row.embedding == embedding]
            for embedding in config.embeddings
        }
    for name, found in means.items():
        print(
            name,
            *(
                f"{embedding} {np.mean(mAPs):.4f} "
                f"({np.mean(mAPs) - np.mean(means['float32'][embedding]):+.4f})"
                for embedding, mAPs in found.items()
            ),
        )
    return 0


if __name__ == "__main__":
    run(main)
