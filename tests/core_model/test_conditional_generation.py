from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel

from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration
from mgem_agent.core_model.in_vocabulary import ImageTokenMap
from mgem_agent.errors import ContextOverflowError, InputError, PromptError
from mgem_agent.testing import textbook_image_features

FAMILIES = ("gemma", "gemma2", "gemma3_text", "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe")
IMAGE = 100
FIVE = {"min_new_tokens": 5, "max_new_tokens": 5}

Make = Callable[..., MiniGeminiForConditionalGeneration]


def make_images(model: MiniGeminiForConditionalGeneration, count: int) -> dict[str, Tensor]:
    low, high = model.config.geometry.low_res_input_size, model.config.high_res_image_size
    return {
        "pixel_values": torch.randn(count, 3, low, low),
        "high_res_pixel_values": torch.randn(count, 3, high, high),
    }


def language_model_of(model: MiniGeminiForConditionalGeneration) -> PreTrainedModel:
    """The family's own causal LM with the same weights."""
    causal = AutoModelForCausalLM.from_config(model.config.text_config).eval()
    weights = {
        key.replace("model.language_model.", "model."): value
        for key, value in model.state_dict().items()
        if "language_model" in key or key.startswith("lm_head")
    }
    causal.load_state_dict(weights)
    return causal


def spliced(causal: PreTrainedModel, pieces: list[list[int]], features: Tensor) -> Tensor:
    """Embedded text pieces with the visual tokens of one image between each two: (1, l, d)."""
    rows = []
    for index, piece in enumerate(pieces):
        rows.append(causal.get_input_embeddings()(torch.tensor(piece, dtype=torch.long)))
        if index < len(features):
            rows.append(features[index])
    return torch.cat(rows).unsqueeze(0)


def prompt(model: MiniGeminiForConditionalGeneration, pieces: list[list[int]]) -> Tensor:
    ids = list(pieces[0])
    for piece in pieces[1:]:
        ids += [IMAGE] * model.config.geometry.num_image_tokens + piece
    return torch.tensor([ids])


@pytest.mark.parametrize("hd", [False, True])
@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_visual_tokens_equal_the_authors_way(make_model: Make, family: str, hd: bool) -> None:
    model = make_model(family, hd=hd)
    images = make_images(model, 3)
    with torch.no_grad():
        features: Any = model.get_image_features(**images)
        expected = textbook_image_features(model, **images)
    if family == "gemma":  # the model multiplies all its inputs by √d
        expected = expected * model.config.text_config.hidden_size**0.5
    assert [tuple(tokens.shape) for tokens in features.pooler_output] == [(80 if hd else 16, 32)] * 3
    torch.testing.assert_close(torch.stack(features.pooler_output), expected, atol=1e-5, rtol=1e-5)


