"""Support for offloaded weights.

With `device_map`, accelerate offloads weights that do not fit to main memory or disk, and loads those of a layer when
the layer is called. Mining is an exception: its re-associated form reads its layers' weights and never calls the
layers. It is small, so its weights are loaded once and stay.
"""

from __future__ import annotations

from torch import nn

__all__ = ["keep_resident"]


def keep_resident(module: nn.Module) -> None:
    """Load the offloaded weights of a module to its device for good.

    Args:
        module: A module, offloaded by accelerate or not.
    """
    for layer in module.modules():
        hook = getattr(layer, "_hf_hook", None)
        for each in getattr(hook, "hooks", [hook]):
            if getattr(each, "offload", False):
                each.pre_forward(layer)
                each.offload = False  # otherwise a call would offload the weights again
