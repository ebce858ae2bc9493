"""Every script and the notebook in `examples/` run, with fakes in place of models."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from mgem_agent import MgemAgent
from mgem_agent.artifacts import ArtifactStore
from mgem_agent.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.tools import make_generator

CAPTION = "Here it is. <h> a dragon in a forest </h>"


@pytest.fixture
def example(root: Path) -> Callable[[str], ModuleType]:
    """Loads a script by its name."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, root / "examples" / f"{name}.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def test_draw_and_edit(example: Callable[[str], ModuleType], store: ArtifactStore) -> None:
    first, second = example("draw_and_edit").main("flat", store)
    assert store.get(second).parents == (first,)


def test_agent_in_langgraph(example: Callable[[str], ModuleType], store: ArtifactStore) -> None:
    reasoner = ScriptedReasoner(script=[CAPTION])
    agent = MgemAgent(reasoner, FlatColourGenerator(), store=store, sessions=Sessions.in_memory())
    result = example("agent_in_langgraph").build(agent).invoke({"topic": "a dragon in a forest"})
    assert result["post"] == "A dragon in a forest: 1 picture(s)"
    assert Path(result["pictures"][0]).exists()


def test_story_from_a_recipe(example: Callable[[str], ModuleType], store: ArtifactStore, tmp_path: Path) -> None:
    book = example("story_from_a_recipe").main("flat", str(tmp_path / "owl"), store)
    assert "The Owl and the Moon" in book.read_text(encoding="utf-8")


def test_the_recipe_is_within_nanos_world(example: Callable[[str], ModuleType]) -> None:
    vocabulary = make_generator("nano").capabilities.vocabulary
    assert vocabulary is not None
    for scene in example("story_from_a_recipe").RECIPE.scenes:
        assert not vocabulary.adapt(scene.caption).message


def test_own_generator(example: Callable[[str], ModuleType], store: ArtifactStore) -> None:
    module = example("own_generator")
    [drawn] = module.main(store)
    assert store.open(drawn).size == (256, 256)
    assert make_generator("circles").name == "circles"


def test_look_and_retry(example: Callable[[str], ModuleType], store: ArtifactStore) -> None:
    script = [CAPTION, '{"answers": ["no", "yes", "no"]}', '{"answers": ["yes", "yes", "yes"]}', "Done."]
    reasoner = ScriptedReasoner(script=script, is_endless=True)
    turn = example("look_and_retry").main(reasoner, FlatColourGenerator(), store=store, sessions=Sessions.in_memory())
    assert len(turn.pictures) == 1


def test_fine_tune_writes_its_records(example: Callable[[str], ModuleType], tmp_path: Path) -> None:
    for colour in ("red", "blue"):
        Image.new("RGB", (16, 16), colour).save(tmp_path / f"{colour}.png")
        (tmp_path / f"{colour}.txt").write_text(f"A {colour} card.\n", encoding="utf-8")
    lines = example("fine_tune_on_ten_pictures").write_records(tmp_path).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["conversations"][1]["value"] for line in lines] == ["A blue card.", "A red card."]


def test_the_notebook(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    notebook = json.loads((root / "examples/quickstart.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    fakes = {
        "MgemAgent(REASONER, GENERATOR)": "MgemAgent(ScriptedReasoner(script=SCRIPT), FlatColourGenerator())",
        '"nano", "nano"': '"nano", "flat"',
    }
    names |= {"ScriptedReasoner": ScriptedReasoner, "FlatColourGenerator": FlatColourGenerator}
    names["SCRIPT"] = [CAPTION, "A dragon."]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            source = "".join(cell["source"])
            for old, new in fakes.items():
                source = source.replace(old, new)
            exec(source, names)
    assert names["turn"].pictures[0].image.size == (256, 256)
    assert [scene.title for scene in names["story"].scenes] == ["Awake", "The moon"]
