"""The store of pictures: each is stored once under the hash of its bytes, with a JSON sidecar on how it was made.

Decisions that matter:

- **An id is a content hash**: `img-` and twelve or more digits of the SHA-256 of the PNG file. A picture that is drawn
  again is not stored again; if two ids would be equal, they get more digits.
- **The sidecar is written before the PNG**, each atomically. So a visible picture and its record are complete, even if
  the program was killed. A deleted sidecar is restored from the PNG.
- **A damaged file affects only itself**: it is skipped, and `damaged` names it.
- **The files are in a folder or at an address**; see `PictureFolder` and `PictureBucket`. The files are the truth: an
  index or a copy is made from them.
- **Any number of processes may store and read at once** without locks, because only a sidecar's `call` and `attempts`
  ever change, and files are replaced atomically.
- **An id is never a path**: anything but `img-` and hexadecimal digits is refused before a file is opened.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs
from PIL import Image
from pydantic import ValidationError

from mgem_agent.artifacts.artifact import Artifact, PictureAttempt, PictureRecipe
from mgem_agent.artifacts.drawn_call import is_drawn_for
from mgem_agent.artifacts.picture_bucket import PictureBucket
from mgem_agent.artifacts.picture_file import encode_picture, read_recipe
from mgem_agent.artifacts.picture_files import PictureFiles, copy_name
from mgem_agent.artifacts.picture_folder import PictureFolder
from mgem_agent.artifacts.picture_id import picture_id_digits
from mgem_agent.core_model.encoded_picture import file_hash, is_data_url
from mgem_agent.core_model.image_loading import decode, load_image
from mgem_agent.errors import ImageError, InputError, StorageError
from mgem_agent.redaction import without_secrets
from mgem_agent.remote_files import is_address
from mgem_agent.tools.capabilities import Notice
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult
from mgem_agent.user_files import user_path

__all__ = ["ON_BLACK", "ArtifactStore", "default_artifact_root"]

NUM_ID_DIGITS = 12
ON_BLACK = (
    "The picture is white on a transparent background. It is shown on black, because it would be invisible on white."
)
NUM_TRIES = 8


def default_artifact_root() -> Path:
    """Folder of pictures: `images` in `MGEM_HOME`, or in the place for a program's data on this system."""
    home = os.environ.get("MGEM_HOME")
    folder = user_path(home) if home else platformdirs.user_data_path("mgem-agent", appauthor=False)
    return folder.absolute() / "images"


