"""`mgem see`: what it says, to whom, and what it finds out before it loads anything."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from mgem_agent.cli.app import app
from mgem_agent.core_model import Conversation, MiniGeminiConfig, MiniGeminiForConditionalGeneration
from mgem_agent.core_model.processing import MiniGeminiProcessor

QUESTION = "What is it?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights that emits printable characters, and its processor."""
    torch.manual_seed(0)
    symbols = ["<unk>", "<s>", "</s>", "<pad>", "\n", *map(chr, range(32, 127))]
    tokenizer = Tokenizer(
        models.BPE(vocab={symbol: index for index, symbol in enumerate(symbols)}, merges=[], unk_token="<unk>")
    )
    tokenizer.decoder = decoders.Fuse()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = MiniGeminiConfig(
        text_config={
            **sizes,
            "model_type": "llama",
            "num_hidden_layers": 2,
            "vocab_size": 100,
            "max_position_embeddings": 8192,
            "initializer_range": 0.3,
        },
        vision_config={**sizes, "num_hidden_layers": 2, "image_size": 28, "patch_size": 7},
        high_res_vision_config={"hidden_sizes": [4, 8, 12, 16], "depths": [1, 1, 1, 1]},
        high_res_image_size=64,
        image_token_id=100,
    )
    model = MiniGeminiForConditionalGeneration(config)
    model.generation_config.suppress_tokens = [0, 1, 2, 3, 4, 5]
    path = tmp_path_factory.mktemp("model")
    model.save_pretrained(path)
    own = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    MiniGeminiProcessor.from_model_config(config, own).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{colour}.png" for colour in ("red", "green")]
    for path in paths:
        Image.new("RGB", (30, 20), path.stem).save(path)
    return [str(path) for path in paths]


def see(*words: str, **environment: str) -> Any:
    return CliRunner().invoke(app, ["see", *words], env={"MGEM_MODEL": None, **environment})


def answer_of(folder: Path, images: list[str], **options: Any) -> str:
    model = MiniGeminiForConditionalGeneration.from_pretrained(str(folder), dtype=torch.float32)
    return Conversation(model, MiniGeminiProcessor.from_pretrained(folder)).say(QUESTION, images, **options)


@pytest.fixture
def nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgem_agent.cli.see._load", lambda *arguments: pytest.fail("weights were loaded"))


def test_it_answers(folder: Path, pictures: list[str]) -> None:
    options = ("--max-new-tokens", "9", "--dtype", "float32")
    one = see(pictures[0], QUESTION, "--model", str(folder), *options)
    two = see(*pictures, QUESTION, *options, MGEM_MODEL=str(folder))
    assert (one.exit_code, two.exit_code) == (0, 0)
    assert one.stdout == answer_of(folder, pictures[:1], max_new_tokens=9) + "\n"
    assert two.stdout == answer_of(folder, pictures, max_new_tokens=9) + "\n"
    assert one.stderr == "The answer reached its token limit and was cut off.\n"


def test_white_lettering_is_shown_on_black_with_a_notice(folder: Path, tmp_path: Path) -> None:
    lettering = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
    lettering.paste((255, 255, 255, 255), (5, 5, 20, 15))
    lettering.save(tmp_path / "white.png")
    result = see(
        str(tmp_path / "white.png"), QUESTION, "-m", str(folder), "--max-new-tokens", "2", "--dtype", "float32"
    )
    assert f"{tmp_path / 'white.png'}: The picture is white on a transparent background. It is shown on black" in (
        result.stderr.replace("\n", " ")
    )


def test_as_json(folder: Path, pictures: list[str]) -> None:
    result = see(*pictures, QUESTION, "-m", str(folder), "--max-new-tokens", "9", "--dtype", "float32", "--json")
    shown = json.loads(result.stdout)
    seconds = shown.pop("seconds")
    assert set(seconds) == {"loading", "answering"} and all(0 < value < 60 for value in seconds.values())
    usage = shown.pop("usage")
    assert {**usage, "input_tokens": 0} == {
        "input_tokens": 0,
        "image_tokens": 32,
        "cached_tokens": 0,
        "output_tokens": 9,
    }
    assert shown == {
        "answer": answer_of(folder, pictures, max_new_tokens=9),
        "complete": False,
        "finish_reason": "length",
        "notices": ["The answer reached its token limit and was cut off."],
        "question": QUESTION,
        "images": pictures,
        "model": str(folder),
    }


