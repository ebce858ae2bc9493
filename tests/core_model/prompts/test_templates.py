"""Tests of the dialogue formats, byte for byte."""

import threading
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2.ext
import pytest

from mgem_agent.core_model.prompts.templates import (
    load_prompt_template,
    prompt_template_names,
    prompt_template_stop_tokens,
    remove_marks,
    render_dialogue,
)
from mgem_agent.errors import PromptError

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)
LLAMA_3 = (
    "<|start_header_id|>system<|end_header_id|>\n\nYou are a helpful language and vision assistant. You are able to "
    "understand the visual content that the user provides, and assist the user with a variety of tasks using natural "
    "language.<|eot_id|>"
)
CHATML_DIRECT = "<|im_start|>system\nAnswer the questions.<|im_end|>"

IMAGE = {"type": "image"}
ROUNDS: list[dict[str, Any]] = [
    {"role": "user", "content": [IMAGE, {"type": "text", "text": "Q1"}]},
    {"role": "assistant", "content": "A1"},
    {"role": "user", "content": "Q2"},
    {"role": "assistant", "content": [{"type": "text", "text": "A2"}]},
]
SYSTEM: dict[str, Any] = {"role": "system", "content": "Be brief."}

# What one round, two rounds, the prompt for the second answer, and the same with a system message render as.
EXPECTED = {
    "vicuna_v1": (
        VICUNA + "USER: <image>\nQ1 ASSISTANT: A1</s>",
        VICUNA + "USER: <image>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT: A2</s>",
        VICUNA + "USER: <image>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT:",
        "Be brief. USER: <image>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT:",
    ),
    "gemma": (
        "<start_of_turn>user\n<image>\nQ1<end_of_turn>\n<start_of_turn>model\nA1<end_of_turn>\n<eos>",
        "<start_of_turn>user\n<image>\nQ1<end_of_turn>\n<start_of_turn>model\nA1<end_of_turn>\n<eos>"
        "<start_of_turn>user\nQ2<end_of_turn>\n<start_of_turn>model\nA2<end_of_turn>\n<eos>",
        "<start_of_turn>user\n<image>\nQ1<end_of_turn>\n<start_of_turn>model\nA1<end_of_turn>\n<eos>"
        "<start_of_turn>user\nQ2<end_of_turn>\n<start_of_turn>model\n",
        "<start_of_turn>user\n<image>\nBe brief.\n\nQ1<end_of_turn>\n<start_of_turn>model\nA1<end_of_turn>\n<eos>"
        "<start_of_turn>user\nQ2<end_of_turn>\n<start_of_turn>model\n",
    ),
    "mistral_instruct": (
        "[INST] <image>\nQ1 [/INST] A1 </s>",
        "[INST] <image>\nQ1 [/INST] A1 </s><s>[INST] Q2 [/INST] A2 </s>",
        "[INST] <image>\nQ1 [/INST] A1 </s><s>[INST] Q2 [/INST]",
        "[INST] <image>\nBe brief.\n\nQ1 [/INST] A1 </s><s>[INST] Q2 [/INST]",
    ),
    "chatml_direct": (
        CHATML_DIRECT + "<|im_start|>user\n<image>\nQ1<|im_end|><|im_start|>assistant\nA1<|im_end|>",
        CHATML_DIRECT + "<|im_start|>user\n<image>\nQ1<|im_end|><|im_start|>assistant\nA1<|im_end|>"
        "<|im_start|>user\nQ2<|im_end|><|im_start|>assistant\nA2<|im_end|>",
        CHATML_DIRECT + "<|im_start|>user\n<image>\nQ1<|im_end|><|im_start|>assistant\nA1<|im_end|>"
        "<|im_start|>user\nQ2<|im_end|><|im_start|>assistant\n",
        "<|im_start|>system\nBe brief.<|im_end|><|im_start|>user\n<image>\nQ1<|im_end|><|im_start|>assistant\n"
        "A1<|im_end|><|im_start|>user\nQ2<|im_end|><|im_start|>assistant\n",
    ),
    "chatml": (
        "<|im_start|>user\n<image>\nQ1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n",
        "<|im_start|>user\n<image>\nQ1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
        "<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\nA2<|im_end|>\n",
        "<|im_start|>user\n<image>\nQ1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
        "<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<image>\nQ1<|im_end|>\n<|im_start|>assistant\n"
        "A1<|im_end|>\n<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\n",
    ),
    "llama_3": (
        LLAMA_3 + "<|start_header_id|>user<|end_header_id|>\n\n<image>\nQ1<|eot_id|>"
        "<|start_header_id|>system<|end_header_id|>\n\nA1<|eot_id|>",
        LLAMA_3 + "<|start_header_id|>user<|end_header_id|>\n\n<image>\nQ1<|eot_id|>"
        "<|start_header_id|>system<|end_header_id|>\n\nA1<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nQ2<|eot_id|>"
        "<|start_header_id|>system<|end_header_id|>\n\nA2<|eot_id|>",
        LLAMA_3 + "<|start_header_id|>user<|end_header_id|>\n\n<image>\nQ1<|eot_id|>"
        "<|start_header_id|>system<|end_header_id|>\n\nA1<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nQ2<|eot_id|>"
        "<|start_header_id|>system<|end_header_id|>\n\n",
        "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n<image>\nQ1<|eot_id|>"
        "<|start_header_id|>system<|end_header_id|>\n\nA1<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nQ2<|eot_id|>"
        "<|start_header_id|>system<|end_header_id|>\n\n",
    ),
    "plain": ("<image>A1\n", "<image>A1\nA2\n", "<image>A1\n", "<image>A1\n"),
}

