"""`mgem draw`: call the image generator directly. The reasoner is used only with `--recaption`."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgem_agent.cli.batches import Gpus, Ray, Workers, ray_options
from mgem_agent.cli.factories import budget_flags
from mgem_agent.cli.picture_size import read_size
from mgem_agent.cli.printing import open_console
from mgem_agent.cli.turn_options import AsJson, Budget, Generator, Images, Memory, Model
from mgem_agent.errors import InputError, MgemError

if TYPE_CHECKING:
    from mgem_agent.agent.events import AgentEvent
    from mgem_agent.artifacts import ArtifactStore
    from mgem_agent.scale.ray_cluster import RayOptions
    from mgem_agent.settings import Settings
    from mgem_agent.tools import ImageGenerator, ImageRequest, ImageResult, Meter

__all__ = ["draw", "read_generator_options", "run_draw"]

MAX_SEED = 2**31
_Picture = "FILE_OR_ID"


@dataclass(frozen=True, slots=True)
class DrawOptions:
    """Options of a drawing.

    Attributes:
        number: Number of pictures.
        fields: Fields of the image request, by name.
        image: Picture to start from.
        mask: Picture whose white areas are redrawn.
        references: Pictures whose subject or style is kept.
        recaption: Whether the reasoner writes the caption.
        out: File to write as well; numbered if there are several pictures.
    """

    number: int
    fields: dict[str, Any]
    image: str | None = None
    mask: str | None = None
    references: Sequence[str] = ()
    recaption: bool = False
    out: Path | None = None


def draw(
    prompt: Annotated[str | None, typer.Argument(help="What to draw; with --image, what to change.")] = None,
    number: Annotated[int, typer.Option("-n", min=1, max=64, help="Number of pictures.")] = 1,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the first picture; each further picture adds 1.")
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Width and height in pixels.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0, help="Guidance scale: how closely the picture follows the prompt.")
    ] = None,
    negative: Annotated[str | None, typer.Option(metavar="TEXT", help="Negative prompt: what not to draw.")] = None,
    image: Annotated[str | None, typer.Option("--image", "-a", metavar=_Picture, help="Picture to start from.")] = None,
    mask: Annotated[
        str | None, typer.Option(metavar=_Picture, help="Mask for --image: only its white areas are redrawn.")
    ] = None,
    strength: Annotated[float | None, typer.Option(help="How much of --image may change, from above 0 to 1.")] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(metavar=_Picture, help="Reference picture whose subject or style is kept; repeatable."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-O",
            metavar="NAME=VALUE",
            help="A generator option, such as quality=high; repeatable. List them: mgem generators NAME",
        ),
    ] = None,
    recaption: Annotated[
        bool, typer.Option("--recaption", help="Let the reasoner write a detailed caption first.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Also write the picture to this PNG file; with --batch, a folder for them."),
    ] = None,
    batch: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw a file of prompts: JSON lines with prompt, id and any field of a request, or a prompt a line.",
        ),
    ] = None,
    ray: Ray = None,
    workers: Workers = None,
    gpus: Gpus = None,
    model: Model = None,
    generator: Generator = None,
    images: Images = None,
    memory: Memory = None,
    budget: Budget = None,
    as_json: AsJson = False,
) -> None:
    """Draw a picture, save it, and show it or print its path; or draw a file of prompts with --batch.

    Examples: mgem draw "a red fox in the snow" --seed 7; mgem draw "make it night" --image fox.png; mgem draw --batch
    prompts.jsonl --out pictures --ray local
    """
    where = ray_options(ray, workers, gpus)
    if (prompt is None) == (batch is None):
        raise InputError("Give either a prompt, or --batch with a file of prompts.")
    width, height = _size(size)
    named: dict[str, Any] = {"seed": seed, "width": width, "height": height, "num_inference_steps": steps}
    named |= {
        "guidance_scale": guidance,
        "negative_prompt": negative,
        "strength": strength,
        "options": read_generator_options(option or ()) or None,
    }
    fields = {name: value for name, value in named.items() if value is not None}
    options = DrawOptions(number, fields, image, mask, reference or (), recaption, out)
    flags = {"model": model, "generator": generator, "images": images, "budget": budget_flags(budget, "turn")}
    flags["memory_policy"] = memory
    if batch is not None:
        run_batch(batch, options, flags, where, as_json=as_json)
    elif where is not None:
        raise InputError("--ray applies to several prompts. Put them into a file, and give it with --batch.")
    else:
        run_draw(str(prompt), options, flags, as_json=as_json)


def run_batch(
    file: Path, options: DrawOptions, flags: dict[str, Any], ray: RayOptions | None, *, as_json: bool = False
) -> None:
    """Draw a file of prompts.

    Args:
        file: The file.
        options: Options of the drawing; the fields apply to lines that do not set them.
        flags: Settings from the command line.
        ray: Where it runs on Ray; None for this process.
        as_json: Whether to print one JSON object.

    Raises:
        InputError: If the file or an option is not valid.
        Exit: With status 1 if a picture failed.
    """
    from mgem_agent.cli.draw_batch import draw_batch
    from mgem_agent.settings import load_settings

    given = {"--image": options.image, "--mask": options.mask, "--reference": options.references}
    if wrong := [name for name, value in given.items() if value]:
        raise InputError(f"{wrong[0]} applies to one prompt. Put {wrong[0][2:]!r} into the lines of {str(file)!r}.")
    if options.recaption:
        raise InputError("--recaption applies to one prompt. Leave it out, or write full captions into the file.")
    settings = load_settings(**flags)
    draw_batch(file, options.fields, settings, number=options.number, out=options.out, ray=ray, as_json=as_json)


def read_generator_options(words: Sequence[str]) -> dict[str, Any]:
    """Read options of a generator.

    Args:
        words: Options as `NAME=VALUE`. A value that is valid JSON (a number, true, null, a list) is parsed.

    Raises:
        InputError: If an option is not in the form `NAME=VALUE`.

    Examples:
        >>> read_generator_options(["quality=high", "clip_skip=2"])
        {'quality': 'high', 'clip_skip': 2}
    """
    found: dict[str, Any] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise InputError(f"--option must be NAME=VALUE, got {word!r}. Example: --option quality=high")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def run_draw(prompt: str, options: DrawOptions, flags: dict[str, Any], *, as_json: bool = False, **parts: Any) -> None:
    """Draw pictures and show them.

    Args:
        prompt: What to draw.
        options: Options of the drawing.
        flags: Settings from the command line.
        as_json: Whether events are written as JSON.
        **parts: `reasoner`, `generator` or `store` to use instead of the one that the settings name.

    Raises:
        InputError: If the request is not valid; the message says why.
        Exit: With status 1 if a picture is missing, 130 if the user stopped the drawing.
    """
    from mgem_agent.cli import factories
    from mgem_agent.cli.display.ctrl_c import INTERRUPTED_STATUS, stopped_by_ctrl_c
    from mgem_agent.cli.display.display import open_display
    from mgem_agent.cli.display.pictures import PictureWindow
    from mgem_agent.settings import load_settings

    console, errors = open_console(), open_console(stderr=True)
    settings = load_settings(**flags)
    window = PictureWindow(console, "path" if as_json and settings.images != "none" else settings.images)
    store = parts.get("store") or factories.open_store(settings)
    made = parts.get("generator") or factories.open_generator(settings)
    if options.recaption:
        with errors.status("Writing the caption"):
            prompt = _recaptioned(prompt, settings, parts.get("reasoner"), made, store)
        errors.print(prompt, style="italic", markup=False, soft_wrap=True)
    requests = _requests(prompt, options, settings, made, store)
    display = open_display(console, errors, window, as_json=as_json, name_of=lambda artifact_id, call_id: artifact_id)
    for name in dict.fromkeys(name for request in requests for name in request.picture_ids):
        for notice in store.get(name).notices:
            display.tell(notice.message)
    cancel = threading.Event()

    def stop() -> bool:
        cancel.set()
        return True

    num_missing = 0
    meter = factories.open_meter(settings)
    try:
        with stopped_by_ctrl_c([(stop, "stopping; press Ctrl-C again to exit at once")], display.hint_at):
            for event in _events(made, requests, store, cancel, options.out, meter):
                display.show(event)
                num_missing += event.kind == "failed"
    finally:
        display.close()
    if num_missing and cancel.is_set():
        raise typer.Exit(INTERRUPTED_STATUS)
    if num_missing:
        raise typer.Exit(1)


def _requests(
    prompt: str, options: DrawOptions, settings: Settings, generator: ImageGenerator, store: ArtifactStore
) -> list[ImageRequest]:
    """One request per picture, each with its own seed."""
    from mgem_agent.agent.drawing import read_request

    start: dict[str, Any] = {"prompt": prompt}
    fields = {**settings.draw_defaults, **options.fields}
    fields["references"] = tuple(_stored(name, store) for name in options.references)
    if options.image is not None:
        start, fields = _changed(prompt, options, fields, generator, store)
    elif options.mask is not None or "strength" in options.fields:
        raise InputError("--mask and --strength apply only to an edit. Add --image with the picture to change.")
    kept = start.get("options") or {}  # options of the picture that is edited
    given = fields.pop("options", {})
    first = read_request({**start, **fields, **({"options": {**kept, **given}} if kept or given else {})}, {})
    requests = [first]
    for place in range(1, options.number):
        seed = secrets.randbelow(MAX_SEED) if first.seed is None else (first.seed + place) % 2**63
        requests.append(first.model_copy(update={"seed": seed}))
    return requests


def _changed(
    prompt: str, options: DrawOptions, fields: dict[str, Any], generator: ImageGenerator, store: ArtifactStore
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request that edits a picture, and the fields that override it."""
    from pydantic import ValidationError

    from mgem_agent.tools.editing_plan import EditRequest, plan_edit

    name = _stored(options.image or "", store)
    recipe = store.get(name).recipe
    try:
        edit = EditRequest(
            instruction=prompt,
            image=name,
            mask=None if options.mask is None else _stored(options.mask, store),
            strength=fields.pop("strength", None),
            original=None if recipe is None else recipe.request,
        )
    except ValidationError as error:
        raise InputError(f"This edit is not possible: {error.errors()[0]['msg']}.") from error
    plan = plan_edit(edit, generator.capabilities, generator=generator.name)
    return plan.request.model_dump(exclude_none=True), fields


