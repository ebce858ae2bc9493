"""Weights that lie elsewhere than where they are used.

With `device_map`, accelerate keeps weights that do not fit on the disk or in main memory, and brings those of a layer
when the layer is called. Mining is an exception: it is computed in a re-associated form that reads its layers' weights
and never calls the layers. It is small, so its weights are brought once and stay.
"""

from __future__ import annotations

from torch import nn

__all__ = ["keep_resident"]


def keep_resident(module: nn.Module) -> None:
    """Bring the weights of a module to where it runs, and leave them there.

    Args:
        module: A module, offloaded by accelerate or not.
    """
    for layer in module.modules():
        hook = getattr(layer, "_hf_hook", None)
        for each in getattr(hook, "hooks", [hook]):
            if getattr(each, "offload", False):
                each.pre_forward(layer)
                each.offload = False  # or the weights would leave again after a call
