from typing import Any

import numpy as np
import pytest
import torch

from mgem_agent.tools.diffusers.long_prompts import count_chunks, encode_in_chunks, find_limit

# The tiny tokenizers know single letters: nine tokens each time.
LONG = "red fox, in snow " * 12


@pytest.fixture(params=["sd", "sdxl"])
def pipeline(request: Any, tiny_pipeline: Any) -> Any:
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(tiny_pipeline(request.param)).to("cpu")


def names(pipeline: Any) -> list[str]:
    """Names of what encode_prompt returns, in its order."""
    pooled = ["pooled_prompt_embeds", "negative_pooled_prompt_embeds"]
    return ["prompt_embeds", "negative_prompt_embeds", *(pooled if hasattr(pipeline, "tokenizer_2") else [])]


@pytest.mark.parametrize("negatives", [None, ["a boat", "rain"]])
def test_one_piece_is_what_the_pipeline_encodes_itself(pipeline: Any, negatives: list[str] | None) -> None:
    prompts = ["a red fox", "seven boats at sea"]
    ours = encode_in_chunks(pipeline, prompts, negatives, num_chunks=1)
    with torch.no_grad():
        theirs = pipeline.encode_prompt(
            prompt=prompts, negative_prompt=negatives, device="cpu", num_images_per_prompt=1,
            do_classifier_free_guidance=True,
        )  # fmt: skip
    for name, tensor in zip(names(pipeline), theirs, strict=True):
        torch.testing.assert_close(ours[name], tensor)


def test_every_piece_is_encoded_as_a_prompt_of_its_own(pipeline: Any) -> None:
    letters = "abcdefghij" * 20  # 200 tokens: 75, 75 and 50
    assert count_chunks(pipeline, [letters]) == 3
    ours = encode_in_chunks(pipeline, [letters], ["x"], num_chunks=3)
    # A piece that ends within a word is the same tokens as a shorter word but for its end.
    tokenizer, encoder = pipeline.tokenizer, pipeline.text_encoder
    ids = tokenizer(letters, add_special_tokens=False).input_ids
    width = encoder.config.hidden_size
    for piece in range(3):
        part = ids[75 * piece : 75 * piece + 75]
        row = [tokenizer.bos_token_id, *part, tokenizer.eos_token_id]
        row += [tokenizer.pad_token_id] * (77 - len(row))
        with torch.no_grad():
            output = encoder(torch.tensor([row]), output_hidden_states=True)
        hidden = output.hidden_states[-2] if hasattr(pipeline, "tokenizer_2") else output.last_hidden_state
        torch.testing.assert_close(ours["prompt_embeds"][:, 77 * piece : 77 * piece + 77, :width], hidden)
    assert ours["prompt_embeds"].shape == ours["negative_prompt_embeds"].shape
    assert ours["prompt_embeds"].shape[1] == 3 * 77


def test_the_pooled_embedding_is_that_of_the_first_piece(tiny_pipeline: Any) -> None:
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(tiny_pipeline("sdxl"))
    whole = encode_in_chunks(pipeline, ["a" * 75 + "b" * 30], None, num_chunks=2)
    other = encode_in_chunks(pipeline, ["a" * 75 + "c" * 20], None, num_chunks=2)
    torch.testing.assert_close(whole["pooled_prompt_embeds"], other["pooled_prompt_embeds"])
    assert not torch.equal(whole["prompt_embeds"], other["prompt_embeds"])
    assert not whole["negative_prompt_embeds"].any()