ENDINGS = {
    "vicuna_v1": (" ", "</s>"),
    "gemma": ("", "<end_of_turn>\n<eos>"),
    "mistral_instruct": (" ", " </s>"),
    "chatml_direct": ("", "<|im_end|>"),
    "chatml": ("", "<|im_end|>"),
    "llama_3": ("", "<|eot_id|>"),
    "plain": ("", "\n"),
}


def text(messages: Any, name: str = "gemma", **options: Any) -> str:
    return render_dialogue(messages, template=load_prompt_template(name), **options).text


def user(content: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **fields}


def test_every_template_has_its_expectations() -> None:
    assert prompt_template_names() == tuple(sorted(EXPECTED)) == tuple(sorted(ENDINGS))
    folder = files("mgem_agent.core_model.prompts") / "formats"
    names = {file.name.removesuffix(".jinja") for file in folder.iterdir()}
    assert names == {*EXPECTED, "_dialogue"}


@pytest.mark.parametrize("name", EXPECTED)
def test_templates_byte_for_byte(name: str) -> None:
    one, two, prompt, with_system = EXPECTED[name]
    assert text(ROUNDS[:2], name) == one
    assert text(ROUNDS, name) == two
    assert text(ROUNDS[:3], name, add_generation_prompt=True) == prompt
    assert text([SYSTEM, *ROUNDS[:3]], name, add_generation_prompt=True) == with_system


@pytest.mark.parametrize("name", EXPECTED)
def test_the_prompt_is_the_dialogue_cut_before_the_answer(name: str) -> None:
    prompt = text(ROUNDS[:3], name, add_generation_prompt=True)
    rendered = render_dialogue(ROUNDS, template=load_prompt_template(name), return_assistant_spans=True)
    start, end = rendered.assistant_spans[-1]
    assert rendered.text[:start] == prompt
    assert rendered.text[end:] == ("\n" if name == "chatml" else "")


@pytest.mark.parametrize("name", EXPECTED)
def test_assistant_spans_hold_the_answers_and_what_ends_them(name: str) -> None:
    rendered = render_dialogue(ROUNDS, template=load_prompt_template(name), return_assistant_spans=True)
    before, after = ENDINGS[name]
    spans = [rendered.text[start:end] for start, end in rendered.assistant_spans]
    assert spans == [f"{before}A1{after}", f"{before}A2{after}"]
    assert render_dialogue(ROUNDS, template=load_prompt_template(name)).assistant_spans == ()


