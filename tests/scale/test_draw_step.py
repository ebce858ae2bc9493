from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.scale.batch_row import BatchItem
from mgem_agent.scale.draw_step import DrawStep
from mgem_agent.testing import FlatColourGenerator
from mgem_agent.tools.budget import Budgets


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def item_of(folder: Path, key: str, *, is_edit: bool = False, **request: Any) -> BatchItem:
    return BatchItem(key, {"request": request, "is_edit": is_edit, "file": str(folder / f"{key}.png")})


def test_a_group_is_one_batch_of_the_generator(tmp_path: Path, store: ArtifactStore) -> None:
    generator = FlatColourGenerator(size=(32, 32), fail_on="ghost")
    items = [item_of(tmp_path, name, prompt=f"a {name}", seed=3) for name in ("fox", "ghost", "hen")]
    rows = {row.key: row for row in DrawStep(generator, store).run(items)}
    assert generator.num_batches == 1
    assert rows["ghost"].error == "The card 'a ghost' came out blank." and rows["ghost"].retryable
    for name in ("fox", "hen"):
        result = rows[name].result
        assert (result["prompt"], result["seed"]) == (f"a {name}", 3)
        assert rows[name].files == (str(tmp_path / f"{name}.png"),)
        assert (tmp_path / f"{name}.png").read_bytes() == store.path(result["artifact_id"]).read_bytes()


def test_a_picture_of_a_lost_worker_is_not_drawn_twice(tmp_path: Path, store: ArtifactStore) -> None:
    items = [item_of(tmp_path, name, prompt="a fox") for name in ("one", "two")]  # without a seed
    first = list(DrawStep(FlatColourGenerator(size=(32, 32)), store).run(items[:1]))
    generator = FlatColourGenerator(size=(32, 32))
    (tmp_path / "one.png").unlink()
    rows = {row.key: row for row in DrawStep(generator, store).run(items)}
    assert len(generator.drawn) == 1 and rows["one"].result == first[0].result
    assert (tmp_path / "one.png").is_file()


def test_what_is_wrong_with_one_item_is_its_own(tmp_path: Path, store: ArtifactStore) -> None:
    items = [
        item_of(tmp_path, "lost", prompt="a fox", references=["img-000000000000"]),
        item_of(tmp_path, "wrong", prompt="a fox", width=3),
        item_of(tmp_path, "fox", prompt="a fox"),
    ]
    rows = {row.key: row for row in DrawStep(FlatColourGenerator(size=(32, 32)), store).run(items)}
    assert "There is no picture 'img-000000000000'" in rows["lost"].error
    assert rows["wrong"].error.startswith("The image request is not valid")
    assert rows["fox"].status == "done"


def test_a_picture_is_changed_in_the_way_that_the_generator_can(tmp_path: Path, store: ArtifactStore) -> None:
    start = store.put_picture(Image.new("RGB", (32, 32), "red"), origin="red.png").id
    generator = FlatColourGenerator(size=(32, 32))
    items = [
        item_of(tmp_path, "edit", is_edit=True, prompt="at night", image=start, seed=5),
        item_of(tmp_path, "noise", is_edit=True, prompt="at night", image=start, strength=0.4),
        item_of(tmp_path, "wrong", is_edit=True, prompt="at night", image=start, strength=4.0),
    ]
    rows = {row.key: row for row in DrawStep(generator, store).run(items)}
    assert [(each.task, each.image) for each in generator.drawn] == [("edit", start), ("image_to_image", start)]
    assert generator.drawn[0].seed == 5
    assert rows["wrong"].error.startswith("This edit is not possible")


def test_each_item_has_the_budget_of_a_turn(tmp_path: Path, store: ArtifactStore) -> None:
    generator = FlatColourGenerator(size=(32, 32))
    items = [item_of(tmp_path, name, prompt=f"a {name}") for name in ("fox", "hen")]
    step = DrawStep(generator, store, Budgets.parse("1picture"))
    assert [row.status for row in step.run(items)] == ["done", "done"]
    assert generator.num_batches == 2
