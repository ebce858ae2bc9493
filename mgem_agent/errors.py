"""All errors that mgem-agent raises on purpose.

A message says what was received, what is allowed and what to do next. The hierarchy::

    MgemError
    ├── InputError (also a ValueError): the caller's mistake; the same call fails again
    │   ├── GeometryError: image sizes that do not fit together
    │   ├── ImageError: a picture that cannot be read
    │   ├── PromptError: a dialogue or prompt that cannot be rendered
    │   ├── ContextOverflowError: more tokens than the language model's context holds
    │   ├── CheckpointError: weights or a configuration that do not fit the model
    │   ├── UnsupportedRequestError: an image request that the generator cannot honour
    │   ├── BudgetExceededError: a call that would pass a budget
    │   └── MissingDependencyError (also an ImportError): an optional package is not installed
    ├── ReasonerError: the reasoner's server failed
    │   ├── ReasonerUnavailableError: it cannot be reached, is overloaded or had an internal error
    │   ├── ReasonerRequestError: it rejected the request
    │   │   └── ReasonerPicturesError: the model takes fewer pictures, or none
    │   └── ReasonerOutputError: its response is not a complete answer
    ├── DeviceMemoryError: a model cannot move to its device
    ├── StorageError: files of a storage cannot be read or written
    └── ToolError: a tool failed
        ├── GeneratorUnavailableError: the image generator cannot be reached or loaded
        ├── GeneratorTimeoutError: the image generator did not answer in time
        ├── GeneratorOutputError: the image generator did not return the requested picture
        ├── GeneratorRefusalError: the image generator declined to draw this prompt
        └── GenerationCancelledError: the drawing was cancelled
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mgem_agent.redaction import redact

__all__ = [
    "BudgetExceededError",
    "CheckpointError",
    "ContextOverflowError",
    "DeviceMemoryError",
    "GenerationCancelledError",
    "GeneratorOutputError",
    "GeneratorRefusalError",
    "GeneratorTimeoutError",
    "GeneratorUnavailableError",
    "GeometryError",
    "ImageError",
    "InputError",
    "MgemError",
    "MissingDependencyError",
    "MissingKeyError",
    "PromptError",
    "ReasonerError",
    "ReasonerOutputError",
    "ReasonerPicturesError",
    "ReasonerRequestError",
    "ReasonerUnavailableError",
    "StorageError",
    "ToolError",
    "UnsupportedRequestError",
]


class MgemError(Exception):
    """Base class of all errors that this package raises on purpose.

    Messages are shown, logged and stored, so secrets are removed when the error is created.

    Args:
        *parts: The message.
    """

    def __init__(self, *parts: object) -> None:
        super().__init__(*(redact(part) if isinstance(part, str) else part for part in parts))

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how it is copied and sent to another process: by its message, not by the arguments of its class."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[MgemError], args: tuple[Any, ...], state: dict[str, Any]) -> MgemError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InputError(MgemError, ValueError):
    """The caller's request is not valid; repeating the call fails again."""


class GeometryError(InputError):
    """Image, patch, grid and feature-map sizes that do not divide each other."""


class ImageError(InputError):
    """A picture that cannot be read, or a file that is not a picture."""


class PromptError(InputError):
    """A dialogue or a prompt that cannot be rendered or does not match its images."""


class ContextOverflowError(InputError):
    """More tokens than the language model's context holds.

    Args:
        num_text_tokens: Number of text tokens in the prompt.
        num_image_tokens: Number of image tokens in the prompt.
        num_images: Number of images in the prompt.
        max_new_tokens: Number of new tokens requested.
        max_context: Size of the language model's context in tokens; None if unknown.
        message: Message to use instead, if a server did not report the numbers.
    """

    def __init__(
        self,
        *,
        num_text_tokens: int = 0,
        num_image_tokens: int = 0,
        num_images: int = 0,
        max_new_tokens: int = 0,
        max_context: int | None = None,
        message: str | None = None,
    ) -> None:
        self.num_text_tokens = num_text_tokens
        self.num_image_tokens = num_image_tokens
        self.num_images = num_images
        self.max_new_tokens = max_new_tokens
        self.max_context = max_context
        total = num_text_tokens + num_image_tokens + max_new_tokens
        super().__init__(
            message
            or f"The prompt does not fit into the context: {num_images} image(s) take {num_image_tokens} tokens, the "
            f"text {num_text_tokens}, and {max_new_tokens} new tokens were requested, {total} in total; the context "
            f"holds {max_context}. Request fewer new tokens, send fewer images, or drop early rounds of the dialogue."
        )


