"""Finding checkpoints on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from mgem_agent.core_model.checkpoints.cache import cached_folder, fetch_folder, find_folder
from mgem_agent.errors import CheckpointError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that keeps one checkpoint, YanweiLi/MGM-7B, without its weights."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--YanweiLi--MGM-7B"
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_hub_id_is_found_once_its_weights_are_there(snapshot: Path) -> None:
    assert cached_folder("YanweiLi/MGM-7B") is None
    (snapshot / "model-00001-of-00003.safetensors").touch()
    assert cached_folder("YanweiLi/MGM-7B") == find_folder("YanweiLi/MGM-7B") == snapshot
    assert cached_folder("YanweiLi/MGM-13B") is None
    assert cached_folder("not a hub id") is None


def test_what_cannot_be_found_is_told_with_the_command_that_fetches_it(snapshot: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        find_folder("YanweiLi/MGM-7B")
    assert str(caught.value) == (
        "'YanweiLi/MGM-7B' is not a folder and is not in the local cache. Download it: hf download YanweiLi/MGM-7B"
    )
    with pytest.raises(CheckpointError, match=r"^There is no folder '\./nowhere'\. Give a folder or a hub id such as"):
        find_folder("./nowhere")
    with pytest.raises(
        CheckpointError, match=r"is a file\. Give the folder that holds config\.json and the weights\.$"
    ):
        find_folder(snapshot / "config.json")
    assert find_folder(tmp_path) == tmp_path


def test_only_what_is_not_whole_in_the_cache_is_fetched(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_id = "YanweiLi/MGM-2B"
    fetched: list[str] = []
    monkeypatch.setattr(
        "mgem_agent.core_model.checkpoints.cache.snapshot_download",
        lambda name, **_: fetched.append(name) or str(tmp_path),
    )
    assert fetch_folder(tmp_path) == tmp_path
    monkeypatch.setattr("mgem_agent.core_model.checkpoints.cache.cached_folder", lambda _: snapshot)
    (snapshot / "model.safetensors").write_bytes(b"")
    assert (fetch_folder(hub_id), fetched) == (snapshot, [])
    (snapshot / "model.safetensors").unlink()
    assert (fetch_folder(hub_id), fetched) == (tmp_path, [hub_id])


def test_a_hub_that_cannot_be_reached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        CheckpointError, match=r"'YanweiLi/MGM-34B' is not a folder, .* cannot be downloaded: .*give that folder"
    ):
        fetch_folder("YanweiLi/MGM-34B")
    with pytest.raises(CheckpointError, match="There is no folder 'nowhere'"):
        fetch_folder("nowhere")
