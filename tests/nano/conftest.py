"""A tiny language model as a real GGUF file in a wheel, and a cache of a test's own."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest

from mgem_agent.nano.language_model import PackagedModel

LETTERS = [*"abcdefghijklmnopqrstuvwxyz.,:!?'0123456789", "Ġ", "Ċ", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ<>/|_-"]
PIECES = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *LETTERS, "Ġa", "he"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of this test; nothing may be fetched but from this machine."""
    monkeypatch.setenv("MGEM_CACHE", str(tmp_path / "cache"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "MGEM_OFFLINE", "MGEM_NANO_LLM", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "nano"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel with a LLaMA of two layers."""
    folder = tmp_path_factory.mktemp("wheel")
    file = folder / "tiny.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    width, inner, heads = 32, 64, 4
    writer.add_block_count(2)
    writer.add_context_length(1024)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(width // heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(PIECES))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(PIECES)
    writer.add_token_types([3] * 3 + [1] * (len(PIECES) - 3))
    writer.add_token_merges(["Ġ a", "h e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    random = np.random.default_rng(0)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.normal(0, 0.1, shape).astype(np.float32))

    add("token_embd.weight", len(PIECES), width)
    add("output_norm.weight", width)
    for layer in range(2):
        for name, shape in {
            "attn_norm": (width,), "ffn_norm": (width,), "attn_q": (width, width), "attn_k": (width // 2, width),
            "attn_v": (width // 2, width), "attn_output": (width, width), "ffn_gate": (inner, width),
            "ffn_up": (inner, width), "ffn_down": (width, inner),
        }.items():  # fmt: skip
            add(f"blk.{layer}.{name}.weight", *shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(file, "tiny/tiny.gguf")
    return path


@pytest.fixture
def package(wheel: Path) -> PackagedModel:
    """The wheel, at an address where nobody answers."""
    return PackagedModel(
        name="tiny",
        project="tiny",
        url=f"http://127.0.0.1:9/files/{wheel.name}",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        num_bytes=wheel.stat().st_size,
        num_bytes_needed=1000,
    )
