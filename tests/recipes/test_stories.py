"""The stories that are shipped: each can be read, is told to its end, and becomes a book."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mgem_agent.artifacts import ArtifactStore
from mgem_agent.chat_models.text_engine import TextRequest
from mgem_agent.cli.story_recipes import find_recipe
from mgem_agent.errors import CheckpointError
from mgem_agent.nano.drawing import DIFFUSION_WEIGHTS, NanoGenerator, read_vocabulary
from mgem_agent.recipes.nano.eval.answer_matching import names_all_things
from mgem_agent.recipes.nano.eval.seeing_model import SeeingModel
from mgem_agent.recipes.stories import story_recipe_files
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.workflows import Story, Storyteller
from mgem_agent.workflows.book import BookFolder
from mgem_agent.workflows.recipe_options import has_everything

NAMES = sorted(story_recipe_files())


def answer(request: TextRequest) -> str:
    """What an author might say to any question of a story."""
    question = str(request.dialogue[-1]["content"])
    if "Plan a " in question:
        return "\n".join(f"{n}. Part {n}: A balloon flies over place {n}." for n in range(1, 9))
    if "Who appears" in question:
        return "Luna: a red balloon with a white string"
    return "A balloon over the sea, small and red."


def test_there_is_one_of_every_kind() -> None:
    recipes = {name: find_recipe(name)[0] for name in NAMES}
    assert len(recipes) >= 6
    assert {recipe.kind for recipe in recipes.values()} == {"story", "how_to", "explainer"}
    assert any(not recipe.language.startswith("en") for recipe in recipes.values())
    assert any(recipe.premise and not recipe.title for recipe in recipes.values())
    assert any(len(recipe.cast) > 1 for recipe in recipes.values())
    assert sum(map(has_everything, recipes.values())) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_with_its_command_and_says_nothing_twice(name: str) -> None:
    text = story_recipe_files()[name].read_text(encoding="utf-8")
    assert text.startswith(f"# mgem story {name} --out ")
    recipe, _ = find_recipe(name)
    captions = [scene.caption for scene in recipe.scene_recipes if scene.caption]
    assert len(set(captions)) == len(captions)
    assert all(caption.isascii() and len(caption.split()) <= 12 for caption in captions), "captions are short English"
    assert set(yaml.safe_load(text)) <= set(type(recipe).model_fields)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_told_to_its_end(name: str, tmp_path: Path) -> None:
    recipe, folder = find_recipe(name)
    store, generator = ArtifactStore(tmp_path / "store"), FlatColourGenerator(size=(32, 32))
    lines: list[Any] = [answer]
    reasoner = None if has_everything(recipe) else ScriptedReasoner(script=lines, is_endless=True)
    story = Storyteller(reasoner, generator, store, folder=tmp_path / "book").run(recipe.in_folder(folder))
    assert story.is_complete and len(story.scenes) == recipe.num_scenes and story.notices == ()
    assert all(scene.text and scene.caption and scene.alt_text for scene in story.scenes)
    if recipe.style:
        assert all(scene.executed and recipe.style in scene.executed.prompt for scene in story.scenes)
    written = BookFolder(tmp_path / "book", store).write(story, ["html", "md"])
    text = written.files[0].read_text(encoding="utf-8")
    assert f'lang="{recipe.language}"' in text and text.count("<img ") == recipe.num_scenes + 1


def told_with(name: str, tmp_path: Path, generator: Any) -> Story:
    """A shipped story as a generator gets it; its text comes from a script."""
    recipe, folder = find_recipe(name)
    lines: list[Any] = [answer]
    reasoner = None if has_everything(recipe) else ScriptedReasoner(script=lines, is_endless=True)
    teller = Storyteller(reasoner, generator, ArtifactStore(tmp_path / "store"), folder=tmp_path / "book")
    return teller.run(recipe.in_folder(folder))


@pytest.mark.parametrize("name", NAMES)
def test_nano_can_draw_every_caption(name: str, tmp_path: Path) -> None:
    vocabulary = read_vocabulary(DIFFUSION_WEIGHTS)
    assert vocabulary is not None
    story = told_with(name, tmp_path, FlatColourGenerator(size=(32, 32)))
    drawn = [vocabulary.adapt(scene.request.prompt) for scene in story.scenes if scene.request is not None]
    assert [caption.message for caption in drawn] == [""] * len(story.scenes), "nothing is left out or replaced"
    assert all(caption.things for caption in drawn), "no scene is empty"
    assert len({caption.prompt for caption in drawn}) == len(drawn), "no two pictures are the same"


@pytest.fixture(scope="module")
def seeing() -> Iterator[SeeingModel]:
    """The model that sees, where its language model is on this machine."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MGEM_OFFLINE", "1")
        try:
            yield SeeingModel.open("nano")
        except CheckpointError as error:
            pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the libraries that load real weights
@pytest.mark.parametrize("name", NAMES)
def test_the_things_of_every_scene_are_seen_in_nanos_picture(name: str, tmp_path: Path, seeing: SeeingModel) -> None:
    generator = NanoGenerator()
    vocabulary = read_vocabulary(DIFFUSION_WEIGHTS)
    assert vocabulary is not None
    story = told_with(name, tmp_path, generator)
    store = ArtifactStore(tmp_path / "store")
    assert story.is_complete and not any(scene.notices for scene in story.scenes)
    seen: list[bool] = []
    for scene in story.scenes:
        assert scene.request is not None and scene.artifact_id is not None
        things = vocabulary.adapt(scene.request.prompt).things
        absent = next(thing for thing in ("piano", "bus", "banana") if thing not in things)
        picture = store.open(scene.artifact_id)
        [told] = seeing.answer(
            [picture], ["Which things do you see?" if len(things) > 1 else "What is in the picture?"]
        )
        unnamed = [thing for thing in things if not names_all_things([told], {thing})]
        asked = [f"Is there a {thing} in the picture?" for thing in (*unnamed, absent)]
        *replies, wrong = seeing.answer([picture] * len(asked), asked)
        assert not wrong.startswith("Yes"), f"{absent!r} was seen in scene {scene.index}, which does not show it"
        found = {thing for thing, reply in zip(unnamed, replies, strict=True) if reply.startswith("Yes")}
        named = [thing not in unnamed or thing in found for thing in things]
        assert any(named), f"scene {scene.index} shows nothing of {things}: {told}"
        seen += named
    # The model misses one thing in ten of real scenes, too.
    assert sum(seen) >= 0.85 * len(seen)
