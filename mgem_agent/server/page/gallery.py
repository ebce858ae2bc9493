"""Queries over the stored pictures: search, filters, pages, versions and children.

A record is read once and remembered, because it never changes in what a gallery shows.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.artifacts.shareable import shareable_name
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.sessions.sessions import Sessions

__all__ = ["GalleryPage", "GalleryQuery", "Pictures", "facts_of", "session_pictures"]

PAGE_SIZE = 24
MAX_VERSIONS = 24


@dataclass(frozen=True, slots=True)
class GalleryQuery:
    """What a gallery shows.

    Attributes:
        words: Words that the prompt must contain.
        generator: Name of the generator, as a gallery shows it; empty for all.
        model: Name of the model; empty for all.
        within: Ids of the only pictures to show, such as those of a session; None for all.
        page: Number of the page, from 1.
    """

    words: str = ""
    generator: str = ""
    model: str = ""
    within: frozenset[str] | None = None
    page: int = 1


@dataclass(frozen=True, slots=True)
class GalleryPage:
    """A page of a gallery.

    Attributes:
        pictures: The pictures of the page, newest first.
        page: Its number, from 1.
        num_pages: Number of pages; at least 1.
        num_found: Number of pictures on all pages.
    """

    pictures: Sequence[Artifact]
    page: int
    num_pages: int
    num_found: int


class Pictures:
    """The pictures of a store, read once.

    Args:
        store: The store.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self.store = store
        self._known: dict[str, Artifact] = {}
        self._lock = threading.Lock()

    def all(self) -> list[Artifact]:
        """Return the records of all pictures, newest first. A picture that cannot be read is left out."""
        ids = self.store.ids()
        with self._lock:
            known = {name: self._known[name] for name in ids if name in self._known}
            known |= self.store.records(name for name in ids if name not in known)
            self._known = known
        return sorted(known.values(), key=lambda artifact: artifact.created, reverse=True)

    def find(self, query: GalleryQuery) -> GalleryPage:
        """Return the page of a query; the last page if there are fewer."""
        wanted = query.words.casefold().split()
        found = [
            each
            for each in self.all()
            if all(word in each.title.casefold() for word in wanted)
            and (query.within is None or each.id in query.within)
            and (not query.generator or generator_of(each) == query.generator)
            and (not query.model or model_of(each) == query.model)
        ]
        num_pages = max(1, -(-len(found) // PAGE_SIZE))
        page = min(max(query.page, 1), num_pages)
        return GalleryPage(found[(page - 1) * PAGE_SIZE : page * PAGE_SIZE], page, num_pages, len(found))

    def generators(self) -> list[str]:
        """Return the names of the generators of all pictures."""
        return sorted({name for each in self.all() if (name := generator_of(each))})

    def models(self) -> list[str]:
        """Return the names of the models of all pictures."""
        return sorted({name for each in self.all() if (name := model_of(each))})

    def children(self, picture_id: str) -> list[Artifact]:
        """Return the pictures that were made from a picture, newest first."""
        return [each for each in self.all() if picture_id in each.parents]

    def versions(self, artifact: Artifact) -> list[Artifact]:
        """Return the versions of a picture, oldest first, itself included.

        A version has the same prompt, starts from the picture or the other way round, or was requested as another
        version.
        """
        every = self.all()
        groups: list[set[str]] = [{each.id, *filter(None, (started_from(each), each.version_of))} for each in every]
        by_prompt: dict[str, set[str]] = {}
        for each in every:
            if prompt := prompt_of(each):
                by_prompt.setdefault(prompt, set()).add(each.id)
        groups += by_prompt.values()
        family: set[str] = set()
        more = {artifact.id}
        while more - family:
            family |= more
            more = set().union(*(group for group in groups if group & family))
        found = [each for each in every if each.id in family][::-1]
        if len(found) <= MAX_VERSIONS:
            return found
        latest = found[-MAX_VERSIONS:]
        return latest if artifact in latest else [artifact, *latest[1:]]


def prompt_of(artifact: Artifact) -> str:
    """Return the prompt of a picture that was drawn from words alone; empty for any other."""
    is_drawn = artifact.recipe is not None and artifact.recipe.request.task == "text_to_image"
    return artifact.title if is_drawn else ""


def started_from(artifact: Artifact) -> str | None:
    """Return the id of the picture that a picture starts from; None if it starts from none."""
    return artifact.recipe.request.image if artifact.recipe is not None else None


def generator_of(artifact: Artifact) -> str:
    """Return the name of a picture's generator without addresses and folders; empty for an imported picture."""
    return shareable_name(artifact.recipe.generator) if artifact.recipe is not None else ""


def model_of(artifact: Artifact) -> str:
    """Return the name of a picture's model; empty for an imported picture."""
    return artifact.recipe.model if artifact.recipe is not None else ""


def facts_of(artifact: Artifact) -> dict[str, Any]:
    """Return what is known of a picture as titled values, without those that are empty."""
    facts: dict[str, Any] = {}
    if artifact.recipe is not None:
        request = artifact.recipe.request
        facts = {
            "Seed": request.seed,
            "Steps": request.num_inference_steps,
            "Guidance": request.guidance_scale,
            "Strength": request.strength,
            "Negative prompt": request.negative_prompt,
            "Task": request.task.replace("_", " "),
            "Generator": generator_of(artifact),
            "Model": model_of(artifact),
        }
    else:
        facts["Origin"] = artifact.origin
    facts["Size"] = f"{artifact.width} × {artifact.height} px"
    facts["Made"] = f"{artifact.local_time:%Y-%m-%d %H:%M}"
    facts["Took"] = f"{artifact.seconds:.1f} s" if artifact.seconds else None
    return {name: value for name, value in facts.items() if value not in (None, "")}


def session_pictures(sessions: Sessions, session: str) -> frozenset[str]:
    """Return the ids of the pictures of a session: those that the user sent and those that were drawn."""
    found: set[str] = set()
    for record in sessions.turns(session):
        found |= {str(each["artifact"]) for each in record.get("pictures", ())}
        found |= set(_ids_in(record["messages"]))
    return frozenset(found)


def _ids_in(messages: Collection[Any]) -> list[str]:
    return [
        str(block["file_id"])
        for message in messages
        if isinstance(content := message.get("data", {}).get("content"), list)
        for block in content
        if isinstance(block, dict) and block.get("file_id")
    ]
