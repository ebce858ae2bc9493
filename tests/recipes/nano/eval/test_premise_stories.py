"""What stories keep of their premises, counted."""

from __future__ import annotations

from mgem_agent.recipes.nano.eval.premise_stories import PremiseKeeping, ToldStory, held_out_premises, premise_table
from mgem_agent.workflows.premise import read_premise


def test_thirty_premises_have_a_hero() -> None:
    premises = held_out_premises()
    assert len(premises) == len(set(premises)) == 30
    assert all(read_premise(each) for each in premises)


def test_what_is_kept_is_counted() -> None:
    pages = (("The fox sat.", "A fox in the forest."), ("It slept.", "A fox in a meadow."), ("A key!", "A foxglove."))
    found = PremiseKeeping.of([ToldStory("fox", ("key", "hen"), "forest", pages), ToldStory("Mia", (), "", pages[:1])])
    assert (found.hero_in_text.num_right, found.hero_in_text.num) == (1, 4)
    assert (found.hero_in_caption.num_right, found.hero_in_caption.num) == (2, 4)
    assert (found.place.num_right, found.place.num) == (0, 1)  # one caption of three
    assert (found.things.num_right, found.things.num) == (1, 2)
    assert (found.different_captions.num_right, found.different_captions.num) == (4, 4)
    assert premise_table({"with": found}).row_count == 5