def test_many_images_take_several_passes(make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(hd=True)
    images = make_images(model, 3)
    with torch.no_grad():
        together = model.get_image_features(**images).pooler_output
        monkeypatch.setattr("mgem_agent.core_model.modeling._PIXELS_PER_PASS", 1)
        alone = model.get_image_features(**images).pooler_output
    torch.testing.assert_close(torch.stack(together), torch.stack(alone))


@pytest.mark.parametrize("family", FAMILIES)
def test_text_alone_gives_the_logits_of_the_family(make_model: Make, family: str) -> None:
    model = make_model(family)
    ids = torch.randint(1, 100, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, language_model_of(model)(ids).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_images_stand_where_their_tokens_are(make_model: Make, family: str) -> None:
    model = make_model(family)
    causal, pieces = language_model_of(model), [[1, 5], [7, 8], [9]]
    images = make_images(model, 2)
    with torch.no_grad():
        rows = torch.stack(model.get_image_features(**images).pooler_output)
        embedded = spliced(causal, pieces, rows)
        ids = prompt(model, pieces)
        torch.testing.assert_close(model(ids, **images).logits, causal(inputs_embeds=embedded).logits)
        said = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **images, max_new_tokens=6)
        expected = causal.generate(inputs_embeds=embedded, max_new_tokens=6)
    assert said[0, ids.shape[1] :].tolist() == expected[0].tolist()


@pytest.mark.parametrize("family", ["llama", "gemma2", "mixtral"])
def test_a_mixed_batch_says_what_each_prompt_says_alone(make_model: Make, family: str) -> None:
    model = make_model(family)
    images = make_images(model, 3)
    prompts = [prompt(model, pieces) for pieces in ([[1, 2, 3]], [[1], [4, 5]], [[1], [6], [7, 8]])]
    width = max(ids.shape[1] for ids in prompts)
    batch = torch.cat([torch.nn.functional.pad(ids, (width - ids.shape[1], 0)) for ids in prompts])
    mask = torch.cat([torch.nn.functional.pad(torch.ones_like(ids), (width - ids.shape[1], 0)) for ids in prompts])
    with torch.no_grad():
        together = model.generate(input_ids=batch, attention_mask=mask, **images, **FIVE)
        logits = model(batch, attention_mask=mask, **images).logits
    for row, (ids, taken) in enumerate(zip(prompts, [slice(0, 0), slice(0, 1), slice(1, 3)], strict=True)):
        own = {key: value[taken] for key, value in images.items() if taken.stop}
        with torch.no_grad():
            alone = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **own, **FIVE)
            torch.testing.assert_close(logits[row, -1], model(ids, **own).logits[0, -1], atol=1e-4, rtol=1e-4)
        assert together[row, width:].tolist() == alone[0, ids.shape[1] :].tolist()


def test_generation_encodes_once_or_not_at_all(make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    images, ids = make_images(model, 1), prompt(model, [[1], [2]])
    features = model.get_image_features(**images)
    calls = []
    mining: Any = model.model.mining
    forward = mining.forward
    monkeypatch.setattr(mining, "forward", lambda *args, **kw: calls.append(1) or forward(*args, **kw))
    mask = torch.ones_like(ids)
    said = model.generate(input_ids=ids, attention_mask=mask, **images, max_new_tokens=4)
    assert calls == [1]
    again = model.generate(input_ids=ids, attention_mask=mask, mm_encoder_outputs={"image": features}, max_new_tokens=4)
    assert calls == [1]
    assert torch.equal(said, again)


def test_an_answer_may_say_what_the_dialogue_said_and_not_what_it_said_itself(make_model: Make) -> None:
    model = make_model()
    ids = torch.arange(1, 100)[None]  # all that there is to say
    plain = model.generate(input_ids=ids, max_new_tokens=1)
    said = model.generate(input_ids=ids, max_new_tokens=6, no_repeat_ngram_size=1)[:, ids.shape[1] :]
    assert said[0, 0] == plain[0, -1]
    assert len(set(said[0].tolist())) == 6


@pytest.mark.parametrize(
    "options",
    [
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 2},
        {"num_beams": 3},
        {"do_sample": True, "top_p": 0.9, "num_return_sequences": 2},
    ],
)
def test_generation_options_work_with_images(make_model: Make, options: dict[str, object]) -> None:
    model = make_model()
    ids = prompt(model, [[1], [2]])
    said = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), **make_images(model, 1), max_new_tokens=5, **options
    )
    assert said.shape == (options.get("num_return_sequences", 1), ids.shape[1] + 5)
    assert (said[:, ids.shape[1] :] < 100).all()


def test_an_encoders_repetition_penalty_favours_the_prompts_words(make_model: Make) -> None:
    model = make_model()
    ids = prompt(model, [[5], [6]])
    options = {"attention_mask": torch.ones_like(ids), **make_images(model, 1), "max_new_tokens": 5}
    said = model.generate(input_ids=ids, **options, encoder_repetition_penalty=1e6)[0, ids.shape[1] :]
    assert set(said.tolist()) <= {5, 6, ImageTokenMap(model.config).stand_in}
    banned = model.generate(input_ids=ids, **options, encoder_no_repeat_ngram_size=1)[0, ids.shape[1] :]
    assert not {5, 6} & set(banned.tolist()) and (banned < 100).all()


