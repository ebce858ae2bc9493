"""Readers of each source's own records, which give records in the project's one schema (LLaVA's).

The questions of one picture become the rounds of one record, as in LLaVA's mix. The instructions on the form of an
answer are LLaVA's. A picture is given by its path as the source names it; links are given as `url`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mgem_agent.errors import InputError
from mgem_agent.extras import explain_missing
from mgem_agent.recipes.train.json_list import list_items

__all__ = ["CONVERTERS", "MALFORMED", "json_objects"]

Record = dict[str, Any]

MALFORMED: Record = {}
"""Stands for a record that cannot be read."""

_SHORT = "Answer the question using a single word or phrase."
_OPTION = "Answer with the option's letter from the given choices directly."
_DESCRIBE = "Describe this image in detail."


def json_objects(path: Path) -> Iterator[Any]:
    """Yield the values of a JSON list or of JSON lines, without reading the whole file into memory.

    Args:
        path: The file; `.gz` is unpacked.

    Raises:
        InputError: If it is neither.
    """
    opened: Any = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    with opened as file:
        start = file.read(1)
        while start.isspace():
            start = file.read(1)
        file.seek(0)
        if start == b"[":
            try:
                for _, item in list_items(file):
                    yield json.loads(item)
            except ValueError as error:
                raise InputError(f"{str(path)!r} is not a complete JSON list: {error}. Fetch it again.") from error
            return
        for line in file:
            if not line.isspace():
                try:
                    yield json.loads(line)
                except ValueError:
                    yield None


def _llava(files: Iterable[Path], folder: str) -> Iterator[Record]:
    for path in files:
        for item in json_objects(path):
            is_record = isinstance(item, dict) and isinstance(item.get("conversations"), list)
            yield {**item, "id": str(item.get("id", item.get("idx", "")))} if is_record else MALFORMED


def _rounds(pairs: Iterable[tuple[str, str]], *, picture: bool) -> list[dict[str, str]]:
    turns: list[dict[str, str]] = []
    for question, answer in pairs:
        mark = "<image>\n" if picture and not turns else ""
        turns += [{"from": "human", "value": f"{mark}{question}"}, {"from": "gpt", "value": answer}]
    return turns


def _by_picture(items: Iterable[tuple[str, str, str]], folder: str, name: str) -> Iterator[Record]:
    """Group (picture, question, answer) by picture."""
    rounds: dict[str, list[tuple[str, str]]] = {}
    for picture, question, answer in items:
        rounds.setdefault(picture, []).append((question, answer))
    for picture, pairs in rounds.items():
        yield {
            "id": f"{name}_{Path(picture).stem}",
            "image": f"{folder}/{picture}",
            "conversations": _rounds(((f"{question}\n{_SHORT}", answer) for question, answer in pairs), picture=True),
        }


def _docvqa(files: Iterable[Path], folder: str) -> Iterator[Record]:
    def items() -> Iterator[tuple[str, str, str]]:
        for path in files:
            for item in json.loads(path.read_bytes())["data"]:
                yield item["image"], item["question"], item["answers"][0]

    return _by_picture(items(), folder, "docvqa")


def _chartqa(files: Iterable[Path], folder: str) -> Iterator[Record]:
    items = ((item["imgname"], item["query"], str(item["label"])) for path in files for item in json_objects(path))
    return _by_picture(items, folder, "chartqa")


def _dvqa(files: Iterable[Path], folder: str) -> Iterator[Record]:
    items = ((item["image"], item["question"], str(item["answer"])) for path in files for item in json_objects(path))
    return _by_picture(items, folder, "dvqa")


def _ai2d(files: Iterable[Path], folder: str) -> Iterator[Record]:
    held_out: set[str] = set()
    for path in files:
        test_ids = path.parent.parent / "ai2d_test_ids.csv"
        if not held_out and test_ids.is_file():
            held_out = set(test_ids.read_text(encoding="utf-8").split())
        item = json.loads(path.read_bytes())
        name = item["imageName"]
        if Path(name).stem in held_out:
            continue
        pairs: dict[bool, list[tuple[str, str]]] = {False: [], True: []}
        for question, answers in item["questions"].items():
            letters = [chr(ord("A") + place) for place in range(len(answers["answerTexts"]))]
            options = [f"{letter}. {text}" for letter, text in zip(letters, answers["answerTexts"], strict=True)]
            asked = "\n".join([question, *options, _OPTION])
            pairs[bool(answers.get("abcLabel"))].append((asked, letters[answers["correctAnswer"]]))
        # Questions about letters in the diagram need the picture in which they are drawn.
        for is_lettered, place in ((False, folder), (True, f"{Path(folder).parent.as_posix()}/abc_images")):
            if pairs[is_lettered]:
                kind = "ai2d_abc" if is_lettered else "ai2d"
                yield {
                    "id": f"{kind}_{Path(name).stem}",
                    "image": f"{place}/{name}",
                    "conversations": _rounds(pairs[is_lettered], picture=True),
                }


def _lima(files: Iterable[Path], folder: str) -> Iterator[Record]:
    for path in files:
        for number, item in enumerate(json_objects(path)):
            texts = item.get("conversations") if isinstance(item, dict) else None
            if not isinstance(texts, list) or len(texts) < 2 or not all(isinstance(text, str) for text in texts):
                yield MALFORMED
                continue
            pairs = zip(texts[::2], texts[1::2], strict=False)
            yield {"id": f"lima_{number}", "conversations": _rounds(pairs, picture=False)}


def _oasst2(files: Iterable[Path], folder: str) -> Iterator[Record]:
    for path in files:
        for tree in json_objects(path):
            if not isinstance(tree, dict) or not isinstance(tree.get("prompt"), dict):
                yield MALFORMED
                continue
            if tree["prompt"].get("lang") != "en":
                continue
            texts = list(_best_path(tree["prompt"]))
            if len(texts) > 1:
                pairs = zip(texts[::2], texts[1::2], strict=False)
                yield {"id": f"oasst2_{tree.get('message_tree_id')}", "conversations": _rounds(pairs, picture=False)}


def _best_path(message: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts from the first prompt on, each answered by the best-ranked reply."""
    node: Mapping[str, Any] | None = message
    while node is not None:
        yield node["text"]
        replies = node.get("replies") or []
        ranked = sorted(replies, key=lambda reply: (reply.get("rank") is None, reply.get("rank") or 0))
        node = ranked[0] if ranked else None


def _laion_gpt4v(files: Iterable[Path], folder: str) -> Iterator[Record]:
    with explain_missing("Reading LAION GPT-4V"):
        from pyarrow import parquet
    for path in files:
        for batch in parquet.ParquetFile(path).iter_batches(columns=["link", "caption"]):
            for row in batch.to_pylist():
                link, caption = row["link"], row["caption"]
                if not isinstance(link, str) or not isinstance(caption, str):
                    yield MALFORMED
                    continue
                name = hashlib.sha256(link.encode()).hexdigest()[:24]
                yield {
                    "id": f"laion_gpt4v_{name}",
                    "image": f"{folder}/{name}.jpg",
                    "url": link,
                    "conversations": _rounds([(_DESCRIBE, caption)], picture=True),
                }


CONVERTERS: dict[str, Callable[[Iterable[Path], str], Iterator[Record]]] = {
    "ai2d": _ai2d,
    "chartqa": _chartqa,
    "docvqa": _docvqa,
    "dvqa": _dvqa,
    "laion_gpt4v": _laion_gpt4v,
    "lima": _lima,
    "llava": _llava,
    "oasst2": _oasst2,
}
"""The readers, by the name that manifests give. Each takes the files and the folder of the pictures."""
