"""Other libraries' warnings are held back while nano loads, and not longer."""

from __future__ import annotations

import logging

import pytest

from mgem_agent.nano.foreign_warnings import TALKATIVE, without_foreign_warnings


@pytest.mark.parametrize("name", TALKATIVE)
def test_they_are_held_back_for_a_while(
    name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger(name)
    level = logger.level
    monkeypatch.setattr(logger, "propagate", False)  # torch 2.6 has handlers of its own and keeps records from ours
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    with without_foreign_warnings():
        logger.warning("no one can mend this")
        logger.error("this one can be mended")
    assert logger.level == level
    assert [record.getMessage() for record in caplog.records] == ["this one can be mended"]
