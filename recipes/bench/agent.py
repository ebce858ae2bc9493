"""Costs and savings of the agent: `mgem bench agent --json`.

A scripted reasoner and a generator of coloured cards are used, so that only the agent is measured. There are three
figures:

* a turn with one tool call, against the same turn of a bare `langchain.agents.create_agent`;
* the eight scenes of a story, drawn as one batch, against one after another, with a generator whose batch of eight
  takes twice as long as a single picture;
* a session of many turns with a picture each: growth of its database, and time to resume, early and late. The bare
  agent keeps its dialogue in one thread, and every checkpoint has all of it; its growth is shown for comparison.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, computed_field
from rich.table import Table

from mgem_agent.recipes.bench.compared_agents import BareAgent, OurAgent, used_bytes
from mgem_agent.recipes.bench.comparison import BatchComparison, Comparison, Run, format_seconds, format_times
from mgem_agent.recipes.bench.measure import describe_machine, require_positive, time_alternating
from mgem_agent.recipes.bench.progress import report, steps
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools import Capabilities, GenerationProgress, ImageRequest, ImageResult

__all__ = ["AgentComparison", "bench_agent"]

NUM_SCENES = 8
SIZE = (64, 64)
CPU = torch.device("cpu")


class StoryComparison(BatchComparison):
    """Eight scenes in one answer.

    Attributes:
        single_s: Seconds that the generator takes for one picture; twice as long for eight at once.
    """

    single_s: float


class LongSession(BaseModel):
    """A session of many turns with a picture each; early is its first quarter, late its last.

    The reasoner gets the latest 50 turns, so up to then resuming becomes slightly slower with each turn.

    Attributes:
        num_turns: Number of turns.
        early_growth_bytes: Bytes that a turn adds to the database, early.
        late_growth_bytes: The same, late.
        alternative_early_growth_bytes: The same of the bare agent, early.
        alternative_late_growth_bytes: The same of the bare agent, late.
        early_resume_s: Seconds from opening the session to the first event of the next turn, after the first quarter.
        late_resume_s: The same, after the last.
    """

    model_config = ConfigDict(frozen=True)

    num_turns: int
    early_growth_bytes: float
    late_growth_bytes: float
    alternative_early_growth_bytes: float
    alternative_late_growth_bytes: float
    early_resume_s: tuple[float, ...]
    late_resume_s: tuple[float, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def growth_ratio(self) -> float | None:
        """Ratio of late to early growth; None if early turns filled no page of the database."""
        return self.late_growth_bytes / self.early_growth_bytes if self.early_growth_bytes else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def alternative_growth_ratio(self) -> float | None:
        """The same for the bare agent."""
        early = self.alternative_early_growth_bytes
        return self.alternative_late_growth_bytes / early if early else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def resume_ratio(self) -> float:
        """Ratio of late to early resume times, by the medians."""
        return statistics.median(self.late_resume_s) / statistics.median(self.early_resume_s)


class AgentComparison(Comparison):
    """The three figures: a turn with one tool call, a story and a session.

    Attributes:
        story: Eight scenes at once and one after another.
        session: A session of many turns.
    """

    story: StoryComparison
    session: LongSession

    @computed_field  # type: ignore[prop-decorator]
    @property
    def overhead(self) -> float:
        """Ratio of our time for a turn to the bare agent's, by the medians."""
        return self.ours / self.alternative

    def tables(self) -> list[Table]:
        """Return the turn, the story and the session."""
        story, session = self.story, self.session
        scenes = Table(f"{NUM_SCENES} scenes", story.batch_run.label, story.one_by_one_run.label, "ratio")
        times = [format_seconds(statistics.median(run.seconds)) for run in (story.batch_run, story.one_by_one_run)]
        scenes.add_row("time, median", *times, format_times(story.ratio))
        long = Table(f"session of {session.num_turns} turns", "early", "late", "late : early")
        for title, early, late, ratio in (
            ("growth a turn", session.early_growth_bytes, session.late_growth_bytes, session.growth_ratio),
            (
                f"growth a turn, {self.alternative_run.label}",
                session.alternative_early_growth_bytes,
                session.alternative_late_growth_bytes,
                session.alternative_growth_ratio,
            ),
        ):
            long.add_row(title, f"{early / 1024:,.1f} KiB", f"{late / 1024:,.1f} KiB", format_times(ratio))
        resumes = [format_seconds(statistics.median(each)) for each in (session.early_resume_s, session.late_resume_s)]
        long.add_row("time to resume", *resumes, format_times(session.resume_ratio))
        for table in (scenes, long):
            for column in table.columns[1:]:
                column.justify = "right"
        return [*super().tables(), scenes, long]


