"""The configuration: reasoner, generator, folders for pictures and sessions, and drawing defaults.

Each value comes from the first of these sources that sets it:

1. command-line options, or the arguments of `load_settings`;
2. environment variables: `MGEM_` and the upper-case name, with `__` between parts: `MGEM_MODEL`, `MGEM_PICTURE__WIDTH`;
3. the user's config file: `config.toml` in the system's configuration folder, or the file that `MGEM_CONFIG` names;
4. the default.

No configuration is read from the current folder: its author could redirect the user's pictures and questions to another
server. API keys are not settings; the providers' packages read them from the environment.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from mgem_agent.config_file import config_path, read_config
from mgem_agent.device_memory.resident_model import MemoryPolicy
from mgem_agent.errors import InputError
from mgem_agent.gen.tool_calls import DrawMode
from mgem_agent.redaction import HIDDEN, is_secret_name, redact, remember_secrets
from mgem_agent.remote_files import is_address
from mgem_agent.server_settings import ServerSettings
from mgem_agent.story_settings import StorySettings
from mgem_agent.tools.budget import Budget, Budgets
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.look import Look
from mgem_agent.tools.prices import Price
from mgem_agent.user_files import user_path

__all__ = [
    "ENVIRONMENT_PREFIX",
    "BudgetSettings",
    "PictureDefaults",
    "PictureDisplay",
    "Setting",
    "Settings",
    "explain_settings",
    "hidden",
    "known_setting",
    "load_settings",
    "setting_names",
]

ENVIRONMENT_PREFIX = "MGEM_"

PictureDisplay = Literal["auto", "sixel", "kitty", "blocks", "path", "none"]
"""How a terminal shows a picture: `auto` asks the terminal, `path` prints the file name, `none` prints nothing."""

REQUEST_NAMES = {"steps": "num_inference_steps"}
MAX_COMPLAINTS = 10
FREE_TABLES = ("model_options", "generator_options")


class PictureDefaults(BaseModel):
    """Default values for image requests. None leaves the choice to the generator.

    Attributes:
        width: Width in pixels.
        height: Height in pixels.
        steps: Number of denoising steps.
        seed: Random seed.
        guidance_scale: Scale of classifier-free guidance.
        negative_prompt: What not to draw.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int | None = None
    height: int | None = None
    steps: int | None = None
    seed: int | None = None
    guidance_scale: float | None = None
    negative_prompt: str | None = None

    @field_validator("*")
    @classmethod
    def _as_requests_have_it(cls, value: Any, info: ValidationInfo) -> Any:
        """Check the value with the rules of an image request."""
        name = REQUEST_NAMES.get(str(info.field_name), str(info.field_name))
        try:
            ImageRequest.model_validate({"prompt": "-", name: value})
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"]) from None
        return value


