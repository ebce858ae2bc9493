"""What transformers and diffusers import only when it is used."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mgem_agent import deferred_imports as module
from mgem_agent.deferred_imports import deferred_imports
from mgem_agent.deferred_object import DeferredObject

LATE = "package_that_is_imported_late"
COMPILER = ("torch._dynamo", "torch._inductor")
UNUSED = (
    *COMPILER,
    "bitsandbytes",
    "onnxruntime",
    "peft",
    "scipy",
    "sklearn",
    "sympy",
    "torch.distributed.tensor",
    "torchao",
)


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An optional package, installed and not imported."""
    package = tmp_path / LATE
    (package / "part").mkdir(parents=True)
    (package / "__init__.py").write_text("from json import loads, dumps\n")
    (package / "part" / "__init__.py").write_text("value = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "_OPTIONAL", (LATE, "package_that_is_not_installed"))
    yield LATE
    for name in [name for name in sys.modules if name.startswith(LATE)]:
        del sys.modules[name]


def run_as(importer: str, code: str) -> dict[str, Any]:
    """Run the top level of a module."""
    namespace: dict[str, Any] = {"__name__": importer, "__package__": importer.rpartition(".")[0]}
    exec(code, namespace)
    return namespace


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        (f"from {LATE} import loads", "loads"),
        (f"from {LATE}.part import value as loads", "loads"),
        (f"import {LATE} as loads", "loads"),
        (f"import {LATE}.part as loads", "loads"),
    ],
)
def test_an_import_of_an_optional_package_waits(late: str, statement: str, name: str) -> None:
    with deferred_imports():
        found = run_as("diffusers.some_module", statement)[name]
    assert type(found) is DeferredObject
    assert late not in sys.modules


def test_what_waits_is_imported_at_its_first_use(late: str) -> None:
    with deferred_imports():
        namespace = run_as("transformers.some_module", f"from {late} import loads\nimport {late}.part as part")
    assert namespace["loads"]("[1]") == [1]
    assert namespace["part"].value == 3


def test_other_code_imports_as_usual(late: str) -> None:
    with deferred_imports():
        found = run_as("a_program", f"import {late}.part")[late]
    assert found is sys.modules[late]
    with deferred_imports():
        assert run_as("diffusers.some_module", f"import {late}")[late] is sys.modules[late]


def test_a_function_imports_as_usual(late: str) -> None:
    with deferred_imports():
        namespace = run_as("diffusers.some_module", f"def load():\n    import {late}\n    return {late}")
        assert namespace["load"]() is sys.modules[late]


def test_a_missing_package_is_missing_at_once(late: str) -> None:
    with deferred_imports(), pytest.raises(ModuleNotFoundError, match="package_that_is_not_installed"):
        run_as("diffusers.some_module", "import package_that_is_not_installed")


def test_another_thread_imports_as_usual(late: str) -> None:
    found: list[object] = []
    with deferred_imports():
        thread = threading.Thread(target=lambda: found.append(run_as("a_program", f"import {late}")[late]))
        thread.start()
        thread.join()
    assert found == [sys.modules[late]]


def test_the_import_function_is_restored_after_the_outermost_block() -> None:
    before = builtins.__import__
    with deferred_imports():
        with deferred_imports():
            pass
        assert builtins.__import__ is not before
    assert builtins.__import__ is before


def test_an_import_function_that_other_code_sets_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with deferred_imports():
        ours = builtins.__import__
        monkeypatch.setattr(builtins, "__import__", lambda *args, **kwargs: ours(*args, **kwargs))
        theirs = builtins.__import__
    assert builtins.__import__ is theirs
    assert run_as("a_program", "import json")["json"] is json


def test_a_distributed_run_imports_as_usual(late: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    with deferred_imports():
        assert run_as("diffusers.some_module", f"import {late}")[late] is sys.modules[late]


def test_a_disabled_function_imports_the_compiler_only_if_the_program_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COMPILER", LATE)
    calls: list[str] = []

    def disable(function: Any, recursive: bool = True) -> Any:
        calls.append(function.__name__)
        return lambda: f"disabled {function()}"

    def answer() -> str:
        return "answer"

    later = module._disabled_later(disable)  # pyright: ignore[reportPrivateUsage]
    disabled = later(answer), later(recursive=False)(answer)
    assert [each() for each in disabled] == ["answer", "answer"]
    assert not calls
    monkeypatch.setitem(sys.modules, LATE, sys)
    assert [each() for each in disabled] == ["disabled answer"] * 2


def test_the_compiler_is_deferred_in_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    monkeypatch.delitem(vars(torch), "_dynamo", raising=False)
    before = torch.compiler.disable
    for _ in range(2):
        with deferred_imports():
            assert not isinstance(torch.nn.Identity(), torch._dynamo.eval_frame.OptimizedModule)  # pyright: ignore[reportPrivateUsage]
            assert torch.compiler.disable is not before
        assert "_dynamo" not in vars(torch)
        assert torch.compiler.disable is before
    assert "torch._dynamo" not in sys.modules


def loaded_after(code: str, folder: Path, *arguments: str) -> tuple[list[str], str]:
    """Run code in a new interpreter; return which of `UNUSED` it imported, and what else it printed."""
    report = f"\nimport json\nprint(json.dumps([name for name in {UNUSED!r} if name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}{report}", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        check=False,
    )
    assert not done.returncode, done.stderr
    *printed, last = done.stdout.splitlines()
    return json.loads(last), "\n".join(printed)


RUN_COMMAND = """
from mgem_agent.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def test_a_drawing_imports_no_optional_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGEM_STORE", str(tmp_path / "store"))
    loaded, _ = loaded_after(RUN_COMMAND, tmp_path, "draw", "a red fox", "-g", "nano", "-o", "fox.png")
    assert loaded == []
    assert (tmp_path / "fox.png").is_file()


@pytest.mark.slow
def test_a_look_imports_no_optional_package(tmp_path: Path, root: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    loaded, answer = loaded_after(RUN_COMMAND, tmp_path, "see", "red.png", "Which colour?", "--model", "nano")
    assert loaded == []
    assert answer.strip()


@pytest.mark.slow
def test_a_program_uses_peft_and_the_compiler_after_a_drawing(tmp_path: Path) -> None:
    code = """
from mgem_agent.nano.drawing import NanoGenerator
from mgem_agent.tools import ImageRequest
generator = NanoGenerator()
assert list(generator.generate([ImageRequest(prompt="a red fox")]))[-1].error is None
assert not {"peft", "torch._dynamo"} & sys.modules.keys()

import diffusers, torch
from peft import LoraConfig
denoiser = diffusers.UNet2DConditionModel(
    block_out_channels=(8, 8), layers_per_block=1, cross_attention_dim=8, norm_num_groups=4, attention_head_dim=4,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
)
denoiser.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
from peft.tuners.lora import LoraLayer
assert any(isinstance(part, LoraLayer) for part in denoiser.modules())
assert diffusers.utils.USE_PEFT_BACKEND
assert list(generator.generate([ImageRequest(prompt="a red fox", seed=1)]))[-1].error is None

from diffusers.models.attention import BasicTransformerBlock
assert torch._dynamo.trace_rules.is_callable_allowed(BasicTransformerBlock)
assert torch._dynamo.trace_rules.lookup_callable(BasicTransformerBlock) is not None
import torchvision.models
assert torchvision.models.resnet18 is not None
"""
    loaded_after(code, tmp_path)
