"""The parts of `mgem bench scale`, which use rooms that recipes do not import."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mgem_agent.errors import InputError, ToolError

if TYPE_CHECKING:
    from mgem_agent.recipes.bench.comparison import Comparison
    from mgem_agent.recipes.bench.scale import BatchOfStories, BatchSeconds

__all__ = ["PARTS", "parts_of", "tell_batch"]

SIZE_PX = 64


def tell_batch(plan: BatchOfStories, folder: Path) -> BatchSeconds:
    """Tell a batch of stories on Ray, with coloured cards for pictures.

    Args:
        plan: The batch.
        folder: Folder of its stories and pictures.

    Returns:
        How long it took.

    Raises:
        ToolError: If a story failed.
    """
    from mgem_agent.cli.story_batch import StoryStepMaker
    from mgem_agent.recipes.bench.scale import BatchSeconds
    from mgem_agent.scale.batch import run_batch
    from mgem_agent.scale.batch_manifest import BatchManifest
    from mgem_agent.scale.batch_row import BatchItem
    from mgem_agent.scale.ray_batch import RayRunner
    from mgem_agent.scale.ray_cluster import RayOptions
    from mgem_agent.settings import load_settings
    from mgem_agent.workflows.story_recipe import SceneRecipe, StoryRecipe

    settings = load_settings(
        generator="flat",
        generator_options={"delay_s": plan.single_s, "extra_delay_s": plan.single_s, "size": [SIZE_PX, SIZE_PX]},
        store=folder / "images",
        use_server=False,
    )
    items = []
    for number in range(1, plan.num_stories + 1):
        scenes = tuple(
            SceneRecipe(text=f"Mouse {number} opens door {page}.", caption=f"mouse {number} at door {page}")
            for page in range(1, plan.num_scenes + 1)
        )
        recipe = StoryRecipe(title=f"Story {number}", kind="explainer", scenes=scenes)
        data = {"recipe": recipe.model_dump(mode="json"), "home": str(folder), "folder": str(folder / str(number))}
        items.append(BatchItem(str(number), data))
    run = RayRunner(RayOptions(num_workers=plan.num_workers), folder / ".starts")
    begun: list[float] = []
    started = time.monotonic()
    with BatchManifest(folder) as manifest:
        failed = run_batch(
            items,
            StoryStepMaker(settings, ("md",)),
            manifest,
            run=run,
            report=lambda row: begun.append(time.monotonic() - row.seconds),
        ).failed
    if failed:
        raise ToolError(f"{len(failed)} of {len(items)} stories failed. The first: {failed[0].error}")
    start_s = min(begun) - started
    return BatchSeconds(start_s=start_s, work_s=time.monotonic() - started - start_s)


def _batch() -> Comparison:
    from mgem_agent.recipes.bench.scale import bench_story_batch
    from mgem_agent.scale.ray_cluster import RayOptions, connected

    with connected(RayOptions(num_workers=2)):
        return bench_story_batch(tell_batch)


def _swap() -> Comparison:
    import torch

    from mgem_agent.recipes.bench.model_swap import measure_model_swap

    return measure_model_swap(device="cuda" if torch.cuda.is_available() else "cpu")


def _store() -> Comparison:
    from mgem_agent.recipes.bench.progress import report
    from mgem_agent.recipes.bench.store import bench_store
    from mgem_agent.settings import load_settings

    place = load_settings().store
    return bench_store(address=place if isinstance(place, str) else None, say=report)


PARTS: dict[str, Callable[[], Comparison]] = {"batch": _batch, "store": _store, "swap": _swap}
"""The parts by name. Each raises a `MissingDependencyError` if it needs a package that is not installed."""


def parts_of(names: Sequence[str] | None) -> dict[str, Callable[[], Comparison]]:
    """Return parts by name; all if none is named.

    Raises:
        InputError: If there is no such part.
    """
    if unknown := [name for name in names or () if name not in PARTS]:
        raise InputError(f"There is no part {unknown[0]!r}. Allowed: {', '.join(PARTS)}.")
    return {name: PARTS[name] for name in dict.fromkeys(names or PARTS)}
