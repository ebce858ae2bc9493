"""A batch on Ray. The tests with a cluster need the extra `ray`, and a new process: pytest would forbid its sockets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.scale.batch import run_items
from mgem_agent.scale.batch_row import BatchItem, BatchRow
from mgem_agent.scale.ray_batch import MAX_STARTS, BatchWorker
from mgem_agent.scale.start_marks import StartMarks


class GroupStep:
    """Records its groups; an item named `killer` ends the worker."""

    def __init__(self, groups: list[list[str]]) -> None:
        self.groups = groups

    def run(self, items: Sequence[BatchItem]) -> Iterator[BatchRow]:
        self.groups.append([item.key for item in items])
        if any(item.key == "killer" for item in items):
            raise SystemExit
        return run_items(items, lambda item: ([], {}))


def work(worker: BatchWorker, *items: BatchItem) -> list[dict[str, Any]]:
    found = worker({"group": [json.dumps([asdict(item) for item in items])]})
    return [json.loads(row) for row in found["row"]]


def test_an_item_that_ends_its_workers_is_given_up_alone(tmp_path: Path) -> None:
    items = [BatchItem(name, {}) for name in ("fox", "killer", "hen")]
    marks, groups = StartMarks(tmp_path / "marks"), list[list[str]]()
    for _ in range(MAX_STARTS):
        with pytest.raises(SystemExit):
            work(BatchWorker(lambda: GroupStep(groups), marks), *items)
    rows = work(BatchWorker(lambda: GroupStep(groups), marks), *items)
    assert [(row["key"], row["status"]) for row in rows] == [("fox", "done"), ("killer", "failed"), ("hen", "done")]
    assert "ended several times" in rows[1]["error"]
    assert groups[:3] == [["fox", "killer", "hen"], ["fox"], ["killer"]]
    assert [marks.num_starts(item) for item in items] == [0, MAX_STARTS, 0]


def test_a_step_that_cannot_be_created_fails_its_items(tmp_path: Path) -> None:
    def broken() -> GroupStep:
        raise ImportError("no torch here")

    rows = work(BatchWorker(broken, StartMarks(tmp_path)), BatchItem("fox", {}))
    assert rows[0]["error"] == "Unexpected ImportError: no torch here"


STEPS = '''
import os, signal, time
from pathlib import Path

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.scale.draw_step import DrawStep
from mgem_agent.scale.story_step import StoryParts, StoryStep
from mgem_agent.testing import FlatColourGenerator

class LoggedGenerator(FlatColourGenerator):
    """Writes each drawn prompt to a file, and kills its worker once, after the first picture of a group is stored."""

    def generate(self, requests, **options):
        for event in super().generate(requests, **options):
            if getattr(event, "image", None) is not None:
                with open("drawn.txt", "a") as file:
                    file.write(event.request.prompt + "\\n")
            yield event
            if getattr(event, "image", None) is not None and "killer" in event.request.prompt:
                if not os.path.exists("killed"):
                    open("killed", "w").close()
                    os.kill(os.getpid(), signal.SIGKILL)

class Maker:
    def __init__(self, kind):
        self.kind = kind

    def __call__(self):
        os.chdir(os.environ["BATCH_FOLDER"])
        generator, store = LoggedGenerator(size=(32, 32), fail_on="ghost", delay_s=0.2), ArtifactStore("store")
        if self.kind == "draw":
            return DrawStep(generator, store)
        return StoryStep(StoryParts(generator, None, store, forms=("md",)))
'''

DRIVER = """
import json, os, sys
from pathlib import Path
from steps import Maker
from mgem_agent.scale.batch import run_batch
from mgem_agent.scale.batch_manifest import BatchManifest
from mgem_agent.scale.batch_row import BatchItem
from mgem_agent.scale.ray_batch import RayRunner
from mgem_agent.scale.ray_cluster import RayOptions
from mgem_agent.workflows import StoryRecipe

folder = Path(os.environ["BATCH_FOLDER"])
kind = sys.argv[1]
names = ["fox", "ghost", "killer", "hen", "cat", "owl", "cow", "pig"]

def data(name):
    if kind == "draw":
        return {"request": {"prompt": f"a {name}"}, "file": str(folder / f"{name}.png")}
    captions = [f"the door of the {name}", f"a {name} at home", f"the tail of the {name}"]
    scenes = [{"text": "Look!", "caption": caption} for caption in captions]
    recipe = StoryRecipe(title=name, kind="explainer", scenes=scenes, width=32, height=32, consistency="seed+card")
    return {"recipe": recipe.model_dump(mode="json"), "home": str(folder), "folder": str(folder / name)}

items = [BatchItem(name, data(name)) for name in names]
with BatchManifest(folder) as manifest:
    run = RayRunner(RayOptions(num_workers=2), folder / ".starts")
    report = run_batch(items, Maker(kind), manifest, run=run, group_size=2 if kind == "draw" else 1)
print(json.dumps({"before": report.num_done_before, "rows": [row.to_json() for row in report.rows]}))
"""


def run_driver(folder: Path, kind: str) -> dict[str, Any]:
    (folder / "steps.py").write_text(STEPS)
    (folder / "driver.py").write_text(DRIVER)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    finished = subprocess.run(
        [sys.executable, "driver.py", kind],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "BATCH_FOLDER": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["draw", "story"])
def test_two_workers_finish_a_batch_although_one_is_killed(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'mgem-agent[ray]'")
    found = run_driver(tmp_path, kind)
    states = {row["key"]: row["status"] for row in found["rows"]}
    assert states == dict.fromkeys(("fox", "killer", "hen", "cat", "owl", "cow", "pig"), "done") | {"ghost": "failed"}
    assert len({row["worker"] for row in found["rows"]}) >= 2
    drawn = Counter((tmp_path / "drawn.txt").read_text().splitlines())
    assert (tmp_path / "killed").exists() and set(drawn.values()) == {1}, "a picture was drawn twice"
    assert not (tmp_path / ".starts").exists()

    second = run_driver(tmp_path, kind)
    assert second["before"] == 7
    assert Counter((tmp_path / "drawn.txt").read_text().splitlines()) == drawn
