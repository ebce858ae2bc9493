"""The program that computes VQAScore in an environment of its own: `PYTHON vqascore_worker.py MODEL`.

Each line of stdin is a JSON object with `image` and `text`, each line of stdout one with `score` or `error`; the first
one says that the model is loaded. This file imports nothing of this package, which is not installed there.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

__all__ = ["serve"]


def serve(model: str) -> None:
    """Load a model, and answer line by line until stdin ends.

    Args:
        model: One of t2v_metrics' models.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print to stdout

    def tell(**answer: Any) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        import t2v_metrics  # pyright: ignore[reportMissingImports]
        import torch

        names = t2v_metrics.list_all_vqascore_models()
        if model not in names:
            tell(error=f"t2v_metrics has no model {model!r}. It has: {', '.join(names)}.")
            return
        score = t2v_metrics.VQAScore(model=model, device="cuda" if torch.cuda.is_available() else "cpu")
    except BaseException as error:  # the other process has to know why, whatever it is
        tell(error=f"t2v_metrics could not be loaded: {type(error).__name__}: {error}")
        return
    tell(ready=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            tell(score=float(score(images=[asked["image"]], texts=[asked["text"]])[0][0]))
        except Exception as error:
            tell(error=f"{asked['image']} could not be scored: {type(error).__name__}: {error}")


if __name__ == "__main__":
    serve(sys.argv[1])
