"""Configurations: what ships is valid and says what the paper's runs used; what is wrong is named."""

from __future__ import annotations

import importlib.resources
import re
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.core_model.checkpoints.released import RELEASED_CHECKPOINTS
from mgem_agent.core_model.geometry import VisualGeometry
from mgem_agent.errors import InputError
from mgem_agent.recipes.train.config_file import (
    launch_file,
    launch_files,
    load_config,
    read_settings,
    shipped_configs,
)


@pytest.mark.parametrize("name", shipped_configs())
def test_what_ships_is_valid(name: str) -> None:
    config = load_config(name)
    assert config.run.output == f"runs/{name}"
    assert config.stage == ("align" if name.endswith("align") else "instruct")
    assert config.accumulation(1) * config.run.micro_batch == config.run.global_batch


@pytest.mark.parametrize("released", RELEASED_CHECKPOINTS, ids=lambda released: released.hub_id)
def test_every_released_model_has_both_stages(released: object) -> None:
    hub_id: str = released.hub_id  # type: ignore[attr-defined]
    size = hub_id.removeprefix("YanweiLi/MGM-").removesuffix("-HD").lower()
    is_hd = hub_id.endswith("-HD")
    align, instruct = load_config(f"mgm_{size}_align"), load_config(f"mgm_{size}{'_hd' if is_hd else ''}_instruct")
    assert (align.run.global_batch, instruct.run.global_batch) == (256, 128)
    assert align.optimizer.learning_rate == 1e-3
    assert instruct.optimizer.learning_rate == (1e-5 if size in ("8x7b", "34b") else 2e-5)
    assert instruct.data.max_length == (4096 if is_hd else 2048)
    assert (align.data.image_aspect_ratio, instruct.data.image_aspect_ratio) == ("square", "pad")
    assert instruct.model.start_from == align.run.output
    assert instruct.model.text == released.language_model  # type: ignore[attr-defined]
    assert instruct.model.prompt_template == released.prompt_template  # type: ignore[attr-defined]
    geometry = VisualGeometry(
        low_res_size=336,
        patch_size=14,
        high_res_size=instruct.model.high_res_image_size,
        image_grid=instruct.model.image_grid,
        image_global=instruct.model.image_global,
    )
    assert geometry.num_image_tokens == released.num_image_tokens  # type: ignore[attr-defined]
    for config in (align, instruct):
        assert (config.optimizer.warmup_ratio, config.optimizer.weight_decay) == (0.03, 0.0)
        assert (config.run.epochs, config.run.gradient_checkpointing) == (1, True)


def test_overrides_go_over_the_file() -> None:
    words = ["optimizer.learning_rate=1e-4", "train.mining=false", "data.sources.0.repeat=2", "model.attention=null"]
    config = load_config("nano_align", words)
    assert config.optimizer.learning_rate == 1e-4
    assert config.trained_modules == ("multi_modal_projector",)
    assert config.data.sources[0].repeat == 2
    assert config.model.attention is None
    assert load_config("nano_align", ["model.text=a=b"]).model.text == "a=b"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("run.max_step=3", "run.max_step=3: there is no such key. The nearest is 'run.max_steps'."),
        ("max_steps=3", "max_steps=3: there is no such key. The nearest is 'run.max_steps'."),
        (
            "data.sources.0.repat=2",
            "data.sources.0.repat=2: there is no such key. The nearest is 'data.sources.repeat'.",
        ),
        ("stage=warm", "stage='warm': Input should be 'align' or 'instruct'."),
        ("run.micro_batch=7", "run has a global_batch of 32 that is no multiple of its micro_batch, 7."),
        ("model.text=null", "model has neither a checkpoint nor all its parts; give model.text or model.checkpoint."),
        ("model.checkpoint=a", "model has both a checkpoint and parts; give one or the other."),
        ("train.llm=full", "the run is of the stage 'align' with train.llm='full'; align keeps it 'frozen'."),
        (
            "train={mining: false, projector: false}",
            "the run trains nothing; set train.mining, train.projector or train.llm.",
        ),
        ("data={}", "data.sources: this key is missing. Add it, or give data.sources=VALUE."),
    ],
)
def test_what_is_wrong_is_named(word: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        load_config("nano_align", [word])
    assert str(caught.value) == f"The configuration 'nano_align' is not valid:\n  {expected}"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("run", "An override is key=value, got 'run'. Example: run.max_steps=100"),
        ("run.max_steps=[", "The value of 'run.max_steps' is not YAML: '['."),
        ("stage.a.b=1", "'stage.a.b' goes into 'stage', which is 'align' and has no keys."),
        ("data.sources.1.repeat=2", "'data.sources.1.repeat' needs a position of 0 to 0 where it has '1'."),
    ],
)
def test_an_override_that_cannot_be_read_is_named(word: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        load_config("nano_align", [word])
    assert str(caught.value) == expected


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"^The configuration 'nano' cannot be read: .* one of: ablation_.*, mgm_13b_align, .*nano_instr",
    ):
        load_config("nano")
    for text, expected in (("[1]", r"must be a mapping of keys, got \[1\]"), ("a: [", r"is not YAML: ")):
        file = tmp_path / "x.yaml"
        file.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=expected):
            read_settings(file)


