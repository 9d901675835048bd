"""The layout, asserted from the syntax tree: what may import what, and how large anything gets.

DESIGN.md: features, labels, metrics, config, words ← heads ← batch ← study ← reporting, heads ← tagger
← listening ← review_page, pages ← tagger and reporting;
entry modules on top. extract never imports fsprobe, and fsprobe of extract only the contract.
"""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = sorted(file for part in ("extract", "fsprobe") for file in (ROOT / part).rglob("*.py"))
FROM_EXTRACT = {"cluster", "errors", "files", "manifest", "shell", "store"}
# a layer may import itself and what is listed
MAY_IMPORT = {
    "base": set[str](),
    "heads": {"base"},
    "batch": {"base", "heads"},
    "pages": {"base"},
    "tagger": {"base", "heads", "pages"},
    "listening": {"base", "heads", "tagger"},
    "review_page": {"base", "heads", "tagger", "listening"},
    "study": {"base", "heads", "batch"},
    "reporting": {"base", "heads", "batch", "study", "pages"},
    "entry": {
        "base",
        "heads",
        "batch",
        "tagger",
        "listening",
        "review_page",
        "study",
        "reporting",
        "pages",
    },
}
MODELS = {
    "essentia",
    "hear21passt",
    "kapre",
    "keras",
    "laion_clap",
    "librosa",
    "musicnn",
    "openl3",
    "soundfile",
    "tensorflow",
    "torch",
    "torchaudio",
    "torchopenl3",
    "torchvggish",
    "transformers",
}
IN_BASE = {"words"}  # a folder beside features, labels, metrics and config
ONLY_IN = {"ray": {"extract/cluster.py"}, "fsspec": {"extract/audio/remote.py"}}


def name_of(file: Path) -> str:
    """The module of a file."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file) for file in CODE}


@functools.cache
def nodes(file: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(file.read_text("utf-8"))))


@functools.cache
def imports(file: Path) -> list[tuple[str, int]]:
    """(module, line) of every import, wherever it stands."""
    return list(found_imports(file))


def found_imports(file: Path) -> Iterator[tuple[str, int]]:
    for node in nodes(file):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else str(node.module), node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            argument = node.args[0]
            if isinstance(argument, ast.Constant):
                yield str(argument.value), node.lineno


@functools.cache
def is_entry(module: str) -> bool:
    """A command: it is started by `python -m`."""
    file = ROOT / (module.replace(".", "/") + ".py")
    return file.exists() and '__name__ == "__main__"' in file.read_text("utf-8")


def layer_of(module: str) -> str:
    parts = module.split(".")
    if len(parts) > 2 or ((ROOT / "fsprobe" / parts[-1]).is_dir() and len(parts) == 2):
        return "base" if parts[1] in IN_BASE else parts[1]
    return "entry" if is_entry(module) or module == "fsprobe" else "base"


def where(file: Path, line: int) -> str:
    return f"{file.relative_to(ROOT)}:{line}"


def test_every_folder_of_fsprobe_is_a_layer():
    folders = {path.parent.name for path in (ROOT / "fsprobe").glob("*/__init__.py")}
    assert folders <= set(MAY_IMPORT) | IN_BASE, "give a new folder its place in MAY_IMPORT"


def test_layers_of_fsprobe():
    wrong = []
    for file in (file for file in CODE if name_of(file).startswith("fsprobe")):
        mine = layer_of(name_of(file))
        for module, line in imports(file):
            if not module.startswith("fsprobe"):
                continue
            other = layer_of(module)
            if module == "fsprobe":  # for its version
                other = "base"
            if other != mine and other not in MAY_IMPORT[mine]:
                wrong.append(f"{where(file, line)}: {mine} imports {module} of {other}")
            if other == "entry":
                wrong.append(f"{where(file, line)}: a command is imported by nobody ({module})")
    assert not wrong, "\n".join(wrong)


def test_fsprobe_imports_the_contract_alone():
    wrong = [
        f"{where(file, line)}: {module}"
        for file in CODE
        if name_of(file).startswith("fsprobe")
        for module, line in imports(file)
        if module.split(".")[0] == "extract" and module.split(".")[1:2] != []
        if module.split(".")[1] not in FROM_EXTRACT or len(module.split(".")) > 2
    ]
    assert not wrong, "\n".join(wrong)


def test_extract_never_imports_fsprobe_and_fsprobe_no_model():
    wrong = []
    for file in CODE:
        ours = name_of(file).split(".")[0]
        forbidden = MODELS if ours == "fsprobe" else {"fsprobe"}
        wrong += [
            f"{where(file, line)}: {module}"
            for module, line in imports(file)
            if module.split(".")[0] in forbidden
        ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", ONLY_IN)
def test_packages_of_one_module(package):
    wrong = [
        where(file, line)
        for file in CODE
        for module, line in imports(file)
        if module.split(".")[0] == package
        and file.relative_to(ROOT).as_posix() not in ONLY_IN[package]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_is_imported_in_a_circle():
    graph = {
        name_of(file): {module for module, _ in imports(file) if module in MODULES} for file in CODE
    }
    seen: dict[str, bool] = {}  # False while under way

    def visit(module: str, path: tuple[str, ...]) -> None:
        if seen.get(module):
            return
        assert module not in seen, f"a circle: {' → '.join((*path, module))}"
        seen[module] = False
        for other in sorted(graph[module] - {module}):
            visit(other, (*path, module))
        seen[module] = True

    for module in sorted(graph):
        visit(module, ())


def test_no_private_name_of_another_module():
    wrong = []
    for file in CODE:
        for node in nodes(file):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in (
                "extract",
                "fsprobe",
            ):
                wrong += [
                    f"{where(file, node.lineno)}: {alias.name}"
                    for alias in node.names
                    if alias.name.startswith("_") and not alias.name.startswith("__")
                    if f"{node.module}.{alias.name}" not in MODULES
                ]
    assert not wrong, "\n".join(wrong)


def test_lines_hold_at_most_100_columns():
    wrong = [
        where(file, i)
        for file in CODE
        for i, line in enumerate(file.read_text("utf-8").splitlines(), 1)
        if len(line) > 100
    ]
    assert not wrong, "\n".join(wrong)


def test_functions_have_at_most_60_lines():
    wrong = [
        f"{where(file, node.lineno)}: {node.name} has {node.end_lineno - node.lineno + 1}"
        for file in CODE
        for node in nodes(file)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.end_lineno - node.lineno + 1 > 60
    ]
    assert not wrong, "\n".join(wrong)


def test_at_most_16_modules_lie_flat():
    counts = {
        folder: len([file for file in folder.glob("*.py") if file.name != "__init__.py"])
        for folder in {file.parent for file in CODE}
    }
    wrong = [
        f"{folder.relative_to(ROOT)}: {count}" for folder, count in counts.items() if count > 16
    ]
    assert not wrong, "\n".join(sorted(wrong))


def loaded_by(modules: str) -> set[str]:
    code = f"import sys, {modules}; print(*{{name.partition('.')[0] for name in sys.modules}})"
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


def test_the_contract_needs_numpy_and_the_standard_library():
    allowed = {"numpy", "extract", "__main__"} | sys.stdlib_module_names
    loaded = loaded_by("extract.manifest, extract.store")
    ours = {name for name in loaded if not name.startswith("_")}
    startup = {
        name for name in loaded_by("sys") if not name.startswith("_")
    }  # what this interpreter brings along
    assert not ours - allowed - startup
