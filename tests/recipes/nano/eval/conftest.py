"""A report, and one thread: tiny computations only lose time to a second one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest
import torch

from mgem_agent.recipes.bench.measure import describe_machine, use_threads
from mgem_agent.recipes.eval.proportion import Proportion
from mgem_agent.recipes.nano.eval.drawing_protocol import DrawingProtocol, RequestedPictures, Sign
from mgem_agent.recipes.nano.eval.generated_pictures import GeneratedPictures, NamingAccuracy
from mgem_agent.recipes.nano.eval.report import EvalReport
from mgem_agent.recipes.nano.eval.understanding import Understanding


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with use_threads(1):
        yield


@pytest.fixture
def whole_report() -> EvalReport:
    """A report of all parts, made up."""
    half, all_ = Proportion(num=20, num_right=10), Proportion(num=20, num_right=20)
    named = {"one thing": NamingAccuracy(first=half, among_five=all_)}
    asked = {"all": RequestedPictures(well_formed=all_, kept=half)}
    return EvalReport(
        seed=0,
        machine=describe_machine(torch.device("cpu")),
        understanding=(
            Understanding(model="nano", kinds={"what": all_, "read_small": all_}),
            Understanding(model="low", without_hr=True, kinds={"what": all_, "read_small": half}),
        ),
        drawing=DrawingProtocol(model="nano", asked=dict.fromkeys(get_args(Sign), asked), told=all_),
        pictures=GeneratedPictures(
            generator="nano",
            seen_by="nano",
            seen={"one thing": all_},
            seen_real={"one thing": half},
            clip="clip",
            num_pictures=20,
            num_failed=1,
            size_px=(128, 128),
            seconds_per_picture=2.5,
            generated=named,
            real=named,
            contact_sheet="sheet.png",
        ),
    )
