"""Small archives of each source's real form, and a server on this machine that gives them, as the hub and as others."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from PIL import Image

from mgem_agent.recipes.data.sources.manifest import Manifest, load_manifests


def picture(colour: str = "red", kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 4), colour).save(file, kind)
    return file.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def record(identifier: str, image: str | None, **more: Any) -> dict[str, Any]:
    mark = "" if image is None else "<image>\n"
    turns = [{"from": "human", "value": f"{mark}What?"}, {"from": "gpt", "value": f"It is {identifier}."}]
    return {"id": identifier, **({} if image is None else {"image": image}), "conversations": turns, **more}


def listed(*records: Any) -> bytes:
    return json.dumps(records).encode()


HUB: dict[str, bytes] = {
    "liuhaotian/LLaVA-Pretrain/blip_laion_cc_sbu_558k.json": listed(
        record("004539375", "00453/004539375.jpg"), record("gone", "00453/gone.jpg"), {"id": "odd", "image": 3}
    ),
    "liuhaotian/LLaVA-Pretrain/images.zip": zipped({"00453/004539375.jpg": picture()}),
    "FreedomIntelligence/ALLaVA-4V/allava_laion/ALLaVA-Caption-LAION-4V.json": listed(
        record("cap0", "allava_laion/images/100.jpeg", url="https://x.org/1.jpg"),
        record("cap1", "allava_laion/images/101.jpeg"),
    ),
    "FreedomIntelligence/ALLaVA-4V/allava_vflan/ALLaVA-Caption-VFLAN-4V.json": listed(
        record("vcap", "allava_vflan/images/images_191task_1k/a+b.png")
    ),
    "FreedomIntelligence/ALLaVA-4V/allava_laion/ALLaVA-Instruct-LAION-4V.json": listed(
        record("inst0", "allava_laion/images/100.jpeg")
    ),
    "FreedomIntelligence/ALLaVA-4V/allava_vflan/ALLaVA-Instruct-VFLAN-4V.json": listed(
        record("vinst", "allava_vflan/images/images_191task_1k/a+b.png")
    ),
    **{
        f"FreedomIntelligence/ALLaVA-4V/allava_laion/image_chunks/images_{i}.zip": zipped(
            {f"images_{i}/{100 + i}.jpeg": picture()}
        )
        for i in range(10)
    },
    "Vision-Flan/vision-flan_191-task_1k/image_191-task_1k.zip": zipped(
        {"images_191task_1k/a+b.png": picture(kind="PNG")}
    ),
    "liuhaotian/LLaVA-Instruct-150K/llava_v1_5_mix665k.json": listed(
        record("coco", "coco/train2017/1.jpg"),
        record("gqa", "gqa/images/2.jpg"),
        record("vg", "vg/VG_100K/3.jpg"),
        record("vg2", "vg/VG_100K_2/4.jpg"),
        record("ocr", "ocr_vqa/images/5.jpg"),
        record("textcaps", "textvqa/train_images/6.jpg"),
        record("text", None),
        record("damaged", "coco/train2017/7.jpg"),
    ),
    "Lin-Chen/ShareGPT4V/sharegpt4v_instruct_gpt4-vision_cap100k.json": listed(
        record("lcs", "llava/llava_pretrain/images/00453/004539375.jpg"),
        record("coco", "coco/train2017/1.jpg"),
        record("sam", "sam/images/sa_1.jpg"),
        record("web", "web-celebrity/images/w.jpg"),
    ),
    "GAIR/lima/train.jsonl": b'{"conversations": ["Hi?", "Hello."], "source": "stackexchange"}\n{"conversations": 1}\n',
    "OpenAssistant/oasst2/2023-11-05_oasst2_ready.trees.jsonl.gz": gzip.compress(
        b"".join(
            json.dumps(
                {
                    "message_tree_id": lang,
                    "prompt": {
                        "text": "Why?",
                        "role": "prompter",
                        "lang": lang,
                        "replies": [
                            {"text": "Worse.", "role": "assistant", "rank": 1, "replies": []},
                            {"text": "Best.", "role": "assistant", "rank": 0, "replies": [{"text": "And?"}]},
                        ],
                    },
                }
            ).encode()
            + b"\n"
            for lang in ("en", "de")
        )
    ),
    "ahmed-masry/ChartQA/ChartQA Dataset.zip": zipped(
        {
            "ChartQA Dataset/train/train_human.json": listed(
                {"imgname": "8.png", "query": "How many?", "label": "3"},
                {"imgname": "8.png", "query": "Which?", "label": "Blue"},
            ),
            "ChartQA Dataset/train/png/8.png": picture(kind="PNG"),
        }
    ),
    "YanweiLi/MGM-Instruction/mgm_generation_pure_text.json": listed(record("gen", None)),
    "YanweiLi/MGM-Pretrain/mgm_pretrain.json": listed(
        record("a", "images/00453/004539375.jpg"), record("b", "ALLaVA-4V/allava_laion/images/100.jpeg")
    ),
    "YanweiLi/MGM-Instruction/mgm_instruction.json": listed(
        record("a", "coco/train2017/1.jpg"), record("b", None), record("c", "nowhere/x.jpg"), record("d", "dvqa/x.png")
    ),
}
"""The files of the hub's data sets."""

