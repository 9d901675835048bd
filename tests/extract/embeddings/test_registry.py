"""The registry is the one place that knows the models: what it says holds in their modules."""

import ast
import inspect
from pathlib import Path

import pytest

from extract.embeddings import MODELS, NAMES, build, registry
from extract.errors import InputError

ROOT = Path(__file__).parents[3] / "extract"


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_an_argument_of_build(name: str) -> None:
    from extract.embeddings.pretrained import Source

    entry = MODELS[name]
    arguments = set(inspect.signature(entry.module().build).parameters)
    if "source" in arguments:
        arguments |= set(inspect.signature(Source).parameters)
    for option in entry.options:
        assert entry.argument(option.flag) in arguments
        assert option.help and (option.kind in ("choice", "choices")) == bool(option.choices)


def test_choices_are_those_of_the_modules() -> None:
    from extract.embeddings import musicnn

    choices = {flag: option.choices for flag, (option, _) in registry.options().items()}
    assert choices["openl3_variant"] == tuple(registry.OPENL3.files)
    assert choices["musicnn_model"] == musicnn.MODELS
    layers = [layer for model in musicnn.MODELS for layer in musicnn.layers(model)]
    assert set(choices["musicnn_layer"]) == set(layers)


def test_help_names_musicnns_defaults() -> None:
    from extract.embeddings.musicnn import Config

    texts = {flag: option.help for flag, (option, _) in registry.options().items()}
    assert f"by default {Config.model}" in texts["musicnn_model"]
    assert f"by default {Config.window}" in texts["musicnn_window"]
    assert f"by default {Config.hop}" in texts["musicnn_hop"]
    assert f"{Config.tail}, the default" in texts["musicnn_tail"]
    assert f"by default {Config().names[0]}" in texts["musicnn_layer"]


def test_nothing_else_in_extract_knows_a_model() -> None:
    """Outside their own modules, models' names stand in no code (docstrings aside)."""
    pretrained = [name for name, entry in MODELS.items() if entry.pretrained]
    for file in ROOT.rglob("*.py"):
        if file.is_relative_to(ROOT / "embeddings"):
            continue
        tree = ast.parse(file.read_text("utf-8"))
        documents = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and id(node) not in documents:
                assert node.value not in pretrained, f"{file}, line {node.lineno}"
            if isinstance(node, ast.ImportFrom) and node.module:
                assert node.module.rpartition(".")[2] not in NAMES, f"{file}, line {node.lineno}"


def test_unknown_names() -> None:
    with pytest.raises(InputError, match="unknown embedding 'x'; there are logmel, vggish"):
        build("x")