def _stored(picture: str, store: ArtifactStore) -> str:
    """The id of a picture that is given as a file or an id."""
    from mgem_agent.cli.typed_path import find_picture

    if (found := find_picture(picture, store)) is not None:
        return found
    raise InputError(f"{picture!r} is neither a file nor the id of a picture. Run: mgem images list")


def _events(
    generator: ImageGenerator,
    requests: Sequence[ImageRequest],
    store: ArtifactStore,
    cancel: threading.Event,
    out: Path | None,
    meter: Meter,
) -> Iterator[AgentEvent]:
    """Draw and store the pictures, and yield the same events as the agent."""
    from mgem_agent.agent.events import DrawingFailed, DrawingProgress
    from mgem_agent.tools import GenerationProgress
    from mgem_agent.tools import draw as draw_batch

    pictures = {name: store.open(name) for request in requests for name in request.picture_ids}
    for event in draw_batch(generator, requests, pictures=pictures, cancel=cancel, meter=meter):
        call = str(event.index + 1)
        if isinstance(event, GenerationProgress):
            yield DrawingProgress(call, event.step, event.num_steps)
            continue
        try:
            yield _kept(call, event, store, out, is_only=len(requests) == 1)
        except MgemError as error:
            yield DrawingFailed(call, str(error), type(error).__name__, bool(getattr(error, "retryable", False)))


