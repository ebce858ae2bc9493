"""Commands for pictures: show one to the model, draw without asking the model, edit, and redraw."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from mgem_agent.artifacts.picture_id import is_picture_id
from mgem_agent.cli.chat.command import Command, read_options
from mgem_agent.cli.picture_size import read_size
from mgem_agent.cli.typed_path import typed_paths
from mgem_agent.errors import InputError

if TYPE_CHECKING:
    from mgem_agent.artifacts import Artifact
    from mgem_agent.cli.chat.state import Chat, ChatUI
    from mgem_agent.tools import ImageRequest

__all__ = ["COMMANDS"]

MAX_SEED = 2**31
VARIATION_STRENGTH = 0.6
NUM_VARIATIONS = 3


def _image(chat: Chat, ui: ChatUI, rest: str) -> None:
    if not rest:
        raise InputError("The picture is missing. Example: /image photo.jpg")
    paths = typed_paths(rest)
    for name in [chat.picture(str(path)) for path in paths] if len(paths) > 1 else [chat.picture(rest)]:
        chat.attached.append(name)
        ui.window.show(chat.store.path(name), "will be sent with your next message")
        for notice in chat.store.get(name).notices:
            ui.display.tell(notice.message)


def _images(chat: Chat, ui: ChatUI, rest: str) -> None:
    pictures = chat.pictures()
    for number, name in enumerate(pictures, 1):
        ui.console.print(f"[{number}]  {name}  {_title(chat, name)}", markup=False, highlight=False, soft_wrap=True)
    for name in chat.attached:
        ui.console.print(f"[+]  {name}  will be sent with your next message", markup=False, highlight=False)
    if not pictures and not chat.attached:
        ui.display.tell("This session has no pictures yet. /image attaches one, /gen draws one.")


def _show(chat: Chat, ui: ChatUI, rest: str) -> None:
    name = chat.picture(rest)
    ui.window.show(chat.store.path(name), f"{name}  {_title(chat, name)}")


def _gen(chat: Chat, ui: ChatUI, rest: str) -> None:
    options: dict[str, Callable[[str], Any]] = {
        "-n": int,
        "--seed": int,
        "--size": read_size,
        "--steps": int,
        "--negative": str,
    }
    prompt, given = read_options(rest, options)
    if not prompt:
        raise InputError("The prompt is missing. Example: /gen a red fox in the snow --seed 7")
    fields = _fields(given)
    number = given.get("n", 1)
    requests = [_request(prompt=prompt, **_seeded(fields, place)) for place in range(number)]
    chat.draw(requests, f"Draw {prompt}", ui)


def _edit(chat: Chat, ui: ChatUI, rest: str) -> None:
    from pydantic import ValidationError

    from mgem_agent.tools.editing_plan import EditRequest, EditWay, plan_edit

    words, given = read_options(rest, {"--any-way": bool, "--strength": float, "--seed": int})
    first, _, instruction = words.partition(" ")
    if not first.isdecimal() and not is_picture_id(first):
        first, instruction = "", words
    if not instruction.strip():
        raise InputError("The instruction is missing. Example: /edit 2 make it night")
    name = chat.picture(first)
    recipe = chat.store.get(name).recipe
    others: tuple[EditWay, ...] = ("edit", "image_to_image", "redraw") if given.pop("any-way", False) else ()
    try:
        edit = EditRequest(
            instruction=instruction,
            image=name,
            original=None if recipe is None else recipe.request,
            fallbacks=others,
            **given,
        )
    except ValidationError as error:
        raise InputError(f"This edit is not possible: {error.errors()[0]['msg']}.") from error
    try:
        plan = plan_edit(edit, chat.generator.capabilities, generator=chat.generator.name)
    except InputError as error:
        raise InputError(f"{error} In this chat: /edit {words} --any-way") from error
    for notice in plan.notices:
        ui.display.tell(notice.message)
    _draw_anew(chat, [plan.request], f"Change the picture: {instruction}", ui)


def _regen(chat: Chat, ui: ChatUI, rest: str) -> None:
    word, given = read_options(rest, {"--seed": int})
    name = chat.picture(word)
    seed = given.get("seed", secrets.randbelow(MAX_SEED))
    request = _request_of(chat, name)
    _draw_anew(chat, [_request(**{**request, "seed": seed})], "Draw it again with another seed.", ui)


def _vary(chat: Chat, ui: ChatUI, rest: str) -> None:
    word, given = read_options(rest, {"-n": int, "--strength": float})
    name = chat.picture(word)
    request = _request_of(chat, name)
    changes: dict[str, Any] = {}
    if "image_to_image" in chat.generator.capabilities.tasks:
        strength = given.get("strength", VARIATION_STRENGTH)
        changes = {"task": "image_to_image", "image": name, "mask": None, "strength": strength}
    else:
        others = "with other seeds" if chat.generator.capabilities.seed else "again; it takes no seeds"
        ui.display.tell(f"This generator cannot start from a picture. It draws the same caption {others}.")
    seeds = [secrets.randbelow(MAX_SEED) for _ in range(given.get("n", NUM_VARIATIONS))]
    requests = [_request(**{**request, **changes, "seed": seed}) for seed in seeds]
    _draw_anew(chat, requests, "Draw variations of it.", ui)


def _draw_anew(chat: Chat, requests: list[ImageRequest], text: str, ui: ChatUI) -> None:
    """Draw, and say so if a picture is one that the session already has."""
    before = set(chat.pictures())
    turn = chat.draw(requests, text, ui)
    if turn is not None and any(picture.artifact_id in before for picture in turn.pictures):
        ui.display.tell(
            f"{chat.generator.name} drew the same picture as before. Draw another caption with /gen PROMPT, or choose "
            "another generator with /backend."
        )


def _ref(chat: Chat, ui: ChatUI, rest: str) -> None:
    references = chat.generator.references
    words = rest.split()
    if not words:
        for name, picture in references.items():
            ui.console.print(f"{name}  {picture}", markup=False, highlight=False)
        if not references:
            ui.display.tell("There are no references. Example: /ref 2 as hero")
        return
    if words[-1] == "off" and len(words) == 2:
        if references.pop(words[0], None) is None:
            raise InputError(f"There is no reference {words[0]!r}. References: {', '.join(references) or 'none'}.")
        ui.display.tell(f"The reference {words[0]} was removed.")
        return
    if len(words) != 3 or words[1] != "as":
        raise InputError("Give a picture and a name, as in /ref 2 as hero. To remove it: /ref hero off")
    if not chat.generator.capabilities.max_references:
        raise InputError(f"Generator {chat.generator.name!r} takes no reference pictures. Choose another one: /backend")
    references[words[2]] = chat.picture(words[0])
    ui.display.tell(f"When a caption contains {words[2]!r}, {references[words[2]]} is now used as a reference.")


def _title(chat: Chat, name: str) -> str:
    try:
        return chat.store.get(name).title
    except InputError:
        return "no longer stored"


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    """Options by the field names of an image request."""
    width, height = given.get("size", (None, None))
    named = {"width": width, "height": height, "seed": given.get("seed")}
    named |= {"num_inference_steps": given.get("steps"), "negative_prompt": given.get("negative")}
    return {name: value for name, value in named.items() if value is not None}


def _seeded(fields: dict[str, Any], place: int) -> dict[str, Any]:
    """Fields of one of several pictures; each further picture gets the next seed."""
    if "seed" in fields:
        return fields | {"seed": fields["seed"] + place}
    return fields if place == 0 else fields | {"seed": secrets.randbelow(MAX_SEED)}


def _request(**fields: Any) -> ImageRequest:
    from mgem_agent.agent.drawing import read_request

    return read_request(fields, {})


def _request_of(chat: Chat, name: str) -> dict[str, Any]:
    """The request that made a picture."""
    artifact: Artifact = chat.store.get(name)
    if artifact.recipe is None:
        raise InputError(f"{name} was not drawn by mgem, so it cannot be redrawn. To change it, use /edit.")
    return artifact.recipe.request.model_dump(exclude_none=True)


def _numbers(chat: Chat) -> Iterable[str]:
    return (str(number) for number in range(1, len(chat.pictures()) + 1))


COMMANDS = (
    Command("image", "FILE", "Send a picture with your next message.", _image, "files"),
    Command("images", "", "List the pictures of this session.", _images),
    Command("show", "[N]", "Show a picture.", _show, _numbers),
    Command(
        "gen",
        'PROMPT [-n N] [--seed S] [--size WxH] [--steps N] [--negative "WORDS"]',
        "Draw a picture directly, without asking the model. The model sees the result.",
        _gen,
    ),
    Command(
        "edit",
        "[N] TEXT [--seed S] [--strength X] [--any-way]",
        "Edit a picture as TEXT says; --any-way redraws it if the generator cannot follow edit instructions.",
        _edit,
        _numbers,
    ),
    Command("regen", "[N] [--seed S]", "Redraw a picture with another seed.", _regen, _numbers),
    Command("vary", "[N] [-n N] [--strength X]", "Draw variations of a picture.", _vary, _numbers),
    Command(
        "ref", "N as NAME | NAME off", "Use a picture as a reference whenever a caption contains NAME.", _ref, _numbers
    ),
)
