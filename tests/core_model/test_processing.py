"""Tests of the processor, with tiny tokenizers made here."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoImageProcessor, AutoProcessor, PreTrainedTokenizerFast

from mgem_agent.core_model import MiniGeminiConfig
from mgem_agent.core_model.image_processing import MiniGeminiImageProcessor
from mgem_agent.core_model.processing import MiniGeminiProcessor
from mgem_agent.core_model.prompts.templates import load_prompt_template, prompt_template_names, render_dialogue
from mgem_agent.errors import ImageError, PromptError

SPECIAL = [
    "<s>", "</s>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<|im_start|>", "<|im_end|>", "<|eot_id|>",
    "<|start_header_id|>", "<|end_header_id|>",
]  # fmt: skip
RED = Image.new("RGB", (6, 4), "red")
BLUE = Image.new("RGB", (4, 6), "blue")
GREEN = Image.new("RGB", (5, 5), "green")
SETTINGS: dict[str, Any] = {"num_image_tokens": 4, "image_token_id": 500, "prompt_template": "chatml"}


def make_tokenizer(*, bos: bool = True, metaspace: bool = False, pad: str | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer of characters."""
    letters = ["▁", *map(chr, range(33, 127)), " ", "\n", "…"]
    vocabulary = {token: index for index, token in enumerate(["<unk>", *letters])}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    backend.decoder = decoders.Fuse()
    if metaspace:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        backend.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
        )
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    if bos:
        special = [("<s>", backend.token_to_id("<s>"))]
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token=pad
    )


def make_processor(tokenizer: PreTrainedTokenizerFast | None = None, **settings: Any) -> MiniGeminiProcessor:
    image_processor = MiniGeminiImageProcessor(high_res_image_size=16, low_res_image_size=8)
    return MiniGeminiProcessor(image_processor, tokenizer or make_tokenizer(), **(SETTINGS | settings))


@pytest.fixture(scope="module")
def processor() -> MiniGeminiProcessor:
    return make_processor()