class BudgetSettings(BaseModel):
    """Limits of what is spent, such as `0.50usd,20pictures,10min,50000tokens`. None means no limit.

    Attributes:
        turn: Of each turn, and of `mgem ask` and `mgem draw`.
        session: Of each session of `mgem chat` and `mgem serve`.
        book: Of each story.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    turn: str | None = None
    session: str | None = None
    book: str | None = None

    @field_validator("*")
    @classmethod
    def _as_budget(cls, value: str | None) -> str | None:
        return None if value is None else str(Budget.parse(value))


class Settings(BaseSettings):
    """All settings. `Settings()` reads the environment and the user's config file.

    Attributes:
        model: The reasoner, by its name for `mgem_agent.reasoners.make_reasoner`.
        generator: The image generator, by its name for `mgem_agent.tools.make_generator`.
        model_options: Options for the reasoner, such as `temperature`.
        generator_options: Options for the generator, such as `dtype`. A table named like a generator or its scheme has
            the options of that generator; others belong to the generator that the settings name.
        store: Folder for pictures, or an address such as `s3://bucket/prefix`; None for the default folder.
        sessions: Folder for sessions, or a `postgresql://` address; None for the default folder.
        draw: When to draw: `auto`, `always` or `never`.
        look: What follows if a picture does not match its caption: a maximum number of redraws, or a strategy such as
            `retry`, `revise-3@0.8`, `edit` or `best-of-4`; 0 to not look.
        confirm: Whether to ask before drawing.
        max_pictures: Maximum number of pictures in a turn.
        timeout_s: Time limit of a turn in seconds; None for no limit.
        images: How the terminal shows pictures.
        offline: Whether downloads are forbidden.
        memory_policy: What happens to the idle one of the reasoner and the generator on this machine's device: `keep`
            it there, `swap` it to main memory, `unload` it, or `auto`: keep both if they fit, else swap or unload.
        memory_limit_gib: GiB of the device that the reasoner and the generator may take; None for all.
        system_prompt: System prompt for the reasoner.
        sees: Whether the reasoner accepts pictures; None to detect it.
        max_context_tokens: Maximum tokens in a request to the reasoner; None for the size of its context.
        max_context_pictures: Maximum number of pictures sent to the reasoner; the latest are sent.
        max_history_turns: Maximum number of turns sent to the reasoner; the latest are sent.
        picture: Default values for image requests.
        budget: Limits of what is spent.
        prices: Prices in US dollars, by the names of generators and reasoners; see `mgem_agent.tools.Price`.
        story: Settings of stories.
        server: Settings of `mgem serve`.
        use_server: Whether commands use the models that a running `mgem serve` of the same user holds in memory.

    Examples:
        >>> settings = load_settings(model="openai:gpt-5", picture={"width": 512, "seed": None}, look=None)
        >>> settings.model, settings.look, settings.draw_defaults
        ('openai:gpt-5', 0, {'width': 512})
    """

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    model: str = Field(default="nano", min_length=1)
    generator: str = Field(default="nano", min_length=1)
    model_options: dict[str, Any] = {}
    generator_options: dict[str, Any] = {}
    store: Path | str | None = None
    sessions: str | None = None
    draw: DrawMode = "auto"
    look: int | str = 0
    confirm: bool = False
    max_pictures: int = Field(default=8, ge=1)
    timeout_s: float | None = Field(default=None, gt=0)
    images: PictureDisplay = "auto"
    offline: bool = False
    memory_policy: MemoryPolicy = "auto"
    memory_limit_gib: float | None = Field(default=None, gt=0)
    system_prompt: str | None = None
    sees: bool | None = None
    max_context_tokens: int | None = Field(default=None, ge=1)
    max_context_pictures: int = Field(default=4, ge=0)
    max_history_turns: int = Field(default=50, ge=0)
    picture: PictureDefaults = PictureDefaults()
    budget: BudgetSettings = BudgetSettings()
    prices: dict[str, Price] = {}
    story: StorySettings = StorySettings()
    server: ServerSettings = ServerSettings()
    use_server: bool = True

    @field_validator("store")
    @classmethod
    def _at_home(cls, value: Path | str | None) -> Path | str | None:
        """Return a folder as a path, and an address as text."""
        return value if value is None or is_address(str(value)) else user_path(value)

    @field_validator("look")
    @classmethod
    def _as_look(cls, value: int | str) -> int | str:
        text = str(Look.parse(value))
        return int(text) if text.isdecimal() else text

    @property
    def budgets(self) -> Budgets:
        """The limits by scope."""
        return Budgets.parse(self.budget.model_dump())

    @property
    def scores_pages(self) -> bool:
        """Whether the pages of stories are scored."""
        return bool(self.look) or self.story.scores

    @property
    def draw_defaults(self) -> dict[str, Any]:
        """Default values by the field names of an image request."""
        given = self.picture.model_dump(exclude_none=True)
        return {REQUEST_NAMES.get(name, name): value for name, value in given.items()}

    def options_of(self, generator: str) -> dict[str, Any]:
        """Return the options for a generator: those of its scheme, then those of its name.

        Args:
            generator: Its name. The options without a table are for the generator of these settings only.

        Examples:
            >>> tables = {"timeout_s": 9, "openai": {"quality": "high"}}
            >>> settings = load_settings(generator="flat", generator_options=tables)
            >>> settings.options_of("flat"), settings.options_of("openai:gpt-image-1")
            ({'timeout_s': 9}, {'quality': 'high'})
        """
        tables = _generator_tables(self.generator_options)
        flat = {name: value for name, value in self.generator_options.items() if name not in tables}
        scheme = generator.partition(":")[0]
        own = {} if scheme == generator else tables.get(generator, {})
        return {**(flat if generator == self.generator else {}), **tables.get(scheme, {}), **own}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of values in order of priority."""
        return init_settings, _Environment(settings_cls), InitSettingsSource(settings_cls, read_config())


