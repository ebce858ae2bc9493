from __future__ import annotations

import pytest

from mgem_agent.core_model.checkpoints import RELEASED_CHECKPOINTS
from mgem_agent.errors import InputError
from mgem_agent.recipes.eval.paper.benchmarks import ablations, find_benchmarks, paper_benchmarks, published_values
from mgem_agent.recipes.train.config_file import shipped_configs


def test_the_benchmarks_of_both_tables() -> None:
    names = [each.name for each in paper_benchmarks()]
    assert names[:6] == ["TextVQA", "MMB", "MME", "MM-Vet", "MMMU val", "MathVista"]
    assert names[6:] == ["LLaVA-Wild", "POPE", "SEED", "OCRBench", "DocVQA", "Q-Bench", "HallusionBench"]
    assert [each.name for each in paper_benchmarks() if each.table == 6] == names[6:]


def test_settings_are_the_authors() -> None:
    text, mme, vet = find_benchmarks(("TextVQA", "mme", "mmvet"))
    assert text.changes["lmms_eval_specific_kwargs"]["default"]["ocr"] and text.our_task == "mgem_textvqa_val"
    assert mme.changes["generation_kwargs"] == {"max_new_tokens": 128, "temperature": 0, "do_sample": False}
    assert vet.changes["lmms_eval_specific_kwargs"]["default"]["pre_prompt"] == ""
    changed = [each.changes["generation_kwargs"] for each in paper_benchmarks() if each.changes]
    assert not any(options["do_sample"] or options["temperature"] for options in changed)


def test_an_unknown_benchmark_is_refused() -> None:
    with pytest.raises(InputError, match=r"no benchmark 'VQAv3' in the paper. Allowed: TextVQA, MMB"):
        find_benchmarks(("VQAv3",))


def test_published_values() -> None:
    assert published_values("YanweiLi/MGM-7B")["TextVQA"] == "65.2"
    assert published_values("/models/MGM-34B-HD/") == published_values("mgm-34b-hd")
    assert published_values("mgm-34b-hd")["MME"] == "1659/482"
    assert published_values("nano") == {}
    assert all(published_values(each.hub_id) for each in RELEASED_CHECKPOINTS)


def test_ablations_add_up() -> None:
    rows = {each.id: each for each in ablations()}
    assert [sum(each.table == number for each in rows.values()) for number in (2, 3)] == [7, 7]
    assert rows["data-allava"].published == {"TextVQA": 65.2, "MME": 1523.3, "MM-Vet": 40.8}
    assert all(set(each.train) <= set(shipped_configs()) for each in rows.values())
