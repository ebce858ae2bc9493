"""`accelerate launch -m mgem_agent.recipes.train CONFIG [key=value ...]`: `mgem train` in many processes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mgem_agent.errors import MgemError

__all__ = ["main"]

_SIGNAL_STATUS = 128


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words of the command line; those of the process if None.

    Returns:
        The exit status: 0 when the run is finished, 1 after an error, 128 and the signal's number after a signal.
    """
    parser = argparse.ArgumentParser(prog="python -m mgem_agent.recipes.train", description="Train the core model.")
    parser.add_argument("config", help="a YAML file, or the name of a shipped configuration, such as nano_align")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that override it")
    words = parser.parse_args(arguments)
    from mgem_agent.recipes.train.config_file import load_config
    from mgem_agent.recipes.train.program import train

    try:
        config = load_config(words.config, words.overrides)
        outcome = train(config, report=lambda message: print(message, file=sys.stderr, flush=True))
    except MgemError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0 if outcome.stopped_by is None else _SIGNAL_STATUS + outcome.stopped_by


if __name__ == "__main__":
    sys.exit(main())
