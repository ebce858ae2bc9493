"""The record of a stored picture, as plain data.

The recipe determines the pixels. It is stored in the PNG and so affects the picture's id. Times and durations are only
in the sidecar file, so that the same picture drawn twice has one id.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from mgem_agent.redaction import redact
from mgem_agent.tools.capabilities import Notice
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult

__all__ = ["Artifact", "PictureAttempt", "PictureRecipe"]

MAX_LINE_CHARS = 500


def _on_one_line(text: object) -> str:
    """Return untrusted text on one line: control characters become spaces, secrets are hidden, long text is cut."""
    clean = redact("".join(letter if letter.isprintable() else " " for letter in str(text)).strip())
    return clean[:MAX_LINE_CHARS]


Line = Annotated[str, BeforeValidator(_on_one_line)]


class PictureRecipe(BaseModel):
    """How a picture was drawn, and how to draw it again.

    Attributes:
        format: Version of this record.
        request: The request with the values that were used.
        generator: Name of the generator in the registry.
        model: Name of the model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    request: ImageRequest
    generator: Line
    model: Line

    @classmethod
    def of(cls, result: ImageResult) -> PictureRecipe:
        """Return the recipe of a result."""
        return cls(request=result.executed, generator=result.generator, model=result.model)


class PictureAttempt(BaseModel):
    """One of the drawings of which a look has chosen the best.

    Attributes:
        picture: Id of the drawing.
        prompt: Its caption.
        score: Its score, from 0 to 1; None without a verdict.
        problem: What is wrong with it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    picture: str
    prompt: str
    score: float | None = None
    problem: Line = ""


class Artifact(BaseModel):
    """A stored picture.

    Attributes:
        format: Version of this record.
        id: `img-` and the first hexadecimal digits of `sha256`.
        sha256: Hash of the PNG file.
        width: Width in pixels.
        height: Height in pixels.
        origin: Where it comes from: "generated", or the caller's words for an imported picture.
        recipe: How it was drawn; None for an imported picture.
        asked: The original request, if it is known.
        call: Key of the latest call that it was drawn for (see `mgem_agent.artifacts.drawn_call`).
        notices: Arguments that were changed or left out.
        parents: Ids of the pictures that it was made from.
        version_of: Id of the picture that it was requested as another version of, such as with another prompt.
        versions: Versions of the packages or of the server.
        seconds: Seconds that drawing took.
        cost_usd: What drawing cost in US dollars; None if the price is not known.
        attempts: All drawings of which a look has chosen this one, in order; empty if it was not chosen by a look.
        created: When it was stored (UTC).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    id: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    origin: Line = "generated"
    recipe: PictureRecipe | None = None
    asked: ImageRequest | None = None
    call: str | None = None
    notices: tuple[Notice, ...] = ()
    parents: tuple[str, ...] = ()
    version_of: str | None = None
    versions: dict[str, Line] = Field(default_factory=dict)
    seconds: float | None = None
    cost_usd: float | None = None
    attempts: tuple[PictureAttempt, ...] = ()
    created: AwareDatetime

    @property
    def seed(self) -> int | None:
        """Seed of the picture; None for an imported one."""
        return self.recipe.request.seed if self.recipe else None

    @property
    def title(self) -> str:
        """A title: its prompt, or where it comes from."""
        text = self.recipe.request.prompt if self.recipe else self.origin
        return " ".join(text.split())

    @property
    def local_time(self) -> datetime:
        """When it was stored, in the local time zone."""
        return self.created.astimezone()