def test_the_settled_model_answers(
    folder: Path, pictures: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'model = "{folder}"')
    options = ("--max-new-tokens", "9", "--dtype", "float32")
    expected = answer_of(folder, pictures[:1], max_new_tokens=9) + "\n"
    assert see(pictures[0], QUESTION, *options, MGEM_CONFIG=str(config)).stdout == expected
    monkeypatch.setattr("mgem_agent.nano.vision_language.find_nano", lambda **where: folder)
    assert see(pictures[0], QUESTION, *options).stdout == expected, "without any setting it is nano"


def test_a_free_answer_with_a_seed(folder: Path, pictures: list[str]) -> None:
    def say(seed: str) -> str:
        command = (pictures[0], QUESTION, "-m", str(folder), "--max-new-tokens", "9", "--temperature", "2")
        return str(see(*command, "--seed", seed).stdout)

    assert say("1") == say("1") != say("2")


@pytest.mark.usefixtures("no_packed_kernel")
@pytest.mark.parametrize("quantize", ["8bit", "4bit"])
def test_in_fewer_bits(folder: Path, pictures: list[str], quantize: str) -> None:
    result = see(pictures[0], QUESTION, "-m", str(folder), "--max-new-tokens", "5", "--quantize", quantize)
    assert (result.exit_code, len(result.stdout)) == (0, 6)


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([QUESTION], "Give the pictures first, then the question; got only 'What is it?'."),
        (["red.png", "green.png"], "The question is missing: the last word, 'green.png', is a file."),
        (["red.png", "blue.png", QUESTION], "There is no file 'blue.png'"),
        (["notes.txt", QUESTION], "'notes.txt'"),
        (
            ["red.png", QUESTION, "-m", "openai:gpt-5"],
            "mgem see runs only Mini-Gemini models, and 'openai:gpt-5' is ano",
        ),
        (["red.png", QUESTION, "-m", "nowhere"], "There is no folder 'nowhere'."),
        (
            ["red.png", QUESTION, "-m", "YanweiLi/MGM-7B"],
            "'YanweiLi/MGM-7B' is not a folder, is not complete in the local cache, and cannot be downloaded",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_loaded(
    pictures: list[str], monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    folder = Path(pictures[0]).parent
    (folder / "notes.txt").write_text("no picture")
    monkeypatch.chdir(folder)
    result = see(*words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(folder: Path, pictures: list[str]) -> None:
    result = see(pictures[0], QUESTION, "-m", str(folder), "--device", "cuda")
    assert result.exit_code == 1
    assert "torch finds no CUDA device. Leave out --device, or give --device cpu." in result.stderr


def test_a_context_that_overflows(folder: Path, pictures: list[str]) -> None:
    result = see(pictures[0], QUESTION, "-m", str(folder), "--max-new-tokens", "9000")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "The prompt does not fit into the context: 1 image(s) take 16 tokens" in result.stderr


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mgem_agent", "see", *words],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )


def test_as_a_program_it_ends_at_ctrl_c_with_what_was_said(folder: Path, pictures: list[str]) -> None:
    with start(pictures[0], QUESTION, "--model", str(folder), "--max-new-tokens", "7000") as process:
        assert process.stdout
        first = process.stdout.read(3)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(timeout=60) == 130
    said = first + rest
    assert said.endswith("\n")
    assert 3 <= len(said.strip()) < 7000
    assert answer_of(folder, pictures[:1], max_new_tokens=20).startswith(said[:20].strip())


def test_help_is_quick_and_names_everything() -> None:
    result = CliRunner().invoke(app, ["see", "--help"])
    assert result.exit_code == 0
    for word in ("IMAGE... QUESTION", "--model", "MGEM_MODEL", "--quantize", "--max-new-tokens", "--seed", "--json"):
        assert word in result.output
    code = "import sys; from mgem_agent.cli import see; print({'numpy', 'PIL', 'torch'} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True)
    assert finished.stdout == "set()\n"
