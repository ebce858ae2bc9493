"""Search, filters, pages and versions over stored pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mgem_agent.agent.agent import MgemAgent
from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.server.page.gallery import GalleryQuery, Pictures, facts_of, session_pictures
from mgem_agent.sessions.sessions import Sessions
from mgem_agent.testing import FlatColourGenerator, ScriptedReasoner
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "images")


def drawn(store: ArtifactStore, prompt: str, version_of: str | None = None, **fields: Any) -> Artifact:
    generator = FlatColourGenerator(size=(16, 16))
    request = ImageRequest(prompt=prompt, **fields)
    pictures = {name: store.open(name) for name in request.picture_ids}
    *_, result = generator.generate([request], pictures=pictures)
    assert isinstance(result, ImageResult)
    return store.put(result, version_of=version_of)


def test_search_and_filters(store: ArtifactStore) -> None:
    fox, cat = drawn(store, "a Red fox"), drawn(store, "a red cat")
    photo = store.put_picture(Image.new("RGB", (8, 8)), origin="red photo.png")
    pictures = Pictures(store)
    assert {each.id for each in pictures.find(GalleryQuery("red")).pictures} == {fox.id, cat.id, photo.id}
    assert [each.id for each in pictures.find(GalleryQuery("FOX red")).pictures] == [fox.id]
    assert pictures.find(GalleryQuery("red", generator="flat")).num_found == 2
    assert pictures.find(GalleryQuery(model="flat-colour", within=frozenset([cat.id]))).pictures == [cat]
    assert pictures.find(GalleryQuery("nothing")).num_pages == 1
    assert (pictures.generators(), pictures.models()) == (["flat"], ["flat-colour"])


def test_pages_are_complete_and_newest_first(store: ArtifactStore) -> None:
    made = {drawn(store, f"card {n}").id for n in range(30)}
    pictures = Pictures(store)
    pages = [pictures.find(GalleryQuery(page=number)) for number in (1, 2)]
    assert [len(page.pictures) for page in pages] == [24, 6]
    assert {each.id for page in pages for each in page.pictures} == made
    created = [each.created for page in pages for each in page.pictures]
    assert created == sorted(created, reverse=True)
    assert pictures.find(GalleryQuery(page=99)).page == 2


def test_new_and_deleted_pictures_are_noticed(store: ArtifactStore) -> None:
    pictures = Pictures(store)
    assert pictures.all() == []
    fox = drawn(store, "a fox")
    assert [each.id for each in pictures.all()] == [fox.id]
    store.path(fox.id).unlink()
    assert pictures.all() == []


def test_versions_are_redraws_edits_and_other_prompts(store: ArtifactStore) -> None:
    fox = drawn(store, "a fox", seed=1)
    again = drawn(store, "a fox", seed=2)
    night = drawn(store, "make it night", task="edit", image=fox.id)
    dog = drawn(store, "a dog", version_of=night.id)
    drawn(store, "a cat")
    pictures = Pictures(store)
    for each in (fox, again, night, dog):
        assert {found.id for found in pictures.versions(each)} == {fox.id, again.id, night.id, dog.id}
    assert [each.id for each in pictures.children(fox.id)] == [night.id]


def test_a_long_list_of_versions_keeps_the_picture_itself(store: ArtifactStore) -> None:
    many = [drawn(store, "a fox", seed=seed) for seed in range(30)]
    for artifact in many:
        found = Pictures(store).versions(artifact)
        assert len(found) == 24 and artifact in found


def test_facts_name_what_is_known(store: ArtifactStore) -> None:
    facts = facts_of(drawn(store, "a fox", seed=0))
    assert facts["Seed"] == 0 and facts["Generator"] == "flat" and facts["Size"] == "16 × 16 px"
    assert "Strength" not in facts
    assert facts_of(store.put_picture(Image.new("RGB", (8, 8)), origin="cat.png"))["Origin"] == "cat.png"


def test_pictures_of_a_session_are_those_sent_and_drawn(store: ArtifactStore) -> None:
    sent = store.put_picture(Image.new("RGB", (8, 8), "red"), origin="red.png")
    drawn(store, "another")
    reasoner = ScriptedReasoner(script=["<h> a fox </h>"])
    agent = MgemAgent(reasoner, FlatColourGenerator(size=(16, 16)), store=store, sessions=Sessions.in_memory())
    turn = agent.invoke("Draw it.", [sent.id], session="s")
    assert session_pictures(agent.sessions, "s") == {sent.id, turn.pictures[0].artifact_id}
    assert session_pictures(agent.sessions, "other") == frozenset()