@pytest.mark.parametrize(("letters", "chunks"), [(0, 1), (1, 1), (75, 1), (76, 2), (150, 2), (151, 3)])
def test_pieces_are_counted_to_the_token(pipeline: Any, letters: int, chunks: int) -> None:
    assert count_chunks(pipeline, ["a" * letters, ""]) == chunks


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_the_end_of_a_long_prompt_reaches_the_picture(make_generator: Any, draw: Any, ask: Any, family: str) -> None:
    generator = make_generator(family)
    requests = [ask(family, prompt=LONG + end) for end in ("at dawn", "at night")]
    dawn, night = draw(generator, requests)
    assert dawn.notices == night.notices == ()
    assert dawn.image.tobytes() != night.image.tobytes()
    (alone,) = draw(generator, requests[:1])
    assert np.abs(np.asarray(alone.image, int) - np.asarray(dawn.image, int)).max() <= 1


def test_a_long_neighbour_does_not_change_a_short_prompt(make_generator: Any, draw: Any, ask: Any) -> None:
    generator = make_generator("sdxl")
    short, _, _ = draw(generator, [ask(), ask(prompt=LONG), ask(prompt="a boat", negative_prompt=LONG)])
    (alone,) = draw(generator, [ask()])
    assert short.image.tobytes() == alone.image.tobytes()


def test_long_prompts_work_for_other_tasks_too(make_generator: Any, draw: Any, ask: Any) -> None:
    from PIL import Image

    pictures = {"start": Image.new("RGB", (32, 32), "orange"), "mask": Image.new("L", (32, 32), 255)}
    results = draw(
        make_generator("sdxl"),
        [
            ask(prompt=LONG, task="image_to_image", image="start", strength=0.8),
            ask(prompt=LONG, task="inpaint", image="start", mask="mask", strength=0.8),
        ],
        pictures,
    )
    assert [result.error for result in results] == [None, None]


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_clip_skip_is_honoured(make_generator: Any, draw: Any, ask: Any, family: str) -> None:
    plain, skipped = draw(make_generator(family), [ask(family), ask(family, options={"clip_skip": 1})])
    assert skipped.error is None
    assert skipped.executed.options["clip_skip"] == 1
    assert skipped.image.tobytes() != plain.image.tobytes()


@pytest.mark.parametrize(
    ("family", "limit"), [("pixart", 300), ("sd3", 256), ("flux", 512), ("sana", 300), ("klein", 512), ("cascade", 77)]
)
def test_what_other_encoders_cut_is_counted_and_reported(
    make_generator: Any, draw: Any, ask: Any, family: str, limit: int
) -> None:
    request = ask(family, prompt="a" * 600, num_inference_steps=1)
    options = {name: value for name, value in request.options.items() if name != "max_sequence_length"}
    (result,) = draw(make_generator(family), [request.model_copy(update={"options": options})])
    assert result.error is None
    (notice,) = result.notices
    assert notice.argument == "prompt"
    count = int(notice.message.split()[3])
    assert 600 <= count <= 640
    assert notice.message == (
        f"the prompt has {count} tokens, the model reads {limit}; the last {count - limit} were cut."
    )


def test_a_longer_sequence_may_be_asked_for(make_generator: Any, draw: Any, ask: Any) -> None:
    request = ask("sd3", prompt="a" * 100, num_inference_steps=1)
    cut, whole = draw(
        make_generator("sd3"), [request, request.model_copy(update={"options": {"max_sequence_length": 128}})]
    )
    assert [notice.argument for notice in cut.notices] == ["prompt"]
    assert whole.notices == ()
    assert whole.executed.options["max_sequence_length"] == 128


def test_what_the_pipeline_itself_cuts_is_where_the_limit_says(tiny_pipeline: Any) -> None:
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(tiny_pipeline("pixart"))
    limit = find_limit(pipeline, 20)
    assert limit is not None
    assert limit.max_tokens == 20

    def encode(letters: int) -> torch.Tensor:
        with torch.no_grad():
            return pipeline.encode_prompt("a" * letters, do_classifier_free_guidance=False, max_sequence_length=20)[0]

    reach = next(letters for letters in range(10, 30) if limit.count("a" * (letters + 1)) > 20)
    assert not torch.equal(encode(reach), encode(reach - 1))
    assert torch.equal(encode(reach + 1), encode(reach + 2))
