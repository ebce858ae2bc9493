"""The plug-in of vLLM, without vLLM; `python -m mgem_agent.recipes.bench.vllm_serve` runs the real one."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mgem_agent.errors import CheckpointError
from mgem_agent.scale.vllm_plugin import ARCHITECTURE, register, require_mark

PROCESSOR: Any = SimpleNamespace(image_token="<image>", image_token_id=7)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is registered with vLLM."""
    models: dict[str, str] = {}
    vllm: Any = ModuleType("vllm")
    vllm.ModelRegistry = SimpleNamespace(get_supported_archs=models.keys, register_model=models.__setitem__)
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    return models


def test_vllm_finds_the_plug_in_and_the_plug_in_its_model(registered: dict[str, str], root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    group = "vllm.general_plugins"
    entry = importlib.metadata.EntryPoint("mgem", project["entry-points"][group]["mgem"], group)
    assert entry.load() is register
    register()
    register()  # vLLM may call it twice in a process
    module, _, name = registered[ARCHITECTURE].partition(":")
    found = importlib.util.find_spec(module)
    assert found is not None and found.origin is not None
    with open(found.origin, encoding="utf-8") as file:
        assert f"class {name}(" in file.read()


def test_the_plug_in_is_imported_quickly() -> None:
    code = "import sys, mgem_agent.scale.vllm_plugin; print({'torch', 'transformers', 'vllm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_folder_whose_tokenizer_does_not_know_the_mark_is_refused() -> None:
    require_mark(SimpleNamespace(convert_tokens_to_ids={"<image>": 7}.get), PROCESSOR, "ours")
    for tokenizer in ({}, {"<image>": 3}):
        with pytest.raises(CheckpointError, match=r"^The tokenizer of 'theirs' .* mgem models convert theirs NEW_FOLD"):
            require_mark(SimpleNamespace(convert_tokens_to_ids=tokenizer.get), PROCESSOR, "theirs")
