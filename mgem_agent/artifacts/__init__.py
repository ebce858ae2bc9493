"""The store of pictures: each is stored once under the hash of its bytes, with the record of how it was made.

Heavy packages are imported only when a name is used.
"""

from typing import TYPE_CHECKING

from mgem_agent._lazy import attach

if TYPE_CHECKING:
    from mgem_agent.artifacts.artifact import Artifact, PictureAttempt, PictureRecipe
    from mgem_agent.artifacts.picture_file import encode_picture, read_recipe
    from mgem_agent.artifacts.store import ArtifactStore, default_artifact_root

__all__ = [
    "Artifact",
    "ArtifactStore",
    "PictureAttempt",
    "PictureRecipe",
    "default_artifact_root",
    "encode_picture",
    "read_recipe",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Artifact": "mgem_agent.artifacts.artifact",
        "ArtifactStore": "mgem_agent.artifacts.store",
        "PictureAttempt": "mgem_agent.artifacts.artifact",
        "PictureRecipe": "mgem_agent.artifacts.artifact",
        "default_artifact_root": "mgem_agent.artifacts.store",
        "encode_picture": "mgem_agent.artifacts.picture_file",
        "read_recipe": "mgem_agent.artifacts.picture_file",
    },
)
