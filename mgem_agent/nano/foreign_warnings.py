"""Hide warnings of other libraries that a user of nano cannot act on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["TALKATIVE", "without_foreign_warnings"]

TALKATIVE = ("torch.utils._pytree", "bitsandbytes.backends.cpu.ops")
"""Loggers that warn, as they are imported, of how torchao registers its enums and of a kernel that is not needed."""


@contextmanager
def without_foreign_warnings() -> Iterator[None]:
    """Keep these loggers to errors while nano is loaded."""
    loggers = [logging.getLogger(name) for name in TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
