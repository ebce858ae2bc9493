"""The report of an evaluation, as tables and as JSON; parts can be added later."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mgem_agent.errors import InputError
from mgem_agent.recipes.bench.comparison import Machine
from mgem_agent.recipes.eval.proportion import Proportion
from mgem_agent.recipes.nano.eval.drawing_protocol import DrawingProtocol
from mgem_agent.recipes.nano.eval.generated_pictures import GeneratedPictures
from mgem_agent.recipes.nano.eval.understanding import Understanding

__all__ = ["EvalReport"]

_SIGNS = {"words": "in plain words", "sign": "with <GEN>"}


class EvalReport(BaseModel):
    """Results on held-out scenes and dialogues.

    Attributes:
        seed: Seed of scenes, dialogues and pictures.
        machine: The machine of the measurement.
        understanding: Answers about pictures: the model, then the baseline without high resolution.
        drawing: Drawing by a reasoner.
        pictures: Pictures of a generator.
    """

    model_config = ConfigDict(frozen=True)

    seed: int
    machine: Machine
    understanding: tuple[Understanding, ...] = ()
    drawing: DrawingProtocol | None = None
    pictures: GeneratedPictures | None = None

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a report from a file.

        Raises:
            InputError: If the file is missing, or is not a report.
        """
        try:
            return cls.model_validate_json(file.read_bytes())
        except OSError as error:
            raise InputError(
                f"{str(file)!r} cannot be read: {error.strerror}. Create it with: mgem eval nano --out FOLDER"
            ) from error
        except ValidationError as error:
            raise InputError(f"{str(file)!r} is not a report of mgem eval: {error.errors()[0]['msg']}.") from error

    def write(self, file: Path) -> None:
        """Write the report as JSON, atomically."""
        part = file.with_name(f"{file.name}.part")
        part.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        os.replace(part, file)

    def with_parts_of(self, earlier: Self) -> Self:
        """Return this report with its missing parts taken from an earlier one of the same seed."""
        if earlier.seed != self.seed:
            return self
        missing = {name: getattr(earlier, name) for name in ("understanding", "drawing", "pictures")}
        return self.model_copy(update={name: value for name, value in missing.items() if not getattr(self, name)})

    def render(self) -> RenderableType:
        """Return the report as tables for the terminal."""
        parts: list[RenderableType] = []
        if self.understanding:
            parts.append(_understanding_table(self.understanding))
            parts += _doubts(self.understanding)
        if self.drawing is not None:
            parts.append(_drawing_table(self.drawing))
        if self.pictures is not None:
            parts += _picture_parts(self.pictures)
        machine = self.machine
        parts.append(
            Text(
                f"Held-out scenes and dialogues, seed {self.seed}; in brackets the 95 % interval. {machine.processor}; "
                f"{machine.device}, threads: {machine.num_threads}; torch {machine.torch}."
            )
        )
        return Group(*parts)


def _table(*titles: str) -> Table:
    table = Table(*titles)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _understanding_table(models: tuple[Understanding, ...]) -> Table:
    titles = [f"{each.model}, LR only" if each.without_hr else each.model for each in models]
    table = _table("right answers to", "asked", *titles, *(["gain by HR"] if len(models) == 2 else []))
    for kind in models[0].kinds:
        shares = [each.kinds.get(kind, Proportion(num=0, num_right=0)) for each in models]
        table.add_row(kind, str(shares[0].num), *map(str, shares), *([_gain(*shares)] if len(models) == 2 else []))
    return table


def _doubts(models: tuple[Understanding, ...]) -> list[RenderableType]:
    """Return a line on the scenes of which each model wrongly says that it cannot tell."""
    told = [f"{each.model}: {each.doubted} of {each.doubted.num}" for each in models if each.doubted is not None]
    return [Text(f"Questions about scenes answered with “I cannot tell”: {'; '.join(told)}.")] if told else []


def _gain(share: Proportion, other: Proportion) -> str:
    """Return a difference in percentage points with its interval."""
    found = share.gain_over(other)
    return "–" if found is None else "{:+.0f} ({:+.0f} to {:+.0f})".format(*(100 * value for value in found))


def _drawing_table(drawing: DrawingProtocol) -> Table:
    table = _table(f"{drawing.model} asked to draw", "asked", "well-formed caption", "that keeps the request")
    for sign, kinds in drawing.asked.items():
        for kind, found in kinds.items():
            table.add_row(
                f"{_SIGNS[sign]}, {kind}", str(found.kept.num), str(found.well_formed), str(found.kept),
                end_section=kind == "all",
            )  # fmt: skip
    table.add_row("told, no caption", str(drawing.told.num), str(drawing.told), "")
    return table


def _picture_parts(pictures: GeneratedPictures) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if pictures.seen:
        table = _table(f"{pictures.generator}, every thing named by {pictures.seen_by}", "pictures", "drawn", "real")
        for title, seen in pictures.seen.items():
            table.add_row(title, str(seen.num), str(seen), str(pictures.seen_real[title]))
        parts.append(table)
    if pictures.generated:
        table = _table(
            f"{pictures.generator}, named by CLIP", "pictures", "first name", "real scenes", "among five", "real scenes"
        )
        for title, drawn in pictures.generated.items():
            real = pictures.real[title]
            shares = (drawn.first, real.first, drawn.among_five, real.among_five)
            table.add_row(title, str(drawn.first.num), *map(str, shares))
        parts.append(table)
    if (variety := pictures.variety) is not None:
        parts.append(
            Text(
                f"Variety of {variety.num_seeds} seeds for {variety.num_captions} captions: {variety.share:.0%} of "
                f"that of real scenes. Positions as the caption says: {variety.placed} of {variety.placed.num}."
            )
        )
    size = "" if pictures.size_px is None else f" of {pictures.size_px[0]} × {pictures.size_px[1]} px"
    speed = "" if pictures.seconds_per_picture is None else f", {pictures.seconds_per_picture:.2f} s each (median)"
    failed = f"; {pictures.num_failed} failed" if pictures.num_failed else ""
    sheet = f" Look at them: {pictures.contact_sheet}" if pictures.contact_sheet else ""
    parts.append(Text(f"{pictures.generator} drew {pictures.num_pictures} pictures{size}{speed}{failed}.{sheet}"))
    return parts
