"""The recipe of a story, for `mgem story`.

A premise is enough. Other given fields are used unchanged, and the reasoner writes the rest. Paths of pictures are
relative to the recipe's folder and cannot leave it.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    StringConstraints,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from mgem_agent.errors import InputError
from mgem_agent.tools.budget import Budget
from mgem_agent.user_files import read_user_file
from mgem_agent.workflows.recipe_syntax import parse_recipe

__all__ = [
    "Caption",
    "CharacterRecipe",
    "Consistency",
    "Line",
    "Paragraphs",
    "SceneRecipe",
    "StoryKind",
    "StoryRecipe",
    "load_story_recipe",
]

MAX_SCENES = 64
MAX_CAST = 12
MAX_REFERENCES = 8
MAX_FILE_BYTES = 1_000_000
MAX_COMPLAINTS = 10

StoryKind = Literal["story", "how_to", "explainer"]
"""`story` has a cast and a plot, `how_to` has steps to follow, `explainer` explains something part by part."""

Consistency = Literal["auto", "seed+card", "ip_adapter", "reference", "none"]
"""How pictures are kept consistent. `seed+card`: the same seed, and the same words for each character's looks;
`ip_adapter` and `reference`: also the first picture as a reference; `none`: only the same words; `auto`: the best that
the generator supports."""


def _clean(value: object) -> object:
    """Replace control characters with spaces, because terminals interpret them; line ends are kept."""
    if not isinstance(value, str):
        return value
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in value)


Text = Annotated[str, BeforeValidator(_clean), StringConstraints(strip_whitespace=True)]
Name = Annotated[Text, StringConstraints(min_length=1, max_length=60)]
Line = Annotated[Text, StringConstraints(max_length=300)]
Looks = Annotated[Text, StringConstraints(max_length=600)]
Caption = Annotated[Text, StringConstraints(max_length=1_000)]
Premise = Annotated[Text, StringConstraints(max_length=4_000)]
Paragraphs = Annotated[Text, StringConstraints(max_length=10_000)]


class CharacterRecipe(BaseModel):
    """A recurring character or thing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(description="Name, as in the text.")
    looks: Looks = Field(
        default="",
        description="Appearance, in the words that every caption repeats. If empty, the reasoner writes it.",
    )