class _Environment(EnvSettingsSource):
    """The environment. Values in `model_options` and `generator_options` that are valid JSON are parsed."""

    def __call__(self) -> dict[str, Any]:
        data = super().__call__()
        for table in FREE_TABLES:
            if isinstance(data.get(table), Mapping):
                data[table] = {name: _from_json(value) for name, value in data[table].items()}
        return data


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting with the source of its value.

    Attributes:
        name: Dotted name, such as `picture.width`.
        value: The value in effect, with secrets hidden.
        source: `default`, the name of an environment variable, or the path of the config file.
    """

    name: str
    value: Any
    source: str


def load_settings(**flags: Any) -> Settings:
    """Return the settings in effect.

    Args:
        **flags: Values that override all other sources, by field name. None means "not given", also within
            `picture={"width": …}`.

    Raises:
        InputError: If a value or a name is not valid; the message names the source.
    """
    given = _without_none(flags)
    try:
        settings = Settings(**given)
        remember_secrets(settings.model_dump())
        if "generator" in given and "generator_options" not in given:
            settings = _without_foreign_options(settings, given)
        return settings
    except ValidationError as error:
        wrong = error.errors()
        lines = [_complaint(each, given) for each in wrong[:MAX_COMPLAINTS]]
        more = len(wrong) - len(lines)
        raise InputError("\n".join([*lines, *([f"{more:,} more settings are not valid."] if more else [])])) from error
    except SettingsError as error:
        raise InputError(f"An environment variable cannot be read: {error}. Write its value as JSON.") from error


def _generator_tables(options: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the tables of `generator_options` that are named like a generator or a scheme."""
    tables = {name: value for name, value in options.items() if isinstance(value, Mapping)}
    if not tables:
        return {}
    from mgem_agent.tools.registry import generator_schemes

    schemes = generator_schemes()
    return {name: value for name, value in tables.items() if name.partition(":")[0] in schemes}


def _without_foreign_options(settings: Settings, given: Mapping[str, Any]) -> Settings:
    """Drop options without a table if the generator is another than the one that they were set for."""
    configured = Settings(**{name: value for name, value in given.items() if name != "generator"})
    if configured.generator == settings.generator or not settings.generator_options:
        return settings
    return settings.model_copy(update={"generator_options": _generator_tables(settings.generator_options)})


def explain_settings() -> list[Setting]:
    """Return every setting with its source, in the order of the fields.

    Raises:
        InputError: As for `load_settings`.
    """
    settings = load_settings()
    values = dict(_flat(settings.model_dump(mode="json")))
    return [Setting(name, hidden(name, value), _source(name, {}) or "default") for name, value in values.items()]


def setting_names() -> tuple[str, ...]:
    """Return the names of all settings; `model_options` and `generator_options` count as one setting each."""
    return tuple(name for name, _ in _flat(Settings.model_construct().model_dump()))


def known_setting(name: str) -> str:
    """Return the name if it is a setting, or any name within `model_options` or `generator_options`.

    Raises:
        InputError: If there is no setting of that name.
    """
    first, dot, rest = name.partition(".")
    if name in setting_names() or name in Settings.model_fields or (first in FREE_TABLES and dot and rest):
        return name
    raise InputError(_unknown(name))


def hidden(name: str, value: Any) -> Any:
    """Return a value for display, with keys and passwords hidden.

    Args:
        name: Name of the setting.
        value: Its value.
    """
    if isinstance(value, Mapping):
        return {key: hidden(str(key), each) for key, each in value.items()}
    if value and is_secret_name(name.rpartition(".")[2]):
        return HIDDEN
    return redact(value) if isinstance(value, str) else value


def _from_json(value: Any) -> Any:
    with suppress(ValueError, TypeError):
        return json.loads(value)
    return value


def _without_none(given: Mapping[str, Any]) -> dict[str, Any]:
    """Drop values that are None and tables that are empty."""
    kept = {
        name: _without_none(value) if isinstance(value, Mapping) else value
        for name, value in given.items()
        if value is not None
    }
    return {name: value for name, value in kept.items() if value != {}}


def _flat(data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield settings by dotted names."""
    for name, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from ((f"{name}.{inner}", each) for inner, each in value.items())
        else:
            yield name, value


def _source(name: str, flags: Mapping[str, Any]) -> str:
    """Return the source of a setting; empty for the default."""
    if _has(flags, name):
        return "the command line"
    if _has(_Environment(Settings)(), name):
        return ENVIRONMENT_PREFIX + name.replace(".", "__").upper()
    return str(config_path()) if _has(read_config(), name) else ""


def _has(data: Mapping[str, Any], name: str) -> bool:
    first, _, rest = name.partition(".")
    if first not in data:
        return False
    return not rest or not isinstance(data[first], Mapping) or _has(data[first], rest)


def _complaint(error: Any, flags: Mapping[str, Any]) -> str:
    """Describe one invalid setting: its value, its source and what to do."""
    name = ".".join(map(str, error["loc"][:2]))
    source = _source(name, flags) or "the settings"
    if error["type"] == "extra_forbidden":
        return _unknown(name, source)
    reason = error["msg"].removeprefix("Value error, ").rstrip(".")
    return f"{name} = {hidden(name, error['input'])!r}, from {source}, is not valid: {reason}. Run: mgem config show"


def _unknown(name: str, source: str = "") -> str:
    known = setting_names()
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    where = f", found in {source}" if source else ""
    return f"There is no setting {name!r}{where}.{hint} Known: {', '.join(known)}."
