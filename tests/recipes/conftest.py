"""Shared by all recipes: drawn stand-ins for the emoji pictures, a tokenizer, and tiny encoders."""

import colorsys
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, decoders, models
from transformers import CLIPConfig, CLIPModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.recipes.nano.drawing.caption_tokenizer import train_caption_tokenizer
from mgem_agent.recipes.nano.seeing.clip_pretrain import EncodersConfig, train_encoders
from mgem_agent.recipes.nano.world.concepts import load_concepts
from mgem_agent.recipes.nano.world.emoji import EmojiAssets


@pytest.fixture(autouse=True, scope="module")
def denormal_numbers() -> Iterator[None]:
    """Let the process compute with denormal numbers again: trainings round them to zero."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def drawn_assets() -> EmojiAssets:
    concepts = load_concepts()
    pictures = {}
    for number, concept in enumerate(concepts):
        red, green, blue = colorsys.hsv_to_rgb(number / len(concepts), 0.9, 0.9)
        picture = Image.new("RGBA", (32, 32))
        ImageDraw.Draw(picture).ellipse((2, 2, 30, 30), fill=(int(255 * red), int(255 * green), int(255 * blue), 255))
        file = io.BytesIO()
        picture.save(file, "PNG")
        pictures[concept.name] = file.getvalue()
    return EmojiAssets(concepts, pictures)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a character: the printable ones of ASCII."""
    symbols = ["<unk>", "<s>", "</s>", "<pad>", "\n", *map(chr, range(32, 127))]
    tokenizer = Tokenizer(
        models.BPE(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[], unk_token="<unk>")
    )
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A model of 16 visual tokens an image and one token a character, with its processor."""
    torch.manual_seed(0)
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
def encoder_parts(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, drawn_assets: EmojiAssets) -> dict[str, str]:
    """Folders of small encoders and of a small language model."""
    encoders = EncodersConfig(
        num_steps=1, batch_size=2, low_res_px=64, high_res_px=128, window_px=64, width=32, num_layers=2,
        num_text_layers=1, embed_dim=16, vocab_size=400, convnext="test_convnext",
    )  # fmt: skip
    train_encoders(tmp_path / "encoders", encoders, drawn_assets)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=2, vocab_size=len(tokenizer)))
    text.save_pretrained(tmp_path / "text")
    tokenizer.save_pretrained(tmp_path / "text")
    folders = {"vision": "encoders/clip", "high_res_vision": "encoders/convnext", "text": "text"}
    return {name: str(tmp_path / folder) for name, folder in folders.items()}