@pytest.mark.parametrize("name", EXPECTED)
def test_templates_never_touch_what_is_not_there(name: str) -> None:
    """Rendered by plain Jinja, as by other tools, where undefined is an error."""

    def refuse(message: str) -> None:
        raise ValueError(message)

    class Generation(jinja2.ext.Extension):
        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, extensions=[Generation])
    environment.globals["raise_exception"] = refuse
    template = environment.from_string(load_prompt_template(name))
    assert template.render(messages=ROUNDS) == EXPECTED[name][1]
    assert template.render(messages=ROUNDS[:3], add_generation_prompt=True) == EXPECTED[name][2]
    typed = [user("a <ima<image>ge> b"), ROUNDS[1]]
    assert "<image>" not in template.render(messages=typed)
    with pytest.raises(ValueError, match="Message 1 has the role"):
        template.render(messages=[{"content": "no role"}])
    with pytest.raises(ValueError, match="Message 1 has no content"):
        template.render(messages=[{"role": "user"}])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Q", "Q"),
        ("", ""),
        ([], ""),
        ([IMAGE], "<image>"),
        ([IMAGE, "Q"], "<image>\nQ"),
        ([IMAGE, {"type": "text", "text": ""}], "<image>"),
        (["Q", IMAGE], "Q\n<image>"),
        (["one ", {"type": "text", "text": "two"}], "one two"),
        ([IMAGE, IMAGE, "Q"], "Image 1:<image>\nImage 2:<image>\nQ"),
        (["Is ", "this", IMAGE, "like this", IMAGE, "?"], "Is this\nImage 1:<image>\nlike this\nImage 2:<image>\n?"),
        (" spaces stay \n", " spaces stay \n"),
        ("a <image> typed", "a  typed"),
        (["<ima", "ge> in two parts"], " in two parts"),
        (["<ima", IMAGE, "ge>"], "<ima\n<image>\nge>"),
        ("<im<image>age><<image>image>!", "!"),
        ("{{ 7 * 7 }} {% raw %}", "{{ 7 * 7 }} {% raw %}"),
    ],
)
def test_where_images_and_texts_go(content: Any, expected: str) -> None:
    assert text([user(content)]) == f"<start_of_turn>user\n{expected}<end_of_turn>\n"


def test_images_are_numbered_over_the_dialogue_and_only_where_there_are_several() -> None:
    dialogue = [user([IMAGE, IMAGE, "Q1"]), ROUNDS[1], user([IMAGE]), ROUNDS[1], user(["Q3", IMAGE, IMAGE])]
    rendered = text(dialogue, "mistral_instruct")
    assert rendered == (
        "[INST] Image 1:<image>\nImage 2:<image>\nQ1 [/INST] A1 </s><s>[INST] <image> [/INST] A1 </s>"
        "<s>[INST] Q3\nImage 4:<image>\nImage 5:<image> [/INST]"
    )
    assert rendered.startswith(text(dialogue[:2], "mistral_instruct"))
    plain = text(dialogue, "mistral_instruct", variables={"number_images": False})
    assert plain == (
        "[INST] <image>\n<image>\nQ1 [/INST] A1 </s><s>[INST] <image> [/INST] A1 </s>"
        "<s>[INST] Q3\n<image>\n<image> [/INST]"
    )
    assert text([user([IMAGE, IMAGE, "Q1"]), ROUNDS[1]], "plain") == "<image><image>A1\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Q", "Be brief.\n\nQ"),
        ([IMAGE], "<image>\nBe brief."),
        (["Q", IMAGE], "Be brief.\n\nQ\n<image>"),
        ("", "Be brief."),
    ],
)
def test_a_system_message_goes_before_the_first_text(content: Any, expected: str) -> None:
    assert text([SYSTEM, user(content)]) == f"<start_of_turn>user\n{expected}<end_of_turn>\n"


@pytest.mark.parametrize("name", EXPECTED)
def test_an_empty_system_message_takes_the_default_away(name: str) -> None:
    rendered = text([{"role": "system", "content": ""}, *ROUNDS], name)
    assert rendered == EXPECTED[name][1].removeprefix(VICUNA).removeprefix(LLAMA_3).removeprefix(CHATML_DIRECT)


@pytest.mark.parametrize("name", sorted(set(EXPECTED) - {"plain"}))
def test_the_sign_to_draw_ends_the_message(name: str) -> None:
    plain = text([user([IMAGE, "Q1"])], name, add_generation_prompt=True)
    assert "<GEN>" not in plain
    drawn = text([user([IMAGE, "Q1"], draw=True)], name, add_generation_prompt=True)
    assert drawn == plain.replace("Q1", "Q1 <GEN>")
    assert text([user([IMAGE, "Q1"], draw=False)], name, add_generation_prompt=True) == plain


def test_another_mark() -> None:
    rendered = text([user([IMAGE, "typed <image> and [img]"])], image_token="[img]")
    assert rendered == "<start_of_turn>user\n[img]\ntyped <image> and <end_of_turn>\n"


