"""Every example runs: those of the README and other pages, and those in docstrings, with the output that they show."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from mgem_agent.cli.app import app
from mgem_agent.core_model.checkpoints.released import RELEASED_CHECKPOINTS
from mgem_agent.workflows import load_story_recipe

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")) if path.is_file()
)
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def run(test: doctest.DocTest, name: str) -> int:
    """Run the examples of one test, which share their names, and return how many there were."""
    said: list[str] = []
    results = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False).run(test, out=said.append, clear_globs=False)
    assert not results.failed, f"{name}:\n{''.join(said)}"
    return results.attempted


def commands_of(group: Any) -> list[str]:
    return list(group.commands)


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", PAGES)
def test_examples_of_a_page(root: Path, name: str) -> None:
    page = (root / name).read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": "example"}
    for number, block in enumerate(python_blocks(page), start=1):
        if block.startswith('"""'):  # a whole module, to be saved and run as it is
            exec(compile(block, f"{name}, block {number}", "exec"), names)
            continue
        test = doctest.DocTestParser().get_doctest(block, names, f"{name}, block {number}", str(root / name), 0)
        assert run(test, test.name) > 0, f"{test.name} has no `>>>`"
        names.update(test.globs)


@pytest.mark.parametrize("name", ["README.md", "docs/guides/stories.md"])
def test_story_recipes_of_a_page(root: Path, name: str, tmp_path: Path) -> None:
    found = re.findall(r"^```yaml\n(.*?)^```$", (root / name).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    recipes = [text for text in found if "premise:" in text]
    assert recipes
    for text in recipes:
        (tmp_path / "robot.yaml").write_text(text, encoding="utf-8")
        assert load_story_recipe(tmp_path / "robot.yaml").num_scenes == 3


def test_examples_of_a_module(imported_module: ModuleType, module_name: str) -> None:
    for test in doctest.DocTestFinder().find(imported_module, module_name):
        run(test, test.name)


def test_a_wrong_example_is_noticed() -> None:
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    with pytest.raises(AssertionError, match=r"Expected:\s+3\s+Got:\s+2"):
        run(test, "wrong")


def test_the_first_screen_of_the_readme(root: Path) -> None:
    """A sentence, a picture, the install line and the two commands, then four lines that draw a picture."""
    page = (root / "README.md").read_text(encoding="utf-8")
    assert page.startswith("# mgem-agent\n\nA vision-language model that sees, reasons and draws")
    places = [page.index(each) for each in ("docs/book.jpg", "pip install", "make story", "make test", ">>> ")]
    assert places == sorted(places)
    first = page[places[-1] : page.index("```", places[-1])].splitlines()
    assert sum(line.startswith(">>> ") for line in first) == 4
    assert not first[-1].startswith(">>>")
    assert page[: places[-1]].count("\n") < 25


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of NumPy, within diffusers
def test_the_lines_of_the_first_screen_draw_a_picture(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MGEM_STORE", str(tmp_path))
    page = (root / "README.md").read_text(encoding="utf-8")
    block = re.findall(r"^```py\n(>>> .*?)^```$", page, re.MULTILINE | re.DOTALL)[0]
    assert run(doctest.DocTestParser().get_doctest(block, {}, "README.md, first lines", None, 0), "README.md") == 4


def test_the_guide_has_every_released_checkpoint(root: Path) -> None:
    page = (root / "docs/guides/checkpoints.md").read_text(encoding="utf-8")
    rows = [
        f"| {it.name} | {it.language_model} | {it.low_res_size} and {it.high_res_size} | {it.num_image_tokens} |"
        for it in RELEASED_CHECKPOINTS
    ]
    assert re.findall(r"^(\| MGM-(?:[^|]*\|){4})", page, re.MULTILINE) == rows


def test_the_commands_of_the_readme_are_there(root: Path) -> None:
    page = (root / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\| `mgem ([a-z ]+?)(?: [A-Z\"].*)?` \|", page, re.MULTILINE)
    others = re.findall(r"^Also `mgem (\w+)`, (.*) and `(\w+)`\.", page, re.MULTILINE)[0]
    named = {command.split()[0] for command in commands} | {others[0], others[2], *re.findall(r"`(\w+)`", others[1])}
    assert named == set(commands_of(get_command(app)))
    for command in commands:
        assert CliRunner().invoke(app, [*command.split(), "--help"]).exit_code == 0, command
