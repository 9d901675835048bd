"""What may import what."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
    )


@pytest.mark.parametrize("module", ["fsprobe.sweep", "fsprobe.report"])
def test_fsprobe_loads_no_model_package(module):
    heavy = {
        "torch",
        "tensorflow",
        "keras",
        "openl3",
        "librosa",
        "hear21passt",
        "torchvggish",
        "soundfile",
    }
    assert not loaded_by(module) & heavy


@pytest.mark.parametrize("module", ["extract.manifest", "extract.store"])
def test_the_contract_needs_numpy_and_the_standard_library(module):
    allowed = {"numpy", "extract", "__main__"} | sys.stdlib_module_names
    ours = {name for name in loaded_by(module) if not name.startswith("_")}
    startup = {
        name for name in loaded_by("sys") if not name.startswith("_")
    }  # what this interpreter brings along
    assert not ours - allowed - startup


def test_extract_never_imports_fsprobe():
    for file in (ROOT / "extract").rglob("*.py"):
        imports = [
            line.strip()
            for line in file.read_text("utf-8").splitlines()
            if line.strip().startswith(("import ", "from "))
        ]
        assert not any("fsprobe" in line for line in imports), file
