"""An environment of its own for lmms-eval, which pins many packages."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mgem_agent import __version__
from mgem_agent.errors import InputError

__all__ = ["LMMS_EVAL", "REQUIREMENTS", "LmmsEval", "create_environment", "creation_commands", "find_lmms_eval"]

LMMS_EVAL = "0.7.3"
"""The release that the tasks were compared with."""

REQUIREMENTS = (f"lmms-eval=={LMMS_EVAL}", "Levenshtein", "filelock<4")
"""lmms-eval, a package that its task MathVista imports and it does not install, and a release of filelock with the
private module that lmms-eval changes; with a newer one, every run ends at once, and with status 0."""

_ROOT = Path(__file__).resolve().parents[3]
_ASK = """
import importlib.metadata, importlib.util, json
names = [point.name for point in importlib.metadata.entry_points(group="lmms_eval.models")]
found = importlib.util.find_spec("lmms_eval")
print(json.dumps({
    "version": importlib.metadata.version("lmms-eval") if found else None,
    "folder": found.submodule_search_locations[0] if found else None,
    "plug_in": "mgem" in names,
}))
"""


@dataclass(frozen=True)
class LmmsEval:
    """lmms-eval in an environment.

    Attributes:
        python: The environment's interpreter.
        version: Its release.
        tasks: Folder of its tasks.
    """

    python: Path
    version: str
    tasks: Path


def find_lmms_eval(environment: Path) -> LmmsEval:
    """Return lmms-eval of an environment.

    Args:
        environment: Folder of a virtual environment, or its interpreter.

    Raises:
        InputError: If there is none, or our plug-in is not installed there; the message has the commands.
    """
    python = environment if environment.is_file() else _python_of(environment)
    advice = "Create it with: mgem eval paper --create. Or run:\n" + "\n".join(
        shlex.join(command) for command in creation_commands(environment)
    )
    if not python.is_file():
        raise InputError(f"There is no environment for lmms-eval at {str(environment)!r}. {advice}")
    asked = subprocess.run([str(python), "-c", _ASK], capture_output=True, text=True, check=False)
    if asked.returncode:
        raise InputError(f"{str(python)!r} does not run: {asked.stderr.strip()[-300:]} {advice}")
    found = json.loads(asked.stdout)
    if found["version"] is None:
        raise InputError(f"lmms-eval is not installed in the environment of {str(python)!r}. {advice}")
    if not found["plug_in"]:
        raise InputError(f"mgem-agent is not installed in the environment of {str(python)!r}. {advice}")
    return LmmsEval(python, found["version"], Path(found["folder"]) / "tasks")


def creation_commands(environment: Path) -> list[list[str]]:
    """Return the commands that create an environment with lmms-eval and this package.

    Args:
        environment: Folder of the environment.
    """
    is_checkout = (_ROOT / "pyproject.toml").is_file()
    ours = ["-e", f"{_ROOT}[local]"] if is_checkout else [f"mgem-agent[local]=={__version__}"]
    pip = [str(_python_of(environment)), "-m", "pip", "install"]
    return [
        [sys.executable, "-m", "venv", str(environment)],
        [*pip, *REQUIREMENTS, *ours],
    ]


def create_environment(environment: Path) -> None:
    """Create an environment with lmms-eval and this package.

    Args:
        environment: Folder of the environment.

    Raises:
        InputError: If a command fails.
    """
    for command in creation_commands(environment):
        done = subprocess.run(command, check=False)
        if done.returncode:
            raise InputError(f"This command failed: {shlex.join(command)}. Its output says why.")


def _python_of(environment: Path) -> Path:
    names = ("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")
    return environment.joinpath(*names)
