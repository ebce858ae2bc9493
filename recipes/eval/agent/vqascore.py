"""VQAScore by the package `t2v_metrics`, which runs in an environment of its own.

Release 3.0 needs transformers 4.49, torch 2.5 and Pillow 10, so it cannot be installed together with this package.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from mgem_agent.errors import InputError, ToolError
from mgem_agent.recipes.eval.agent.prompts import EvalPrompt

__all__ = ["VqaScoreJudge"]

_WORKER = Path(__file__).with_name("vqascore_worker.py")


class VqaScoreJudge:
    """Scores a picture by the probability that it shows the whole prompt.

    Args:
        model: A model of t2v_metrics, such as `clip-flant5-xl`.
        python: Interpreter of an environment with t2v_metrics.

    Raises:
        InputError: If there is no such interpreter, package or model.
    """

    kind: Literal["soft", "hard", "vqascore"] = "vqascore"

    def __init__(self, model: str, python: Path | None) -> None:
        self._model = model
        if python is None:
            raise InputError(
                f"The judge 'vqascore:{model}' needs an environment with t2v_metrics. Create one with Python 3.10 and "
                "ffmpeg, `pip install t2v-metrics` in it, and name its interpreter: --judge-python ENV/bin/python"
            )
        if not python.is_file():
            raise InputError(f"There is no Python interpreter at {str(python)!r}. Name one: ENV/bin/python.")
        command = [str(python), str(_WORKER), model]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, encoding="utf-8")
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def score(self, picture: Path, prompt: EvalPrompt) -> list[float]:
        """Return the probability that the picture shows the prompt.

        Args:
            picture: File of the picture.
            prompt: The prompt; its questions are not asked.

        Raises:
            InputError: If the picture cannot be scored.
            ToolError: If the program has ended.
        """
        if self._process.stdin is None:
            raise ToolError("The program that computes VQAScore has no input.")
        try:
            self._process.stdin.write(json.dumps({"image": str(picture.absolute()), "text": prompt.prompt}) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._ended() from error
        return [float(self._read()["score"])]

    def close(self) -> None:
        """End the program."""
        if self._process.stdin is not None:
            with suppress(OSError):  # what was not sent, to a program that has ended
                self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise self._ended()
        told: dict[str, Any] = json.loads(line)
        if "error" in told:
            raise InputError(f"The judge 'vqascore:{self._model}': {told['error']}")
        return told

    def _ended(self) -> ToolError:
        return ToolError(f"The program that computes VQAScore ended with {self._process.wait()}. Its output says why.")
