"""Bad input, and the shell around every entry point.

`InputError` is what the library raises for input that the user can mend. `run` is how an entry module starts:
it parses flags, calls `main` and turns what went wrong into one line on stderr and an exit code:
0 done, 1 done but something failed on the way, 2 bad input, 130 interrupted, 143 terminated.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType


class InputError(ValueError):
    """Input the user can mend. The message is one line: the file, the value, the fix."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised in the main thread so that `finally` blocks run as they do for Ctrl-C."""


def run(main: Callable[[], int | None]) -> None:
    """Parse `sys.argv` with absl, call `main()` and exit with its return value (None is 0)."""
    sys.exit(_guarded(main))


def _guarded(main: Callable[[], int | None]) -> int:
    from absl import flags

    module = sys.modules["__main__"]
    # absl names an entry module after sys.argv[0]; a help flag prints the module's docstring and its flags.
    if any(arg in ("--help", "-help", "-h", "--helpshort") for arg in sys.argv[1:]):
        print((module.__doc__ or "").strip(), "\n")
        print(flags.FLAGS.main_module_help())
        return 0
    with _sigterm_raises():
        try:
            rest = flags.FLAGS(sys.argv)[1:]
            if rest:
                raise InputError(f"unexpected argument {rest[0]!r}: every option is a flag, see --help")
            return main() or 0
        except (InputError, flags.Error) as error:
            _complain(str(error))
            return 2
        except Terminated:
            _complain("terminated")
            return 143
        except KeyboardInterrupt:
            _complain("interrupted")
            return 130
        except BrokenPipeError:  # the reader of our output left (`| head`): nothing to say, nobody to say it to
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except OSError as error:
            if error.filename is None and error.errno is None:
                raise
            where = f"{error.filename}: " if error.filename is not None else ""
            _complain(f"{where}{error.strerror or error}")
            return 2


def _complain(message: str) -> None:
    name = getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", None) or Path(sys.argv[0]).stem
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    def handler(signum: int, frame: FrameType | None) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
