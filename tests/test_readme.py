"""README.md: its Python example runs, the files that it names are there, it stays one page."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "launch/README.md", "results/README.md", "CONTRIBUTING.md")


def test_the_example_from_python_runs(capsys):
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    start = lines.index("## From Python") + 1
    end = next(i for i in range(start, len(lines)) if lines[i].startswith("## "))
    code = "\n".join(line[4:] for line in lines[start:end] if line.startswith("    "))
    exec(compile(code, "README.md", "exec"), {})
    # chance is the tags' share of the clips, about 0.24
    assert float(capsys.readouterr().out) > 0.5


def test_it_is_one_page():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), target
