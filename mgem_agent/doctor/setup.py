"""Checks of the configuration: writable folders, the hub, the model and the generator.

The checks create, download and load nothing, and only test whether a server answers.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import httpx

from mgem_agent.config_file import config_path
from mgem_agent.doctor.device_sharing import check_device_sharing
from mgem_agent.doctor.finding import Check, Finding, FindingStatus
from mgem_agent.errors import MgemError, MissingDependencyError
from mgem_agent.extras import is_installed, require_packages
from mgem_agent.settings import Settings, hidden
from mgem_agent.user_files import user_path

__all__ = [
    "setup_checks",
]

TIMEOUT_S = 4.0
ENOUGH_SPACE_BYTES = 2**30
MAX_DAMAGED = 20
NUM_CHECKED = 100
"""Pictures that are checked at an address, the newest; each takes three requests."""

ADDRESS = re.compile(r"https?://[^\s#]+", re.IGNORECASE)


def setup_checks(settings: Settings) -> list[Check]:
    """Return the checks of the configuration.

    Args:
        settings: The settings to check.
    """
    return [
        ("settings", check_settings_file),
        ("pictures", partial(check_store, settings)),
        ("sessions", partial(check_sessions, settings)),
        ("cache", check_cache),
        ("hub", partial(check_hub, settings)),
        ("nano", partial(check_nano, settings)),
        ("nano files", check_nano_files),
        ("model", partial(check_model, settings)),
        ("generator", partial(check_generator, settings)),
        ("sharing", partial(check_device_sharing, settings)),
    ]


def check_settings_file() -> Sequence[Finding]:
    """Check whether the user has a config file."""
    path = config_path()
    if path.is_file():
        return [Finding("settings", "ok", str(path))]
    return [Finding("settings", "ok", f"no config file; its path would be {path}")]


def check_store(settings: Settings) -> Sequence[Finding]:
    """Check whether pictures can be stored, and whether the stored ones are readable."""
    from mgem_agent.artifacts.store import ArtifactStore

    fix = "mgem config set store FOLDER"
    try:
        store = ArtifactStore(settings.store)
        store.check()
        damaged = store.damaged(NUM_CHECKED if store.is_remote else None)
    except MissingDependencyError as error:
        return [Finding("pictures", "problem", *_with_command(error))]
    except MgemError as error:  # of an address; a folder that cannot be read is empty
        return [Finding("pictures", "problem", str(error), fix)]
    findings = [
        Finding("pictures", "ok", store.place) if store.is_remote else _place("pictures", store.root, fix),
    ]
    for path, problem in sorted(damaged.items())[:MAX_DAMAGED]:
        text = f"{path.name} cannot be read and is skipped: {problem}"
        where = f"{store.place}/{path.relative_to(store.root)}"
        findings.append(
            Finding("pictures", "note", text, f"{'delete' if store.is_remote else 'rm'} {shlex.quote(where)}")
        )
    if len(damaged) > MAX_DAMAGED:
        findings.append(Finding("pictures", "note", f"{len(damaged) - MAX_DAMAGED} more files cannot be read"))
    return findings


def check_sessions(settings: Settings) -> Sequence[Finding]:
    """Check whether sessions can be saved, in a folder or in a database."""
    from mgem_agent.sessions.sessions import default_session_folder

    place = settings.sessions
    fix = "mgem config set sessions FOLDER"
    if place is None or "://" not in place:
        folder = default_session_folder() if place is None else user_path(place)
        return [_place("sessions", folder, fix)]
    if not is_installed("psycopg"):
        text = f"{hidden('sessions', place)} needs the extra postgres"
        return [Finding("sessions", "problem", text, "pip install 'mgem-agent[postgres]'")]
    import psycopg

    try:
        with psycopg.connect(place, connect_timeout=int(TIMEOUT_S)) as connection:
            version = connection.info.server_version // 10_000
    except psycopg.Error as error:  # the driver's message contains neither the address nor the password
        reason = " ".join(str(error).split())
        return [Finding("sessions", "problem", f"the PostgreSQL database cannot be used: {reason}", fix)]
    return [Finding("sessions", "ok", f"PostgreSQL {version}, {hidden('sessions', place)}")]


def check_cache() -> Sequence[Finding]:
    """Check whether the download folders are writable."""
    from mgem_agent.nano.language_model import nano_cache

    findings = [_place("cache", nano_cache(), "export MGEM_CACHE=FOLDER")]
    if is_installed("huggingface_hub"):
        from huggingface_hub.constants import HF_HUB_CACHE

        findings.append(_place("hub cache", Path(HF_HUB_CACHE), "export HF_HOME=FOLDER"))
    return findings


def check_hub(settings: Settings) -> Sequence[Finding]:
    """Check whether models can be downloaded. If not, this is only a note."""
    if _is_offline(settings):
        return [Finding("hub", "note", "not checked, because offline mode is on")]
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    problem = _no_answer(address)
    if problem is None:
        return [Finding("hub", "ok", f"{address} answers")]
    return [Finding("hub", "note", f"{address} cannot be reached ({problem}): only models on this machine can be used")]


def check_nano(settings: Settings) -> Sequence[Finding]:
    """Check which parts of the built-in models are on this machine."""
    from mgem_agent.nano.drawing import DIFFUSION_WEIGHTS
    from mgem_agent.nano.language_model import SMOLLM2, nano_cache
    from mgem_agent.nano.vision_language import has_vision_weights

    findings = []
    own, fetched = os.environ.get("MGEM_NANO_LLM"), nano_cache() / f"{SMOLLM2.name}-{SMOLLM2.sha256[:12]}"
    if own or fetched.is_dir():
        findings.append(Finding("nano", "ok", f"language model in {own or fetched}"))
    else:
        offline = _is_offline(settings)
        status: FindingStatus = "problem" if offline and settings.model == "nano" else "note"
        text = f"the language model ({SMOLLM2.num_bytes / 1e6:.0f} MB) is not downloaded yet"
        text += ", and offline mode is on" if offline else ""
        findings.append(Finding("nano", status, text, 'mgem ask "Hello" --model nano'))
    update = "pip install --upgrade mgem-agent"
    if has_vision_weights():
        findings.append(Finding("nano", "ok", "sees"))
    else:
        findings.append(Finding("nano", "note", "has no vision weights, so it answers text only", update))
    if (DIFFUSION_WEIGHTS / "model_index.json").is_file():
        findings.append(Finding("nano", "ok", "draws"))
    else:
        findings.append(Finding("nano", "note", "has no weights for drawing", update))
    return findings


def check_nano_files() -> Sequence[Finding]:
    """Hash nano's files, in the package and in the cache, and compare them with those that were installed or made."""
    from mgem_agent.nano.drawing import DIFFUSION_WEIGHTS
    from mgem_agent.nano.language_model import nano_cache
    from mgem_agent.nano.seals import damaged_files, explain_damage, sealed_folders
    from mgem_agent.nano.vision_language import VLM_WEIGHTS

    findings = []
    for weights in (VLM_WEIGHTS, DIFFUSION_WEIGHTS):
        if problem := explain_damage(weights, nano_cache(), reread=True):
            text, _, fix = problem.partition(" Run: ")
            findings.append(Finding("nano files", "problem", text, fix))
    for folder in sealed_folders(nano_cache()):
        for name in damaged_files(folder, reread=True) or ():
            text = f"{folder / name} is damaged: it has changed since it was made. nano makes a deleted folder anew."
            findings.append(Finding("nano files", "problem", text, f"rm -r {shlex.quote(str(folder))}"))
    return findings or [Finding("nano files", "ok", "undamaged, as far as their hashes are known")]


