"""Each known thing becomes the cells of its picture; words that are not known leave no token."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mgem_agent.recipes.nano.drawing.cell_tokenizer import RELATIONS, CellGrid, cell_tokenizer
from mgem_agent.recipes.nano.drawing.vocabulary import nano_vocabulary

GRID = CellGrid(side=2, place_side=1, max_tokens=16)
VOCABULARY = nano_vocabulary()
NAMES = [word.name for word in (*VOCABULARY.things, *VOCABULARY.places)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return cell_tokenizer(VOCABULARY, GRID)


def subjects(tokenizer: PreTrainedTokenizerFast, caption: str) -> list[str]:
    """Return the things, places and relations of a caption, in order."""
    num_things = len(VOCABULARY.things)
    firsts = {GRID.first_token(number, num_things): name for number, name in enumerate(NAMES)}
    firsts |= {len(tokenizer) - len(RELATIONS) + number: name for number, name in enumerate(RELATIONS)}
    return [firsts[token] for token in tokenizer(caption)["input_ids"] if token in firsts]


def test_a_thing_has_a_token_for_each_cell(tokenizer: PreTrainedTokenizerFast) -> None:
    first = GRID.first_token(NAMES.index("fox"), len(VOCABULARY.things))
    assert tokenizer("A fox!")["input_ids"] == [0, first, first + 1, first + 2, first + 3, 1]


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("Three red apples on the sand by the sea", ["three", "red apple", "beach"]),
        ("a fox to the left of a fir tree, in a meadow", ["fox", "left of", "fir tree", "meadow"]),
        ("two kittens, one above the other, under the sea", ["two", "cat", "one above the other", "underwater"]),
        ("a black cat on the left and a cat on the right, at night", ["black cat", "left of", "cat", "night sky"]),
        ("a foxglove and carpets", ["with"]),
        ("a hut", ["house"]),
    ],
)
def test_the_longest_known_names_count(tokenizer: PreTrainedTokenizerFast, caption: str, found: list[str]) -> None:
    assert subjects(tokenizer, caption) == found


def test_transformers_reads_it_without_this_package(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    ids = loaded(["an owl in space"], padding="max_length", return_tensors="pt")["input_ids"]
    assert ids.shape == (1, 16)
    assert ids[0].tolist()[:7] == tokenizer("an owl in space")["input_ids"]
