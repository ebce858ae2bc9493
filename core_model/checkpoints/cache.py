"""Find a checkpoint: a folder, a hub id in the local hub cache, or, if requested, on the hub itself."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError

from mgem_agent.core_model.checkpoints.files import find_weight_files
from mgem_agent.errors import CheckpointError
from mgem_agent.user_files import user_path

__all__ = ["cached_folder", "fetch_folder", "find_folder"]

_HUB_ID = re.compile(r"[\w\-]+(\.[\w\-]+)*/[\w\-]+(\.[\w\-]+)*")
_WEIGHTS = ("*.safetensors", "*.bin")


def cached_folder(hub_id: str) -> Path | None:
    """Return the folder of a hub id in the local hub cache, if it holds the configuration and any weights.

    Args:
        hub_id: Such as ``YanweiLi/MGM-7B``.
    """
    if not _HUB_ID.fullmatch(hub_id):
        return None
    for name in ("config.json", "open_clip_config.json"):
        found = try_to_load_from_cache(hub_id, name)
        if isinstance(found, str) and any(file for pattern in _WEIGHTS for file in Path(found).parent.glob(pattern)):
            return Path(found).parent
    return None


def find_folder(path: str | Path) -> Path:
    """Return a folder, or the folder of a hub id in the local hub cache.

    Args:
        path: A folder or a hub id; an existing folder takes precedence.

    Raises:
        CheckpointError: If it is neither a folder nor in the cache.
    """
    folder = user_path(path)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointError(f"{str(path)!r} is a file. Give the folder that holds config.json and the weights.")
    cached = cached_folder(str(path))
    if cached is not None:
        return cached
    if _HUB_ID.fullmatch(str(path)):
        raise CheckpointError(
            f"{str(path)!r} is not a folder and is not in the local cache. Download it: hf download {path}"
        )
    raise CheckpointError(f"There is no folder {str(path)!r}. Give a folder or a hub id such as YanweiLi/MGM-7B.")


def fetch_folder(path: str | Path) -> Path:
    """Return a folder, or the folder of a hub id in the local hub cache; download missing files.

    An interrupted download resumes. With `HF_HUB_OFFLINE=1` nothing is downloaded.

    Args:
        path: A folder or a hub id; an existing folder takes precedence.

    Raises:
        CheckpointError: If it is neither a folder nor a hub id that can be downloaded.
    """
    hub_id = str(path)
    if user_path(path).exists() or not _HUB_ID.fullmatch(hub_id):
        return find_folder(path)
    cached = cached_folder(hub_id)
    if cached is not None and _has_every_shard(cached):
        return cached
    try:
        return Path(snapshot_download(hub_id, ignore_patterns=["*.md", "*.png", "*.jpg"]))
    except (OSError, HfHubHTTPError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{hub_id!r} is not a folder, is not complete in the local cache, and cannot be downloaded: {reason} "
            f"Check the name and the network, or download it elsewhere and give that folder."
        ) from error


def _has_every_shard(folder: Path) -> bool:
    try:
        return all(file.is_file() for file in find_weight_files(folder))
    except CheckpointError:
        return False
