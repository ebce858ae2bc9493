"""The benchmark of the agent: both ways do the same work, and its figures are what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.bench.agent import AgentComparison, bench_agent
from mgem_agent.recipes.bench.compared_agents import BareAgent, OurAgent, used_bytes
from mgem_agent.testing import FlatColourGenerator


@pytest.fixture(scope="module")
def comparison() -> AgentComparison:
    return bench_agent(turns=8, single_s=0.1, repeats=2)


def test_both_agents_draw_and_store_the_same(tmp_path: Path) -> None:
    generators = FlatColourGenerator(size=(16, 16)), FlatColourGenerator(size=(16, 16))
    with OurAgent(tmp_path / "ours", generators[0]) as ours, BareAgent(tmp_path / "bare", generators[1]) as bare:
        assert [ours.turn("a"), ours.turn("a")] == [bare.turn("a"), bare.turn("a")] == [1, 1]
        assert used_bytes(ours.database) > 0 < used_bytes(bare.database)
    assert [each.prompt for each in generators[0].drawn] == [each.prompt for each in generators[1].drawn]
    stored = [sorted(path.name for path in (tmp_path / way).rglob("img-*")) for way in ("ours", "bare")]
    assert stored[0] == stored[1] and len(stored[0]) == 4


def test_a_session_goes_on_where_it_was(tmp_path: Path) -> None:
    generator = FlatColourGenerator(size=(16, 16))
    with OurAgent(tmp_path, generator, num_captions=3) as ours:
        assert ours.turn("a") == 3
        assert generator.num_batches == 1
    with OurAgent(tmp_path, generator) as ours:
        assert len(list(ours.begin_turn("a"))) > 1


def test_the_figures(comparison: AgentComparison) -> None:
    assert comparison.overhead == pytest.approx(1 / comparison.ratio)
    assert (len(comparison.ours_run.seconds), len(comparison.alternative_run.seconds)) == (2, 2)
    story = comparison.story
    assert min(story.one_by_one_run.seconds) > 8 * 0.1
    assert min(story.batch_run.seconds) > 2 * 0.1
    assert story.ratio > 1
    session = comparison.session
    assert session.num_turns == 8
    assert (session.alternative_growth_ratio or 0) > 1, "a thread that holds the dialogue in every checkpoint grows"
    assert session.alternative_late_growth_bytes > session.late_growth_bytes
    assert session.resume_ratio > 0
    still = session.model_copy(update={"early_growth_bytes": 0.0, "alternative_early_growth_bytes": 0.0})
    assert still.growth_ratio is still.alternative_growth_ratio is None
    grown = session.model_copy(update={"early_growth_bytes": 4096.0, "late_growth_bytes": 8192.0})
    assert grown.growth_ratio == 2
    assert AgentComparison.model_validate_json(comparison.model_dump_json()) == comparison


def test_what_is_shown(comparison: AgentComparison) -> None:
    turn, scenes, long = comparison.tables()
    assert [column.header for column in turn.columns][1:] == ["MgemAgent", "create_agent, bare", "ratio"]
    assert [column.header for column in scenes.columns][1:] == ["one batch", "one by one", "ratio"]
    assert list(long.columns[0].cells) == ["growth a turn", "growth a turn, create_agent, bare", "time to resume"]


@pytest.mark.parametrize("counts", [{"turns": 3}, {"repeats": 0}])
def test_numbers_are_checked(counts: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r" must be at least 1, got 0\.$"):
        bench_agent(**counts)
