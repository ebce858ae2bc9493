"""A story whose pages are drawn while later ones are written: `mgem bench story --json`.

A scripted reasoner and a generator of coloured cards are used, whose times are stated, so that only the order of the
work is measured. There are two figures, for eight scenes:

* a story that is written and drawn, against the same story with everything written first. The bound is the longer of
  writing alone and drawing alone. Each picture takes `single_s`, one at a time, and each answer `answer_s`;
* a story that is only drawn, by a generator whose batch of eight takes twice as long as a single picture, against the
  same generator with one picture at a time. A factor of 4 is possible.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import computed_field
from rich.table import Table

from mgem_agent.chat_models.text_engine import TextRequest
from mgem_agent.recipes.bench.comparison import BatchComparison, Comparison, Run, format_seconds, format_times
from mgem_agent.recipes.bench.measure import describe_machine, require_positive, time_alternating
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner

__all__ = ["StoryPlan", "StoryTimes", "TellStory", "bench_story", "scripted_author"]

NUM_SCENES = 8
SIZE = (64, 64)
CPU = torch.device("cpu")
ANSWERS = {
    "Write the title": "The key",
    "Plan a ": "\n".join(f"{page}. Door {page}: The mouse opens door {page}." for page in range(1, NUM_SCENES + 1)),
    "Who appears": "Mouse: a small grey mouse",
    "What does its picture show?": "A mouse at a door.",
    "Write the text of number": "The mouse opened a door. It was dark.",
}
"""What the reasoner answers to a question with the given words."""


@dataclass(frozen=True, slots=True)
class StoryPlan:
    """A story to tell.

    Attributes:
        reasoner: The chat model that writes.
        generator: The generator.
        folder: Folder of the story and its pictures.
        num_scenes: Number of scenes.
        is_given: Whether text and captions are given, so that nothing is written.
        overlap: Whether pages are drawn while later ones are written.
    """

    reasoner: ScriptedReasoner
    generator: FlatColourGenerator
    folder: Path
    num_scenes: int = NUM_SCENES
    is_given: bool = False
    overlap: bool = True


TellStory = Callable[[StoryPlan], int]
"""Tells a story, and returns the number of its pictures. The command line has it: recipes do not import workflows."""


class StoryTimes(Comparison):
    """A story with overlap against one step after another, and drawing with batches.

    Attributes:
        single_s: Seconds that the generator takes for one picture.
        answer_s: Seconds that the reasoner takes for an answer.
        writing_s: Seconds to write the story, without drawing time.
        drawing_s: Seconds to draw the story, without writing.
        drawing: The scenes as one batch and one by one.
    """

    single_s: float
    answer_s: float
    writing_s: tuple[float, ...]
    drawing_s: tuple[float, ...]
    drawing: BatchComparison

    @computed_field  # type: ignore[prop-decorator]
    @property
    def longer_s(self) -> float:
        """Median seconds of the longer side, writing or drawing."""
        return max(statistics.median(self.writing_s), statistics.median(self.drawing_s))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ratio_to_longer(self) -> float:
        """Ratio of our time to that of the longer side; 1 is perfect overlap."""
        return self.ours / self.longer_s

    def tables(self) -> list[Table]:
        """Return the written story, and the drawn one."""
        parts = Table(f"{NUM_SCENES} scenes", "writing alone", "drawing alone", "both", "both : longer")
        times = [statistics.median(self.writing_s), statistics.median(self.drawing_s), self.ours]
        parts.add_row("time, median", *map(format_seconds, times), f"{self.ratio_to_longer:.2f}×")
        runs = (self.drawing.batch_run, self.drawing.one_by_one_run)
        batches = Table(f"{NUM_SCENES} pictures", *(run.label for run in runs), "ratio")
        seconds = [format_seconds(statistics.median(run.seconds)) for run in runs]
        batches.add_row("time, median", *seconds, format_times(self.drawing.ratio))
        for table in (parts, batches):
            for column in table.columns[1:]:
                column.justify = "right"
        return [*super().tables(), parts, batches]


def scripted_author(answer_s: float = 0.0) -> ScriptedReasoner:
    """Return a reasoner that writes a story of eight scenes.

    Args:
        answer_s: Seconds that each answer takes.
    """

    def answer(request: TextRequest) -> str:
        if request.cancel.wait(answer_s):
            return ""
        question = str(request.dialogue[-1]["content"])
        return next((said for words, said in ANSWERS.items() if words in question), "")

    return ScriptedReasoner(script=[answer], is_endless=True, piece_length=40)


def bench_story(
    tell: TellStory, *, single_s: float = 0.5, answer_s: float = 0.35, batch_single_s: float = 2.0, repeats: int = 1
) -> StoryTimes:
    """Measure stories.

    Args:
        tell: Tells a story.
        single_s: Seconds that the generator takes for one picture of the story that is written and drawn.
        answer_s: Seconds that the reasoner takes for each of its 19 answers.
        batch_single_s: Seconds that the generator of the batch takes for a single picture.
        repeats: Timed stories of each kind.

    Raises:
        InputError: If there are no runs to time.
    """
    require_positive(repeats=repeats)
    with tempfile.TemporaryDirectory(prefix="mgem-bench-", ignore_cleanup_errors=True) as folder:
        teller = _Teller(tell, Path(folder))
        teller.tell(_cards(0.0), is_given=True)  # warms up
        overlapped, one_after_another = time_alternating(
            [
                lambda: teller.tell(_cards(single_s), answer_s, overlap=True),
                lambda: teller.tell(_cards(single_s), answer_s, overlap=False),
            ],
            repeats=repeats,
            device=CPU,
            labels=("drawn while written", "one after another"),
        )
        writing, drawing = time_alternating(
            [lambda: teller.tell(_cards(0.0), answer_s), lambda: teller.tell(_cards(single_s), is_given=True)],
            repeats=repeats,
            device=CPU,
            labels=("writing alone", "drawing alone"),
        )
        batched, single = time_alternating(
            [
                lambda: teller.tell(_cards(batch_single_s, max_batch_size=None), is_given=True),
                lambda: teller.tell(_cards(batch_single_s), is_given=True),
            ],
            repeats=repeats,
            device=CPU,
            labels=("one batch", "one by one"),
        )
    return StoryTimes(
        name="story",
        setting=f"{NUM_SCENES} scenes; {answer_s:g} s an answer (19 of them), {single_s:g} s a picture, scripted",
        note=f"The batch of eight pictures takes {2 * batch_single_s:g} s, a single picture {batch_single_s:g} s.",
        ours_run=Run(label="drawn while written", seconds=overlapped),
        alternative_run=Run(label="one after another", seconds=one_after_another),
        max_abs_difference={},
        max_abs_value={},
        machine=describe_machine(CPU),
        single_s=single_s,
        answer_s=answer_s,
        writing_s=writing,
        drawing_s=drawing,
        drawing=BatchComparison(
            batch_run=Run(label="one batch", seconds=batched), one_by_one_run=Run(label="one by one", seconds=single)
        ),
    )


class _Teller:
    """Tells stories, each in a folder of its own."""

    def __init__(self, tell: TellStory, folder: Path) -> None:
        self._tell = tell
        self._folder = folder
        self._num_told = 0

    def tell(
        self, generator: FlatColourGenerator, answer_s: float = 0.0, *, is_given: bool = False, overlap: bool = True
    ) -> None:
        """Tell a story.

        Raises:
            RuntimeError: If a picture is missing.
        """
        self._num_told += 1
        place = self._folder / str(self._num_told)
        drawn = self._tell(StoryPlan(scripted_author(answer_s), generator, place, is_given=is_given, overlap=overlap))
        if drawn != NUM_SCENES:
            raise RuntimeError(f"a story has {drawn} picture(s), not {NUM_SCENES}")


def _cards(single_s: float, max_batch_size: int | None = 1) -> FlatColourGenerator:
    """Return a generator whose batch of eight takes twice as long as a single picture."""
    able = FlatColourGenerator.CAPABILITIES.model_copy(update={"max_references": 0, "max_batch_size": max_batch_size})
    return FlatColourGenerator(
        size=SIZE, capabilities=able, delay_s=single_s, extra_delay_s=single_s / (NUM_SCENES - 1)
    )
