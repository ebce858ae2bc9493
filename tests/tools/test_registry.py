from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.errors import GeneratorUnavailableError, InputError
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import describe_generators, generator_schemes, make_generator, register_generator, registry

PLUGIN = """
from mgem_agent.testing import FlatColourGenerator

class Painter(FlatColourGenerator):
    '''Paints by hand.'''

    def __init__(self, rest: str, *, brush: str = "round") -> None:
        super().__init__()
        self.made_of = (rest, brush)

def wrong(rest: str) -> object:
    return object()

number = 7
"""


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_registered", {})
    yield
    sys.modules.pop("toy_painter", None)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install a package with entry points, as pip would, in a folder of its own."""

    def run(package: str, **points: str) -> None:
        folder = tmp_path / package
        info = folder / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / "toy_painter.py").write_text(PLUGIN)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = "".join(f"{name} = {value}\n" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[mgem_agent.tools]\n{lines}")
        monkeypatch.syspath_prepend(str(folder))

    return run


def test_ours_come_in_by_the_same_door_as_anybodys() -> None:
    points = {point.name: point for point in importlib.metadata.entry_points(group="mgem_agent.tools")}
    assert {"a1111", "comfyui", "diffusers", "flat", "openai"} <= set(points)
    assert set(points) == set(generator_schemes())
    assert isinstance(make_generator("flat"), FlatColourGenerator)


@pytest.mark.parametrize(
    ("name", "its_name"),
    [
        ("flat", "flat"),
        ("openai:gpt-image-2", "openai:gpt-image-2"),
        ("a1111", "a1111:http://127.0.0.1:7860"),
        ("a1111:http://127.0.0.1:1234/", "a1111:http://127.0.0.1:1234"),
        ("comfyui:127.0.0.1:8188", "comfyui:http://127.0.0.1:8188"),
    ],
)
def test_a_generator_says_the_name_by_which_it_is_made_again(
    name: str, its_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert make_generator(name).name == its_name
    assert make_generator(its_name).name == its_name


def test_anybodys_package(install: Any) -> None:
    install("painters", painter="toy_painter:Painter")
    made: Any = make_generator("painter:oil:on canvas", brush="flat")
    assert made.made_of == ("oil:on canvas", "flat")
    [described] = [scheme for scheme in describe_generators() if scheme.scheme == "painter"]
    assert (described.package, described.description, described.problem) == ("painters", "Paints by hand.", None)
    assert described.capabilities == FlatColourGenerator.CAPABILITIES


def test_a_broken_package_harms_only_who_asks_for_it(install: Any) -> None:
    install("broken", oops="no_such_module:Thing", number="toy_painter:number", wrong="toy_painter:wrong")
    assert make_generator("flat").name == "flat"
    problems = {scheme.scheme: scheme.problem for scheme in describe_generators()}
    assert problems["flat"] is None and "no_such_module" in str(problems["oops"])
    with pytest.raises(
        GeneratorUnavailableError,
        match="'oops' of the package 'broken' cannot be loaded .*No module named 'no_such_module'.*uninstall it",
    ):
        make_generator("oops")
    with pytest.raises(GeneratorUnavailableError, match="is a 'int' and not callable"):
        make_generator("number")
    with pytest.raises(GeneratorUnavailableError, match="'object' lacks generate, unload"):
        make_generator("wrong")


def test_two_packages_with_one_name(install: Any) -> None:
    install("first", painter="toy_painter:Painter")
    install("second", painter="toy_painter:number")
    with pytest.raises(InputError, match="'painter' is registered by first and second. Uninstall one"):
        make_generator("painter")
    assert make_generator("flat").name == "flat"


def test_one_of_the_programs_own() -> None:
    register_generator("mine", lambda rest: FlatColourGenerator(size=(16, 16)))
    assert make_generator("mine").name == "flat"
    assert "mine" in generator_schemes()
    for taken in ("mine", "flat"):
        with pytest.raises(InputError, match=f"'{taken}' is already registered"):
            register_generator(taken, FlatColourGenerator.from_name)


def test_a_scheme_is_a_word() -> None:
    with pytest.raises(InputError, match="'My Tool' is not a valid scheme"):
        register_generator("My Tool", FlatColourGenerator.from_name)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        InputError, match="no generator 'comfy'. Did you mean 'comfyui'.*Known: a1111, .*mgem generators"
    ):
        make_generator("comfy:http://127.0.0.1:8188")


def test_an_unknown_option_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="options 'colour': .*It takes: size, delay_s, extra_delay_s, fail_on"):
        make_generator("flat", colour="red")
    with pytest.raises(InputError, match="'flat' takes nothing after its name; got 'red'"):
        make_generator("flat:red")


def test_without_an_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_entry_points", dict)
    with pytest.raises(InputError, match="not installed as a package. Run: pip install -e ."):
        make_generator("flat")
