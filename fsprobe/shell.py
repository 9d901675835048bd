"""What is global while fsprobe computes: threads of BLAS, JAX's devices and compiled programs."""

import contextlib
import importlib
import os
from collections.abc import Iterator

import jax
import threadpoolctl

from extract.errors import InputError
from extract.files import cache_folder
from extract.shell import num_cores


@contextlib.contextmanager
def computing() -> Iterator[None]:
    """Inside this block there is one host device per core, so that probes train side by side, and
    compiled programs are kept between runs. A sweep in it writes the same bytes as the command,
    unless JAX has made its devices before: it makes them once, so that their number then stays what
    it was, and with it how sums are rounded.

    Each device calls SciPy's LAPACK by itself; if BLAS started threads for each call, they would
    wait for each other, and it would take twice as long. JAX's settings stay when the block ends.
    """
    importlib.import_module("scipy.linalg.cython_lapack")
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # JAX has made its devices already
            jax.config.update("jax_num_cpu_devices", num_cores())
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and (kept := cache_folder()):
        jax.config.update("jax_compilation_cache_dir", str(kept / "jax"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    with threadpoolctl.threadpool_limits(1, "blas"):
        yield


def require_devices() -> None:
    """Raise InputError where JAX finds no device, as when JAX_PLATFORMS names one that is not
    there.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"JAX finds no device ({error}); check "
            f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')} and the installed extra, gpu or "
            "tpu"
        ) from error
