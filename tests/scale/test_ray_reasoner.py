"""A chat model on Ray actors. The test with a cluster needs the extra `ray`, and a process without pytest's sockets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage

from mgem_agent.errors import ReasonerError, ToolError
from mgem_agent.scale.ray_reasoner import RayReasoner, ReasonerActor


def test_an_actor_makes_its_model_once() -> None:
    made: list[FakeListChatModel] = []

    def make() -> FakeListChatModel:
        made.append(FakeListChatModel(responses=["one", "two"]))
        return made[-1]

    model = RayReasoner(ReasonerActor(make).answer)
    assert [model.invoke("?").text, model.invoke([HumanMessage("?")]).text] == ["one", "two"]
    assert len(made) == 1


def test_what_fails_in_an_actor_is_raised_here() -> None:
    class Broken(FakeListChatModel):
        def _call(self, *args: object, **kwargs: object) -> str:
            raise ToolError("The disk is full. Free some space.", retryable=True)

    answer = ReasonerActor(lambda: Broken(responses=[])).answer([HumanMessage("?")], None)
    assert answer == {"error": "The disk is full. Free some space.", "retryable": True}
    with pytest.raises(ReasonerError, match="The disk is full") as caught:
        RayReasoner(lambda messages, stop: answer).invoke("?")
    assert caught.value.retryable

    def unknown() -> FakeListChatModel:
        raise KeyError("no such model")

    assert ReasonerActor(unknown).answer([], None) == {"error": "KeyError: 'no such model'", "retryable": False}
    assert RayReasoner(lambda messages, stop: AIMessage("yes")).invoke("?").text == "yes"


TEACHER = '''
import json, os, re, signal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

class Teacher(BaseChatModel):
    """Answers with the thing of the description; the killer ends its process once, a ghost always fails."""

    @property
    def _llm_type(self):
        return "teacher"

    def _generate(self, messages, stop=None, run_manager=None, **options):
        thing = re.search(r"A photo of (\\w+)", messages[-1].text)[1]
        folder = os.environ["BATCH_FOLDER"]
        if thing == "killer" and not os.path.exists(folder + "/killed"):
            open(folder + "/killed", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        if thing == "ghost":
            raise RuntimeError("no ghosts")
        with open(folder + "/asked.txt", "a") as file:
            file.write(f"{thing} {os.getpid()}\\n")
        answer = json.dumps({"query": "Draw it.", "caption": f"a {thing} in the snow"})
        return ChatResult(generations=[ChatGeneration(message=AIMessage(answer))])
'''

DRIVER = """
import json, os
from teacher import Teacher
from mgem_agent.recipes.data.teacher import teach
from mgem_agent.recipes.data.teacher_limits import TeacherLimits
from mgem_agent.recipes.data.teacher_prompts import TeacherSource
from mgem_agent.scale.ray_cluster import RayOptions
from mgem_agent.scale.ray_reasoner import ray_reasoner

names = ["fox", "killer", "ghost", "hen", "cat", "owl", "cow", "pig"]
sources = [TeacherSource(name, f"A photo of {name}.") for name in names]
with ray_reasoner(Teacher, RayOptions(num_workers=2), max_concurrency=2) as model:
    limits = TeacherLimits(max_concurrency=2, max_attempts=1)
    report = teach(model, sources, os.environ["BATCH_FOLDER"] + "/taught.jsonl", kind="recaption", limits=limits)
print(json.dumps(report.to_json()))
"""


@pytest.mark.slow
def test_two_actors_teach_although_one_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'mgem-agent[ray]'")
    (tmp_path / "teacher.py").write_text(TEACHER)
    (tmp_path / "driver.py").write_text(DRIVER)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    finished = subprocess.run(
        [sys.executable, "driver.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "BATCH_FOLDER": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout.splitlines()[-1])
    assert (report["num_records"], report["num_failed"]) == (7, 1)
    asked = [line.split() for line in (tmp_path / "asked.txt").read_text().splitlines()]
    assert set(Counter(thing for thing, _ in asked).values()) == {1}, "a source was asked about twice"
    assert len({worker for _, worker in asked}) >= 2
    failed = json.loads((tmp_path / "taught.jsonl.failed.jsonl").read_text())
    assert failed["id"] == "ghost" and failed["error"] == "RuntimeError: no ghosts"
