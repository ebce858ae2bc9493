from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mgem_agent.core_model import MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.core_model.familiarity import Familiarity
from mgem_agent.recipes.nano import __main__ as program
from mgem_agent.recipes.nano.seeing import known_pictures
from mgem_agent.recipes.nano.seeing.known_pictures import write_known_pictures
from mgem_agent.recipes.nano.seeing.patch_labels import visual_vocabulary
from mgem_agent.recipes.nano.world.emoji import EmojiAssets
from mgem_agent.recipes.nano.world.scene import sample_scene
from mgem_agent.recipes.nano.world.scene_questions import UNCLEAR
from mgem_agent.recipes.nano.world.scene_rendering import render_scene


def test_nearly_all_training_scenes_are_known(
    tmp_path: Path, model_folder: Path, drawn_assets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = MiniGeminiForConditionalGeneration.from_pretrained(model_folder).eval()
    processor = MiniGeminiProcessor.from_pretrained(model_folder)
    monkeypatch.setattr(known_pictures, "load_nano", lambda **options: (model, processor))
    monkeypatch.setattr(EmojiAssets, "open", lambda: drawn_assets)
    monkeypatch.setattr(known_pictures, "_DOUBTED", 0.25)
    write_known_pictures(tmp_path, drawn_assets, num_scenes=20)
    known = Familiarity.read(tmp_path)
    assert known is not None and UNCLEAR in known.answer
    assert known.words.shape == (len(visual_vocabulary()), 16)
    scenes = [sample_scene(0, number, kind=known_pictures.KINDS[number % 4]) for number in range(20)]
    drawn = [render_scene(scene, drawn_assets, size_px=64) for scene in scenes]
    seen: Any = model.get_image_features(**processor.image_processor(drawn, return_tensors="pt"))
    assert sum(not known.knows(tokens) for tokens in seen.pooler_output) == 5


def test_it_is_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(EmojiAssets, "open", lambda: "assets")
    monkeypatch.setattr(known_pictures, "write_known_pictures", lambda folder, assets: folder / str(assets))
    assert program.main(["known_pictures", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "assets")
