"""Which patch of a scene says what, and what it costs to say something else."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mgem_agent.recipes.nano.seeing.patch_labels import patch_labels, visual_vocabulary, word_embeds, word_loss
from mgem_agent.recipes.nano.world.scene import Chart, ChartPart, Scene, SceneObject, SceneText

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
    assert set(patch_labels(chart, 8, NUMBERS)[0].tolist()) == {-100}


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
