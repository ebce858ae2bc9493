"""Both mixes of the paper, from small archives of each source's real form to records and a report."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.data.sources.manifest import Manifest
from mgem_agent.recipes.data.sources.mix import get_mix, plan_mix
from mgem_agent.recipes.train.records import RecordFile, dialogue_of
from mgem_agent.tools.servers.web_address import PublicAddresses

Manifests = dict[str, Manifest]


def written(root: Path, source: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "records" / f"{source}.jsonl").read_text().splitlines()]


def counts(report: Any) -> dict[str, tuple[int, int, int, int]]:
    return {row.source: (row.found, row.got, row.missing, row.broken) for row in report.sources}


def test_the_first_stage_is_fetched_resumed_and_converted(served: Any, manifests: Manifests, root: Path) -> None:
    archive = "/datasets/liuhaotian/LLaVA-Pretrain/resolve/main/images.zip"
    served.breaks.add(archive)
    said: list[str] = []
    report = get_mix("pretrain", root, manifests=manifests, endpoint=served.address, report=said.append)
    assert [result.state for result in report.files] == ["here"] * 15
    assert counts(report) == {"allava_caption": (3, 3, 0, 0), "llava_pretrain": (3, 1, 1, 1)}
    assert [record["image"] for record in written(root, "allava_caption")] == [
        "ALLaVA-4V/allava_laion/images/100.jpeg",
        "ALLaVA-4V/allava_laion/images/101.jpeg",
        "ALLaVA-4V/allava_vflan/images/images_191task_1k/a+b.png",
    ]
    kept = written(root, "llava_pretrain")
    assert kept[0].keys() == {"id", "image", "conversations"}
    records = RecordFile(root / "records/llava_pretrain.jsonl", root)
    assert dialogue_of(records[0], records.images)[1]["content"] == "It is 004539375."
    missing = (root / "records/llava_pretrain.missing.txt").read_text()
    assert missing == "llava/LLaVA-Pretrain/images/00453/gone.jpg\n"
    assert len([path for path, _ in served.asked if path == archive]) == 2  # broken off, and tried again
    assert json.loads(report.path.read_text())["sources"][1]["missing"] == 1
    before = len(served.asked)
    again = get_mix("pretrain", root, manifests=manifests, endpoint=served.address)
    assert counts(again) == counts(report) and len(served.asked) == before
    joined = get_mix("mgm_pretrain", root, manifests=manifests, endpoint=served.address)
    assert counts(joined) == {
        "mgm_pretrain": (2, 2, 0, 0),
        "mgm_pretrain: llava_pretrain": (1, 1, 0, 0),
        "mgm_pretrain: allava_caption": (1, 1, 0, 0),
    }


SECOND_STAGE = {
    "ai2d": (2, 2, 0, 0),
    "allava_instruct": (2, 2, 0, 0),
    "chartqa": (1, 1, 0, 0),
    "docvqa": (1, 1, 0, 0),
    "dvqa": (1, 1, 0, 0),
    "lima": (2, 1, 0, 1),
    "llava_665k": (7, 6, 0, 1),
    "mgm_generation": (1, 1, 0, 0),
    "oasst2": (1, 1, 0, 0),
    "sharegpt4v_100k": (4, 3, 1, 0),
}


def test_the_second_stage_is_converted_from_every_form(served: Any, manifests: Manifests, root: Path) -> None:
    archive = "/nlp/data/gqa/images.zip"
    served.breaks.add(archive)
    report = get_mix("instruct", root, only=list(SECOND_STAGE), manifests=manifests, endpoint=served.address)
    assert counts(report) == SECOND_STAGE
    half = len(served.web[archive]) // 2
    assert [wanted for path, wanted in served.asked if path == archive] == [None, f"bytes={half}-"]
    by_hand = [result for result in report.files if result.state == "by hand"]
    assert [result.file.to for result in by_hand] == [
        "share_textvqa/images",
        "wikiart/images",
        "web-celebrity/images",
        "web-landmark/images",
    ]
    assert str(root / "wikiart/images") in by_hand[1].message
    pictures = {record["id"]: record.get("image") for record in written(root, "llava_665k")}
    assert pictures["ocr"] == "ocr_vqa/images/5.png"
    assert pictures["vg2"] == "vg/VG_100K/4.jpg"
    assert "text" in pictures and "textcaps" not in pictures
    broken = json.loads((root / "records/llava_665k.broken.jsonl").read_text())
    assert broken == {"id": "damaged", "reason": "unreadable picture", "picture": "coco/train2017/7.jpg"}
    charts = written(root, "chartqa")[0]
    assert charts["image"] == "chartqa/train/png/8.png"
    assert [turn["value"] for turn in charts["conversations"]] == [
        "<image>\nHow many?\nAnswer the question using a single word or phrase.",
        "3",
        "Which?\nAnswer the question using a single word or phrase.",
        "Blue",
    ]
    diagrams = {record["image"]: record["conversations"] for record in written(root, "ai2d")}
    assert diagrams["ai2d/images/0.png"][0]["value"] == (
        "<image>\nWhat eats grass?\nA. fox\nB. hare\nAnswer with the option's letter from the given choices directly."
    )
    assert diagrams["ai2d/images/0.png"][1]["value"] == "B"
    assert diagrams["ai2d/abc_images/0.png"][1]["value"] == "A"
    assert written(root, "docvqa")[0]["conversations"][1]["value"] == "1970"
    assert [turn["value"] for turn in written(root, "oasst2")[0]["conversations"]] == ["Why?", "Best."]


def test_the_joined_file_is_reported_by_source(served: Any, manifests: Manifests, root: Path) -> None:
    few = manifests["mgm_instruction"].model_copy(update={"pictures_of": ("llava_665k", "dvqa")})
    report = get_mix("mgm_instruct", root, manifests=manifests | {few.name: few}, endpoint=served.address)
    assert counts(report) == {
        "mgm_instruction": (4, 2, 2, 0),
        "mgm_instruction: llava_665k": (1, 1, 0, 0),
        "mgm_instruction: text alone": (1, 1, 0, 0),
        "mgm_instruction: other pictures": (1, 0, 1, 0),
        "mgm_instruction: dvqa": (1, 0, 1, 0),
    }


def test_dead_links_are_missing_pictures(served: Any, manifests: Manifests, root: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    names = ("alive.jpg", "dead.jpg", "not-a-picture.jpg")
    table = arrow.table({"link": [f"{served.address}/{name}" for name in names], "caption": ["A.", "B.", "C."]})
    file = io.BytesIO()
    parquet.write_table(table, file)
    place = root / "downloads/laion_gpt4v/train-00000-of-00001.parquet"
    place.parent.mkdir(parents=True)
    place.write_bytes(file.getvalue())
    options: dict[str, Any] = {"only": ["laion_gpt4v"], "manifests": manifests}
    assert counts(get_mix("instruct", root, **options)) == {"laion_gpt4v": (3, 0, 3, 0)}  # this machine is private
    own = PublicAddresses("127.0.0.1", served.port)
    assert counts(get_mix("instruct", root, public=own, **options)) == {"laion_gpt4v": (3, 1, 2, 0)}
    assert written(root, "laion_gpt4v")[0]["conversations"][1]["value"] == "A."


def test_a_failed_file_does_not_stop_the_others(served: Any, manifests: Manifests, tmp_path: Path) -> None:
    lima = manifests["lima"]
    wrong = lima.files[0].model_copy(update={"path": "gone.jsonl"})
    changed = manifests | {"lima": lima.model_copy(update={"files": (wrong,)})}
    report = get_mix("instruct", tmp_path, only=["lima", "mgm_generation"], manifests=changed, endpoint=served.address)
    assert [result.state for result in report.files] == ["failed", "here"]
    assert "hub: GAIR/lima/gone.jsonl cannot be fetched" in report.files[0].message
    assert "run: hf auth login" in report.files[0].message
    assert [row.got for row in report.sources] == [0, 1]
    assert report.sources[0].note == "no records yet; expected downloads/lima/train.jsonl"


def test_a_wrong_checksum_is_refused(served: Any, manifests: Manifests, tmp_path: Path) -> None:
    for name in ("lima", "ai2d"):
        source = manifests[name]
        file = source.files[0].model_copy(update={"sha256": "0" * 64})
        changed = manifests | {name: source.model_copy(update={"files": (file,)})}
        report = get_mix("instruct", tmp_path, only=[name], manifests=changed, endpoint=served.address)
        assert report.files[0].state == "failed"
        assert f"{'0' * 64}" in report.files[0].message
        assert not (tmp_path / file.to).exists()


def test_a_plan_uses_no_network(root: Path) -> None:
    plan = plan_mix("instruct", root, only=["llava_665k", "dvqa"])
    assert [(result.file.to, result.state) for result in plan.files][-2:] == [
        ("downloads/llava_665k/vg_images2.zip", "to fetch"),
        ("ocr_vqa/images", "here"),
    ]
    assert plan.about_bytes == 1_030_000_000 and plan.num_unknown == 4
    assert plan.free_bytes > 0


@pytest.mark.parametrize(
    ("mix", "only", "expected"),
    [
        ("stage1", [], r"no mix 'stage1'\. Give one of: instruct, mgm_instruct, mgm_pretrain, pretrain\."),
        ("pretrain", ["lima"], r"has no source 'lima'\. Give some of: allava_caption, llava_pretrain\."),
    ],
)
def test_unknown_names_are_refused(tmp_path: Path, mix: str, only: list[str], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        plan_mix(mix, tmp_path, only=only)
