"""Which patch of a scene says what, and what it costs to say something else."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mgem_agent.recipes.nano.seeing.patch_labels import (
    fact_embeds,
    fact_loss,
    patch_facts,
    patch_labels,
    visual_vocabulary,
    word_embeds,
    word_loss,
)
from mgem_agent.recipes.nano.seeing.region_facts import FACTS
from mgem_agent.recipes.nano.world.scene import Chart, ChartPart, Scene, SceneObject, SceneText, Surface

VOCABULARY = visual_vocabulary()
NUMBERS = {word: number for number, word in enumerate(VOCABULARY)}


def test_the_vocabulary_tells_printed_words_from_things():
    assert {"tiger", '"tiger"', '"99"', "red circle", "beach", "plain blue"} <= set(VOCABULARY)
    assert len(set(VOCABULARY)) == len(VOCABULARY)


def test_a_patch_says_what_covers_it():
    scene = Scene(
        0, "beach",
        objects=(SceneObject("tiger", 0.25, 0.25, 0.5),),
        texts=(SceneText("sale", 0.7, 0.8, 0.03, "small", "black", "white"),),
    )  # fmt: skip
    words, is_background = patch_labels(scene, 8, NUMBERS)
    said = [VOCABULARY[number] for number in words]
    assert said[0] == "tiger" and said[9] == "tiger"
    assert said[7] == "beach" and is_background[7]
    assert said[6 * 8 + 5] == '"sale"'  # though it covers little of the patch
    assert not is_background[9]
    large = Scene(0, "beach", texts=(SceneText("sale", 0.5, 0.5, 0.15, "large", "black", "white"),))
    assert patch_labels(large, 8, NUMBERS)[0].tolist().count(NUMBERS['"sale"']) >= 4
    chart = Scene(0, "plain white", chart=Chart("bar", (ChartPart("cats", 3, "red"), ChartPart("dogs", 4, "blue"))))
    words, is_background = patch_labels(chart, 8, NUMBERS)
    said = [VOCABULARY[number] for number in words]
    assert set(said[:48]) == {"bar chart"} and is_background[:48].all()
    assert [word for word in said[56:] if word != "bar chart"] == ['"cats"', '"dogs"', '"dogs"']
    nothing = Scene(0, "plain grey", surface=Surface("noise", ("red", "blue")))
    assert {VOCABULARY[number] for number in patch_labels(nothing, 8, NUMBERS)[0]} == {"unclear"}


def test_the_first_piece_of_a_word_stands_out_and_a_printed_word_is_another():
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    )
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(torch.eye(8))
    pieces = {" tiger": [1], " t-rex": [2, 3, 4], "tiger": [5]}

    class Tokenizer:
        def __call__(self, text, add_special_tokens):
            return type("Words", (), {"input_ids": pieces[text]})

    table = word_embeds(model, Tokenizer(), ("tiger", "t-rex", '"tiger"'))
    torch.testing.assert_close(table[0], torch.eye(8)[1])
    torch.testing.assert_close(table[1, 2:5], torch.tensor([4.0, 2.0, 1.0]) / 7)
    torch.testing.assert_close(table[2], torch.eye(8)[5])


def test_the_loss_is_least_at_the_words_own_embeddings():
    torch.manual_seed(0)
    table, words = torch.randn(20, 32), torch.tensor([[3, 4, -100]])
    is_background = torch.tensor([[False, True, True]])
    weights = {"background_weight": 0.15, "sharpness": 20.0, "distance_weight": 0.2}
    there = table[[3, 4, 0]][None]
    loss, right = word_loss(there, words, is_background, table, **weights)
    assert right == 1.0
    assert loss < 0.01
    elsewhere, wrong = word_loss(there.roll(1, 1), words, is_background, table, **weights)
    assert wrong == 0.0
    assert elsewhere > 5
    doubled, _ = word_loss(2 * there, words, is_background, table, **weights)
    assert doubled > loss + 0.1  # the length counts


def test_of_two_words_in_a_patch_it_says_the_one_that_it_holds_more_of():
    ink = ("small", "black", "white")
    low, high = SceneText("sale", 0.56, 0.62, 0.03, *ink), SceneText("open", 0.56, 0.555, 0.03, *ink)
    for texts in ((low, high), (high, low)):
        said, _ = patch_labels(Scene(0, "beach", texts=texts), 8, NUMBERS)
        assert VOCABULARY[said[4 * 8 + 4]] == '"open"'  # the other one's larger part is below it
    scene = Scene(0, "beach", objects=(SceneObject("tiger", 0.56, 0.56, 0.6),), texts=(high,))
    said, is_background = patch_labels(scene, 8, NUMBERS)
    assert VOCABULARY[said[4 * 8 + 4]] == '"open"' and not is_background[4 * 8 + 4]


def told(scene: Scene, patch: int) -> dict[str, str]:
    numbers = patch_facts(scene, 8)[patch].tolist()
    return {fact: words[number] for (fact, words), number in zip(FACTS.items(), numbers, strict=True) if number >= 0}


def test_a_patch_knows_the_place_colour_and_number_of_what_it_shows():
    foxes = tuple(SceneObject("fox", x, 0.25, 0.3) for x in (0.2, 0.8))
    scene = Scene(0, "plain blue", objects=(*foxes, SceneObject("frog", 0.5, 0.8, 0.3)), layout="count")
    assert told(scene, 8 + 1) == {"row": "top", "column": "left", "colour": "orange", "number": "two"}
    assert told(scene, 6 * 8 + 4) == {"row": "bottom", "column": "centre", "colour": "green", "number": "one"}
    assert told(scene, 4 * 8) == {"colour": "blue"}  # the background
    assert told(Scene(0, "beach"), 0) == {}
    assert told(Scene(0, "plain grey", surface=Surface("blur", ("red", "blue"))), 0) == {}


def test_a_label_knows_the_value_and_the_rank_of_its_bar():
    parts = (ChartPart("cats", 3, "red"), ChartPart("dogs", 4, "blue"))
    bars = Scene(0, "plain white", chart=Chart("bar", parts))
    assert told(bars, 0) == {"number": "two"}  # bars
    facts = [told(bars, patch) for patch in range(56, 64)]
    assert {"colour": "red", "number": "three", "rank": "smallest"} in facts
    assert {"colour": "blue", "number": "four", "rank": "largest"} in facts
    pie = Scene(0, "plain white", chart=Chart("pie", parts))
    assert {"colour": "blue", "rank": "largest"} in [told(pie, patch) for patch in range(64)]


def test_the_loss_of_facts_is_least_at_their_own_words():
    torch.manual_seed(0)
    tables = [table - table.mean(0) for table in (torch.randn(len(words), 64) for words in FACTS.values())]
    facts = torch.tensor([[[0, 2, 5, -100, 1, -100], [-100] * 6]])
    is_background, middle = torch.tensor([[False, True]]), torch.randn(64)
    options = {"background_weight": 0.15, "sharpness": 20.0}
    tokens = (middle + tables[0][0] + tables[1][2] + tables[2][5] + tables[4][1]).expand(1, 2, 64)
    loss, extra, right = fact_loss(tokens, facts, is_background, tables, middle, **options)
    assert right == {"row": 1.0, "column": 1.0, "colour": 1.0, "rank": 1.0}  # no patch has a number or a size
    torch.testing.assert_close(extra[0, 0], tokens[0, 0] - middle)
    assert not extra[0, 1].any()
    other, _, _ = fact_loss(middle + torch.randn(1, 2, 64), facts, is_background, tables, middle, **options)
    assert other > 4 * loss
    sized = {**options, "size_weight": 1.0}
    whole, _, _ = fact_loss(tokens, facts, is_background, tables, middle, **sized)
    small, _, _ = fact_loss(middle + 0.3 * (tokens - middle), facts, is_background, tables, middle, **sized)
    assert small > whole + 0.1  # the directions are the same


def test_words_of_facts_have_no_common_part():
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    )

    class Tokenizer:
        def __call__(self, text, add_special_tokens):
            return type("Words", (), {"input_ids": [len(text) % 8]})

    for table, words in zip(fact_embeds(model, Tokenizer()), FACTS.values(), strict=True):
        assert table.shape == (len(words), 8)
        torch.testing.assert_close(table.mean(0), torch.zeros(8), atol=1e-6, rtol=0)
