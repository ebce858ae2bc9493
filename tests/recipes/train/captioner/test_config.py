from __future__ import annotations

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.train.captioner.config import load_captioner_config
from mgem_agent.recipes.train.config_file import shipped_configs


@pytest.mark.parametrize("name", shipped_configs("mgem_agent.recipes.train.captioner"))
def test_shipped_configurations_are_valid(name: str) -> None:
    config = load_captioner_config(name, ["sampling.captions=5", "judge=openai:other"])
    assert config.sampling.captions == 5 and config.judge == "openai:other"


def test_errors_name_the_key() -> None:
    with pytest.raises(InputError, match=r"optimizer.bet=1: there is no such key. The nearest is 'optimizer.beta'"):
        load_captioner_config("nano", ["optimizer.bet=1"])
    with pytest.raises(InputError, match="optimizer has a batch of 4 that is no multiple of its micro_batch, 3"):
        load_captioner_config("nano", ["optimizer.micro_batch=3"])
    with pytest.raises(InputError, match="Give a YAML file, or one of: mgm_7b, nano"):
        load_captioner_config("mgm_2b")


def test_settings_of_the_figure_may_change_when_a_training_resumes() -> None:
    first = load_captioner_config("nano").result_settings()
    assert load_captioner_config("nano", ["judge=a", "understanding=3", "output=b"]).result_settings() == first
    assert load_captioner_config("nano", ["margin=0.5"]).result_settings() != first