class CheckpointError(InputError):
    """Weights or a configuration that do not fit the model.

    Args:
        message: What was read, and what is wrong with it.
        missing: Keys that the checkpoint lacks.
        unexpected: Keys that the model does not have.
        mismatched: Keys with a wrong shape, each with both shapes, as text.
    """

    def __init__(
        self,
        message: str,
        *,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        mismatched: Sequence[str] = (),
    ) -> None:
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.mismatched = tuple(mismatched)
        for title, keys in (("missing", missing), ("unexpected", unexpected), ("with a wrong shape", mismatched)):
            if keys:
                message += f"\n{len(keys)} {title}:\n" + "\n".join(f"  {key}" for key in keys)
        super().__init__(message)


class MissingDependencyError(InputError, ImportError):
    """An optional package is required but not installed.

    Args:
        feature: What needs the package, as the start of a sentence.
        package: The package's name on the package index.
        extra: The extra of `mgem-agent` that contains it; None to install the package by its own name.
    """

    def __init__(self, feature: str, package: str, extra: str | None = None) -> None:
        self.package = package
        self.extra = extra
        wanted = package if extra is None else f"'mgem-agent[{extra}]'"
        super().__init__(f"{feature} needs the package {package!r}. Run: pip install {wanted}")


class MissingKeyError(InputError):
    """A provider's key is not in the environment."""


class UnsupportedRequestError(InputError):
    """An image request that the chosen generator cannot fulfil.

    Args:
        message: What was requested, what the generator supports, and what to do next.
        arguments: Names of the request's fields that are not supported.
    """

    def __init__(self, message: str, *, arguments: Sequence[str] = ()) -> None:
        self.arguments = tuple(arguments)
        super().__init__(message)


class BudgetExceededError(InputError):
    """A call that would pass a budget; it was not made. With a larger budget, the same call may succeed."""


class ReasonerError(MgemError):
    """The reasoner's server failed; finished work is not lost.

    Args:
        message: What failed, at which address, and what to do next.
        retryable: Whether the same request may succeed later.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        self.retryable = retryable
        super().__init__(message)


class ReasonerUnavailableError(ReasonerError):
    """The reasoner's server cannot be reached, is overloaded, or had an internal error."""


class ReasonerRequestError(ReasonerError):
    """The reasoner's server rejected the request."""


class ReasonerPicturesError(ReasonerRequestError):
    """The request contains more pictures than the model takes.

    Args:
        message: What failed, at which address, and what to do next.
        max_pictures: Maximum number of pictures; 0 for a model that takes none.
    """

    def __init__(self, message: str, *, max_pictures: int = 0) -> None:
        self.max_pictures = max_pictures
        super().__init__(message)


class ReasonerOutputError(ReasonerError):
    """The response of the reasoner's server is not a complete answer."""


class DeviceMemoryError(MgemError):
    """A model cannot move to the device that runs it."""


class ToolError(MgemError):
    """A tool failed; finished work is not lost.

    Args:
        message: What failed, and what to do next.
        retryable: Whether the same call may succeed later.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        self.retryable = retryable
        super().__init__(message)


class StorageError(ToolError):
    """Pictures, sessions or files of a storage cannot be read or written; the same call may succeed later."""

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message, retryable=retryable)


class GeneratorUnavailableError(ToolError):
    """The image generator cannot be reached or loaded."""


class GeneratorTimeoutError(ToolError):
    """The image generator did not answer in time."""


class GeneratorOutputError(ToolError):
    """The image generator did not return the requested picture."""


class GeneratorRefusalError(ToolError):
    """The image generator declined to draw this prompt."""


class GenerationCancelledError(ToolError):
    """The drawing was cancelled before it was finished."""
