"""The paper's tables with our values beside the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.paper.benchmarks import Ablation, PaperBenchmark, ablations, published_values
from mgem_agent.user_files import read_user_file

__all__ = [
    "ABLATION_BENCHMARKS",
    "ablation_table",
    "check_ablation_model",
    "paper_tables",
    "read_ablation_models",
    "training_table",
]

ABLATION_BENCHMARKS = ("TextVQA", "MME", "MM-Vet")
"""The benchmarks of Tables 2 and 3."""
_MAX_BYTES = 1 << 20


def paper_tables(
    measured: Mapping[str, Mapping[str, str | None]], benchmarks: Sequence[PaperBenchmark]
) -> RenderableType:
    """Return Tables 1 and 6.

    Args:
        measured: For each model, its value of each benchmark, by name.
        benchmarks: The benchmarks.
    """
    parts: list[RenderableType] = []
    for number in (1, 6):
        columns = [each for each in benchmarks if each.table == number]
        if not columns:
            continue
        table = _table(f"Table {number}", *(each.name for each in columns))
        for model, values in measured.items():
            known = published_values(model)
            table.add_row(model, *(values.get(each.name) or "–" for each in columns))
            table.add_row("  published", *(known.get(each.name, "–") for each in columns), end_section=True)
        parts.append(table)
    notes = [f"{each.name}: {each.note}." for each in benchmarks if each.note]
    if any(each.table == 6 for each in benchmarks):
        notes.append("The paper's values of Table 6 are not public.")
    return Group(*parts, *(Text(note) for note in notes))


def ablation_table(measured: Mapping[str, Mapping[str, str | None]]) -> RenderableType:
    """Return Tables 2 and 3.

    Args:
        measured: For each measured row, by its id, its value of each benchmark.
    """
    parts = []
    for number in (2, 3):
        titles = [title for name in ABLATION_BENCHMARKS for title in (name, "published")]
        table = _table(f"Table {number}", "LR", "HR", "tokens", *titles)
        for row in (each for each in ablations() if each.table == number):
            values = measured.get(row.id, {})
            cells = [
                cell
                for name in ABLATION_BENCHMARKS
                for cell in (_perception(name, values.get(name)), f"{row.published[name]:g}")
            ]
            table.add_row(row.label, str(row.low_res), str(row.high_res or "–"), str(row.tokens), *cells)
        parts.append(table)
    return Group(*parts)


def training_table() -> RenderableType:
    """Return what to train for each row of Tables 2 and 3."""
    table = _table("id", "Table", "row", "mgem train")
    for row in ablations():
        table.add_row(row.id, str(row.table), row.label, "\n".join(row.train))
    for column in table.columns:
        column.justify = "left"
    return table


def read_ablation_models(file: Path) -> dict[str, str]:
    """Read the models of ablations: a YAML file with the id of a row and its model on each line.

    Args:
        file: The file.

    Raises:
        InputError: If it is missing or malformed, or names an unknown row.
    """
    known = {each.id for each in ablations()}
    try:
        found = yaml.safe_load(read_user_file(file, "The ablations", max_bytes=_MAX_BYTES))
        rows: dict[str, str] = TypeAdapter(dict[str, str]).validate_python(found)
    except FileNotFoundError as error:
        raise InputError(
            f"There is no file {str(file)!r}. Write one line for each row: 'data-ocr: runs/mine'."
        ) from error
    except (yaml.YAMLError, ValidationError) as error:
        raise InputError(f"{str(file)!r} does not name a model for each row: 'data-ocr: runs/mine'.") from error
    if unknown := sorted(set(rows) - known):
        raise InputError(f"Unknown rows: {', '.join(map(repr, unknown))}. Allowed: {', '.join(sorted(known))}.")
    return rows


def check_ablation_model(row: Ablation, config: Any) -> None:
    """Refuse a model that is not the row's.

    Args:
        row: The row.
        config: The model's configuration.

    Raises:
        InputError: If its images have other sizes.
    """
    geometry = config.geometry
    got = (geometry.low_res_input_size, config.high_res_image_size, geometry.num_image_tokens)
    wanted = (row.low_res, row.high_res, row.tokens)
    if got != wanted:
        raise InputError(
            f"The row {row.id!r} sees {_sizes(*wanted)}; this model sees {_sizes(*got)}. Name the model that was "
            "trained for the row."
        )


def _sizes(low_res: int, high_res: int | None, tokens: int) -> str:
    return f"{low_res}{'' if high_res is None else f'/{high_res}'} px with {tokens} tokens"


def _perception(name: str, value: str | None) -> str:
    """Return a value of the ablations, which have MME's perception only."""
    return "–" if value is None else value.partition("/")[0] if name == "MME" else value


def _table(*titles: str) -> Table:
    table = Table(*titles)
    for column in table.columns[1:]:
        column.justify = "right"
    return table
