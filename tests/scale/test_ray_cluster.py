from __future__ import annotations

import sys

import pytest

from mgem_agent.errors import InputError, MissingDependencyError
from mgem_agent.scale.ray_cluster import RayOptions, connected


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="The number of workers is 0"):
        RayOptions(num_workers=0)
    with pytest.raises(InputError, match="num_gpus is -1"):
        RayOptions(num_gpus=-1)
    assert RayOptions(num_gpus=0.5).of_a_worker == {"num_cpus": 1.0, "num_gpus": 0.5}


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"Work on Ray needs .* pip install 'mgem-agent\[ray\]'"):
        with connected(RayOptions()):
            pass
