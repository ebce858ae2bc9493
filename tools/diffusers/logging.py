"""Control what diffusers writes to the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_diffusers"]


@contextmanager
def quiet_diffusers() -> Iterator[None]:
    """Silence the progress bars of diffusers, and warnings that a user cannot act on, while the block runs."""
    from diffusers.utils import logging

    was_shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if was_shown:
            logging.enable_progress_bar()