def test_accelerate_reads_the_shipped_launch_files() -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    folder = importlib.resources.files("mgem_agent.recipes.train") / "accelerate"
    for name in launch_files():
        found: Any = load_config_from_file(str(folder / f"{name}.yaml"))
        num_machines = 4 if name.endswith("_4_machines") else 1
        assert (found.num_machines, found.num_processes) == (num_machines, 8 * num_machines)
        assert found.mixed_precision == "bf16"
        assert launch_file(name).startswith("# ")
    with pytest.raises(InputError, match=r"There is no configuration of accelerate named 'zero4'. Give one of: ddp,"):
        launch_file("zero4")


@pytest.mark.parametrize("name", shipped_configs())
def test_a_launch_line_names_its_file_and_all_its_machines(name: str) -> None:
    text = (importlib.resources.files("mgem_agent.recipes.train") / "configs" / f"{name}.yaml").read_text("utf-8")
    launch = re.search(
        r"accelerate launch --config_file recipes/train/accelerate/(\w+).yaml(.*?)# Override", text, re.S
    )
    if launch is None:
        extended = re.search(r"^extends: (mgm_7b_\w+)$", text, re.M)
        assert name.startswith("nano") or (extended is not None and f"launch as in {extended[1]}." in text)
        return
    assert launch[1] in launch_files()
    machines, processes = (re.search(rf"--num_{key} (\d+)", launch[2]) for key in ("machines", "processes"))
    assert (machines is None) == (processes is None) == ("on 8 GPUs" in text)
    if machines is not None and processes is not None:
        assert int(processes[1]) == 8 * int(machines[1]) > 8
        assert "--machine_rank RANK --main_process_ip HOST" in launch[2]


def test_a_file_may_extend_another(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: nano_align\nrun: {output: a, max_steps: 3}\n", encoding="utf-8")
    (tmp_path / "next.yaml").write_text("extends: mine.yaml\nrun: {output: b}\ndata: {sources: [{path: x.jsonl}]}\n")
    before, after = load_config("nano_align"), load_config(tmp_path / "next.yaml")
    assert (after.run.output, after.run.max_steps) == ("b", 3)
    assert after.run.global_batch == before.run.global_batch
    assert [source.path for source in after.data.sources] == ["x.jsonl"]  # lists are replaced
    assert after.data.max_length == before.data.max_length


def test_a_circle_of_files_is_refused(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {other}.yaml\n")
    with pytest.raises(InputError, match="extends itself. Remove one `extends`"):
        load_config(tmp_path / "a.yaml")
    (tmp_path / "c.yaml").write_text("extends: none.yaml\n")
    with pytest.raises(InputError, match="'none.yaml' cannot be read"):
        load_config(tmp_path / "c.yaml")
    (tmp_path / "d.yaml").write_text("extends: [a, b]\n")
    with pytest.raises(InputError, match="is the name of one configuration"):
        load_config(tmp_path / "d.yaml")


def test_a_model_without_high_resolution_says_so() -> None:
    words = ["model.high_res_vision=null"]
    config = load_config("mgm_7b_instruct", words)
    assert config.trained_modules == ("multi_modal_projector", "language_model")
    settings = read_settings("mgm_7b_instruct")
    del settings["model"]["high_res_vision"]
    with pytest.raises(ValueError, match="nor all its parts; give model.high_res_vision"):
        type(config).model_validate(settings)
