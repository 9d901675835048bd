"""The shell around every entry point.

`run` is how an entry module starts: it parses flags, calls `main` and turns what went wrong into
one line on stderr and an exit code: 0 done, 1 done but something failed on the way, 2 bad input, 75
out of the time given (`fsprobe.sweep --timeout_minutes`), 130 interrupted, 141 nobody reads the
output, 143 terminated.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType

from extract.errors import InputError
from extract.files import DISK_FULL, is_disk_full


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised in the main thread so that `finally` blocks run as they do for Ctrl-C."""


def run(main: Callable[[], int | None]) -> None:
    """Parse `sys.argv` with absl, call `main()` and exit with its return value (None is 0)."""
    sys.exit(_guarded(main))


def _guarded(main: Callable[[], int | None]) -> int:
    from absl import flags

    module = sys.modules["__main__"]
    # absl names an entry module after sys.argv[0]; a help flag prints the module's docstring and
    # its flags.
    if any(arg in ("--help", "-help", "-h", "--helpshort") for arg in sys.argv[1:]):
        print((module.__doc__ or "").strip(), "\n")
        print(flags.FLAGS.main_module_help())
        return 0
    with handling({signal.SIGTERM: _terminate}):
        try:
            rest = flags.FLAGS(sys.argv)[1:]
            if rest and rest[0].lstrip().startswith("#"):
                raise InputError(
                    f"{rest[0].strip()!r}: a comment in a flagfile must begin its line"
                )
            if rest:
                raise InputError(
                    f"unexpected argument {rest[0]!r}: every option is a flag, see --help"
                )
            return main() or 0
        except (InputError, flags.Error) as error:
            complain(str(error))
            return 2
        except Terminated:
            complain("terminated")
            return 143
        except KeyboardInterrupt:
            complain("interrupted")
            return 130
        # the reader of our output left (`| head`): nothing to say, nobody to say it to
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except OSError as error:
            if error.filename is None and error.errno is None:
                raise
            where = f"{error.filename}: " if error.filename is not None else ""
            complain(where + (DISK_FULL if is_disk_full(error) else error.strerror or str(error)))
            return 2


def complain(message: str) -> None:
    """One line on stderr, after the program's name."""
    name = (
        getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", None)
        or Path(sys.argv[0]).stem
    )
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def signals_deferred() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C and SIGTERM back until the function that this yields is called, or the block
    ends.

    For loops through code in which an exception from nowhere does harm or is lost: JAX calls Python
    from the garbage collector, where exceptions are printed and dropped. A second signal comes
    through as soon as Python runs.
    """
    pending: list[type[KeyboardInterrupt]] = []

    def handler(signum: int, frame: FrameType | None) -> None:
        error = Terminated if signum == signal.SIGTERM else KeyboardInterrupt
        if pending:
            raise error
        pending.append(error)

    def check() -> None:
        if pending:
            raise pending[0]

    if threading.current_thread() is not threading.main_thread():  # signals are not ours to handle
        yield check
        return
    with handling({signal.SIGINT: handler, signal.SIGTERM: handler}):
        yield check
        check()


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated


@contextlib.contextmanager
def handling(
    handlers: Mapping[int, Callable[[int, FrameType | None], None] | signal.Handlers],
) -> Iterator[None]:
    """Signals by other handlers than before, for a while."""
    previous = {signum: signal.signal(signum, handler) for signum, handler in handlers.items()}
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