def test_proposed_tokens_change_nothing_of_an_answer_with_images(make_model: Make) -> None:
    model = make_model()
    ids = prompt(model, [[7, 8], [9, 7, 8]])  # what followed 7 and 8 before was the image
    options = {"attention_mask": torch.ones_like(ids), **make_images(model, 1), "max_new_tokens": 6, "do_sample": False}
    said = model.generate(input_ids=ids, **options)
    assert torch.equal(model.generate(input_ids=ids, **options, prompt_lookup_num_tokens=3), said)
    assert torch.equal(
        model.generate(input_ids=ids, **options, prompt_lookup_num_tokens=3, repetition_penalty=1.3),
        model.generate(input_ids=ids, **options, repetition_penalty=1.3),
    )
    assistant = AutoModelForCausalLM.from_config(model.config.text_config).eval()
    assert torch.equal(model.generate(input_ids=ids, **options, assistant_model=assistant), said)


@pytest.mark.parametrize("option", ["assistant_early_exit", "use_mtp"])
def test_refuses_options_that_cannot_work(make_model: Make, option: str) -> None:
    with pytest.raises(InputError, match=f"^The option '{option}' of generate does not work here: the model"):
        make_model().generate(input_ids=torch.tensor([[1, 2]]), **{option: 1}, max_new_tokens=1)


def test_refuses_an_assistant_that_sees(make_model: Make) -> None:
    model = make_model()
    with pytest.raises(
        InputError, match="assistant_model must be a text-only causal language model with .* got a 'Mini"
    ):
        model.generate(input_ids=torch.tensor([[1, 2]]), assistant_model=make_model(), max_new_tokens=1)


def test_save_and_load_give_the_same_outputs(make_model: Make, tmp_path: Path) -> None:
    model = make_model("gemma", hd=True)
    ids, images = prompt(model, [[1], [2]]), make_images(model, 1)
    expected = model(ids, **images).logits
    for name, size in (("whole", "1GB"), ("sharded", "30KB")):
        model.save_pretrained(tmp_path / name, max_shard_size=size)
        loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / name, dtype="auto")
        assert isinstance(loaded, MiniGeminiForConditionalGeneration)
        assert torch.equal(loaded(ids, **images).logits, expected)
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 3
    trunk = AutoModel.from_config(model.config)
    trunk.load_state_dict(model.model.state_dict())
    torch.testing.assert_close(
        trunk.eval()(ids, **images).last_hidden_state, model.model(ids, **images).last_hidden_state
    )


