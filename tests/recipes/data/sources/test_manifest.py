"""The shipped manifests, and what a manifest refuses."""

from __future__ import annotations

import pytest

from mgem_agent.errors import InputError
from mgem_agent.recipes.data.sources.converters import CONVERTERS
from mgem_agent.recipes.data.sources.manifest import load_manifests, mix_names, read_manifest

TEXT = """
title: t
mixes: {m: 1}
home: h
licence: l
converter: llava
records: [a.json]
files: [{url: "http://x.org/a.json", to: a.json}]
"""


def test_the_shipped_manifests_hold_together() -> None:
    manifests = load_manifests()
    assert mix_names(manifests) == ("instruct", "mgm_instruct", "mgm_pretrain", "pretrain")
    for manifest in manifests.values():
        assert manifest.converter in CONVERTERS
        assert manifest.home.startswith("https://")
        assert set(manifest.pictures_of) <= set(manifests)
    first = sum(manifest.mixes.get("pretrain", 0) for manifest in manifests.values())
    second = sum(manifest.mixes.get("instruct", 0) for manifest in manifests.values())
    assert (first, second) == (1_253_000, 1_500_000)  # the paper: 1.2M and 1.5M
    places: dict[str, tuple[str, ...]] = {}
    for manifest in manifests.values():
        for file in manifest.files:  # sources that share a file agree on its origin
            known = (file.origin, str(file.unpack), str(file.flat))
            assert places.setdefault(file.to, known) == known


def test_pictures_are_renamed_or_dropped() -> None:
    sources = load_manifests()
    assert sources["llava_pretrain"].renamed("00453/1.jpg") == "llava/LLaVA-Pretrain/images/00453/1.jpg"
    assert sources["llava_665k"].renamed("textvqa/train_images/1.jpg") is None
    assert sources["llava_665k"].renamed("coco/train2017/1.jpg") == "coco/train2017/1.jpg"
    mine = read_manifest("m", TEXT + 'rename: {"": x/, "a/b/": y/}')
    assert [mine.renamed(name) for name in ("a/1.jpg", "a/b/1.jpg")] == ["x/a/1.jpg", "y/1.jpg"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TEXT.replace("llava", "llama"), "converter"),
        (TEXT.replace("to: a.json", "to: ../a.json"), "within the root folder"),
        (TEXT.replace("to: a.json", "to: /a.json"), "within the root folder"),
        (TEXT.replace("to: a.json", "to: a.json, hub: x/y"), "exactly one of hub, url and manual"),
        (TEXT.replace("to: a.json", "to: a.json, path: y"), "needs path together with hub"),
        (TEXT + "colour: red", "colour"),
        ("just text", "not valid"),
    ],
)
def test_what_is_wrong_is_refused(text: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        read_manifest("m", text)
