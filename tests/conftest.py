"""What holds for every test: no hub, fixed seeds, one thread, and a plain terminal of a known width.

That a test reaches this machine only is pytest-socket's doing, by the options of pytest in pyproject.toml.
"""

from __future__ import annotations

import importlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

# Read by huggingface_hub and transformers when they are imported, and by the processes that tests start.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
os.environ.update(COLUMNS="120", NO_COLOR="1", TERM="dumb")
for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", *(name for name in os.environ if name.startswith("MGEM_"))):
    os.environ.pop(name, None)
os.environ["MGEM_CONFIG"] = str(Path(__file__).with_name("no-config.toml"))  # not the developer's own
os.environ["MGEM_USE_SERVER"] = "false"

# A shell ignores Ctrl-C in what it runs in the background, and what a test starts inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)  # threads wait longer for each other than so small models compute, above all on a busy machine
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

HOSTS = {"mgem_agent.recipes.eval.lmms.model": "lmms_eval", "mgem_agent.scale.vllm_model": "vllm"}
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


@pytest.fixture(autouse=True)
def own_arbiter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share the memory of devices only among the models that a test makes: those of earlier tests may still exist."""
    from mgem_agent.device_memory import arbiter

    monkeypatch.setattr(arbiter, "_shared", arbiter.DeviceArbiter())


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


def free_port() -> int:
    """Return a port of this machine that nothing listens on.

    It is below those that the system gives to other processes, which would take it in the meantime.
    """
    for port in random.Random().sample(range(20_000, 30_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("100 ports are taken")


@pytest.fixture
def unused_port() -> int:
    """A port of this machine that nothing listens on."""
    return free_port()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that speaks S3: that of moto."""
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    program = shutil.which("moto_server") or shutil.which("moto_server", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("there is no moto_server here")
    port, log = free_port(), tmp_path_factory.mktemp("moto") / "log"
    with (
        log.open("wb") as file,
        subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(port)], stdout=file, stderr=file) as server,
    ):
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < end, log.read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
        server.terminate()


@pytest.fixture(scope="session")
def s3_settings(s3_server: str) -> Iterator[dict[str, str]]:
    """Environment variables with which a program reaches the server."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # a file system keeps the server that it was made with
    yield {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def s3(s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The address of an empty bucket; this process and those that it starts reach it."""
    import s3fs

    for name, value in {**s3_settings, "MGEM_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{time.monotonic_ns()}"
    s3fs.S3FileSystem(use_listings_cache=False).mkdir(bucket)
    return f"s3://{bucket}"


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a PostgreSQL server, without the name of a database."""
    pytest.importorskip("langgraph.checkpoint.postgres", reason="the extra postgres is not installed")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # where Debian has the programs of a server
    folders = os.pathsep.join([os.environ.get("PATH", ""), *(str(folder) for folder in installed[-1:])])
    initdb, control = shutil.which("initdb", path=folders), shutil.which("pg_ctl", path=folders)
    if initdb is None or control is None:
        pytest.skip("there is no PostgreSQL server here: install Debian's package postgresql")
    home = Path(tempfile.mkdtemp(prefix="mgem-postgres-"))  # other users may enter it
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": home}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        quiet["user"] = "nobody"
        shutil.chown(home, "nobody")
    data, port = home / "data", free_port()
    subprocess.run([initdb, "-D", data, "-U", "mgem", "-A", "trust", "-E", "UTF8", "--no-sync"], **quiet)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    subprocess.run([control, "-D", data, "-w", "-o", options, "-l", data / "log", "start"], **quiet)
    yield f"postgresql://mgem@127.0.0.1:{port}"
    subprocess.run([control, "-D", data, "-m", "immediate", "stop"], **quiet)
    shutil.rmtree(home)


@pytest.fixture
def postgres(postgres_server: str) -> str:
    """The address of an empty database."""
    import psycopg

    name = f"test_{time.monotonic_ns()}"
    with psycopg.connect(f"{postgres_server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{postgres_server}/{name}"
