"""The dragon's story: from a premise to pages with pictures, whatever the reasoner and the generator can."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mgem_agent.agent.events import AgentNotice, DrawingFailed, PictureDrawn
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError, UnsupportedRequestError
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.workflows.story_events import OutlineReady, SceneWritten, StoryEvent, StoryFinished, StoryText
from mgem_agent.workflows.story_recipe import StoryRecipe
from mgem_agent.workflows.storytelling import Storyteller, tell_story

DRAGON = "A story about a close-up of a fire spitting dragon, cinematic shot, killed by a man."
SEEDED = FlatColourGenerator.CAPABILITIES.model_copy(update={"max_references": 0})
EIGHT = StoryRecipe.model_validate(
    {
        "title": "T",
        "kind": "explainer",
        "scenes": [{"title": f"h{n}", "text": f"text of {n} here", "caption": f"c{n}"} for n in range(8)],
    }
)
Teller = Callable[..., Storyteller]


def cards(**options: Any) -> FlatColourGenerator:
    return FlatColourGenerator(size=(32, 32), **options)


def notices(events: list[StoryEvent]) -> list[str]:
    return [event.message for event in events if isinstance(event, AgentNotice)]


def test_figure_6_tell_me_a_story_about_a_fire_spitting_dragon(teller: Teller) -> None:
    maker = teller()
    events = list(maker.stream(StoryRecipe.from_premise(DRAGON, scenes=3)))
    last = events[-1]
    assert isinstance(last, StoryFinished) and last.story.is_complete
    story = last.story
    assert story.title == "The Dragon and the Knight"
    assert [scene.title for scene in story.scenes] == ["The fire", "The knight", "The end"]
    assert [scene.characters for scene in story.scenes] == [("Ember",), ("Bors",), ("Bors",)]
    assert all(scene.text == "The desert burned that night. Nobody slept." for scene in story.scenes)
    assert story.scenes[0].executed is not None
    assert story.scenes[0].executed.prompt == (
        "A wide desert under a red sky, 5. Ember: a huge red dragon with golden eyes. children's book illustration, "
        "soft watercolour, warm light"
    )
    assert [each.scene.index for each in events if isinstance(each, SceneWritten)] == [1, 2, 3]
    pieces = [event for event in events if isinstance(event, StoryText) and event.part == "text"]
    assert "".join(piece.text for piece in pieces if piece.index == 2) == story.scenes[1].text
    assert notices(events) == []
    assert maker.story().model_dump() == story.model_dump()


def test_a_reasoner_that_gives_nothing_is_completed_aloud(teller: Teller, author: Any) -> None:
    author.answers = {}
    events = list(teller().stream(StoryRecipe.from_premise("A mouse opens a shop. It is happy.", scenes=2)))
    story = events[-1].story if isinstance(events[-1], StoryFinished) else None
    assert story is not None and story.is_complete
    assert story.title == "A mouse opens a shop"
    assert [scene.text for scene in story.scenes] == ["A mouse opens a shop (1/2)", "A mouse opens a shop (2/2)"]
    assert notices(events) == list(story.notices)
    assert story.notices[:2] == (
        "The reasoner wrote no title; the premise was used.",
        "The reasoner planned 0 of 2 scenes; scene(s) 1, 2 are completed from the premise.",
    )
    assert len(story.notices) == 7  # no cast, and for each scene no text and no caption


def test_an_outline_is_asked_for_again_and_the_best_is_kept(teller: Teller, author: Any) -> None:
    said = iter(["1. A fox runs.", "1. A fox wakes.\n2. A fox runs.", ""])
    author.answers["Plan a "] = lambda _: next(said)
    story = teller().run(StoryRecipe.from_premise("A fox.", scenes=3))
    assert [scene.summary for scene in story.scenes] == ["A fox wakes.", "A fox runs.", "A fox (3/3)"]
    assert sum("Plan a " in question for question in author.asked) == 3


def test_what_the_recipe_gives_stands_and_is_not_asked_for(teller: Teller, author: Any) -> None:
    recipe = StoryRecipe.model_validate(
        {
            "title": "Tea",
            "kind": "how_to",
            "premise": "How to make tea.",
            "language": "de",
            "style": "ink",
            "cast": [{"name": "Kettle", "looks": "a round blue kettle"}],
            "scenes": [
                {"title": "Wasser", "text": "Fülle den Kessel.", "caption": "the Kettle under a tap"},
                {"title": "Warten"},
                {},
            ],
        }
    )
    author.answers["Plan a "] = "1. Nein: Nichts davon.\n2. Nein: Auch nicht.\n3. Trinken: Trinke den Tee."
    story = teller().run(recipe)
    assert story.scenes[0].executed is not None
    assert story.scenes[0].executed.prompt == "the Kettle under a tap. Kettle: a round blue kettle. ink"
    assert [scene.title for scene in story.scenes] == ["Wasser", "Warten", "Trinken"]
    assert story.scenes[0].text == "Fülle den Kessel."
    assert [scene.alt_text for scene in story.scenes] == ["Wasser", "Warten", "Trinke den Tee."]
    assert story.scenes[2].characters == ()  # the hero of a story is in every scene; of a how-to, who is named
    plan = next(question for question in author.asked if "Plan a guide in exactly 3 steps" in question)
    assert "Number 1 must be: Wasser" in plan and 'whose tag is "de"' in plan
    assert not any("Write the title" in question or "Who appears" in question for question in author.asked)


def test_looks_that_are_left_out_are_written(teller: Teller, author: Any) -> None:
    author.answers["What does "] = "Ember: a huge red dragon."
    author.answers = {"What does Ember": author.answers["What does "], **author.answers}
    cast = [{"name": "Ember"}, {"name": "Bors", "looks": "a man"}]
    recipe = StoryRecipe.from_premise(DRAGON, scenes=1, cast=cast)
    assert [each.looks for each in teller().run(recipe).cast] == ["a huge red dragon", "a man"]


def test_without_a_reasoner_a_full_recipe_is_drawn(tmp_path: Path) -> None:
    generator = cards()
    scenes = [{"text": "One two three.", "caption": "c"}]
    recipe = StoryRecipe.from_premise("P.", title="T", kind="explainer", scenes=scenes)
    store = ArtifactStore(tmp_path / "store")
    story = tell_story(recipe, None, generator, store=store, folder=tmp_path / "book")
    assert story.is_complete and story.notices == () and len(generator.drawn) == 1
    assert tell_story(recipe, None, generator, store=store, folder=tmp_path / "book").is_complete
    assert len(generator.drawn) == 1
    with pytest.raises(InputError, match=r"^The story in .* has a different recipe\. Use another folder\.$"):
        tell_story("A mouse.", None, generator, store=store, folder=tmp_path / "book")


def test_pictures_are_one_batch(teller: Teller) -> None:
    generator = cards(capabilities=SEEDED)
    story = teller(generator).run(EIGHT)
    assert story.is_complete and generator.num_batches == 1


@pytest.mark.slow
def test_eight_scenes_are_three_times_faster_than_one_by_one(tmp_path: Path) -> None:
    """With a generator whose batch of eight costs twice a single one."""
    seconds = []
    for most in (1, None):
        able = SEEDED.model_copy(update={"max_batch_size": most})
        generator = cards(capabilities=able, delay_s=0.7, extra_delay_s=0.1)
        store = ArtifactStore(tmp_path / str(most))
        started = time.monotonic()
        assert Storyteller(None, generator, store, folder=tmp_path / f"book {most}").run(EIGHT).is_complete
        seconds.append(time.monotonic() - started)
    assert seconds[0] / seconds[1] >= 3


def test_the_generators_batch_size_is_kept(teller: Teller) -> None:
    generator = cards(capabilities=SEEDED.model_copy(update={"max_batch_size": 2}))
    story = teller(generator, overlap=False).run(StoryRecipe.from_premise(DRAGON, scenes=3))
    assert story.is_complete and generator.num_batches == 2


def test_seed_and_card_is_one_seed_and_the_same_looks(teller: Teller) -> None:
    generator = cards(capabilities=SEEDED)
    story = teller(generator).run(StoryRecipe.from_premise(DRAGON, scenes=3))
    assert story.consistency == "seed+card" and story.seed is not None
    assert {request.seed for request in generator.drawn} == {story.seed}
    assert sum("Bors: a tall man in dented silver armour" in request.prompt for request in generator.drawn) == 2


def test_none_gives_each_picture_a_seed_of_its_own(teller: Teller) -> None:
    generator = cards()
    teller(generator).run(StoryRecipe.from_premise(DRAGON, scenes=3, consistency="none", seed=2**63 - 2))
    assert [request.seed for request in generator.drawn] == [2**63 - 2, 2**63 - 1, 0]
    assert not any(request.references for request in generator.drawn)


def test_reference_shows_the_first_picture_to_all_others(teller: Teller) -> None:
    generator = cards()
    story = teller(generator, overlap=False).run(StoryRecipe.from_premise(DRAGON, scenes=3))
    first = story.scenes[0].artifact_id
    assert story.consistency == "reference" and story.reference_ids == (first,)
    assert [request.references for request in generator.drawn] == [(), (first,), (first,)]
    assert generator.num_batches == 2


def test_pictures_of_the_recipe_are_the_references(teller: Teller, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), "red").save(tmp_path / "hero.png")
    recipe = StoryRecipe.from_premise(DRAGON, scenes=3, references=["hero.png"]).in_folder(tmp_path)
    generator = cards()
    story = teller(generator, overlap=False).run(recipe)
    assert len(story.given_ids) == 1 and generator.num_batches == 1
    assert {request.references for request in generator.drawn} == {story.given_ids}


def test_what_the_generator_cannot_do_is_refused_before_anything_is_done(
    teller: Teller, author: Any, tmp_path: Path
) -> None:
    maker = teller(cards(capabilities=SEEDED))
    with pytest.raises(UnsupportedRequestError, match="consistency='reference' needs"):
        maker.run(StoryRecipe.from_premise(DRAGON, consistency="reference"))
    assert author.asked == [] and not (tmp_path / "book" / "story.json").exists()


def test_a_generator_without_seeds_is_told_none(teller: Teller) -> None:
    generator = cards(capabilities=Capabilities())
    story = teller(generator).run(StoryRecipe.from_premise(DRAGON, scenes=2))
    assert story.seed is None and story.is_complete
    assert all(scene.notices == () for scene in story.scenes)
    assert story.notices == ()  # nobody asked for one


def test_a_seed_that_a_generator_does_not_take_is_reported(teller: Teller) -> None:
    generator = cards(capabilities=Capabilities())
    story = teller(generator).run(StoryRecipe.from_premise(DRAGON, scenes=2, seed=7))
    assert story.notices[0] == "Generator 'flat' takes no seeds; only the looks are repeated in every caption."


def test_a_picture_that_fails_costs_its_scene_alone(teller: Teller, author: Any) -> None:
    captions = iter(["a good one", "a bad one", "another good one"])
    author.answers["What does its picture show?"] = lambda _: next(captions)
    events = list(teller(cards(capabilities=SEEDED, fail_on="a bad one")).stream(StoryRecipe(premise=DRAGON, scenes=3)))
    assert [event.call_id for event in events if isinstance(event, DrawingFailed)] == ["scene-2"]
    story = events[-1].story  # type: ignore[union-attr]
    assert [scene.status for scene in story.scenes] == ["drawn", "failed", "drawn"]
    assert "a bad one" not in story.scenes[0].message and story.scenes[1].message
    assert story.state == "finished" and not story.is_complete

    mended = cards(capabilities=SEEDED)
    again = teller(mended).resume()
    assert again.is_complete and len(mended.drawn) == 1 and again.scenes[1].message == ""


def test_a_first_picture_that_fails_is_not_followed(teller: Teller) -> None:
    generator = cards(fail_on="Ember")
    story = teller(generator).run(StoryRecipe.from_premise(DRAGON, scenes=3))
    assert [scene.status for scene in story.scenes] == ["failed"] * 3
    assert story.scenes[2].message == (
        "Not drawn: the picture of scene 1, its reference, failed. Resume the story to try both again."
    )
    assert generator.num_batches == 1


def test_a_person_approves_edits_or_refuses_the_outline(teller: Teller, tmp_path: Path) -> None:
    from mgem_agent.workflows.outline_decision import OutlineDecision

    generator = cards()
    events = list(teller(generator, approve_outline=True).stream(StoryRecipe.from_premise(DRAGON, scenes=3)))
    assert events[-1].kind == "approval" and isinstance(events[-2], OutlineReady)
    assert generator.drawn == []
    with pytest.raises(InputError, match="waits for a decision about its outline. Resume it with 'approve', 'refuse'"):
        teller(generator).resume()
    outline = ("The fire: Ember burns.", "Bors runs away.", "They meet.")
    story = teller(generator).resume(OutlineDecision(title="Ember", outline=outline))  # another storyteller's work
    assert story.title == "Ember" and story.is_complete
    assert [scene.summary for scene in story.scenes] == ["Ember burns.", "Bors runs away.", "They meet."]
    with pytest.raises(InputError, match=r"No outline in .* waits for a decision\. Resume without one\."):
        teller(generator).resume("approve")


def test_a_refused_outline_ends_the_story(teller: Teller) -> None:
    generator = cards()
    assert teller(generator, approve_outline=True).run(StoryRecipe(premise=DRAGON, scenes=2)).state == "waiting"
    assert teller(generator).resume("refuse").state == "refused"
    with pytest.raises(InputError, match=r"The outline in .* was refused\. Start a new story in another folder\."):
        teller(generator).resume()
    assert generator.drawn == []


def test_a_folder_has_one_story(teller: Teller) -> None:
    teller().run(StoryRecipe.from_premise(DRAGON, scenes=1))
    with pytest.raises(InputError, match=r"^There is already a story in .*\. Resume it, or use another folder\.$"):
        teller().run(StoryRecipe.from_premise(DRAGON, scenes=1))


def test_it_runs_on_an_event_loop(teller: Teller) -> None:
    async def tell() -> list[StoryEvent]:
        return [event async for event in teller().astream(StoryRecipe.from_premise(DRAGON, scenes=1))]

    events = asyncio.run(tell())
    assert isinstance(events[-1], StoryFinished)
    assert sum(isinstance(event, PictureDrawn) for event in events) == 1


def test_grammars_keep_the_premise_where_the_reasoner_needs_them(tmp_path: Path) -> None:
    class Small(ScriptedReasoner):
        def needs_grammar(self) -> bool:
            return True

    def steps(reasoner: ScriptedReasoner, recipe: StoryRecipe) -> list[str | None]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        Storyteller(reasoner, cards(), ArtifactStore(tmp_path / "store"), folder=folder).run(recipe)
        return [request.grammar for request in reasoner.requests]

    line, scripted = "1. Home: The fox sat in the sun.", {"is_endless": True, "takes_grammars": True}
    recipe = StoryRecipe.from_premise("A fox in a forest finds a key.", scenes=1)
    small, large = Small(script=[line], **scripted), ScriptedReasoner(script=[line], **scripted)
    forms = [form for form in steps(small, recipe) if form is not None]
    assert len(forms) == 3 and all(
        "The fox" in form or "the fox" in form for form in forms
    )  # the outline, the page and the caption
    assert set(steps(large, recipe)) == {None}
    named = StoryRecipe.model_validate(
        {"premise": "A fox finds a key.", "cast": [{"name": "The hare", "looks": "a brown hare"}], "scenes": 1}
    )
    assert any(form and "The hare" in form for form in steps(Small(script=[line], **scripted), named))
    german = StoryRecipe.from_premise("Ein Fuchs findet a Schatz.", scenes=1).model_copy(update={"language": "de"})
    assert set(steps(Small(script=[line], **scripted), german)) == {None}