WEB: dict[str, bytes] = {
    "/zips/train2017.zip": zipped({"train2017/1.jpg": picture(), "train2017/7.jpg": b"no picture"}),
    "/nlp/data/gqa/images.zip": zipped({"images/2.jpg": picture()}),
    "/people/rak248/VG_100K_2/images.zip": zipped({"VG_100K/3.jpg": picture(), "VG_100K/4.jpg": picture()}),
    "/people/rak248/VG_100K_2/images2.zip": zipped({"VG_100K_2/9.jpg": picture()}),
    "/diagrams/ai2d-all.zip": zipped(
        {
            "ai2d/images/0.png": picture(kind="PNG"),
            "ai2d/abc_images/0.png": picture(kind="PNG"),
            "ai2d/questions/0.png.json": json.dumps(
                {
                    "imageName": "0.png",
                    "questions": {
                        "What eats grass?": {"abcLabel": False, "answerTexts": ["fox", "hare"], "correctAnswer": 1},
                        "Which is the sun?": {"abcLabel": True, "answerTexts": ["a", "b"], "correctAnswer": 0},
                    },
                }
            ).encode(),
        }
    ),
    "/alive.jpg": picture("blue"),
    "/not-a-picture.jpg": b"<html>",
}
"""The files of other servers, by path."""

BY_HAND: dict[str, bytes] = {
    "ocr_vqa/images/5.png": picture(kind="PNG"),
    "sam/images/sa_1.jpg": picture(),
    "downloads/docvqa/spdocvqa_qas.zip": zipped(
        {
            "spdocvqa_qas/train_v1.0_withQT.json": json.dumps(
                {"data": [{"question": "Date?", "image": "documents/d_1.png", "answers": ["1970", "70"]}]}
            ).encode(),
            "spdocvqa_qas/val_v1.0_withQT.json": b"{}",
        }
    ),
    "downloads/docvqa/spdocvqa_images.tar.gz": tarred({"documents/d_1.png": picture(kind="PNG")}),
    "dvqa/qa/train_qa.json": listed({"image": "bar_train_1.png", "question": "Title?", "answer": "Sales"}),
    "dvqa/images/bar_train_1.png": picture(kind="PNG"),
}
"""What a person puts below the root."""


@dataclass
class Served:
    """A server and what it was asked for.

    Args:
        address: Its address.
        port: Its port.
        asked: Each path and range of a GET request.
        breaks: Paths whose first answer breaks off in the middle.
        web: The files that are not the hub's, by path.
    """

    address: str
    port: int
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    breaks: set[str] = field(default_factory=set)
    web: dict[str, bytes] = field(default_factory=lambda: WEB)


class Handler(http.server.BaseHTTPRequestHandler):
    served: Served

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        repository = path.removeprefix("/datasets/").replace("/resolve/main/", "/", 1)
        data = WEB.get(path, HUB.get(repository))
        if data is None:
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        if with_body:
            self.served.asked.append((path, wanted))
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        body = data[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            broken = path in self.served.breaks
            self.served.breaks.discard(path)
            self.wfile.write(body[: len(body) // 2] if broken else body)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """The server, which huggingface_hub may talk to in this test."""
    import huggingface_hub

    from mgem_agent.nano import download

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(download, "_FIRST_WAIT_S", 0.0)
    huggingface_hub.close_session()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Handler.served = Served(f"http://127.0.0.1:{server.server_port}", server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Handler.served
        server.shutdown()
        thread.join()
    huggingface_hub.close_session()


@pytest.fixture
def manifests(served: Served) -> dict[str, Manifest]:
    """The shipped manifests; only the servers of the web addresses are others."""

    def moved(manifest: Manifest) -> Manifest:
        files = tuple(
            file if file.url is None else file.model_copy(update={"url": served.address + urlsplit(file.url).path})
            for file in manifest.files
        )
        return manifest.model_copy(update={"files": files})

    return {name: moved(manifest) for name, manifest in load_manifests().items()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root folder with what a person got by hand."""
    for name, data in BY_HAND.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "root"
