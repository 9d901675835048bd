"""Commands as a user starts them, without the seconds that importing JAX takes each time.

A server imports what the commands import, and forks for each: the child runs the module as
`python -m` does, with its own arguments, streams and exit code. JAX starts its devices in the child.
"""

import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Commands:
    """A server of commands that import the given modules; a context manager."""

    def __init__(self, *modules: str, **environment: str) -> None:
        self.command = [sys.executable, "-m", "tests.support.commands", *modules]
        self.environment = os.environ | environment

    def __enter__(self) -> "Commands":
        self.server = subprocess.Popen(
            self.command,
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.server.communicate(timeout=60)

    def run(
        self, module: str, *arguments: str, cwd: Path = ROOT, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """`python -m module *arguments` in the directory cwd, with these more variables."""
        assert self.server.stdin is not None and self.server.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            streams = [Path(folder) / name for name in ("out", "err")]
            asked = [module, list(arguments), *map(str, streams), str(cwd), environment]
            self.server.stdin.write(json.dumps(asked) + "\n")
            self.server.stdin.flush()
            code = int(self.server.stdout.readline())
            out, err = (path.read_text("utf-8") for path in streams)
        return subprocess.CompletedProcess([module, *arguments], code, out, err)


def _serve() -> None:
    for line in sys.stdin:
        module, arguments, out, err, cwd, environment = json.loads(line)
        child = os.fork()
        if not child:
            os.chdir(cwd)
            os.environ.update(environment)
            _child(module, arguments, out, err)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _child(module: str, arguments: list[str], out: str, err: str) -> None:
    """Never returns."""
    code = 1
    try:
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    import importlib
    import warnings

    warnings.filterwarnings("ignore", "os.fork")  # JAX has started no thread yet
    for name in sys.argv[1:]:
        importlib.import_module(name)
    _serve()