def check_model(settings: Settings) -> Sequence[Finding]:
    """Check the reasoner: its name, its folder or its server."""
    from mgem_agent.reasoners import make_reasoner

    name = settings.model
    fix = "mgem config set model NAME"
    try:
        made = make_reasoner(name, **settings.model_options)
    except MissingDependencyError as error:
        return [Finding("model", "problem", *_with_command(error))]
    except MgemError as error:
        return [Finding("model", "problem", str(error), fix)]
    found = ADDRESS.match(name)
    if found:
        return [_service("model", name, f"{found[0].rstrip('/')}/models", fix)]
    if name != "nano" and os.path.isdir(name):
        return [_checkpoint(name)]
    if name != "nano" and ":" not in name:
        return [_hub_model(settings)]
    return [Finding("model", "ok", f"{name}, a {type(made).__name__}")]


def check_generator(settings: Settings) -> Sequence[Finding]:
    """Check the image generator: its name, its options and its server."""
    from mgem_agent.tools.registry import make_generator

    name = settings.generator
    fix = "mgem config set generator NAME"
    try:
        made = make_generator(name, **settings.options_of(name))
        require_packages(f"The generator {name!r}", *getattr(made, "REQUIRES", ()))
        if name == "nano":  # reads a file next to its weights
            _ = made.capabilities
    except MissingDependencyError as error:
        return [Finding("generator", "problem", *_with_command(error))]
    except MgemError as error:
        return [Finding("generator", "problem", str(error), "mgem generators")]
    address = ADDRESS.search(name) or ADDRESS.match(str(settings.options_of(name).get("base_url", "")))
    if address:
        return [_service("generator", name, address[0], fix)]
    return [Finding("generator", "ok", f"{name}, a {type(made).__name__}")]


