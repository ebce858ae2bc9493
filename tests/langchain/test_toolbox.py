"""Which tools there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mgem_agent import image_tools
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.errors import InputError, MissingDependencyError
from mgem_agent.langchain import toolbox
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner


def names(tmp_path: Path, **options: Any) -> list[str]:
    return [tool.name for tool in image_tools(FlatColourGenerator(), ArtifactStore(tmp_path), **options)]


@pytest.mark.parametrize("is_installed", [False, True])
def test_text_is_read_where_the_library_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_installed: bool
) -> None:
    monkeypatch.setattr(toolbox, "can_read_text", lambda: is_installed)
    drawing = ["generate_image", "edit_image"]
    assert names(tmp_path) == drawing + ["read_text"] * is_installed
    assert names(tmp_path, read_text=False) == drawing
    if is_installed:
        assert names(tmp_path, read_text=True) == [*drawing, "read_text"]
    else:
        with pytest.raises(MissingDependencyError, match=r"Run: pip install 'mgem-agent\[ocr\]'$"):
            names(tmp_path, read_text=True)


def test_a_reasoner_that_sees_brings_the_judge(tmp_path: Path) -> None:
    assert "look_at_image" in names(tmp_path, reasoner=ScriptedReasoner(script=[]))
    with pytest.raises(InputError) as refusal:
        names(tmp_path, reasoner=ScriptedReasoner(script=[], profile={"image_inputs": False}))
    assert str(refusal.value) == (
        "Judging pictures needs a reasoner that takes pictures, and 'ScriptedReasoner' takes none. "
        "Give another reasoner, such as ChatMiniGemini."
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"fallbacks": ["magic"]},
            r"fallbacks is \['magic'\]\. Allowed: a list of 'edit', 'inpaint', 'image_to_image', 'redraw'\.",
        ),
        ({"fallbacks": "inpaint"}, r"fallbacks is 'inpaint'\. Allowed: a list of"),
        (
            {"picture_blocks": "png"},
            r"picture_blocks is 'png'\. Allowed: 'none', 'file_id', 'base64', 'mcp'\. Give one of them\.",
        ),
        ({"allow_paths": "nowhere"}, r"allow_paths names 'nowhere', which is not a folder"),
    ],
)
def test_wrong_options_are_the_developers_errors(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        names(tmp_path, **options)


def called(tool: Any, **arguments: Any) -> Any:
    return tool.invoke({"type": "tool_call", "id": "1", "name": tool.name, "args": arguments})


def test_a_budget_is_shared_by_the_tools_that_draw(tmp_path: Path) -> None:
    generator, store = FlatColourGenerator(size=(16, 16), num_steps=1), ArtifactStore(tmp_path)
    drawing, editing, *_ = image_tools(generator, store, fallbacks=["redraw"], read_text=False, budget="2pictures")
    first = called(drawing, prompt="a fox")
    assert called(editing, image=first.artifact["images"][0]["id"], instruction="a hen").status == "success"
    refused = called(drawing, prompt="an owl")
    assert refused.status == "error" and "The budget of this session is 2 pictures" in refused.content
    assert len(generator.drawn) == 2


def test_a_call_whose_price_passes_the_budget_is_refused(tmp_path: Path) -> None:
    generator, prices = FlatColourGenerator(size=(16, 16)), {"flat": {"picture": 0.04}}
    drawing, *_ = image_tools(generator, ArtifactStore(tmp_path), budget="0.05usd", prices=prices)
    assert [called(drawing, prompt="a fox", seed=seed).status for seed in (1, 2)] == ["success", "error"]
    assert len(generator.drawn) == 1
    with pytest.raises(InputError, match="not an amount with a unit"):
        image_tools(generator, budget="5 apples")
    with pytest.raises(InputError, match="is for a book, and these tools make none"):
        image_tools(generator, budget="5pictures/book")