def test_a_message_left_open() -> None:
    open_end = [*ROUNDS[:3], {"role": "assistant", "content": "Look: <h>"}]
    for name in ("vicuna_v1", "gemma", "mistral_instruct", "chatml", "llama_3"):
        prompt = text(ROUNDS[:3], name, add_generation_prompt=True)
        assert text(open_end, name, continue_final_message=True) == f"{prompt}{ENDINGS[name][0]}Look: <h>"


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "A dialogue is a list of messages with at least one, got []."),
        ("hello", "A dialogue is a list of messages with at least one, got 'hello'."),
        (user("Q"), "A dialogue is a list of messages with at least one, got {'role'"),
        (["Q"], "Message 1 is 'Q'. A message is a mapping with 'role' and 'content'."),
        ([{"content": "Q"}], "Message 1 is {'content': 'Q'}. A message is a mapping with 'role' and 'content'."),
        ([{"role": "user"}], "Message 1 has no content. Give a string or a list of parts."),
        ([user(None)], "Message 1 has no content. Give a string or a list of parts."),
        ([user(7)], "Message 1 has the content 7. Give a string or a list of parts."),
        (
            [user("Q"), user("Q")],
            'Message 2 has the role "user", where "assistant" must come. '
            "Roles alternate: user, assistant, user, ...; one system message may come first.",
        ),
        ([ROUNDS[1]], 'Message 1 has the role "assistant", where "user" must come.'),
        ([user("Q"), SYSTEM], 'Message 2 has the role "system", where "assistant" must come.'),
        ([SYSTEM, SYSTEM], 'Message 2 has the role "system", where "user" must come.'),
        ([SYSTEM], "The dialogue has no user message. Give at least one."),
        ([{"role": "to\nol", "content": "x"}], 'Message 1 has the role "to\\nol", where "user" must come.'),
        ([user("Q"), {"role": "assistant", "content": [IMAGE]}], "Message 2 shows an image, but its role is"),
        ([{"role": "system", "content": [IMAGE]}], "Message 1 shows an image, but its role is"),
        ([user("Q"), {**ROUNDS[1], "draw": True}], 'Message 2 has "draw", but its role is "assistant".'),
        ([user([{"type": "video"}])], "Message 1 has the part {'type': 'video'}. Allowed: {'type': 'text', 'text': …}"),
        ([user([{"type": "text"}])], "Message 1 has the part {'type': 'text'}. Allowed:"),
        ([user([3])], "Message 1 has the part 3. Allowed:"),
        ([user([{"type": "image", "image": 1, "path": "a"}])], "has an image part with 'image' and 'path'. Give one"),
        ([user([{"type": "image", "path": 3}])], "has an image part whose 'path' is a 'int'. Give a string."),
        ([user([{"type": "image", "base64": b"x"}])], "has an image part whose 'base64' is a 'bytes'. Give a string."),
        (
            [user([{"type": "image", "url": "https://example.com/a.png"}])],
            "Message 1 has an image part with the url 'https://example.com/a.png'. URLs are not downloaded here: "
            "download the picture and give it as 'image' or 'path', or give a data URL.",
        ),
        ([user([{"type": "image_url", "image_url": {"url": "/etc/passwd"}}])], "with the url '/etc/passwd'. URLs are"),
    ],
)
def test_dialogues_that_are_refused(messages: Any, words: str) -> None:
    with pytest.raises(PromptError) as caught:
        text(messages)
    assert words in str(caught.value)


def test_options_that_are_refused() -> None:
    with pytest.raises(PromptError, match=r"^The dialogue ends with the assistant, so nothing is left to answer\."):
        text(ROUNDS, add_generation_prompt=True)
    with pytest.raises(PromptError, match="^continue_final_message leaves the last message open"):
        text(ROUNDS, add_generation_prompt=True, continue_final_message=True)
    with pytest.raises(PromptError):
        render_dialogue(ROUNDS, template="{% if %}")
    with pytest.raises(PromptError, match="not today"):
        render_dialogue(ROUNDS, template="{{ raise_exception('not today') }}")


def test_images_are_collected_in_order() -> None:
    parts = [
        {"type": "image", "image": 1},
        {"type": "image", "path": "a.png"},
        {"type": "image", "path": Path("data:,x")},
        "text",
        {"type": "image", "url": "data:,x"},
        {"type": "image", "base64": "AAAA"},
        {"type": "image", "base64": "data:;base64,AAAA"},
        {"type": "image_url", "image_url": {"url": "data:,y"}},
        {"type": "image_url", "image_url": "data:,z"},
        IMAGE,
    ]
    images = render_dialogue([user(parts)], template=load_prompt_template("chatml")).images
    assert (images[0], str(images[1])) == (1, "a.png")
    assert images[2] == Path("data:,x")
    assert images[3:] == ("data:,x", "data:;base64,AAAA", "data:;base64,AAAA", "data:,y", "data:,z", None)


