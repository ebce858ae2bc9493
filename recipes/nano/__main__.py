"""`python -m mgem_agent.recipes.nano RECIPE FOLDER [key=value ...]`: train one part of nano.

`README.md` in this folder says which recipe comes when. `--help` of a recipe lists its settings, which are the fields
of its configuration.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mgem_agent.errors import InputError, MgemError

__all__ = ["RECIPES", "main"]

_PROGRAM = "python -m mgem_agent.recipes.nano"
RECIPES = {
    "clip_pretrain": ("seeing", "EncodersConfig", "train_encoders", "the two vision encoders"),
    "visual_words": ("seeing", "VisualWordsConfig", "train_visual_words", "mining and the projector"),
    "visual_reader": ("seeing", "VisualReaderTraining", "train_visual_reader", "what reads visual tokens as words"),
    "autoencoder": ("drawing", "AutoencoderConfig", "train_autoencoder", "the autoencoder of pictures"),
    "layout_encoder": ("drawing", "LayoutEncoderConfig", "train_layout_encoder", "its encoder, to find the layout"),
    "scene_latents": ("drawing", "SceneLatentsConfig", "write_scene_latents", "nothing: write scenes for the denoiser"),
    "denoiser": ("drawing", "DenoiserConfig", "train_denoiser", "the diffusion model that really denoises"),
    "denoised_decoder": ("drawing", "DenoisedDecoderConfig", "train_denoised_decoder", "its decoder, and export it"),
}
"""Package, configuration, training function and subject of each recipe, in the order of use."""

_ENTRY = re.compile(r"^    (\w+): (.+(?:\n {5,}.+)*)", re.MULTILINE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a recipe.

    Args:
        arguments: The words of the command line; those of the process if None.

    Returns:
        The exit status: 0 when the recipe has finished, 1 after an error.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words and words[0] in RECIPES:
            result = _train(words[0], words[1:])
        else:
            parsed = _list_parser().parse_args(words)
            result = parsed.write(parsed.place)
    except MgemError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(result)
    return 0


def _list_parser() -> argparse.ArgumentParser:
    """Return the parser of the program: its help lists the recipes, which have parsers of their own."""
    parser = argparse.ArgumentParser(prog=_PROGRAM, description="Train one part of nano. RECIPE --help lists settings.")
    recipes = parser.add_subparsers(metavar="RECIPE", required=True)
    for name, (_, _, _, subject) in RECIPES.items():
        recipes.add_parser(name, help=f"train {subject}")
    vocabulary = recipes.add_parser("vocabulary", help="write what the generator can draw, as a JSON file")
    vocabulary.add_argument("place", metavar="FILE", type=Path, help="the file to write")
    vocabulary.set_defaults(write=_write_vocabulary)
    return parser


def _write_vocabulary(file: Path) -> Path:
    from mgem_agent.recipes.nano.drawing.vocabulary import write_vocabulary

    write_vocabulary(file)
    return file


def _train(name: str, words: Sequence[str]) -> Path:
    package, config_name, function_name, _ = RECIPES[name]
    module = importlib.import_module(f"mgem_agent.recipes.nano.{package}.{name}")
    config_type: Any = getattr(module, config_name)
    parser = argparse.ArgumentParser(
        prog=f"{_PROGRAM} {name}",
        usage="%(prog)s [-h] FOLDER [key=value ...]",
        description=inspect.getdoc(module),
        epilog=_settings(config_type),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="folder of the run, which resumes if it exists")
    parser.add_argument("settings", metavar="key=value", nargs="*", help="settings that differ from the defaults below")
    parsed = parser.parse_args(words)
    config = _config(config_type, parsed.settings)
    from mgem_agent.recipes.nano.world.emoji import EmojiAssets

    result: Path = getattr(module, function_name)(parsed.folder, config, EmojiAssets.open())
    return result


def _config(config_type: Any, settings: Sequence[str]) -> Any:
    """Return a configuration with the given settings.

    Raises:
        InputError: If a word is not a setting, or its value is not allowed.
    """
    known = ", ".join(config_type.model_fields)
    for word in settings:
        if "=" not in word:
            raise InputError(f"Got {word!r}; a setting is written key=value. The settings are {known}.")
    try:
        return config_type.model_validate_strings(dict(word.split("=", 1) for word in settings))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise InputError(f"The settings are not valid: {wrong}. The settings are {known}.") from error


def _settings(config_type: Any) -> str:
    """Return one entry for each field of a configuration: its default and its line in the docstring."""
    texts: dict[str, str] = {}
    for base in reversed(config_type.__mro__):
        texts |= {
            name: re.sub(r"\s+", " ", text) for name, text in _ENTRY.findall(inspect.cleandoc(base.__doc__ or ""))
        }
    lines = []
    for name, field in config_type.model_fields.items():
        is_derived = field.default_factory is not None
        default = (
            "required" if field.is_required() else "by other settings" if is_derived else f"default {field.default}"
        )
        lines.append(f"  {name} ({default})\n      {texts.get(name, '')}".rstrip())
    return "settings:\n" + "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
