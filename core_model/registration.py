"""Registration with transformers' Auto classes, without importing transformers early.

Importing `mgem_agent.core_model` installs import hooks. Each runs when the transformers module that looks up our
classes is imported, and imports our module that registers the class:

- `AutoConfig` gets the configuration, which is cheap to import;
- `AutoProcessor` and `AutoImageProcessor` find their classes by name, so they get them immediately;
- `AutoModel` and its kin find a model by its configuration, so the models are imported when a configuration is created
  (`MiniGeminiConfig.__post_init__`). Programs that never create one do not load them.
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
    """Install the hooks; a hook whose module is already imported runs immediately."""
    for theirs, ours in _HOOKS.items():
        register_post_import_hook(partial(_import, ours), theirs)


def _import(ours: str, theirs: object) -> None:
    importlib.import_module(ours)