def _with_command(error: MissingDependencyError) -> tuple[str, str]:
    """Return a finding that names the command to install a feature."""
    text, _, command = str(error).partition(" Run: ")
    return text, command


def _checkpoint(folder: str) -> Finding:
    from mgem_agent.core_model.checkpoints.inspection import inspect_checkpoint

    report = inspect_checkpoint(folder)
    if report.is_complete:
        return Finding("model", "ok", f"{folder}, {report.num_parameters / 1e6:,.0f} million parameters")
    return Finding("model", "problem", f"{folder} is not a complete checkpoint", f"mgem models check {folder}")


def _hub_model(settings: Settings) -> Finding:
    from mgem_agent.core_model.checkpoints.cache import cached_folder

    name = settings.model
    cached = cached_folder(name)
    if cached is not None:
        return Finding("model", "ok", f"{name}, in {cached}")
    status: FindingStatus = "problem" if _is_offline(settings) else "note"
    return Finding("model", status, f"{name} is not on this machine yet", f"hf download {name}")


def _place(topic: str, folder: Path, fix: str) -> Finding:
    """Check whether a folder, or the parent it would be created in, is writable."""
    there = next((each for each in (folder, *folder.absolute().parents) if each.exists()), Path("/"))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding(topic, "problem", f"{folder} is not writable", fix)
    free = shutil.disk_usage(there).free
    text = f"{folder}, {free / 2**30:.1f} GiB free"
    return Finding(topic, "ok" if free >= ENOUGH_SPACE_BYTES else "note", text)


def _service(topic: str, name: str, address: str, fix: str) -> Finding:
    problem = _no_answer(address)
    if problem is None:
        return Finding(topic, "ok", f"{hidden(topic, name)} answers")
    return Finding(topic, "problem", f"{hidden(topic, name)} does not answer ({problem}). Start its server.", fix)


def _no_answer(address: str) -> str | None:
    """Return why a server does not answer, or None; any answer counts, even one that requires a key."""
    from mgem_agent.tools.servers.http_transport import bounded_client

    try:
        with bounded_client(timeout_s=TIMEOUT_S) as client, client.stream("GET", address) as answer:
            status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return str(error) or type(error).__name__
    return f"status {status}" if status >= 500 else None


def _is_offline(settings: Settings) -> bool:
    from mgem_agent.nano.language_model import is_offline

    return settings.offline or is_offline()