class SceneRecipe(BaseModel):
    """A scene; the reasoner writes the fields that are left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Line | None = Field(
        default=None,
        validation_alias=AliasChoices("title", "heading"),
        description="Title of the page, or a sentence that says what happens. Earlier versions call it heading.",
    )
    text: Paragraphs | None = Field(default=None, description="Text of the page; empty lines separate paragraphs.")
    caption: Caption | None = Field(
        default=None, description="What the picture shows, without the looks of the cast and without the style."
    )
    characters: tuple[Name, ...] | None = Field(
        default=None,
        max_length=MAX_CAST,
        description="Names of the characters in the picture. Default: those that the scene names.",
    )


def _kind_of_scenes(value: object) -> str:
    return "list" if isinstance(value, (list, tuple)) else "count"


Scenes = Annotated[
    Annotated[Annotated[int, Field(ge=1, le=MAX_SCENES, strict=True)], Tag("count")]
    | Annotated[Annotated[tuple[SceneRecipe, ...], Field(min_length=1, max_length=MAX_SCENES)], Tag("list")],
    Discriminator(_kind_of_scenes),
]


class StoryRecipe(BaseModel):
    """The recipe of a story.

    The JSON Schema describes each field. `load_story_recipe` reads a recipe from a file.

    Examples:
        >>> recipe = StoryRecipe.from_premise("A mouse opens a cheese shop.", scenes=4)
        >>> recipe.num_scenes, recipe.language, recipe.consistency
        (4, 'en', 'auto')
    """

    model_config = ConfigDict(frozen=True, extra="forbid", title="Story recipe")

    version: Literal[1] = Field(default=1, description="Version of the recipe format.")
    title: Line | None = Field(default=None, description="Title of the book. Default: the reasoner writes it.")
    premise: Premise = Field(
        default="", description="What the story is about. Required unless every scene has a title, text or caption."
    )
    kind: StoryKind = Field(default="story", description="A story, a how-to in steps, or an explainer.")
    audience: Line = Field(default="", description="The intended readers, such as: children of six.")
    language: str = Field(
        default="en",
        pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$",
        description="Language of the text, as a BCP 47 tag such as en, de or pt-BR. Captions are written in English.",
    )
    style: Line = Field(
        default="", description="Style of every picture, such as: soft watercolour. Default: one that fits the kind."
    )
    scenes: Scenes = Field(default=6, description=f"The number of scenes, 1 to {MAX_SCENES}, or a list of scenes.")
    cast: tuple[CharacterRecipe, ...] = Field(
        default=(),
        max_length=MAX_CAST,
        description="The recurring characters. Default: written, for a story.",
    )
    cover: int | None = Field(
        default=None,
        ge=1,
        le=MAX_SCENES,
        description="Number of the scene whose picture is on the cover. Default: the first scene with the hero, who "
        "is the first of the cast.",
    )
    consistency: Consistency = Field(
        default="auto",
        description="How pictures are kept consistent: auto for the best way that the generator supports, or one way.",
    )
    seed: int | None = Field(
        default=None, ge=0, lt=2**63, description="Seed of the pictures. Default: a seed derived from the premise."
    )
    width: int | None = Field(default=None, ge=16, le=8192, description="Width of each picture, in pixels.")
    height: int | None = Field(default=None, ge=16, le=8192, description="Height of each picture, in pixels.")
    steps: int | None = Field(default=None, ge=1, le=1000, description="Denoising steps of each picture.")
    guidance_scale: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Guidance scale: how closely each picture follows its prompt.",
    )
    negative_prompt: Caption | None = Field(default=None, description="What no picture should show.")
    budget: Line | None = Field(
        default=None,
        description="Limits of what the book may spend, such as 1usd,30pictures. The option --budget overrides it.",
    )
    references: tuple[str, ...] = Field(
        default=(),
        max_length=MAX_REFERENCES,
        description="Reference pictures for all others: paths relative to the recipe's folder, and within it.",
    )

    _folder: Path | None = PrivateAttr(default=None)

    @classmethod
    def from_premise(cls, premise: str, **fields: Any) -> Self:
        """Create a recipe from a premise.

        Args:
            premise: What the story is about.
            **fields: Any other field.

        Raises:
            ValidationError: If a field is unknown or out of range.
        """
        return cls(premise=premise, **fields)

    def tells_the_same_as(self, other: StoryRecipe) -> bool:
        """Whether two recipes give the same story, whatever their budgets."""
        return self.model_dump(exclude={"budget"}) == other.model_dump(exclude={"budget"})

    @property
    def num_scenes(self) -> int:
        """Number of scenes."""
        return self.scenes if isinstance(self.scenes, int) else len(self.scenes)

    @property
    def scene_recipes(self) -> tuple[SceneRecipe, ...]:
        """One for each scene; empty ones if only a number is given."""
        return (SceneRecipe(),) * self.scenes if isinstance(self.scenes, int) else self.scenes

    @property
    def reference_paths(self) -> tuple[Path, ...]:
        """The files of `references`, relative to the folder set by `in_folder`, else to the current one."""
        folder = self._folder if self._folder is not None else Path.cwd()
        return tuple(folder / name for name in self.references)

    def in_folder(self, folder: Path) -> Self:
        """Return this recipe with its pictures looked up in a folder.

        Args:
            folder: Folder of the recipe's file.

        Raises:
            InputError: If a picture is missing, or a link leads out of the folder.
        """
        home = folder.resolve()
        for name in self.references:
            place = (home / name).resolve()
            if not place.is_relative_to(home):
                raise InputError(
                    f"The picture {name!r} of the recipe leads out of its folder {str(home)!r}. Copy it into the "
                    f"folder, and use the path of the copy."
                )
            if not place.is_file():
                raise InputError(
                    f"The picture {name!r} of the recipe is not in {str(home)!r}. Put it there, or leave it out of "
                    f"`references`."
                )
        found = self.model_copy()
        found._folder = home if self.references else None  # recipes without pictures are equal in any folder
        return found

    @field_validator("budget")
    @classmethod
    def _as_budget(cls, value: str | None) -> str | None:
        return None if value is None else str(Budget.parse(value))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.premise:
            bare = [place for place, scene in enumerate(self.scene_recipes, 1) if not _says_something(scene)]
            if bare:
                raise ValueError(
                    f"There is no premise, and scene {bare[0]} has neither title, text nor caption. Give a premise."
                )
        if self.cover is not None and self.cover > self.num_scenes:
            raise ValueError(
                f"cover is {self.cover}; the story has {self.num_scenes} scenes. Give 1 to {self.num_scenes}."
            )
        for name in self.references:
            _check_reference(name)
        if self.references and self.consistency in ("seed+card", "none"):
            raise ValueError(
                f"references are given, but consistency={self.consistency!r} does not use them. "
                f"Allowed with them: 'auto', 'reference', 'ip_adapter'."
            )
        names = [character.name.casefold() for character in self.cast]
        twice = next((character.name for character in self.cast if names.count(character.name.casefold()) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} is in the cast twice. Give each character a different name.")
        for place, scene in enumerate(self.scene_recipes, 1):
            strangers = [name for name in scene.characters or () if name.casefold() not in names]
            if strangers:
                known = ", ".join(repr(character.name) for character in self.cast) or "nobody"
                raise ValueError(f"Scene {place} has {strangers[0]!r}, who is not in the cast. The cast: {known}.")
        return self


def load_story_recipe(path: str | Path) -> StoryRecipe:
    """Read a story recipe.

    Args:
        path: A YAML file, or a JSON file whose name ends in `.json`.

    Returns:
        The recipe; its `reference_paths` are files within the folder of `path`.

    Raises:
        InputError: If the file cannot be read, has duplicate or unknown keys or values out of range, or names pictures
            that are missing or outside its folder.
    """
    path = Path(path)
    try:
        text = read_user_file(path, "The recipe", max_bytes=MAX_FILE_BYTES)
    except FileNotFoundError as error:
        raise InputError(f"The recipe {str(path)!r} cannot be read: {error.strerror}. Check the path.") from error
    try:
        found = parse_recipe(text, is_json=path.suffix.lower() == ".json")
    except ValueError as error:
        raise InputError(f"The recipe {str(path)!r} cannot be read: {error}. Correct it there.") from error
    if not isinstance(found, dict):
        raise InputError(f"The recipe {str(path)!r} has no keys. The shortest recipe is one line: 'premise: …'.")
    try:
        recipe = StoryRecipe.model_validate(found)
    except ValidationError as error:
        found_wrong = [
            each for each in error.errors(include_url=False) if each["type"] != "too_short" or not each["input"]
        ]
        lines = [f"  {_sentence(each)}" for each in found_wrong[:MAX_COMPLAINTS]]
        if len(found_wrong) > len(lines):
            lines.append(f"  and {len(found_wrong) - len(lines):,} more places.")
        wrong = "\n".join(lines)
        raise InputError(
            f"The recipe {str(path)!r} is not valid:\n{wrong}\nAll keys: {', '.join(StoryRecipe.model_fields)}."
        ) from error
    return recipe.in_folder(path.parent)


def _sentence(error: Any) -> str:
    """Return a sentence about one error in a recipe."""
    steps: Sequence[Any] = [step for step in error["loc"] if step not in ("count", "list")]
    where = ""
    for step in steps:  # count from 1, as scenes do
        where += f"[{step + 1}]" if isinstance(step, int) else f".{step}" if where else str(step)
    if error["type"] == "extra_forbidden":
        known = _known_keys(steps)
        near = difflib.get_close_matches(str(steps[-1]), known, n=1, cutoff=0.5)
        advice = f"Did you mean {near[0]!r}?" if near else f"Allowed here: {', '.join(known)}."
        return f"{where}: unknown key. {advice}"
    message = str(error["msg"]).removeprefix("Value error, ")
    got = (
        "" if error["type"] == "value_error" or isinstance(error["input"], (dict, list)) else f" (got {_short(error)})"
    )
    return f"{where}: {message}{got}" if where else message


def _short(error: Any) -> str:
    text = repr(error["input"])
    return text if len(text) <= 80 else f"{text[:77]}…"


def _known_keys(steps: Sequence[Any]) -> list[str]:
    inner: dict[str, type[BaseModel]] = {"scenes": SceneRecipe, "cast": CharacterRecipe}
    model = inner.get(str(steps[0]), StoryRecipe) if len(steps) > 1 else StoryRecipe
    return list(model.model_fields)


def _says_something(scene: SceneRecipe) -> bool:
    return bool(scene.title or scene.text or scene.caption)


def _check_reference(name: str) -> None:
    """Refuse a path that is not within the folder on every operating system."""
    parts = PureWindowsPath(name).parts  # reads both kinds of slash
    if not name.strip() or PureWindowsPath(name).anchor or ".." in parts or "\0" in name or ":" in name:
        raise ValueError(
            f"The reference {name!r} is not a path within the recipe's folder. Give one such as 'pictures/hero.png'."
        )
