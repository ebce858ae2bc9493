"""What vLLM's Transformers backend asks of the processor, the chat template and the model, asked without vLLM."""

from __future__ import annotations

import copy
from collections.abc import Callable

import jinja2.nodes
import pytest
import torch
from PIL import Image
from transformers import BatchFeature, PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import _compile_jinja_template  # pyright: ignore[reportPrivateUsage]

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.core_model.prompts.templates import load_prompt_template, prompt_template_names
from mgem_agent.core_model.prompts.tokens import add_mark

PICTURES = [Image.new("RGB", (6, 4), "red"), Image.new("RGB", (4, 6), "blue")]


@pytest.fixture
def model(make_model: Callable[..., MiniGeminiForConditionalGeneration]) -> MiniGeminiForConditionalGeneration:
    return make_model().eval()


@pytest.fixture
def processor(model: MiniGeminiForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> MiniGeminiProcessor:
    served = copy.deepcopy(tokenizer)
    mark = add_mark(served, "<image>")
    return MiniGeminiProcessor.from_model_config(model.config, served, image_token_id=mark)


def asked(processor: MiniGeminiProcessor, num_images: int) -> BatchFeature:
    """Call the processor as the backend does: with a dummy text of marks, and for the places of the pictures."""
    dummy = processor.image_token * num_images
    return processor(
        text=dummy, images=PICTURES[:num_images], return_text_replacement_offsets=True, truncation=False,
        return_tensors="pt",
    )  # fmt: skip


def test_each_replacement_is_the_ids_of_one_picture(processor: MiniGeminiProcessor) -> None:
    (offsets,) = asked(processor, 2).pop("text_replacement_offsets")
    assert [entry["type"] for entry in offsets] == ["image", "image"]
    encode = processor.tokenizer.encode
    for entry in offsets:
        ids = encode(entry["replacement"], add_special_tokens=False)
        assert ids == [processor.image_token_id] * processor.num_image_tokens
    assert encode(processor.image_token, add_special_tokens=False) == [processor.image_token_id]


def test_each_picture_has_one_row_in_each_tensor(processor: MiniGeminiProcessor) -> None:
    inputs = asked(processor, 2)
    sizes = [(4, 6), (6, 4)]
    counts = processor._get_num_multimodal_tokens(sizes)  # pyright: ignore[reportPrivateUsage]
    assert counts["num_image_patches"] == [1, 1]
    assert counts["num_image_tokens"] == [processor.num_image_tokens] * 2
    names = processor.image_processor.model_input_names
    assert {name: len(inputs[name]) for name in names} == {"pixel_values": 2, "high_res_pixel_values": 2}


def test_a_prompt_without_pictures_has_no_replacement(processor: MiniGeminiProcessor) -> None:
    assert processor(text="", return_text_replacement_offsets=True)["text_replacement_offsets"] == [[]]


def test_the_model_answers_in_the_backends_forms(
    model: MiniGeminiForConditionalGeneration, processor: MiniGeminiProcessor
) -> None:
    inputs = asked(processor, 2)
    tensors = {name: inputs[name] for name in processor.image_processor.model_input_names}
    pooled = model.model.get_image_features(**tensors, return_dict=True).pooler_output
    assert pooled is not None
    assert [row.shape[0] for row in pooled] == [processor.num_image_tokens] * 2
    embeds = torch.randn(1, 5, model.config.text_config.hidden_size)
    places = torch.arange(5)[None]
    with torch.no_grad():
        outputs = model.model(
            input_ids=None, inputs_embeds=embeds, position_ids=places, use_cache=False, return_dict=False
        )
        named = model.model(inputs_embeds=embeds, position_ids=places, use_cache=False)
    assert isinstance(outputs, tuple) and torch.equal(outputs[0], named.last_hidden_state)


@pytest.mark.parametrize("name", prompt_template_names())
def test_the_chat_template_shows_that_it_takes_parts(name: str) -> None:
    template = load_prompt_template(name)
    tree = _compile_jinja_template(template).environment.parse(template)
    messages = {
        loop.target.name
        for loop in tree.find_all(jinja2.nodes.For)
        if isinstance(loop.iter, jinja2.nodes.Name)
        and isinstance(loop.target, jinja2.nodes.Name)
        and loop.iter.name == "messages"
    }
    looped = [loop.iter for loop in tree.find_all(jinja2.nodes.For) if isinstance(loop.iter, jinja2.nodes.Getitem)]
    assert any(
        isinstance(each.node, jinja2.nodes.Name)
        and each.node.name in messages
        and isinstance(each.arg, jinja2.nodes.Const)
        and each.arg.value == "content"
        for each in looped
    )
