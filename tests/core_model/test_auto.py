"""Importing `mgem_agent.core_model` is enough for the Auto classes, and imports neither torch nor transformers."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.core_model.checkpoints import official_config

BEFORE = """
import sys
import mgem_agent.core_model
assert not {"torch", "transformers"} & set(sys.modules)
"""
AFTER = """
import sys
from transformers import AutoConfig
import mgem_agent.core_model
"""
CONFIG = """
from transformers import AutoConfig
print(type(AutoConfig.from_pretrained(sys.argv[1])).__name__)
"""
PROCESSOR = """
from transformers import AutoProcessor
print(type(AutoProcessor.from_pretrained(sys.argv[1])).__name__)
"""
MODEL = """
from transformers import AutoModelForImageTextToText
print(type(AutoModelForImageTextToText.from_pretrained(sys.argv[1])).__name__)
"""
PARTS = """
import sys
import mgem_agent.core_model.mining, mgem_agent.core_model.dialogue.prefix_cache
"""


@pytest.fixture(scope="module")
def folder(
    make_model: Callable[..., MiniGeminiForConditionalGeneration],
    tokenizer: PreTrainedTokenizerFast,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    saved = tmp_path_factory.mktemp("model")
    model = make_model()
    model.save_pretrained(saved)
    MiniGeminiProcessor.from_model_config(model.config, tokenizer).save_pretrained(saved)
    return saved


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        (BEFORE + CONFIG, ["MiniGeminiConfig"]),
        (BEFORE + PROCESSOR + MODEL, ["MiniGeminiProcessor", "MiniGeminiForConditionalGeneration"]),
        (AFTER + MODEL, ["MiniGeminiForConditionalGeneration"]),
        (PARTS + MODEL + PROCESSOR, ["MiniGeminiForConditionalGeneration", "MiniGeminiProcessor"]),
    ],
)
def test_importing_the_package_makes_the_auto_classes_know_its_folders(
    folder: Path, code: str, printed: list[str]
) -> None:
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, printed), done.stderr


@pytest.mark.parametrize("name", ["official", "soundness", "loading"])
def test_a_module_of_checkpoints_may_be_imported_first(name: str) -> None:
    """transformers' Auto classes import our configuration while that module is being imported."""
    code = f"import mgem_agent.core_model.checkpoints.{name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_any_module_may_be_imported_first(sources: dict[str, Path]) -> None:
    failed = {}
    for name in sources:
        if name.startswith(("mgem_agent.core_model", "mgem_agent.nano", "mgem_agent.chat_models", "mgem_agent.tools")):
            done = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, text=True, check=False)
            if done.returncode:
                failed[name] = done.stderr.splitlines()[-1]
    assert failed == {}


def test_the_authors_own_model_types_are_known(tmp_path: Path) -> None:
    from transformers import AutoConfig

    (tmp_path / "config.json").write_text(json.dumps({**official_config("MGM-8x7B"), "model_type": "mgm_mixtral"}))
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is MiniGeminiConfig and config.text_config.model_type == "mixtral"
