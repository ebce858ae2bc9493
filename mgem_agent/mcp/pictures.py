"""How a picture appears in the result of a tool: a small preview, a link to the full one, and facts without bytes.

Clients cut results at some 25,000 tokens, and some count a picture's base64 as text. So a preview has at most
`MAX_PREVIEW_BYTES`, and the bytes of a picture are never in the structured content.
"""

from __future__ import annotations

import base64
import io

from mcp.types import ContentBlock, ImageContent, ResourceLink
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from mgem_agent.artifacts.artifact import Artifact
from mgem_agent.artifacts.shareable import shareable_name
from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.core_model.image_loading import load_image

__all__ = ["PICTURES", "PictureFacts", "picture_facts", "picture_uri", "preview_bytes", "shortened", "shown_picture"]

PREVIEW_PX = (256, 192, 128, 96, 64)
"""Longest side of a preview; the first at which it is small enough is used."""
QUALITIES = (80, 60, 40)
MAX_PREVIEW_BYTES = 12_000
MAX_PROMPT_CHARS = 2_000
PICTURES = "mgem://pictures/"


class PictureFacts(BaseModel):
    """A stored picture, without its bytes."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="Id of the picture, for the other tools.")
    uri: str = Field(description="The resource with the whole picture (PNG).")
    width: int = Field(description="In pixels.")
    height: int = Field(description="In pixels.")
    prompt: str | None = Field(default=None, description="What it was drawn from; missing for a given picture.")
    task: str | None = Field(default=None, description="How it was made, such as text_to_image or edit.")
    seed: int | None = Field(default=None, description="The same seed draws the same picture.")
    generator: str | None = Field(default=None, description="Name of the generator.")
    model: str | None = Field(default=None, description="Name of the generator's model.")
    parents: list[str] = Field(default=[], description="Ids of the pictures that it was made from.")
    notices: list[str] = Field(default=[], description="What was changed or left out.")
    created: str | None = Field(default=None, description="When it was stored (UTC).")


def picture_uri(picture_id: str) -> str:
    """Return the address of the resource of a picture."""
    return PICTURES + picture_id


def shortened(text: str, max_chars: int) -> str:
    """Return a text of at most `max_chars` characters; a longer one ends with `…`."""
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"


def picture_facts(artifact: Artifact) -> PictureFacts:
    """Return what a client may know of a picture: no server's address and no path.

    Args:
        artifact: The record of the picture.
    """
    recipe = artifact.recipe
    return PictureFacts(
        id=artifact.id,
        uri=picture_uri(artifact.id),
        width=artifact.width,
        height=artifact.height,
        prompt=shortened(recipe.request.prompt, MAX_PROMPT_CHARS) if recipe else None,
        task=recipe.request.task if recipe else None,
        seed=artifact.seed,
        generator=shareable_name(recipe.generator) if recipe else None,
        model=recipe.model if recipe else None,
        parents=list(artifact.parents),
        notices=[notice.message for notice in artifact.notices],
        created=artifact.created.isoformat(),
    )


def preview_bytes(image: Image.Image) -> bytes:
    """Return a picture as a small JPEG.

    Args:
        image: The picture, RGB.
    """
    encoded = io.BytesIO()
    for side in PREVIEW_PX:
        small = image.copy()
        small.thumbnail((side, side))
        for quality in QUALITIES:
            encoded = io.BytesIO()
            small.save(encoded, "JPEG", quality=quality, optimize=True)
            if encoded.tell() <= MAX_PREVIEW_BYTES:
                return encoded.getvalue()
    return encoded.getvalue()


def shown_picture(artifact: Artifact, store: ArtifactStore) -> list[ContentBlock]:
    """Return the preview of a picture and the link to the whole one.

    Args:
        artifact: The record of the picture.
        store: The store of the pictures.

    Raises:
        ImageError: If the file of the picture is damaged.
    """
    path = store.path(artifact.id)
    data = base64.b64encode(preview_bytes(load_image(path))).decode("ascii")
    link = ResourceLink(
        uri=picture_uri(artifact.id),
        name=f"{artifact.id}.png",
        title=shortened(artifact.title, 80),
        mime_type="image/png",
        size=path.stat().st_size,
    )
    return [ImageContent(data=data, mime_type="image/jpeg"), link]