def _kept(call: str, result: ImageResult, store: ArtifactStore, out: Path | None, *, is_only: bool) -> AgentEvent:
    """Store a picture and write it to its file.

    Raises:
        MgemError: If drawing failed or the file cannot be written.
    """
    from mgem_agent.agent.events import PictureDrawn
    from mgem_agent.artifacts.atomic_file import write_atomically

    if result.error is not None:
        raise result.error
    artifact = store.put(result)
    path = store.path(artifact.id)
    if out is not None:
        data = path.read_bytes()
        path = out if is_only else out.with_name(f"{out.stem}-{call}{out.suffix}")
        write_atomically(path, data)
    return PictureDrawn(
        call, artifact.id, str(path), result.executed.prompt, tuple(notice.message for notice in result.notices)
    )


def _recaptioned(
    prompt: str, settings: Settings, reasoner: Any, generator: ImageGenerator, store: ArtifactStore
) -> str:
    """Let the reasoner write a caption. The agent stops at the confirmation, and the caption is drawn here."""
    from mgem_agent.cli.factories import open_agent
    from mgem_agent.sessions.sessions import Sessions
    from mgem_agent.workflows import recaption

    parts = {} if reasoner is None else {"reasoner": reasoner}
    agent = open_agent(settings, confirm=True, sessions=Sessions.in_memory(), generator=generator, store=store, **parts)
    captions = recaption.run(agent, prompt).captions
    if not captions:
        raise InputError("The reasoner wrote no caption. Leave out --recaption, or choose another --model.")
    return captions[0].prompt


def _size(text: str | None) -> tuple[int | None, int | None]:
    try:
        return (None, None) if text is None else read_size(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--size") from error