def test_frozen_encoders_give_no_gradients_and_drop_no_path(
    make_config: Callable[..., MiniGeminiConfig], tmp_path: Path
) -> None:
    config = make_config()
    config.high_res_vision_config.drop_path_rate = 0.9
    model = MiniGeminiForConditionalGeneration(config).train()
    images, ids = make_images(model, 1), prompt(model, [[1], [2]])
    assert torch.equal(model(ids, **images).logits, model(ids, **images).logits)
    model(ids, **images, labels=torch.where(ids == IMAGE, -100, ids)).loss.backward()
    without = {name.split(".")[1] for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {"vision_tower", "high_res_vision_tower"}
    model.save_pretrained(tmp_path)
    loaded = MiniGeminiForConditionalGeneration.from_pretrained(tmp_path)
    assert not any(parameter.requires_grad for parameter in loaded.model.vision_tower.parameters())
    assert not any(parameter.requires_grad for parameter in loaded.model.high_res_vision_tower.parameters())


def test_unfrozen_encoders_train_as_far_as_they_are_used(make_config: Callable[..., MiniGeminiConfig]) -> None:
    config = make_config()
    config.freeze_vision_tower = config.freeze_high_res_vision_tower = False
    model = MiniGeminiForConditionalGeneration(config).train()
    images, ids = make_images(model, 1), prompt(model, [[1], [2]])
    model(ids, **images, labels=torch.where(ids == IMAGE, -100, ids)).loss.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert any("vision_tower.encoder.layers.1" in name for name in trained)
    assert not any("vision_tower.encoder.layers.2" in name or "post_layernorm" in name for name in trained)


def test_gradient_checkpointing_changes_no_gradient(make_model: Make) -> None:
    model = make_model().train()
    images, ids = make_images(model, 1), prompt(model, [[1], [2]])
    labels, gradients = torch.where(ids == IMAGE, -100, ids), []
    for checkpointing in (False, True):
        if checkpointing:
            # The second name came with transformers 5.2x.
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
        model.zero_grad()
        model(ids, **images, labels=labels).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_mixture_adds_its_load_balancing_loss(make_model: Make) -> None:
    model = make_model("mixtral")
    ids = torch.randint(1, 100, (2, 9))
    ours = model(ids, labels=ids, output_router_logits=True)
    theirs = language_model_of(model)(ids, labels=ids, output_router_logits=True)
    torch.testing.assert_close(ours.aux_loss, theirs.aux_loss)
    torch.testing.assert_close(ours.loss, theirs.loss)
    assert ours.loss > model(ids, labels=ids).loss


def test_tuples_and_kept_logits(make_model: Make) -> None:
    model = make_model()
    ids = torch.randint(1, 100, (1, 9))
    scored = model(ids, logits_to_keep=2)
    torch.testing.assert_close(scored.logits, model(ids).logits[:, -2:])
    assert torch.equal(model(ids, logits_to_keep=2, return_dict=False)[0], scored.logits)


def test_refuses_a_context_that_overflows(make_model: Make) -> None:
    model = make_model(hd=True)
    ids = prompt(model, [[1], [2], [3], [4, 5]])
    message = (
        r"3 image\(s\) take 240 tokens, the text 5, and 12 new tokens were requested, 257 in total; "
        r"the context holds 256"
    )
    with pytest.raises(ContextOverflowError, match=message) as caught:
        model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **make_images(model, 3), max_new_tokens=12)
    assert caught.value.num_image_tokens == 240
    padded = torch.nn.functional.pad(ids, (40, 0))
    mask = torch.nn.functional.pad(torch.ones_like(ids), (40, 0))
    said = model.generate(input_ids=padded, attention_mask=mask, **make_images(model, 3), max_new_tokens=11)
    assert said.shape[1] == padded.shape[1] + 11


def test_refuses_images_and_places_that_do_not_match(make_model: Make) -> None:
    model = make_model()
    ids, images = prompt(model, [[1], [2]]), make_images(model, 2)
    with pytest.raises(PromptError, match=r"has 16 image tokens, but the 2 image\(s\) have 32 visual tokens"):
        model(ids, **images)
    with pytest.raises(PromptError, match="16 image tokens and no images"):
        model(ids)
    with pytest.raises(InputError, match="need both pixel_values and high_res_pixel_values"):
        model(ids, pixel_values=images["pixel_values"])
    with pytest.raises(InputError, match=r"must be \(2, 3, 28, 28\) and \(2, 3, 64, 64\), got"):
        model(ids, pixel_values=images["high_res_pixel_values"], high_res_pixel_values=images["pixel_values"])
    with pytest.raises(InputError, match="exactly one of input_ids and inputs_embeds"):
        model()
    with pytest.raises(InputError, match="not both"):
        model(ids, **images, mm_encoder_outputs={"image": model.get_image_features(**images)})
    with pytest.raises(InputError, match="cannot be placed in inputs_embeds"):
        model(inputs_embeds=torch.zeros(1, 4, 32), **images)
