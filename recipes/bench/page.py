"""What one illustrated page costs: `mgem bench page --json`.

A story is written and drawn from a premise, without overlap, and everything is counted: answers, tokens, drawings,
seconds and bytes. `docs/scale.md` multiplies these figures.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, computed_field
from rich.console import RenderableType
from rich.table import Table

from mgem_agent.errors import MgemError
from mgem_agent.recipes.bench.measure import require_positive
from mgem_agent.recipes.bench.progress import report

__all__ = ["PageCost", "StoryCounts", "TellCounted", "bench_page"]


class StoryCounts(BaseModel):
    """What was counted while a story was told.

    Attributes:
        answers: Number of answers of the reasoner.
        input_tokens: Tokens that it read.
        output_tokens: Tokens that it wrote.
        writing_s: Seconds that its answers took.
        drawings: Number of drawings.
        steps: Number of denoising steps.
        drawing_s: Seconds that the drawings took, without the loading of weights.
        num_scenes: Number of pages with a picture.
    """

    model_config = ConfigDict(frozen=True)

    answers: int
    input_tokens: int
    output_tokens: int
    writing_s: float
    drawings: int
    steps: int
    drawing_s: float
    num_scenes: int


TellCounted = Callable[[Path, int], StoryCounts]
"""Tells a story of so many scenes in a folder. The command line has it: recipes do not import workflows."""


class PageCost(StoryCounts):
    """The costs of a story, and of each of its pages.

    Attributes:
        reasoner: Name of the reasoner.
        generator: Name of the generator.
        picture_bytes: Bytes of the pictures.
        sidecar_bytes: Bytes of the files that say how each picture was drawn.
        story_bytes: Bytes of the record of the story.
    """

    reasoner: str
    generator: str
    picture_bytes: int
    sidecar_bytes: int
    story_bytes: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def per_page(self) -> dict[str, float]:
        """Each cost, divided by the number of pages."""
        names = (
            "answers", "input_tokens", "output_tokens", "writing_s", "drawings", "steps", "drawing_s", "picture_bytes",
            "sidecar_bytes", "story_bytes",
        )  # fmt: skip
        return {name: getattr(self, name) / self.num_scenes for name in names}

    def render(self) -> RenderableType:
        """Return the costs as a table for the terminal."""
        table = Table(f"{self.reasoner}, {self.generator}", "a page", f"{self.num_scenes} pages")
        for column in table.columns[1:]:
            column.justify = "right"
        for name, value in self.per_page.items():
            table.add_row(name.replace("_s", ", s").replace("_", " "), f"{value:,.1f}", f"{getattr(self, name):,.0f}")
        return table


def bench_page(tell: TellCounted, *, reasoner: str, generator: str, num_scenes: int = 4) -> PageCost:
    """Measure a story.

    Args:
        tell: Tells it.
        reasoner: Name of the reasoner.
        generator: Name of the generator.
        num_scenes: Number of pages.

    Raises:
        InputError: If there are no pages.
        MgemError: If no page was drawn.
    """
    require_positive(num_scenes=num_scenes)
    with tempfile.TemporaryDirectory(prefix="mgem-bench-", ignore_cleanup_errors=True) as folder:
        report("a story", 0, 1)
        counts = tell(Path(folder), num_scenes)
        if not counts.num_scenes:
            raise MgemError(f"{generator!r} drew no page of the story. Try it alone: mgem draw 'a red fox'")

        def size(pattern: str) -> int:
            return sum(path.stat().st_size for path in Path(folder).rglob(pattern))

        return PageCost(
            **counts.model_dump(),
            reasoner=reasoner,
            generator=generator,
            picture_bytes=size("img-*.png"),
            sidecar_bytes=size("img-*.json"),
            story_bytes=size("story.json"),
        )