def user(*content: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": [*content], **fields}


def shown(image: Any) -> dict[str, Any]:
    return {"type": "image", "image": image}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def pieces(processor: MiniGeminiProcessor, prompt: str) -> list[int]:
    """The ids of a prompt as the authors' code makes them, for a tokenizer that adds BOS."""
    ids: list[int] = []
    for index, piece in enumerate(prompt.split("<image>")):
        own = processor.tokenizer(piece)["input_ids"]
        ids += [500] * 4 + own[1:] if index else own
    return ids


def same(features: Any, index: int, single: Any) -> bool:
    """Whether a row of a batch, without its padding, is a prompt processed on its own."""
    row = features["input_ids"][index][features["attention_mask"][index].bool()]
    return torch.equal(row, single["input_ids"][0])


def test_one_prompt_with_one_image(processor: MiniGeminiProcessor) -> None:
    features = processor(RED, "USER: <image>\nWhat is it? ASSISTANT:")
    assert features["input_ids"].tolist() == [pieces(processor, "USER: <image>\nWhat is it? ASSISTANT:")]
    assert features["attention_mask"].tolist() == [[1] * features["input_ids"].shape[1]]
    assert features["pixel_values"].shape == (1, 3, 8, 8)
    assert features["high_res_pixel_values"].shape == (1, 3, 16, 16)
    assert sorted(features) == sorted(processor.model_input_names)


def test_text_alone_and_images_alone(processor: MiniGeminiProcessor) -> None:
    assert sorted(processor(text="Hello")) == ["attention_mask", "input_ids"]
    assert sorted(processor([RED, BLUE])) == ["high_res_pixel_values", "pixel_values"]
    assert sorted(processor(images=[], text=["a", "b"])) == ["attention_mask", "input_ids"]


def test_mixed_batches_are_padded_on_the_left(processor: MiniGeminiProcessor) -> None:
    prompts = ["No picture.", "One <image>.", "<image><image> and <image>"]
    features = processor([RED, BLUE, GREEN, RED], prompts)
    rows: list[list[Image.Image]] = [[], [RED], [BLUE, GREEN, RED]]
    for index, images in enumerate(rows):
        assert same(features, index, processor(images, prompts[index]))
        mask = features["attention_mask"][index].tolist()
        assert mask == sorted(mask)
    padding = features["input_ids"][features["attention_mask"] == 0]
    assert set(padding.tolist()) == {processor.tokenizer.eos_token_id}
    for name, values in processor([RED, BLUE, GREEN, RED]).items():
        assert torch.equal(features[name], values)
    nested = processor([None, [RED], [BLUE, GREEN, RED]], prompts)
    for name in features:
        assert torch.equal(features[name], nested[name])
    right = processor([RED, BLUE, GREEN, RED], prompts, padding_side="right")
    assert right["attention_mask"][0].tolist() == sorted(right["attention_mask"][0].tolist(), reverse=True)


def test_replaced_marks_are_told_as_transformers_tells_them(processor: MiniGeminiProcessor) -> None:
    told = processor([RED, BLUE], ["a<image>b<image>", "no"], return_text_replacement_offsets=True)
    first, second = told["text_replacement_offsets"][0]
    assert first == {
        "type": "image", "span": (1, 8), "new_span": (1, 29), "text": "<image>", "replacement": "<image>" * 4
    }  # fmt: skip
    assert (second["span"], second["new_span"]) == ((9, 16), (30, 58))
    assert told["text_replacement_offsets"][1] == []
    assert "text_replacement_offsets" not in processor([RED], "a<image>", return_text_replacement_offsets=False)


def test_neutral_keywords_of_transformers_are_taken(processor: MiniGeminiProcessor) -> None:
    plain = processor(None, "hello")
    same_again = processor(None, "hello", videos=None, audio=None, return_token_type_ids=False, padding_side=None)
    assert same_again.keys() == plain.keys() and torch.equal(same_again["input_ids"], plain["input_ids"])
    assert "attention_mask" not in processor(None, "hello", return_attention_mask=False)


def test_the_tokenizer_pads_on_the_left() -> None:
    tokenizer = make_tokenizer(pad="…")
    tokenizer.padding_side = "right"
    assert make_processor(tokenizer).tokenizer.padding_side == "left"


def test_padding_is_never_an_image() -> None:
    tokenizer = make_tokenizer(pad="…")
    prompts = ["a", "long"]
    assert make_processor(tokenizer)(text=prompts)["input_ids"][0, 0] == tokenizer.pad_token_id
    clash = make_processor(tokenizer, image_token_id=tokenizer.pad_token_id)
    assert clash(text=prompts)["input_ids"][0, 0] == tokenizer.eos_token_id
    tokenizer.eos_token = None
    with pytest.raises(PromptError, match="^The tokenizer has no padding token and no EOS to pad prompts"):
        clash(text=prompts)


def test_other_returns(processor: MiniGeminiProcessor) -> None:
    prompts = ["a<image>", "long"]
    arrays = processor(RED, prompts, return_tensors="np")
    assert isinstance(arrays["input_ids"], np.ndarray)
    assert isinstance(arrays["pixel_values"], np.ndarray)
    lists = processor(text="ab", return_tensors=None, padding=False, return_offsets_mapping=True)
    assert lists["input_ids"] == [processor.tokenizer("ab")["input_ids"]]
    assert lists["offset_mapping"] == [[(0, 0), (0, 1), (1, 2)]]
    kinds = processor(RED, prompts, return_mm_token_type_ids=True)["mm_token_type_ids"]
    assert kinds.tolist() == [[0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]]
    grouped = processor(RED, "<image>", images_kwargs={"low_res_image_size": 4}, text_kwargs={"padding": "longest"})
    assert grouped["pixel_values"].shape == (1, 3, 4, 4)


@pytest.mark.parametrize(
    ("images", "text", "words"),
    [
        (None, None, "There is nothing to process. Give text, images, or both."),
        (None, [], "text must be a string or a list of at least one string, got []."),
        (None, [["a"]], "text must be a string or a list of at least one string, got [['a']]."),
        (None, 7, "text must be a string or a list of at least one string, got 7."),
        (None, "a <image>", "Prompt 1, 'a <image>', needs 1 image(s), and 0 were given."),
        ([RED, RED], "a <image>", "Prompt 1, 'a <image>', needs 1 image(s), and 2 were given."),
        (RED, "a", "Prompt 1, 'a', needs 0 image(s), and 1 were given."),
        ([[RED], [RED]], ["<image>", "b"], "Prompt 2, 'b', needs 0 image(s), and 1 were given."),
    ],
)
def test_calls_that_are_refused(processor: MiniGeminiProcessor, images: Any, text: Any, words: str) -> None:
    with pytest.raises(PromptError) as caught:
        processor(images, text)
    assert str(caught.value).startswith(words)


def test_unreadable_images_are_named(processor: MiniGeminiProcessor) -> None:
    with pytest.raises(ImageError, match="^There is no file 'none.png'"):
        processor("none.png", "<image>")


@pytest.mark.parametrize("metaspace", [False, True])
@pytest.mark.parametrize("name", prompt_template_names())
def test_dialogues_are_tokenised_piece_by_piece(name: str, metaspace: bool) -> None:
    processor = make_processor(make_tokenizer(metaspace=metaspace), prompt_template=name)
    dialogue = [user(shown(RED), "Q1"), assistant("A1"), user("Q2", shown(BLUE), draw=True)]
    text = processor.apply_chat_template(dialogue, add_generation_prompt=True)
    assert text == render_dialogue(dialogue, template=load_prompt_template(name), add_generation_prompt=True).text
    features = processor.apply_chat_template(dialogue, add_generation_prompt=True, tokenize=True, return_dict=True)
    assert features["input_ids"].tolist() == [pieces(processor, text)]
    for key, values in processor([RED, BLUE], text).items():
        assert torch.equal(features[key], values)
    ids = processor.apply_chat_template(dialogue, add_generation_prompt=True, tokenize=True)
    assert torch.equal(ids, features["input_ids"])


def test_images_of_dialogues(processor: MiniGeminiProcessor, tmp_path: Path) -> None:
    stream = io.BytesIO()
    RED.save(stream, "PNG")
    RED.save(tmp_path / "red.png")
    code = base64.b64encode(stream.getvalue()).decode()
    parts = [
        shown(RED),
        {"type": "image", "path": str(tmp_path / "red.png")},
        {"type": "image", "url": f"data:image/png;base64,{code}"},
        {"type": "image", "base64": code},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{code}"}},
        {"type": "image"},
    ]
    options: dict[str, Any] = {"tokenize": True, "return_dict": True}
    features = processor.apply_chat_template([user(*parts)], images=RED, **options)
    assert torch.equal(features["pixel_values"], processor([RED] * 6)["pixel_values"])

    empty = {"type": "image"}
    dialogues = [[user(empty, "Q")], [user("Q")], [user(shown(RED), empty)]]
    expected = processor([BLUE, RED, GREEN])["pixel_values"]
    images: Any
    for images in ([BLUE, GREEN], [[BLUE], None, [GREEN]]):
        batch = processor.apply_chat_template(dialogues, images=images, **options)
        assert torch.equal(batch["pixel_values"], expected)
        nested = processor.apply_chat_template(dialogues, processor_kwargs={"images": images}, **options)
        assert torch.equal(nested["pixel_values"], expected)
    for images in (None, [BLUE], [RED] * 3):
        with pytest.raises(PromptError, match=r"^The 3 prompts need 2 images \(1, 0, 1\), and \d were given\."):
            processor.apply_chat_template(dialogues, images=images, **options)
    with pytest.raises(PromptError, match="a mark typed as text is removed"):
        processor.apply_chat_template([{"role": "user", "content": "<image>\nQ"}], images=RED, **options)


def test_batches_of_dialogues(processor: MiniGeminiProcessor) -> None:
    dialogues = [[user(shown(RED), "Q")], [user("a longer question")]]
    texts = processor.apply_chat_template(dialogues, add_generation_prompt=True)
    assert texts == [processor.apply_chat_template(one, add_generation_prompt=True) for one in dialogues]
    features = processor.apply_chat_template(dialogues, tokenize=True, return_dict=True)
    for index, one in enumerate(dialogues):
        assert same(features, index, processor.apply_chat_template(one, tokenize=True, return_dict=True))


def test_template_options(processor: MiniGeminiProcessor) -> None:
    two = [user(shown(RED), shown(BLUE), "Q")]
    assert "Image 2:<image>" in processor.apply_chat_template(two)
    assert "Image" not in processor.apply_chat_template(two, number_images=False)
    assert processor.apply_chat_template(two, chat_template="mistral_instruct").startswith("[INST] Image 1:<image>")
    assert processor.apply_chat_template(two, chat_template="{{ messages[0]['role'] }}") == "user"
    padded = processor.apply_chat_template(two, tokenize=True, padding="max_length", max_length=99)
    assert padded.shape == (1, 99)
    with pytest.raises(TypeError, match="^Unknown keyword 'tokenise'"):
        processor.apply_chat_template(two, tokenise=True)
    with pytest.raises(PromptError, match="^A dialogue is a list of messages"):
        processor.apply_chat_template([])
    with pytest.raises(PromptError, match="^return_assistant_tokens_mask needs tokenize=True and return_dict=True"):
        processor.apply_chat_template(two, return_assistant_tokens_mask=True)


def test_several_templates() -> None:
    processor = make_processor()
    processor.chat_template = {"one": "1", "two": "2"}
    with pytest.raises(PromptError, match="^The processor has several chat templates. Give the text of one"):
        processor.apply_chat_template([user("Q")])
    assert processor.apply_chat_template([user("Q")], chat_template="{{ 1 + 1 }}") == "2"


def test_a_template_that_writes_bos_gets_no_second(processor: MiniGeminiProcessor) -> None:
    template = "{{ bos_token }}{{ messages[0]['content'][0]['text'] }}"
    ids = processor.apply_chat_template([user("hi")], chat_template=template, tokenize=True, bos_token="<s>")
    assert ids.tolist() == [processor.tokenizer("hi")["input_ids"]]


@pytest.mark.parametrize("metaspace", [False, True])
@pytest.mark.parametrize("name", prompt_template_names())
def test_the_assistant_mask_holds_what_has_to_be_emitted(name: str, metaspace: bool) -> None:
    tokenizer = make_tokenizer(metaspace=metaspace)
    processor = make_processor(tokenizer, prompt_template=name)
    long = [user("Q1", shown(RED)), assistant("A one"), user("Q2 A one"), assistant("A2 ☃")]
    short = [user("Q"), assistant("")]
    features = processor.apply_chat_template(
        [long, short], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    masks = features["assistant_masks"]
    assert masks.shape == features["input_ids"].shape
    assert not (masks.bool() & ~features["attention_mask"].bool()).any()
    assert not (masks.bool() & (features["input_ids"] == 500)).any()
    for row, dialogue in enumerate((long, short)):
        rendered = render_dialogue(dialogue, template=load_prompt_template(name), return_assistant_spans=True)
        # With a tokenizer of characters, the marked tokens are the text of the spans.
        answers = "".join(rendered.text[start:end] for start, end in rendered.assistant_spans)
        tokens = tokenizer.convert_ids_to_tokens(features["input_ids"][row][masks[row].bool()].tolist())
        marked = "".join(tokens).replace("▁", " ")
        # (A caption alone begins a piece, whose dummy prefix is then the caption's.)
        prefix = " " if metaspace and name == "plain" else ""
        assert marked == prefix + answers.replace("☃", "<unk>")
        # And what comes before the first of them is the prompt that is generated from.
        prompt = processor.apply_chat_template(
            dialogue[:1], tokenize=True, return_dict=True, add_generation_prompt=True
        )
        ids = features["input_ids"][row][features["attention_mask"][row].bool()].tolist()
        start = int(masks[row][features["attention_mask"][row].bool()].argmax())
        assert ids[:start] == prompt["input_ids"][0].tolist()


@pytest.mark.parametrize("metaspace", [False, True])
def test_decoding(metaspace: bool) -> None:
    processor = make_processor(make_tokenizer(metaspace=metaspace))
    ids = processor([RED, RED, RED], "<image>a b<image><image>")["input_ids"]
    text = "<s><image>a b<image><image>"
    assert processor.decode(ids[0]) == text
    assert processor.decode(ids[0], skip_special_tokens=True) == "a b"
    for rows in (ids, ids.numpy(), ids.tolist(), list(ids), tuple(ids.numpy())):
        assert processor.decode(rows) == processor.batch_decode(rows) == [text]
    assert processor.decode(ids[0, -1]) == processor.decode(500) == "<image>"
    assert processor.decode([]) == ""
    assert processor.post_process_image_text_to_text(ids) == ["a b"]
    assert processor.batch_decode([[-100, 10**7], []]) == ["", ""]


def test_what_inference_servers_ask(processor: MiniGeminiProcessor) -> None:
    assert processor.replace_image_token({}, 0) == "<image>" * 4
    count = getattr(processor, "_get_num_multimodal_tokens")  # noqa: B009  the name that vLLM calls
    data = count([(100, 200), (7, 7)])
    assert (data["num_image_tokens"], data["num_image_patches"]) == ([4, 4], [1, 1])
    assert "num_image_tokens" not in count()
    assert processor.image_token_ids == [500]


def test_stop_tokens(processor: MiniGeminiProcessor) -> None:
    tokenizer = processor.tokenizer
    assert processor.stop_token_ids == sorted(map(tokenizer.convert_tokens_to_ids, ("</s>", "<|im_end|>")))
    assert make_processor(prompt_template="vicuna_v1").stop_token_ids == [tokenizer.eos_token_id]


def test_the_tokenizer_is_not_changed(processor: MiniGeminiProcessor) -> None:
    assert "<image>" not in processor.tokenizer.get_vocab()
    assert processor.tokenizer.pad_token is None
    by_default = make_processor(image_token_id=None)
    assert by_default.image_token_id == len(by_default.tokenizer)
    with pytest.raises(PromptError, match="^There is no prompt template 'vicuna'"):
        make_processor(prompt_template="vicuna")


def test_saved_and_loaded(tmp_path: Path) -> None:
    saved = make_processor(prompt_template="gemma", image_token_id=777, num_image_tokens=9)
    saved.save_pretrained(tmp_path)
    assert {"processor_config.json", "chat_template.jinja"} <= {file.name for file in tmp_path.iterdir()}
    dialogue = [user(shown(RED), "Q")]
    for loaded in (MiniGeminiProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is MiniGeminiProcessor
        assert loaded.to_dict() == saved.to_dict()
        assert loaded.chat_template == saved.chat_template == load_prompt_template("gemma")
        ours, theirs = (one.apply_chat_template(dialogue, tokenize=True, return_dict=True) for one in (saved, loaded))
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert AutoImageProcessor.from_pretrained(tmp_path).to_dict() == saved.image_processor.to_dict()
    changed = MiniGeminiProcessor.from_pretrained(tmp_path, prompt_template="chatml", num_image_tokens=5)
    assert (changed.prompt_template, changed.num_image_tokens, changed.image_token_id) == ("chatml", 5, 777)
    assert changed.chat_template == load_prompt_template("chatml")


def test_a_folder_without_processor_files(tmp_path: Path, make_config: Callable[..., MiniGeminiConfig]) -> None:
    config = make_config(hd=True)
    config.prompt_template = "llama_3"
    config.image_token_id = 4321
    config.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    for loaded in (MiniGeminiProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert (loaded.image_token_id, loaded.num_image_tokens, loaded.prompt_template) == (4321, 80, "llama_3")
        features = loaded(RED, "<image>")
        assert features["pixel_values"].shape == (1, 3, 56, 56)
        assert features["high_res_pixel_values"].shape == (1, 3, 128, 128)
        assert features["input_ids"].shape == (1, 81)
    assert MiniGeminiProcessor.from_pretrained(tmp_path, prompt_template="plain").prompt_template == "plain"


def test_made_for_a_model(make_config: Callable[..., MiniGeminiConfig]) -> None:
    made = MiniGeminiProcessor.from_model_config(make_config(), make_tokenizer(), prompt_template="gemma")
    assert (made.image_token_id, made.num_image_tokens, made.prompt_template) == (100, 16, "gemma")
