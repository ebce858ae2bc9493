from __future__ import annotations

from mgem_agent.recipes.data.shards.index import RecordIndex


def test_an_index_is_read_as_it_was_written_and_joined() -> None:
    one = RecordIndex.from_rows([("a.tar", 10)], [(0, 0, 5, 2**40, 1), (0, 5, 5, 7, 0)], {1: ("malformed", "no")})
    two = RecordIndex.from_rows([("b.tar", 2**40)], [(0, 2**39, 5, 8, 2)], {0: ("not JSON", "x")})
    both = RecordIndex.joined([one, one, two])
    again = RecordIndex.from_bytes(both.to_bytes(), "index")
    assert again.files == (("a.tar", 10), ("a.tar", 10), ("b.tar", 2**40))
    assert again.file.tolist() == [0, 0, 1, 1, 2]
    assert again.start.tolist() == [0, 5, 0, 5, 2**39]
    assert again.num_chars.tolist() == [2**31 - 1, 7, 2**31 - 1, 7, 8]
    assert again.problems == {1: ("malformed", "no"), 3: ("malformed", "no"), 4: ("not JSON", "x")}
    assert len(again) == 5
