"""A tiny model on disk, and one thread: tiny computations only lose time to a second one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.recipes.bench.measure import describe_machine, use_threads
from mgem_agent.recipes.nano.drawing.caption_tokenizer import train_caption_tokenizer
from mgem_agent.recipes.nano.eval.drawing_protocol import DrawingProtocol, RequestedPictures, Sign
from mgem_agent.recipes.nano.eval.generated_pictures import GeneratedPictures, NamingAccuracy
from mgem_agent.recipes.nano.eval.proportion import Proportion
from mgem_agent.recipes.nano.eval.report import EvalReport
from mgem_agent.recipes.nano.eval.understanding import Understanding
from mgem_agent.recipes.nano.world.emoji import EmojiAssets


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with use_threads(1):
        yield


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 16 visual tokens an image and one token a character, with its processor."""
    torch.manual_seed(0)
    symbols = ["<unk>", "<s>", "</s>", "<pad>", "\n", *map(chr, range(32, 127))]
    made = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[], unk_token="<unk>"))
    made.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    config = MiniGeminiConfig(
        text_config={
            "model_type": "llama",
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "vocab_size": 100,
            "max_position_embeddings": 1024,
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 7,
        },
        high_res_vision_config={"hidden_sizes": [4, 8, 12, 16], "depths": [1, 1, 1, 1]},
        high_res_image_size=64,
        image_token_id=100,
        prompt_template="chatml",
    )
    folder = tmp_path_factory.mktemp("model")
    MiniGeminiForConditionalGeneration(config).save_pretrained(folder)
    MiniGeminiProcessor.from_model_config(config, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory, drawn_assets: EmojiAssets) -> Path:
    """A CLIP model of random weights with its tokenizer."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    tokenizer = train_caption_tokenizer(folder, 600, 16, drawn_assets, num_captions=2)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1}
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = CLIPConfig(
        text_config={**sizes, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": 16},
        vision_config={**sizes, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def whole_report() -> EvalReport:
    """A report of all parts, made up."""
    half, all_ = Proportion(num=20, num_right=10), Proportion(num=20, num_right=20)
    named = {"one thing": NamingAccuracy(first=half, among_five=all_)}
    asked = {"all": RequestedPictures(well_formed=all_, kept=half)}
    return EvalReport(
        seed=0,
        machine=describe_machine(torch.device("cpu")),
        understanding=(
            Understanding(model="nano", kinds={"what": all_, "read_small": all_}),
            Understanding(model="low", without_hr=True, kinds={"what": all_, "read_small": half}),
        ),
        drawing=DrawingProtocol(model="nano", asked=dict.fromkeys(get_args(Sign), asked), told=all_),
        pictures=GeneratedPictures(
            generator="nano",
            seen_by="nano",
            seen={"one thing": all_},
            seen_real={"one thing": half},
            clip="clip",
            num_pictures=20,
            num_failed=1,
            size_px=(128, 128),
            seconds_per_picture=2.5,
            generated=named,
            real=named,
            contact_sheet="sheet.png",
        ),
    )
