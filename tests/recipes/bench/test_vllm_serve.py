"""The comparison with vLLM, with a stand-in server that runs this package's own model."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.errors import InputError, ToolError
from mgem_agent.recipes.bench.vllm_serve import bench_vllm, make_prompts

TOKENS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    symbols = ["<unk>", "<s>", "</s>", "<pad>", "\n", *map(chr, range(32, 127))]
    text = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    config = MiniGeminiConfig(
        text_config={**text, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": len(symbols)},
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 28, "patch_size": 14,
        },
        high_res_vision_config={"hidden_sizes": [4, 8, 12, 16], "depths": [1, 1, 1, 1]},
        high_res_image_size=64, image_token_id=len(symbols), prompt_template="vicuna_v1",
    )  # fmt: skip
    tokenizer = Tokenizer(models.BPE({symbol: index for index, symbol in enumerate(symbols)}, [], unk_token="<unk>"))
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    saved = tmp_path_factory.mktemp("models") / "tiny"
    MiniGeminiForConditionalGeneration(config).save_pretrained(saved)
    MiniGeminiProcessor.from_model_config(config, fast).save_pretrained(saved)
    return saved


class Server(ThreadingHTTPServer):
    """Answers with the model's greedy tokens; every `wrong` answer has another second token."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model = MiniGeminiForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = MiniGeminiProcessor.from_pretrained(folder)
        self.lock = threading.Lock()
        self.wrong: set[int] = set()
        self.asked: list[dict[str, Any]] = []

    def answer(self, asked: dict[str, Any]) -> tuple[list[int], list[int]]:
        with self.lock:
            inputs = self.processor.apply_chat_template(
                asked["messages"], add_generation_prompt=True, tokenize=True, return_dict=True
            )
            made = self.model.generate(
                **inputs, do_sample=False, max_new_tokens=asked["max_tokens"], eos_token_id=2, pad_token_id=2
            )
            read = inputs["input_ids"][0].tolist()
            tokens = made[0, len(read) :].tolist()
            if len(self.asked) in self.wrong:
                tokens[1] = (tokens[1] + 1) % 90
            self.asked.append(asked)
            return read, tokens


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = 200 if asked["model"] == "tiny" else 404
        read, tokens = self.server.answer(asked) if status == 200 else ([], [])
        body = json.dumps({"prompt_token_ids": read, "choices": [{"token_ids": tokens}]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with Server(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_equal_answers_are_counted_and_the_others_have_a_margin(server: Server, folder: Path) -> None:
    server.wrong = {1, 4}
    address = f"http://127.0.0.1:{server.server_port}/v1"
    found = bench_vllm(address, folder, prompts=3, tokens=TOKENS, clients=(1, 2))
    pictures, words = found.same
    assert (pictures.num_prompts, pictures.num_same, pictures.num_same_prompts) == (3, 2, 3)
    assert (words.num_same, words.num_same_prompts) == (2, 3)
    assert len(pictures.margins) == 1 and pictures.margins[0] > 0
    assert [load.num_clients for load in found.ours_loads] == [1, 2] == [load.num_clients for load in found.vllm_loads]
    assert found.vllm_ratios[0] == found.vllm_loads[0].requests_per_s / found.ours_loads[0].requests_per_s
    assert len(server.asked) == 6 + 2 + 2 * 4 * 2
    assert server.asked[0]["temperature"] == 0
    assert [table.row_count for table in found.tables()] == [2, 2]


def test_some_prompts_have_several_pictures() -> None:
    shown, words = make_prompts(20)
    assert sorted({len(prompt.pictures) for prompt in shown}) == [1, 2, 3]
    assert len(shown) == len(words) == len({prompt.text for prompt in words}) == 20


def test_failures_are_errors(server: Server, folder: Path) -> None:
    other = folder.parent / "other"
    other.symlink_to(folder)
    with pytest.raises(ToolError, match="answered with status 404"):
        bench_vllm(f"http://127.0.0.1:{server.server_port}/v1", other, prompts=1, tokens=1)
    with pytest.raises(InputError, match="prompts"):
        bench_vllm("http://127.0.0.1:9/v1", folder, prompts=0)
