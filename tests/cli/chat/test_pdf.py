from __future__ import annotations

from pathlib import Path

from PIL import Image

from mgem_agent.artifacts.store import ArtifactStore
from mgem_agent.cli.chat.pdf import markdown_blocks, render_talk_pdf

TEXT = """# A fox

It is **red**, *quick* and `sly`,
as all are.

3. one
4. two
   - inner

```python
print("#set page(fill: red)")
```
"""


def test_markdown_is_cut_into_blocks() -> None:
    blocks = list(markdown_blocks(TEXT))
    assert [block["kind"] for block in blocks] == ["heading", "paragraph", "item", "item", "item", "code"]
    marked = {run["text"]: [name for name in ("strong", "emph", "code") if run[name]] for run in blocks[1]["runs"]}
    assert (marked["red"], marked["quick"], marked["sly"], marked["It is "]) == (["strong"], ["emph"], ["code"], [])
    assert [(block["mark"], block["depth"]) for block in blocks[2:5]] == [("3.", 0), ("4.", 0), ("•", 1)]
    assert blocks[5]["text"] == 'print("#set page(fill: red)")'


def test_a_dialogue_is_a_pdf_whatever_is_said(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    fox = store.put_picture(Image.new("RGB", (400, 200), "orange"), origin="test").id

    def pdf(pictures: list[dict[str, str]]) -> bytes:
        hostile = "#panic() $x$ [*a* <b> @c \\ // \x07"
        said = [
            {"who": "human", "text": hostile, "pictures": [], "failures": []},
            {"who": "ai", "text": TEXT, "pictures": pictures, "failures": [{"caption": "", "message": hostile}]},
        ]
        return render_talk_pdf("Foxes & #hens", [{"said": said}], store)

    plain = pdf([{"id": "img-00000000", "caption": "a hen"}])
    drawn = pdf([{"id": fox, "caption": "a fox"}])
    assert plain.startswith(b"%PDF-") and drawn.startswith(b"%PDF-")
    assert b"/Subtype/Image" in drawn.replace(b" ", b"") and b"/Subtype/Image" not in plain.replace(b" ", b"")
