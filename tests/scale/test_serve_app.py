"""The server on Ray Serve. The test with a cluster needs the extra `ray`, and a process without pytest's sockets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mgem_agent.errors import InputError
from mgem_agent.scale.serve_app import Replicas, ServePlan


def test_replicas_are_read() -> None:
    plan = ServePlan.parse("reasoner=2, generator=1-4", 0.5)
    assert plan == ServePlan(Replicas(), Replicas(2, 2), Replicas(1, 4), 0.5)
    assert ServePlan.parse(None) == ServePlan()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("judge=2", "'judge=2' names no replicas. Allowed: gateway, reasoner and generator"),
        ("reasoner", "'reasoner' names no replicas"),
        ("reasoner=two", "'two' is not a number of replicas. Allowed: 2, or 1-4"),
        ("reasoner=0", "'0' is not a number of replicas. Give 1 or more"),
        ("reasoner=4-2", "the smaller first"),
    ],
)
def test_what_names_no_replicas_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ServePlan.parse(text)


PARTS = '''
import os

from mgem_agent.chat_models.mini_gemini import ChatMiniGemini
from mgem_agent.chat_models.text_engine import TextEnd
from mgem_agent.testing import FlatColourGenerator

class Engine:
    """Says the number of its process, and draws a fox."""

    def stream(self, request):
        yield f"{os.getpid()} "
        yield "<h> a red fox </h>"
        yield TextEnd(3, 4)

def open_engine(name):
    return Engine()

def open_reasoner(settings):
    return ChatMiniGemini(model="weights", engine_factory=open_engine)

def open_generator(settings, name):
    return FlatColourGenerator(size=(32, 32))
'''

DRIVER = """
import json, os, sys
import httpx
import parts
from mgem_agent.cli.server_parts import open_service
from mgem_agent.scale.ray_cluster import RayOptions, connected
from mgem_agent.scale.serve_app import APP_NAME, Replicas, ServeParts, ServePlan, serve_application
from mgem_agent.settings import load_settings

port = int(sys.argv[1])
folder = os.environ["BATCH_FOLDER"]
settings = load_settings(generator="flat", model="weights", store=folder + "/store", sessions=folder + "/sessions")
plan = ServePlan(reasoner=Replicas(2, 2))
with connected(RayOptions(num_workers=4)) as ray:
    from ray import serve

    serve.start(http_options={"host": "127.0.0.1", "port": port})
    makers = ServeParts(open_service, parts.open_reasoner, parts.open_generator)
    serve.run(serve_application(settings, ["flat"], makers, plan), name=APP_NAME)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
    def ask(text):
        body = {"model": "mgem", "messages": [{"role": "user", "content": text}]}
        answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]["message"]

    answers = [ask(f"Draw fox {number}.") for number in range(12)]
    picture = client.get(answers[0]["content"].partition("](")[2].rstrip(")"))
    drawn = client.post("/v1/images/generations", json={"model": "flat", "prompt": "a hen", "n": 2}).json()
    found = {
        "processes": sorted({answer["content"].split()[0] for answer in answers}),
        "pictures": [len(answer["images"]) for answer in answers],
        "type": picture.headers["content-type"],
        "drawn": len(drawn["data"]),
        "deployments": sorted(serve.status().applications[APP_NAME].deployments),
        "models": [model["id"] for model in client.get("/v1/models").json()["data"]],
    }
    serve.shutdown()
print(json.dumps(found))
"""


@pytest.mark.slow
def test_reasoner_generator_and_gateway_are_deployments(tmp_path: Path, unused_port: int) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'mgem-agent[ray]'")
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "driver.py").write_text(DRIVER)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    finished = subprocess.run(
        [sys.executable, "driver.py", str(unused_port)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "BATCH_FOLDER": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout.splitlines()[-1])
    assert len(found["processes"]) == 2, "one replica answered everything"
    assert found["pictures"] == [1] * 12 and found["type"] == "image/png" and found["drawn"] == 2
    assert found["deployments"] == ["gateway", "generator", "reasoner"]
    assert found["models"] == ["mgem", "weights", "flat"]
