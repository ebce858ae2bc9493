"""What holds for every test: no hub, fixed seeds, two threads, and a plain terminal of a known width.

That a test reaches this machine only is pytest-socket's doing, by the options of pytest in pyproject.toml.
"""

from __future__ import annotations

import importlib
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

# Read by huggingface_hub and transformers when they are imported, and by the processes that tests start.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
os.environ.update(COLUMNS="120", NO_COLOR="1", TERM="dumb")
for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", *(name for name in os.environ if name.startswith("MGEM_"))):
    os.environ.pop(name, None)
os.environ["MGEM_CONFIG"] = str(Path(__file__).with_name("no-config.toml"))  # not the developer's own

# A shell ignores Ctrl-C in what it runs in the background, and what a test starts inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(2)
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")

ROOT = Path(__file__).parents[1]
ROOMS = {
    "mgem_agent": ROOT / "mgem_agent",
    "mgem_agent.core_model": ROOT / "core_model",
    "mgem_agent.recipes": ROOT / "recipes",
    "mgem_agent.tools": ROOT / "tools",
}


def files_of(room: Path) -> Iterator[Path]:
    """Files of a real folder, without those behind a link and without what the interpreter leaves."""
    for folder, subfolders, names in os.walk(room):
        subfolders[:] = sorted(name for name in subfolders if name != "__pycache__")
        yield from (Path(folder, name) for name in sorted(names))


def find_sources() -> dict[str, Path]:
    """Map the dotted name of each module of the package to its file."""
    sources = {}
    for package, room in ROOMS.items():
        for path in files_of(room):
            if path.suffix == ".py":
                parts = path.relative_to(room).with_suffix("").parts
                sources[".".join((package, *parts)).removesuffix(".__init__")] = path
    return sources


SOURCES = find_sources()

HOSTS = {"mgem_agent.recipes.eval.lmms.model": "lmms_eval"}
"""Modules that only another program imports, in an environment of its own, with the package of that program."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `module_name` once for each module of the package."""
    if "module_name" in metafunc.fixturenames:
        metafunc.parametrize("module_name", sorted(SOURCES))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def rooms() -> dict[str, Path]:
    """The real folders of code, by the package that each becomes."""
    return ROOMS


@pytest.fixture(scope="session")
def room_files() -> dict[str, Path]:
    """Every file that should be installed, by its path in the wheel."""
    return {
        str(Path(*package.split("."), path.relative_to(room))): path
        for package, room in ROOMS.items()
        for path in files_of(room)
    }


@pytest.fixture(scope="session")
def sources() -> dict[str, Path]:
    """The file of each module of the package, by the module's name."""
    return SOURCES


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Start every test from the same random state."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def imported_module(module_name: str) -> ModuleType:
    """The module of a test that asks for `module_name`; skipped if it runs in a program that is not installed here."""
    if module_name in HOSTS:
        pytest.importorskip(HOSTS[module_name])
    return importlib.import_module(module_name)


@pytest.fixture(scope="session")
def host_packages() -> set[str]:
    """Packages of other environments: those that import our plug-ins, and VQAScore's; none is a dependency."""
    return {*HOSTS.values(), "t2v_metrics"}


@pytest.fixture
def no_packed_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep bitsandbytes from its 4-bit kernel for processors with bf16, which takes multiples of 32 rows alone.

    Tiny models have other sizes. Releases before 0.49 have no such kernel.
    """
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False, raising=False)