class ArtifactStore:
    """Pictures in a folder, or in an object store.

    Args:
        root: The folder, created when the first picture is stored, or an address as text, such as
            `s3://bucket/prefix`; `default_artifact_root()` by default.
        num_id_digits: Digits of an id, unless two ids would be equal.

    Attributes:
        place: The folder or address, for messages.
        root: The folder; of an address, the folder of the copies on this machine.
        is_remote: Whether it is at an address.

    Raises:
        InputError: If the scheme of an address is unknown, or needs a package that is not installed.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> store = ArtifactStore(folder.name)
        >>> artifact = store.put_picture(Image.new("RGB", (64, 48), "red"), origin="red.png")
        >>> store.open(artifact.id).size
        (64, 48)
        >>> folder.cleanup()
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, *, num_id_digits: int = NUM_ID_DIGITS) -> None:
        self.is_remote = isinstance(root, str) and is_address(root)
        self._given = str(root) if self.is_remote else Path(root) if root is not None else default_artifact_root()
        self._num_id_digits = num_id_digits
        given = self._given
        self._files: PictureFiles = PictureFolder(given) if isinstance(given, Path) else PictureBucket(given)
        self.place: str = self._files.place
        self.root: Path = self._files.root

    def below(self, *names: str) -> ArtifactStore:
        """Return a store of its own, in a folder below this one.

        Args:
            *names: Names of the folder and those above it, none of two hexadecimal digits.
        """
        inner = Path(self._given, *names) if isinstance(self._given, Path) else "/".join((self._given, *names))
        return ArtifactStore(inner, num_id_digits=self._num_id_digits)

    def put(self, result: ImageResult, *, version_of: str | None = None) -> Artifact:
        """Store the picture of a result.

        Args:
            result: A result with a picture.
            version_of: Id of the picture that it was requested as another version of.

        Returns:
            Its record; the first record, if the same picture is already stored.

        Raises:
            InputError: If the result has no picture.
            StorageError: If the disk is full or the folder is not writable.
        """
        if result.image is None:
            raise InputError(f"The result has no picture to store, but an error: {result.error}")
        recipe = PictureRecipe.of(result)
        data = encode_picture(result.image, recipe)
        return self._store(
            data,
            size=result.image.size,
            recipe=recipe,
            asked=result.request,
            call=result.call,
            notices=result.notices,
            parents=result.executed.picture_ids,
            version_of=version_of,
            versions=result.versions,
            seconds=round(result.seconds, 3),
            cost_usd=result.cost_usd,
        )

    def put_picture(self, picture: Any, *, origin: str, name: str | None = None) -> Artifact:
        """Store a picture from a user.

        Args:
            picture: Anything that `load_image` reads: a path, bytes, a data URL, a PIL image, an array.
            origin: Where it comes from, in a few words, such as the name of its file.
            name: Name of the picture in messages, only for encoded bytes; by default their number.

        Returns:
            Its record. Bytes or files from this store give the existing record.

        Raises:
            ImageError: If it is not a picture.
            StorageError: If the disk is full or the folder is not writable.
        """
        digest = _given_hash(picture)
        if digest is not None:
            name_found, is_stored = self._files.locate(digest, self._num_id_digits)
            if is_stored:
                return self._record(name_found)
        image = load_image(picture) if name is None else decode(picture, name)
        notices = (Notice(argument="image", message=ON_BLACK),) if image.info.get("ground") == "black" else ()
        return self._store(encode_picture(image), size=image.size, origin=origin, notices=notices)

    def note_attempts(self, artifact_id: str, attempts: Sequence[PictureAttempt]) -> Artifact:
        """Record the drawings of which a look has chosen a picture, and return its record.

        Args:
            artifact_id: Id of the chosen picture.
            attempts: All drawings, in order.

        Raises:
            InputError: If there is no such picture.
            StorageError: If the disk is full or the folder is not writable.
        """
        artifact = self.get(artifact_id)
        if artifact.attempts != tuple(attempts):
            artifact = artifact.model_copy(update={"attempts": tuple(attempts)})
            self._files.replace_sidecar(artifact, _sidecar_text(artifact))
        return artifact

    def get(self, artifact_id: str) -> Artifact:
        """Return the record of a picture.

        Args:
            artifact_id: Its id, or a unique beginning of it (four digits or more).

        Raises:
            InputError: If it is not an id, or does not match exactly one picture.
        """
        return self._record(self._find(artifact_id))

    def open(self, artifact_id: str) -> Image.Image:
        """Return a picture, RGB; arguments and errors as for `get`, and ImageError if its file is damaged."""
        return load_image(self.path(artifact_id))

    def path(self, artifact_id: str) -> Path:
        """Return the PNG file of a picture, or a copy of it on this machine; arguments and errors as for `get`."""
        return self._files.path(self._find(artifact_id))

    def list(
        self, limit: int | None = None, *, on_skip: Callable[[Path, InputError], None] | None = None
    ) -> list[Artifact]:
        """Return the records of all pictures, newest first. A picture that cannot be read is skipped.

        Args:
            limit: Maximum number.
            on_skip: Called with each skipped file and the reason.
        """
        # A sidecar is written once, so its file time is the picture's. Only the records that are returned are read.
        artifacts: list[Artifact] = []
        for name, found in self._files.each(self._tried, self._newest_first(limit)):
            if isinstance(found, Artifact):
                artifacts.append(found)
            elif on_skip is not None:
                on_skip(self.root / copy_name(name), found)
            if limit is not None and len(artifacts) >= limit:
                break
        return sorted(artifacts, key=lambda artifact: artifact.created, reverse=True)

    def records(self, names: Iterable[str]) -> dict[str, Artifact]:
        """Return the records of some pictures, by id. A picture that cannot be read is left out.

        Args:
            names: Ids, as `ids` returns them.
        """
        return {name: found for name, found in self._files.each(self._tried, names) if isinstance(found, Artifact)}

    def ids(self) -> Sequence[str]:
        """Return the ids of all pictures, newest first; no record is read. At an address, up to 5 seconds late."""
        return self._files.newest()

    def revision(self) -> object:
        """Return a value that differs if pictures were added or deleted in between; no picture is read.

        At an address, it is up to a minute late.
        """
        return self._files.revision()

    def check(self) -> None:
        """Check that an address can be used; a folder is created when it is needed.

        Raises:
            StorageError: If the storage cannot be reached, or the bucket does not exist.
        """
        self._files.check()

    def damaged(self, limit: int | None = None) -> dict[Path, str]:
        """Return the files that cannot be read, each with the reason. Of an address, the files are those of the copies.

        Reads records and the end of each picture file; pixels are decoded only for a missing record.

        Args:
            limit: Maximum number of pictures to check, the newest; None for all.
        """
        found: dict[Path, str] = {}
        self.list(limit, on_skip=lambda path, error: found.update({path: str(error)}))
        names = self._files.newest(limit)
        for name, is_complete in zip(names, self._files.each(self._files.is_complete, names), strict=True):
            path = self.root / copy_name(name)
            if path not in found and not is_complete:
                found[path] = f"{str(path)!r} is cut off or damaged."
        return found

    def lineage(self, artifact_id: str) -> dict[str, Artifact | None]:
        """Return the records of a picture and of all pictures that it was made from.

        Args:
            artifact_id: As for `get`.

        Returns:
            Records by id: the picture itself, then its parents, then theirs; None for one that is not stored.
        """
        first = self.get(artifact_id)
        found: dict[str, Artifact | None] = {first.id: first}
        waiting = list(first.parents)
        while waiting:
            parent = waiting.pop(0)
            if parent in found:
                continue
            try:
                artifact = self.get(parent)
            except InputError:
                found[parent] = None
            else:
                found[parent] = artifact
                waiting += artifact.parents
        return found

    def find_drawn(self, calls: Mapping[str, ImageRequest], *, generator: str) -> dict[str, Artifact]:
        """Find pictures that were drawn for calls, so that a resumed process does not draw them again.

        Args:
            calls: The request of each call, by its key (see `call_key`).
            generator: Name of the generator that would draw them.

        Returns:
            The picture of each call, by its key; calls without a stored picture are left out.
        """
        found: dict[str, Artifact] = {}
        for name, artifact in self._files.each(self._noted, self._files.drawn_for(calls)):
            if artifact is None or artifact.id != name:
                continue  # deleted or damaged; it is drawn again
            for key, request in calls.items():
                is_better = key not in found or artifact.call == key
                if is_better and is_drawn_for(artifact, key, request, generator=generator):
                    found[key] = artifact
        return found

    def _find(self, artifact_id: str) -> str:
        """Return the whole id of a picture; arguments and errors as for `get`."""
        digits = picture_id_digits(artifact_id.strip())
        if digits is None:
            raise InputError(
                f"{artifact_id[:80]!r} is not a picture id. An id is 'img-' and hexadecimal digits, at least 4. "
                f"Run: mgem images list"
            )
        found = self._files.find(digits)
        if not found:
            raise InputError(f"There is no picture {artifact_id!r} in {self.place!r}. Run: mgem images list")
        if len(found) > 1:
            candidates = ", ".join(found[:5])
            raise InputError(f"{artifact_id!r} is the beginning of {len(found)} ids: {candidates}. Give more digits.")
        return found[0]

    def _store(self, data: bytes, *, size: tuple[int, int], **known: Any) -> Artifact:
        """Store bytes, unless they are stored already, and return their record."""
        digest = hashlib.sha256(data).hexdigest()
        for _ in range(NUM_TRIES):
            name, is_stored = self._files.locate(digest, self._num_id_digits)
            if is_stored and self._files.has_sidecar(name):
                return self._called(self._record(name), known.get("call"))
            artifact = Artifact(
                id=name,
                sha256=digest,
                width=size[0],
                height=size[1],
                created=datetime.now(UTC).replace(microsecond=0),
                **known,
            )
            if self._files.add(artifact, _sidecar_text(artifact), data):
                return artifact
        raise StorageError(
            f"The picture could not be stored in {self.place!r}: other programs took its id {NUM_TRIES} times. "
            f"Store it again."
        )

    def _called(self, artifact: Artifact, call: str | None) -> Artifact:
        """Return the record of a stored picture, updated with the call that drew it again."""
        if call is None or call == artifact.call:
            return artifact
        artifact = artifact.model_copy(update={"call": call})
        self._files.replace_sidecar(artifact, _sidecar_text(artifact))
        return artifact

    def _record(self, name: str) -> Artifact:
        """Read a sidecar; if it is missing or damaged, restore the record from the picture."""
        artifact = self._noted(name)[1]
        if artifact is not None and artifact.id == name:
            return artifact
        path = self._files.path(name)  # the picture file contains most of the record
        recipe = read_recipe(path)
        image = load_image(path)
        return Artifact(
            id=name,
            sha256=file_hash(path),
            width=image.width,
            height=image.height,
            origin="generated" if recipe else "unknown",
            recipe=recipe,
            parents=recipe.request.picture_ids if recipe else (),
            created=datetime.fromtimestamp(int(self._files.changed(name)), UTC),
        )

    def _tried(self, name: str) -> tuple[str, Artifact | InputError]:
        try:
            return name, self._record(name)
        except InputError as error:
            return name, error

    def _noted(self, name: str) -> tuple[str, Artifact | None]:
        """Return the record in a sidecar; None if it is missing or damaged."""
        try:
            return name, Artifact.model_validate_json(self._files.sidecar(name))
        except (ImageError, ValidationError):
            return name, None

    def _newest_first(self, num_expected: int | None = None) -> Iterator[str]:
        """Yield the ids of pictures, newest first; quickly if no more than the expected number is taken."""
        first = self._files.newest(num_expected)
        yield from first
        if num_expected is not None and len(first) == num_expected:
            yield from self._files.newest()[num_expected:]


def _sidecar_text(artifact: Artifact) -> bytes:
    return (without_secrets(artifact.model_dump_json(indent=2, exclude_none=True)) + "\n").encode()


def _given_hash(picture: Any) -> str | None:
    """Return the hash of encoded bytes or of a file; None for any other object.

    Raises:
        ImageError: If the file cannot be read, or is too large.
    """
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return hashlib.sha256(picture).hexdigest()
    if isinstance(picture, os.PathLike) or (isinstance(picture, str) and not is_data_url(picture)):
        return file_hash(picture)
    return None
