"""Registration with transformers' Auto classes, without importing transformers before its user does.

Importing `mgem_agent.core_model` leaves hooks. Each runs when the module of transformers is imported that could look a
class of ours up, and imports the module of ours that registers the class:

- `AutoConfig` gets the configuration, which is light;
- `AutoProcessor` and `AutoImageProcessor` find their classes by name, so they get them at once;
- `AutoModel` and its kin find a model by its configuration, so the models come when a configuration is made
  (`MiniGeminiConfig.__post_init__`). Programs that never make one do not load them.
"""

from __future__ import annotations

import importlib
from functools import partial

from wrapt import register_post_import_hook

__all__ = ["register_when_needed"]

_HOOKS = {
    "transformers.models.auto.configuration_auto": "mgem_agent.core_model.configuration",
    "transformers.models.auto.image_processing_auto": "mgem_agent.core_model.image_processing",
    "transformers.models.auto.processing_auto": "mgem_agent.core_model.processing",
}


def register_when_needed() -> None:
    """Leave the hooks; one whose module is imported already runs at once."""
    for theirs, ours in _HOOKS.items():
        register_post_import_hook(partial(_import, ours), theirs)


def _import(ours: str, theirs: object) -> None:
    importlib.import_module(ours)
