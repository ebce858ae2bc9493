"""The pipelines of transformers, batched."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast, pipeline

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_a_batch_says_what_each_says_alone(
    make_model: Callable[..., MiniGeminiForConditionalGeneration], tokenizer: PreTrainedTokenizerFast
) -> None:
    torch.manual_seed(0)
    model = make_model()
    processor = MiniGeminiProcessor.from_model_config(model.config, tokenizer, prompt_template="chatml")
    pipe = pipeline("image-text-to-text", model=model, processor=processor)
    chats = [
        [{"role": "user", "content": [{"type": "image", "image": Image.new("RGB", (9, 9), colour)}, text_part(text)]}]
        for colour, text in (("red", "a"), ("blue", "What is in this picture?"))
    ]
    options = {"return_full_text": False, "generate_kwargs": {"do_sample": False, "max_new_tokens": 5}}
    alone = [pipe(chat, **options)[0]["generated_text"] for chat in chats]
    together = [row[0]["generated_text"] for row in pipe(chats, batch_size=2, **options)]
    assert together == alone


def text_part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}
