"""The table of released checkpoints."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mgem_agent.core_model.checkpoints.released import RELEASED_CHECKPOINTS, find_released, official_config
from mgem_agent.errors import CheckpointError


def test_there_are_eleven() -> None:
    assert [released.hub_id for released in RELEASED_CHECKPOINTS] == [
        "YanweiLi/MGM-2B",
        "YanweiLi/MGM-7B",
        "YanweiLi/MGM-13B",
        "YanweiLi/MGM-8B",
        "YanweiLi/MGM-8x7B",
        "YanweiLi/MGM-34B",
        "YanweiLi/MGM-7B-HD",
        "YanweiLi/MGM-13B-HD",
        "YanweiLi/MGM-8B-HD",
        "YanweiLi/MGM-8x7B-HD",
        "YanweiLi/MGM-34B-HD",
    ]


@pytest.mark.parametrize("name", ["MGM-8x7B-HD", "YanweiLi/MGM-8x7B-HD", "mgm-8X7b-hd"])
def test_a_checkpoint_is_found_by_any_of_its_names(name: str) -> None:
    assert find_released(name).hub_id == "YanweiLi/MGM-8x7B-HD"


def test_a_name_that_was_never_released_is_answered_with_those_that_were() -> None:
    with pytest.raises(
        CheckpointError, match=r"^No released checkpoint 'MGM-2B-HD'\. Released: MGM-2B, MGM-7B, .*list$"
    ):
        find_released("MGM-2B-HD")


def test_a_reconstructed_config_says_that_it_is_one() -> None:
    config = official_config("MGM-34B-HD")
    assert config["_reconstructed"] is True
    assert "model_type" not in config
    assert (config["hidden_size"], config["num_hidden_layers"], config["vocab_size"]) == (7168, 60, 64000)
    assert (config["image_grid"], config["image_global"], config["image_size_aux"]) == (2, True, 1536)
    assert official_config("MGM-8B")["model_type"] == "mgm"


def test_the_table_is_read_without_torch() -> None:
    code = (
        "import sys, mgem_agent.core_model.checkpoints.released;"
        "print(sorted({'torch', 'transformers', 'huggingface_hub'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"