class _OneByOne:
    """A generator that draws the pictures of a batch one after another, each in the time of a single one."""

    def __init__(self, generator: FlatColourGenerator) -> None:
        self._generator = generator

    @property
    def name(self) -> str:
        """The wrapped generator's."""
        return self._generator.name

    @property
    def capabilities(self) -> Capabilities:
        """The wrapped generator's."""
        return self._generator.capabilities

    def generate(
        self,
        requests: Sequence[ImageRequest],
        *,
        pictures: Mapping[str, Image.Image] | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[GenerationProgress | ImageResult]:
        """Draw the requests one by one, as `ImageGenerator` defines it."""
        for index, request in enumerate(requests):
            for event in self._generator.generate([request], pictures=pictures, cancel=cancel):
                if isinstance(event, ImageResult):
                    yield dataclasses.replace(event, index=index)
                else:
                    yield GenerationProgress(index, event.step, event.num_steps)

    def unload(self) -> None:
        """Do nothing; it holds no memory."""


def bench_agent(*, turns: int = 200, single_s: float = 0.5, repeats: int = 20) -> AgentComparison:
    """Measure the agent.

    Args:
        turns: Turns of the long session, in four equal parts.
        single_s: Seconds that the generator of the story takes for one picture.
        repeats: Timed turns of each agent; stories and resumes are a fifth as many.

    Raises:
        InputError: If a number is less than one.
    """
    require_positive(turns=turns // 4, repeats=repeats)
    fewer = max(1, repeats // 5)
    with tempfile.TemporaryDirectory(prefix="mgem-bench-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        ours, bare = _time_turns(place, repeats)
        story = _time_story(place, single_s, fewer)
        session = _grow(place, turns - turns % 4, fewer)
    return AgentComparison(
        name="agent",
        setting="a turn with one tool call, scripted reasoner and generator, SQLite",
        note="Both draw and store the same pictures in the same way.",
        ours_run=Run(label="MgemAgent", seconds=ours),
        alternative_run=Run(label="create_agent, bare", seconds=bare),
        max_abs_difference={},
        max_abs_value={},
        machine=describe_machine(CPU),
        story=story,
        session=session,
    )


def _time_turns(place: Path, repeats: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return seconds of turns, each the first of a session, because a growing dialogue would slow the bare agent."""
    generator = FlatColourGenerator(size=SIZE)
    with OurAgent(place / "turn", generator) as ours, BareAgent(place / "turn-bare", generator) as bare:
        numbers = iter(range(2 * (repeats + 1)))
        calls = [lambda agent=agent: _one_turn(agent, f"turn-{next(numbers)}") for agent in (ours, bare)]
        time_alternating(calls, repeats=1, device=CPU)  # warms up
        our_seconds, bare_seconds = time_alternating(
            calls, repeats=repeats, device=CPU, labels=("a turn of ours", "a turn of create_agent")
        )
    return our_seconds, bare_seconds


def _one_turn(agent: OurAgent | BareAgent, session: str, num_pictures: int = 1) -> None:
    drawn = agent.turn(session)
    if drawn != num_pictures:
        raise RuntimeError(f"a turn of {type(agent).__name__} drew {drawn} picture(s), not {num_pictures}")


def _time_story(place: Path, single_s: float, repeats: int) -> StoryComparison:
    generator = FlatColourGenerator(size=SIZE, delay_s=single_s, extra_delay_s=single_s / (NUM_SCENES - 1))
    with (
        OurAgent(place / "story", generator, num_captions=NUM_SCENES) as batch,
        OurAgent(place / "story-slow", _OneByOne(generator), num_captions=NUM_SCENES) as slow,
    ):
        numbers = iter(range(2 * repeats))
        calls = [lambda agent=agent: _one_turn(agent, f"{next(numbers)}", NUM_SCENES) for agent in (batch, slow)]
        batch_seconds, slow_seconds = time_alternating(
            calls, repeats=repeats, device=CPU, labels=("eight scenes, one batch", "eight scenes, one by one")
        )
    return StoryComparison(
        single_s=single_s,
        batch_run=Run(label="one batch", seconds=batch_seconds),
        one_by_one_run=Run(label="one by one", seconds=slow_seconds),
    )


def _grow(place: Path, turns: int, repeats: int) -> LongSession:
    """Run a session turn by turn, with both agents."""
    generator, quarter = FlatColourGenerator(size=SIZE), turns // 4
    folder, sizes, resumes = place / "long", [], []
    for part in range(4):
        with OurAgent(folder, generator) as ours:
            sizes.append(used_bytes(ours.database))
            for _ in steps(f"a long session, quarter {part + 1}", range(quarter)):
                _one_turn(ours, "long")
            sizes.append(used_bytes(ours.database))
        report("", result=f"growth a turn, quarter {part + 1}: {(sizes[-1] - sizes[-2]) / quarter / 1024:,.1f} KiB")
        if part in (0, 3):
            resumes.append(tuple(_resume(folder, generator) for _ in range(repeats)))
    bare_sizes = []
    with BareAgent(place / "long-bare", generator) as bare:
        for part in range(4):
            bare_sizes.append(used_bytes(bare.database))
            for _ in steps(f"a long session of create_agent, quarter {part + 1}", range(quarter)):
                _one_turn(bare, "long")
            bare_sizes.append(used_bytes(bare.database))
    early, late, *bare_growth = (
        (after - before) / quarter for before, after in (sizes[:2], sizes[-2:], bare_sizes[:2], bare_sizes[-2:])
    )
    return LongSession(
        num_turns=turns,
        early_growth_bytes=early,
        late_growth_bytes=late,
        alternative_early_growth_bytes=bare_growth[0],
        alternative_late_growth_bytes=bare_growth[1],
        early_resume_s=resumes[0],
        late_resume_s=resumes[1],
    )


def _resume(folder: Path, generator: FlatColourGenerator) -> float:
    """Return the seconds from opening a session to the first event of its next turn, which is then completed."""
    start = time.perf_counter()
    with OurAgent(folder, generator) as ours:
        events = ours.begin_turn("long")
        seconds = time.perf_counter() - start
        for _ in events:
            pass
    return seconds
