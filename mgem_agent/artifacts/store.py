"""The folder of pictures: each is stored once under the hash of its bytes, with a JSON sidecar on how it was made.

Decisions that matter:

- **An id is a content hash**: `img-` and twelve or more digits of the SHA-256 of the PNG file. A picture that is drawn
  again is not stored again; if two ids would be equal, they get more digits.
- **The sidecar is written before the PNG**, each atomically. So a visible picture and its record are complete, even if
  the program was killed. A deleted sidecar is restored from the PNG.
- **A damaged file affects only itself**: it is skipped, and `damaged` names it.
- **A large folder has an index** that is made from the files; see `PictureIndex`. The files stay the truth.
- **Any number of processes may store and read at once** without locks, because only a sidecar's `call` ever changes,
  and files are replaced atomically.
- **An id is never a path**: anything but `img-` and hexadecimal digits is refused before a file is opened.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs
from PIL import Image
from pydantic import ValidationError

from mgem_agent.artifacts.artifact import Artifact, PictureAttempt, PictureRecipe
from mgem_agent.artifacts.atomic_file import sweep_left_over, write_atomically
from mgem_agent.artifacts.drawn_call import is_drawn_for
from mgem_agent.artifacts.picture_file import encode_picture, is_complete_png, read_recipe
from mgem_agent.artifacts.picture_id import picture_id_digits
from mgem_agent.artifacts.picture_index import PictureIndex, scanned
from mgem_agent.core_model.encoded_picture import file_hash, is_data_url, read_file
from mgem_agent.core_model.image_loading import decode, load_image
from mgem_agent.errors import ImageError, InputError
from mgem_agent.redaction import without_secrets
from mgem_agent.tools.capabilities import Notice
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import ImageResult
from mgem_agent.user_files import user_path

__all__ = ["ON_BLACK", "ArtifactStore", "default_artifact_root"]

NUM_ID_DIGITS = 12
ON_BLACK = (
    "The picture is white on a transparent background. It is shown on black, because it would be invisible on white."
)
_FOLDER = re.compile(r"[0-9a-f]{2}")


def default_artifact_root() -> Path:
    """Folder of pictures: `images` in `MGEM_HOME`, or in the place for a program's data on this system."""
    home = os.environ.get("MGEM_HOME")
    folder = user_path(home) if home else platformdirs.user_data_path("mgem-agent", appauthor=False)
    return folder.absolute() / "images"


