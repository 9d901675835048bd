"""The shell around every entry point.

`run` is how an entry module starts: it parses flags, calls `main` and turns an error into one line
on stderr and an exit code: 0 done, 1 done but something failed on the way, 2 bad input, 75 the time
given is over (`fsprobe.sweep --timeout_minutes`), 130 interrupted, 141 nobody reads the output, 143
terminated.
"""

import contextlib
import io
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from extract.errors import InputError
from extract.files import DISK_FULL, is_disk_full, read_text

LONGEST = 300  # bytes of an error message, with the program's name and the line break
READER_LEFT = 141  # exit code where nobody reads the output: 128 + SIGPIPE
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised in the main thread so that `finally` blocks run as they do for Ctrl-C."""


def run(main: Callable[[], int | None]) -> None:
    """Parse `sys.argv` with absl, call `main()` and exit with its return value (None is 0). A help
    flag prints the module's docstring and its flags instead.
    """
    with _streams_that_last():
        code = _finish_output(_guarded(main))
    sys.exit(code)


def _guarded(main: Callable[[], int | None]) -> int:
    from absl import flags

    with handling({signal.SIGTERM: _terminate}):
        try:
            if any(arg in ("--help", "-help", "-h", "--helpshort") for arg in sys.argv[1:]):
                # absl names an entry module after sys.argv[0]
                print((sys.modules["__main__"].__doc__ or "").strip(), "\n")
                print(flags.FLAGS.main_module_help())
                return 0
            _refuse_rest(flags.FLAGS([sys.argv[0], *expand_flagfiles(sys.argv[1:])])[1:])
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
        except OSError as error:
            if isinstance(error, BrokenPipeError) and _reader_left():
                return READER_LEFT
            if not str(error):
                raise
            complain(_describe(error))
            return 2


def _refuse_rest(rest: Sequence[str]) -> None:
    """Raise InputError on arguments that are no flags."""
    if rest and rest[0].lstrip().startswith("#"):
        raise InputError(f"{rest[0].strip()!r}: a comment in a flagfile must begin its line")
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r}: every option is a flag, see --help")


def _describe(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename is not None else ""
    return where + (DISK_FULL if is_disk_full(error) else error.strerror or str(error))


def expand_flagfiles(arguments: Sequence[str], within: tuple[str, ...] = ()) -> list[str]:
    """The arguments with each --flagfile replaced by its lines, as absl does it: blank lines and
    those that begin with # or // left out, flagfiles in flagfiles followed. Unlike absl it reads
    every encoding of `extract.files.text_encoding`. within: the files being read.
    """
    rest = list(arguments)
    expanded: list[str] = []
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*expanded, argument, *rest]
        name, given, path = argument.partition("=")
        if name not in ("--flagfile", "-flagfile"):
            expanded.append(argument)
            continue
        if not given and not rest:
            raise InputError("--flagfile: which file?")
        path = os.path.expanduser(path if given else rest.pop(0))  # noqa: PTH111 - needs no HOME
        if path in within:
            raise InputError(f"{path}: this flagfile names itself")
        if path:
            lines = [line.strip() for line in read_text(path).splitlines()]
            wanted = [line for line in lines if line and not line.startswith(("#", "//"))]
            expanded += expand_flagfiles(wanted, (*within, path))
    return expanded


def complain(message: str) -> None:
    """One line on stderr, after the program's name, of at most LONGEST bytes: a longer one loses
    its middle, because the file stands at the beginning and the remedy at the end.
    """
    name = (
        getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", None)
        or Path(sys.argv[0]).stem
    )
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    line = f"{name}: {as_flags(' '.join(message.split()))}"
    line = _CONTROL.sub(lambda match: ascii(match[0])[1:-1], line)
    said = shorten(line.encode(encoding, "backslashreplace"), LONGEST - 1)  # and a line break
    # what was cut through is left out
    print(said.decode(encoding, "ignore"), file=sys.stderr, flush=True)


def as_flags(message: str) -> str:
    """The message with flags where the library names an argument: `k_shot=0` becomes --k_shot=0."""
    from absl import flags

    def flag(match: re.Match[str]) -> str:
        return f"--{match[1]}" if match[2] in flags.FLAGS else match[0]

    return re.sub(r"`((\w+)(?:=[^`]*)?)`", flag, message)


def shorten(text: bytes, length: int) -> bytes:
    """The text, its middle replaced by " ... " where it has more than `length` bytes."""
    if len(text) <= length:
        return text
    head = (length - 5) * 3 // 5
    return text[:head] + b" ... " + text[head + 5 - length :]


class _Forgiving(io.FileIO):
    """A file whose writes never fail: what nobody can read is dropped."""

    def write(self, data: Any, /) -> int:
        with contextlib.suppress(OSError):
            return super().write(data) or len(memoryview(data))
        return len(memoryview(data))


@contextlib.contextmanager
def _streams_that_last() -> Iterator[None]:
    """Standard streams that cannot stop the work: characters that the encoding lacks are escaped,
    closed streams lead nowhere, and a stderr that is gone or full drops what it is given.
    """
    stdin, stdout, stderr = sys.stdin, sys.stdout, sys.stderr
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            _hold_descriptor(number)
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, "w" if number else "r", encoding="utf-8"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(stderr, io.TextIOWrapper) and stderr is sys.__stderr__:
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(_Forgiving(2, "w", closefd=False)),
            encoding=stderr.encoding,
            errors="backslashreplace",
            line_buffering=True,
            write_through=True,
        )
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = stdin, stdout, stderr


def _hold_descriptor(number: int) -> None:
    """Open a closed descriptor of a standard stream, so that no file gets its number and with it
    the output of C libraries.
    """
    try:
        os.fstat(number)
    except OSError:
        os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free


def _finish_output(code: int) -> int:
    """Write out what stdout still holds; the exit code, which says so if that is not possible."""
    try:
        sys.stdout.flush()
        return code
    except OSError as error:
        gone = isinstance(error, BrokenPipeError)
        if not gone:
            complain(f"standard output: {_describe(error)}; only this text is lost")
        # what is left in the buffer goes nowhere when Python exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_LEFT if gone else code or 1


def _reader_left() -> bool:
    """Has the reader of our stdout left (`| head`)? Then there is nobody to say anything to."""
    poll = select.poll()
    poll.register(1, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


@contextlib.contextmanager
def signals_deferred() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C and SIGTERM back until the function that this yields is called, or the block
    ends.

    For loops through code in which an exception from a signal would do harm or be lost: JAX calls
    Python from the garbage collector, where exceptions are printed and dropped. A second signal
    comes through as soon as Python runs.
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

    with handling({signal.SIGINT: handler, signal.SIGTERM: handler}):
        yield check
        check()


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated


@contextlib.contextmanager
def handling(
    handlers: Mapping[int, Callable[[int, FrameType | None], Any] | int | None],
) -> Iterator[None]:
    """Signals by other handlers than before, for a while. In another thread than the main one they
    are not ours to handle, and nothing changes.
    """
    ours = handlers if threading.current_thread() is threading.main_thread() else {}
    previous = {signum: signal.signal(signum, handler) for signum, handler in ours.items()}
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# What the linear algebra behind NumPy reads when it is loaded, whichever it is.
ONE_THREAD = {
    f"{library}_NUM_THREADS": "1"
    for library in ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB_MAXIMUM")
}


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables as the processes that are started in the block inherit them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
