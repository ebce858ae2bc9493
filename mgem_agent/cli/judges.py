"""Judges of pictures by name, for `mgem eval agent` and `mgem train captioner_dpo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mgem_agent.recipes.eval.agent.figure_judge import FigureJudge

__all__ = ["open_judge"]

_SCENE = "scene:"


def open_judge(name: str, python: Path | None = None) -> FigureJudge:
    """Return a judge.

    Args:
        name: As for `make_figure_judge`, or `scene:MODEL` for pictures in nano's style: its things are found first, and
            named by the model one by one.
        python: For VQAScore, the interpreter of an environment with `t2v_metrics`.

    Raises:
        InputError: If there is no such model, or no such environment.
        MissingDependencyError: If a package is missing.
    """
    from mgem_agent.reasoners import make_reasoner
    from mgem_agent.recipes.eval.agent.figure_judge import make_figure_judge

    if not name.startswith(_SCENE):
        return make_figure_judge(name, python)
    from mgem_agent.recipes.nano.eval.scene_judge import SceneJudge

    return SceneJudge(make_reasoner(name.removeprefix(_SCENE), tool_calling="native"))
