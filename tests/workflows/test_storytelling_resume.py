"""A story that is cut off, anywhere and by anything, goes on where it stopped, and nothing stored is drawn twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.errors import InputError, MgemError
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools.capabilities import Capabilities
from mgem_agent.workflows.story_events import SceneWritten, StoryStopped
from mgem_agent.workflows.story_folder import hold_folder
from mgem_agent.workflows.story_recipe import StoryRecipe
from mgem_agent.workflows.storytelling import Storyteller

Teller = Callable[..., Storyteller]
SEEDED = FlatColourGenerator.CAPABILITIES.model_copy(update={"max_references": 0})
RECIPE = StoryRecipe.from_premise("A dragon and a knight.", scenes=4)

# Tells a story in one process after another, each killed at another moment, and writes down what was really done.
CHAIN = """
import os, signal, sys, zlib
from pathlib import Path
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.workflows.story_recipe import StoryRecipe
from mgem_agent.workflows.storytelling import Storyteller

home = Path(sys.argv[1])
count = {}

def note(what, detail, kill):
    count[what] = count.get(what, 0) + 1
    with (home / "log").open("a") as log:
        log.write(f"{what} {zlib.crc32(detail.encode())}\\n")
    if (what, count[what]) == kill:
        os.kill(os.getpid(), signal.SIGKILL)

def tell(kill):
    def answer(request):
        question = str(request.dialogue[-1]["content"])
        if "Plan a" in question:
            said = "\\n".join(f"{n}. Part {n}: Bors does thing number {n}." for n in range(1, 5))
        elif "Who appears" in question:
            said = "Bors: a tall man in silver armour"
        else:
            said = f"Bors stands by a fire with {zlib.crc32(question.encode())} logs."
        note("ask", question, kill)
        return said

    class Store(ArtifactStore):
        def put(self, result):
            artifact = super().put(result)
            note("stored", result.executed.prompt, kill)
            return artifact

    class Generator(FlatColourGenerator):
        def generate(self, requests, **options):
            for event in super().generate(requests, **options):
                if getattr(event, "image", None) is not None:
                    note("drawn", event.executed.prompt, kill)
                yield event

    reasoner = ScriptedReasoner(script=[answer], is_endless=True)
    teller = Storyteller(reasoner, Generator(size=(32, 32)), Store(home / "store"), folder=home / "book")
    if (home / "book" / "story.json").exists():
        teller.resume()
    else:
        teller.run(StoryRecipe.from_premise("A dragon and a knight.", scenes=4))

for kill in [("ask", 2), ("ask", 2), ("ask", 3), ("stored", 1), ("drawn", 2), ("stored", 2), None]:
    child = os.fork()
    if child == 0:
        try:
            tell(kill)
        except BaseException:
            import traceback; traceback.print_exc()
            os._exit(3)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes to kill them")
def test_a_story_outlives_kill_9_at_any_moment(teller: Teller, tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", CHAIN, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert ran.stdout.split() == [str(-signal.SIGKILL)] * 6 + ["0"], ran.stderr
    story = teller().story()
    assert story.is_complete
    assert len({scene.artifact_id for scene in story.scenes}) == 4
    log = (tmp_path / "log").read_text().splitlines()
    for place, line in enumerate(log):
        what, _, prompt = line.partition(" ")
        if what == "stored":
            assert f"drawn {prompt}" not in log[place + 1 :]
    assert sum(line.startswith("stored") for line in log) == 4
    assert sum(line.startswith("ask") for line in log) == 11 + 3  # each step once, and once more those that were killed


def test_a_cancelled_story_keeps_what_is_made(teller: Teller) -> None:
    generator = FlatColourGenerator(size=(32, 32), capabilities=SEEDED, delay_s=0.02, extra_delay_s=0.02)
    maker = teller(generator, overlap=False)
    events = []
    for event in maker.stream(RECIPE):
        events.append(event)
        if event.kind == "picture":
            maker.cancel()
    assert isinstance(events[-1], StoryStopped)
    story = events[-1].story
    assert story.state == "telling"
    statuses = [scene.status for scene in story.scenes]
    assert "drawn" in statuses and "written" in statuses and "failed" not in statuses
    assert teller(generator).resume().is_complete
    assert len(generator.drawn) == 4


def test_cancelled_while_it_is_written(teller: Teller, author: Any) -> None:
    maker = teller()
    events = []
    for event in maker.stream(RECIPE):
        events.append(event)
        if isinstance(event, SceneWritten):
            maker.cancel()
    assert isinstance(events[-1], StoryStopped)
    assert [scene.status for scene in events[-1].story.scenes] == ["written", "planned", "planned", "planned"]
    num_asked = len(author.asked)
    assert teller().resume().is_complete
    assert len(author.asked) == num_asked + 6


def test_a_stream_that_is_closed_leaves_the_story_to_be_resumed(teller: Teller) -> None:
    events = teller().stream(RECIPE)
    while not isinstance(next(events), SceneWritten):
        pass
    events.close()
    assert teller().resume().is_complete


def test_a_reasoner_that_fails_costs_nothing_that_is_made(teller: Teller, author: Any) -> None:
    def fail(_: str) -> str:
        raise MgemError("The server is gone.")

    good = dict(author.answers)
    author.answers["What does its picture show?"] = fail
    with pytest.raises(MgemError, match="The server is gone"):
        teller().run(RECIPE)
    author.answers = good
    num_asked = len(author.asked)
    assert teller().resume().is_complete
    assert not any("Plan a" in question for question in author.asked[num_asked:])


def test_two_processes_cannot_tell_one_story(teller: Teller, tmp_path: Path) -> None:
    with (
        hold_folder(tmp_path / "book"),
        pytest.raises(InputError, match=r"^Another process is working on the story in .*\. Wait until it is done"),
    ):
        teller().run(RECIPE)


def test_a_picture_that_somebody_deleted_is_drawn_again(teller: Teller) -> None:
    maker = teller()
    story = maker.run(RECIPE)
    first, second = story.scenes[0].artifact_id, story.scenes[1].artifact_id
    assert first and second
    for name in (first, second):
        maker.store.path(name).unlink()
    generator = FlatColourGenerator(size=(32, 32))
    again = teller(generator).resume()
    assert again.is_complete and len(generator.drawn) == 2
    assert again.reference_ids == (story.scenes[2].artifact_id,)


def test_another_generator_goes_on_aloud(teller: Teller) -> None:
    class Other(FlatColourGenerator):
        @property
        def name(self) -> str:
            return "other"

    teller(FlatColourGenerator(size=(32, 32), fail_on="Ember")).run(RECIPE)
    story = teller(Other(size=(32, 32), capabilities=Capabilities(seed=True))).resume()
    assert story.is_complete and story.generator == "other" and story.consistency == "seed+card"
    assert story.notices[-1] == (
        "The story was started with generator 'flat' and continues with 'other': later pictures may look different."
    )


def test_nothing_to_resume(teller: Teller, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no story in"):
        teller().resume()
    assert not (tmp_path / "book").exists()
