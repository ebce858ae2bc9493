"""Headers of weight files, and files that are broken."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mgem_agent.core_model.checkpoints.files import find_weight_files, open_tensors, read_headers, read_json
from mgem_agent.errors import CheckpointError

TENSORS = {"a": torch.arange(6.0).reshape(2, 3).bfloat16(), "b.c": torch.ones(4, dtype=torch.int64)}


@pytest.mark.parametrize("form", ["safetensors", "bin", "old bin", "bin under a key"])
def test_headers_say_what_the_tensors_are(form: str, tmp_path: Path) -> None:
    file = tmp_path / ("model.safetensors" if form == "safetensors" else "pytorch_model.bin")
    if form == "safetensors":
        save_file(TENSORS, file)
    else:
        content = {"model": TENSORS} if form == "bin under a key" else TENSORS
        torch.save(content, file, _use_new_zipfile_serialization=form != "old bin")
    headers = read_headers(file)
    assert {key: (header.shape, header.dtype) for key, header in headers.items()} == {
        "a": ((2, 3), torch.bfloat16),
        "b.c": ((4,), torch.int64),
    }
    assert (headers["a"].num_bytes, headers["b.c"].num_elements, headers["a"].file) == (12, 4, file)
    with open_tensors(file) as tensors:
        assert torch.equal(tensors.get_tensor("a"), TENSORS["a"])


def test_which_files_are_taken(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"none of model\.safetensors, model\.safetensors\.index\.json, pytorch_mod"
    ):
        find_weight_files(tmp_path)
    for name in ("pytorch_model.bin", "model.fp16.safetensors"):
        (tmp_path / name).touch()
    assert find_weight_files(tmp_path) == [tmp_path / "pytorch_model.bin"]
    assert find_weight_files(tmp_path, variant="fp16") == [tmp_path / "model.fp16.safetensors"]
    (tmp_path / "model.safetensors.index.bf16.json").write_text('{"weight_map": {"a": "1.safetensors"}}')
    assert find_weight_files(tmp_path, variant="bf16") == [tmp_path / "1.safetensors"]
    with pytest.raises(CheckpointError, match=r"none of model\.safetensors, model\.safetensors\.index\.json\.$"):
        find_weight_files(tmp_path, use_safetensors=True)
    (tmp_path / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "2.safetensors", "b": "1.safetensors"}}'
    )
    assert find_weight_files(tmp_path) == [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    assert find_weight_files(tmp_path, use_safetensors=False) == [tmp_path / "pytorch_model.bin"]
    (tmp_path / "model.safetensors").touch()
    assert find_weight_files(tmp_path) == [tmp_path / "model.safetensors"]


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "sub/1.safetensors"])
def test_an_index_that_points_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="which is not a file in the same folder. Do not use this folder"):
        find_weight_files(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": []}', "{}"])
def test_a_broken_index_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match="Download it again"):
        find_weight_files(tmp_path)
    with pytest.raises(CheckpointError, match=r"^There is no 'config\.json' in "):
        read_json(tmp_path / "config.json")


@pytest.mark.parametrize("kept", [0, 4, 30, -1])
def test_a_half_written_safetensors_file_is_told(kept: int, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file(TENSORS, file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="is empty|is damaged or incomplete"):
        read_headers(file)


def test_a_file_that_is_longer_than_its_header_says_is_told(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file(TENSORS, file)
    with file.open("ab") as end:
        end.write(b"more")
    with pytest.raises(CheckpointError, match="is damaged or incomplete"):
        read_headers(file)
    file.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(CheckpointError, match="is damaged or incomplete"):
        read_headers(file)


@pytest.mark.parametrize("kept", [0, 20, -100])
def test_a_half_written_bin_file_is_told(kept: int, tmp_path: Path) -> None:
    file = tmp_path / "pytorch_model.bin"
    torch.save(TENSORS, file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="is empty|is damaged or incomplete"):
        read_headers(file)


def test_a_bin_file_without_tensors_is_told(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="is not a dictionary of tensors"):
        read_headers(tmp_path / "pytorch_model.bin")


def test_a_callers_own_failure_is_not_taken_for_a_broken_file(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    with pytest.raises(OSError, match="no room"), open_tensors(tmp_path / "model.safetensors"):
        raise OSError("no room")