def test_messages_are_left_as_they_were() -> None:
    message = user([IMAGE, "<image> typed"])
    text([message])
    assert message == user([IMAGE, "<image> typed"])


@pytest.mark.parametrize("depth", [1, 2, 20_000])
def test_marks_are_removed_from_any_nesting_in_linear_time(depth: int) -> None:
    assert remove_marks("a" + "<im" * depth + "age>" * depth + "b", "<image>") == "ab"
    assert remove_marks("<image" + "<image>" * depth + "b", "<image>") == "<imageb"


def test_threads_do_not_mix_their_spans() -> None:
    template = load_prompt_template("chatml")
    expected = render_dialogue(ROUNDS, template=template, return_assistant_spans=True)
    wrong: list[Any] = []

    def work(spans: bool) -> None:
        for _ in range(20):
            got = render_dialogue(ROUNDS, template=template, return_assistant_spans=spans)
            if got.text != expected.text or got.assistant_spans != (expected.assistant_spans if spans else ()):
                wrong.append(got)

    threads = [threading.Thread(target=work, args=(index % 2 == 0,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_stop_tokens() -> None:
    assert {name: prompt_template_stop_tokens(name) for name in prompt_template_names()} == {
        "chatml": ("<|im_end|>",),
        "chatml_direct": ("<|im_end|>",),
        "gemma": ("<end_of_turn>",),
        "llama_3": ("<|eot_id|>",),
        "mistral_instruct": (),
        "plain": (),
        "vicuna_v1": (),
    }


def test_unknown_names() -> None:
    for ask in (load_prompt_template, prompt_template_stop_tokens):
        with pytest.raises(PromptError) as caught:
            ask("../secrets")
        assert str(caught.value) == (
            "There is no prompt template '../secrets'. "
            "Allowed: chatml, chatml_direct, gemma, llama_3, mistral_instruct, plain, vicuna_v1."
        )


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in 'x' * 9999 %}{% for b in 'x' * 9999 %}{% endfor %}{% endfor %}",
        "{% set mgem_step = messages|length %}{% set long = 'x' * 9999 %}{% for a in long %}{% for b in long %}"
        "{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_a_template_that_does_not_end_is_refused(template: str) -> None:
    with pytest.raises(PromptError, match="may not terminate|does not terminate"):
        render_dialogue([{"role": "user", "content": "a"}], template=template)


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'x' * 99999999 }}",
        "{{ 99999999 * [1] }}",
        "{{ 9 ** (9 ** 9) }}",
        "{{ '%99999999d' % 1 }}",
        "{{ '%*d' % (99999999, 1) }}",
        "{{ '{:99999999}'.format(1) }}",
        "{{ '%99999999d'|format(1) }}",
        "{{ 'x'.center(99999999) }}",
        "{{ 'x'|center(99999999) }}",
        "{{ ('x' * 9999).replace('x', 'y' * 9999) }}",
        "{{ ('x' * 9999)|replace('x', 'y' * 9999) }}",
        "{{ range(9999)|join('y' * 9999) }}",
        "{{ ('y' * 9999).join('x' * 9999) }}",
        "{% set n = namespace(a='x') %}{% for b in range(40) %}{% set n.a = n.a ~ n.a %}{% endfor %}",
        "{% set n = namespace(a='x') %}{% for b in range(40) %}{% set n.a = n.a + n.a %}{% endfor %}",
    ],
)
def test_a_template_that_makes_huge_texts_is_refused(template: str) -> None:
    with pytest.raises(PromptError, match=r"^The chat template makes a text of more than 50,000,000 characters\. Give"):
        render_dialogue([{"role": "user", "content": "a"}], template=template)


def test_limits_change_no_text() -> None:
    template = (
        "{% for m in messages %}{{ loop.index ~ '/' ~ loop.length }}{{ '-' * 3 + '%3d' % 7 }}{{ [1, 2]|join('+') }}"
        "{{ m.content.replace('a', 'b')|center(5) }}{{ 'c{}'.format(2 ** 3) }}"
        "{% if loop.last %}.{% endif %}{% endfor %}"
    )
    dialogue = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "aa"}]
    expected = "1/2---  71+2  b  c82/2---  71+2  bb c8."
    assert render_dialogue(dialogue, template=template).text == expected


def test_a_loop_counts() -> None:
    counted = render_dialogue([{"role": "user", "content": "a"}], template="{% for a in range(3) %}{{ a }}{% endfor %}")
    assert counted.text == "012"