class ArtifactStore:
    """Pictures in a folder.

    Args:
        root: The folder; `default_artifact_root()` by default. It is created when the first picture is stored.
        num_id_digits: Digits of an id, unless two ids would be equal.

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
        self.root = Path(root) if root is not None else default_artifact_root()
        self._num_id_digits = num_id_digits
        self._index = PictureIndex(self.root)
        self._swept: set[Path] = set()

    def put(self, result: ImageResult, *, version_of: str | None = None) -> Artifact:
        """Store the picture of a result.

        Args:
            result: A result with a picture.
            version_of: Id of the picture that it was requested as another version of.

        Returns:
            Its record; the first record, if the same picture is already stored.

        Raises:
            InputError: If the result has no picture.
            ToolError: If the disk is full or the folder is not writable.
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
            ToolError: If the disk is full or the folder is not writable.
        """
        digest = _given_hash(picture)
        if digest is not None:
            place, is_stored = self._place_of(digest)
            if is_stored:
                return self._record(place)
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
            ToolError: If the disk is full or the folder is not writable.
        """
        artifact = self.get(artifact_id)
        if artifact.attempts != tuple(attempts):
            artifact = artifact.model_copy(update={"attempts": tuple(attempts)})
            write_atomically(_sidecar(self.path(artifact_id)), _sidecar_text(artifact))
        return artifact

    def get(self, artifact_id: str) -> Artifact:
        """Return the record of a picture.

        Args:
            artifact_id: Its id, or a unique beginning of it (four digits or more).

        Raises:
            InputError: If it is not an id, or does not match exactly one picture.
        """
        return self._record(self.path(artifact_id))

    def open(self, artifact_id: str) -> Image.Image:
        """Return a picture, RGB; arguments and errors as for `get`, and ImageError if its file is damaged."""
        return load_image(self.path(artifact_id))

    def path(self, artifact_id: str) -> Path:
        """Return the PNG file of a picture; arguments and errors as for `get`."""
        digits = picture_id_digits(artifact_id.strip())
        if digits is None:
            raise InputError(
                f"{artifact_id[:80]!r} is not a picture id. An id is 'img-' and hexadecimal digits, at least 4. "
                f"Run: mgem images list"
            )
        exact = self._place(digits)
        if exact.is_file():
            return exact
        found = sorted(path for path in exact.parent.glob(f"img-{digits}*.png") if path.is_file())
        if not found:
            raise InputError(f"There is no picture {artifact_id!r} in {str(self.root)!r}. Run: mgem images list")
        if len(found) > 1:
            candidates = ", ".join(path.stem for path in found[:5])
            raise InputError(f"{artifact_id!r} is the beginning of {len(found)} ids: {candidates}. Give more digits.")
        return found[0]

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
        for path in self._newest_first(limit):
            if limit is not None and len(artifacts) >= limit:
                break
            try:
                artifacts.append(self._record(path))
            except InputError as error:
                if on_skip is not None:
                    on_skip(path, error)
        return sorted(artifacts, key=lambda artifact: artifact.created, reverse=True)

    def ids(self) -> Sequence[str]:
        """Return the ids of all pictures, newest first; no record is read."""
        return self._index.newest()

    def revision(self) -> object:
        """Return a value that differs if pictures were added or deleted in between; no picture is read."""
        return frozenset(
            (folder.name, folder.stat().st_mtime_ns)
            for folder in scanned(self.root)
            if _FOLDER.fullmatch(folder.name) and folder.is_dir()
        )

    def damaged(self) -> dict[Path, str]:
        """Return the files that cannot be read, each with the reason.

        Reads all records and the end of each picture file; pixels are decoded only for a missing record.
        """
        found: dict[Path, str] = {}
        self.list(on_skip=lambda path, error: found.update({path: str(error)}))
        for path in self._newest_first():
            if path not in found and not is_complete_png(path):
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

        In a small store, every record is read; in a large one, those that have changed since the last time.

        Args:
            calls: The request of each call, by its key (see `call_key`).
            generator: Name of the generator that would draw them.

        Returns:
            The picture of each call, by its key; calls without a stored picture are left out.
        """
        seeds = {request.seed for request in calls.values() if request.seed is not None}
        found: dict[str, Artifact] = {}
        for name in self._index.drawn_for(calls, seeds):
            try:
                artifact = Artifact.model_validate_json(read_file(_sidecar(self._place_of_id(name))))
            except (ImageError, ValidationError):
                continue  # deleted or damaged; it is drawn again
            if artifact.id != name:
                continue
            for key, request in calls.items():
                is_better = key not in found or artifact.call == key
                if is_better and is_drawn_for(artifact, key, request, generator=generator):
                    found[key] = artifact
        return found

    def _store(self, data: bytes, *, size: tuple[int, int], **known: Any) -> Artifact:
        """Store bytes, unless they are stored already, and return their record."""
        digest = hashlib.sha256(data).hexdigest()
        place, is_stored = self._place_of(digest)
        if place.parent not in self._swept:  # only this folder: looking at all of them takes longer in a large store
            self._swept.add(place.parent)
            sweep_left_over(place.parent)
        if is_stored and _sidecar(place).is_file():
            return self._called(self._record(place), place, known.get("call"))
        artifact = Artifact(
            id=place.stem,
            sha256=digest,
            width=size[0],
            height=size[1],
            created=datetime.now(UTC).replace(microsecond=0),
            **known,
        )
        # The next write syncs the folder for both files.
        write_atomically(_sidecar(place), _sidecar_text(artifact), is_last=False)
        write_atomically(place, data)
        return artifact

    def _called(self, artifact: Artifact, place: Path, call: str | None) -> Artifact:
        """Return the record of a stored picture, updated with the call that drew it again."""
        if call is None or call == artifact.call:
            return artifact
        artifact = artifact.model_copy(update={"call": call})
        write_atomically(_sidecar(place), _sidecar_text(artifact))
        return artifact

    def _place(self, digits: str) -> Path:
        return self.root / digits[:2] / f"img-{digits}.png"

    def _place_of_id(self, artifact_id: str) -> Path:
        return self._place(artifact_id.removeprefix("img-"))

    def _place_of(self, digest: str) -> tuple[Path, bool]:
        """Return the path for a hash, by the shortest unique id, and whether the picture is stored there."""
        for num_digits in range(self._num_id_digits, len(digest), 4):
            place = self._place(digest[:num_digits])
            held = file_hash(place) if place.is_file() else ""
            # A file whose hash does not begin with its id is damaged, and is written again.
            if held == digest or not held.startswith(digest[:num_digits]):
                return place, held == digest
        return self._place(digest), False

    def _record(self, place: Path) -> Artifact:
        """Read a sidecar; if it is missing or damaged, restore the record from the picture."""
        try:
            artifact = Artifact.model_validate_json(read_file(_sidecar(place)))
            if artifact.id == place.stem and place.is_file():
                return artifact
        except (ImageError, ValidationError):
            pass  # the picture file contains most of the record
        recipe = read_recipe(place)
        image = load_image(place)
        return Artifact(
            id=place.stem,
            sha256=file_hash(place),
            width=image.width,
            height=image.height,
            origin="generated" if recipe else "unknown",
            recipe=recipe,
            parents=recipe.request.picture_ids if recipe else (),
            created=datetime.fromtimestamp(int(_changed(place)), UTC),
        )

    def _newest_first(self, num_expected: int | None = None) -> Iterator[Path]:
        """Yield the files of pictures, newest first; quickly if no more than the expected number is taken."""
        first = self._index.newest(num_expected)
        yield from map(self._place_of_id, first)
        if num_expected is not None and len(first) == num_expected:
            yield from map(self._place_of_id, self._index.newest()[num_expected:])


def _sidecar(place: Path) -> Path:
    return place.with_suffix(".json")


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


def _changed(path: Path) -> float:
    """Return the modification time of a file; 0 if it no longer exists."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
