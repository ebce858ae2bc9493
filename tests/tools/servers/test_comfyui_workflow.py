from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.errors import InputError
from mgem_agent.tools.image_request import ImageTask
from mgem_agent.tools.servers.comfyui_workflow import SHIPPED_WORKFLOWS, ComfyUIWorkflow


def node(title: str = "", **inputs: Any) -> dict[str, Any]:
    return {"class_type": "Toy", "inputs": inputs, "_meta": {"title": title}}


def save(folder: Path, nodes: Any, slots: Any = None) -> Path:
    path = folder / "flow.json"
    path.write_text(json.dumps(nodes))
    if slots is not None:
        (folder / "flow.slots.json").write_text(json.dumps(slots))
    return path


@pytest.mark.parametrize("task", SHIPPED_WORKFLOWS)
def test_a_shipped_workflow_does_its_task_and_is_wired(task: ImageTask) -> None:
    flow = ComfyUIWorkflow.shipped(task)
    assert flow.task == task
    assert flow.output == "output"
    assert {"prompt", "negative_prompt", "seed", "width", "height", "checkpoint"} <= set(flow.slots)
    for content in flow.nodes.values():
        links = [value for value in content["inputs"].values() if isinstance(value, list)]
        assert all(target in flow.nodes for target, _ in links)


@pytest.mark.parametrize(
    ("slots", "task"),
    [
        ({}, "text_to_image"),
        ({"image": "1.image"}, "edit"),
        ({"image": "1.image", "strength": "1.denoise"}, "image_to_image"),
        ({"image": "1.image", "mask": "1.mask", "strength": "1.denoise"}, "inpaint"),
    ],
)
def test_slots_tell_the_task(tmp_path: Path, slots: dict[str, str], task: str) -> None:
    nodes = {"1": node("mgem: prompt", text="", image="", mask="", denoise=1)}
    assert ComfyUIWorkflow.from_file(save(tmp_path, nodes, slots)).task == task


def test_titles_and_a_file_name_slots(tmp_path: Path) -> None:
    nodes = {
        "1": node("mgem: prompt, steps, guidance = scale", text="", steps=4, scale=2.0),
        "2": node("mgem:prompt=text_g", text_g="", text="keep"),
        "3": node("Save", images=["1", 0]),
    }
    flow = ComfyUIWorkflow.from_file(save(tmp_path, nodes, {"output": "3", "style": ["2.text"]}))
    assert flow.slots == {
        "prompt": (("1", "text"), ("2", "text_g")),
        "num_inference_steps": (("1", "steps"),),
        "guidance_scale": (("1", "scale"),),
        "style": (("2", "text"),),
    }
    assert (flow.output, sorted(flow.options), flow.value("style")) == ("3", ["style"], "keep")
    filled = flow.filled({"prompt": "a fox"})
    assert (filled["1"]["inputs"]["text"], filled["2"]["inputs"]["text_g"]) == ("a fox", "a fox")
    assert flow.nodes["1"]["inputs"]["text"] == ""


def test_a_slot_that_another_node_fills_has_no_value(tmp_path: Path) -> None:
    flow = ComfyUIWorkflow.from_file(save(tmp_path, {"1": node("mgem: prompt, seed", text="", seed=["2", 0])}))
    assert flow.value("seed") is flow.value("width") is None


@pytest.mark.parametrize(
    ("nodes", "slots", "message"),
    [
        ({"nodes": [], "links": []}, None, r"format of ComfyUI's editor. Export it there by 'Export \(API\)'"),
        ([], None, "not in ComfyUI's API format"),
        ({}, None, "not in ComfyUI's API format"),
        ({"1": {"inputs": {}}}, None, "not in ComfyUI's API format"),
        ({"1": node("positive", text="")}, None, "has no slot for the prompt. Give its node the title 'mgem: prompt'"),
        ({"1": node("mgem: prompt", words="")}, None, "has no input 'text' for the slot 'prompt'. It has: words"),
        ({"1": node("mgem: seed", text="")}, None, "has no input 'seed or noise_seed' for the slot 'seed'"),
        ({"1": node("mgem: prompt", text="")}, {"seed": "9.seed"}, "has no node '9', which the slot 'seed' names"),
        ({"1": node("mgem: prompt", text="")}, ["seed"], "are not a JSON object"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, nodes: Any, slots: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ComfyUIWorkflow.from_file(save(tmp_path, nodes, slots))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_mark_of_the_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    nodes = {"1": node("mgem: prompt", text="café")}
    path = tmp_path / "flow.json"
    path.write_bytes(json.dumps(nodes, ensure_ascii=False).encode(encoding))
    assert ComfyUIWorkflow.from_file(path).value("prompt") == "café"


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file or directory. Check the path"):
        ComfyUIWorkflow.from_file(tmp_path / "no.json")
    (tmp_path / "no.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON: .*Export it from ComfyUI again"):
        ComfyUIWorkflow.from_file(tmp_path / "no.json")
