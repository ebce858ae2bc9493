"""The command line of nano's recipes."""

import json

import pytest

from mgem_agent.recipes.nano import __main__ as program
from mgem_agent.recipes.nano.drawing import autoencoder
from mgem_agent.recipes.nano.world.emoji import EmojiAssets


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """What a recipe was called with; the training itself is tested with the recipe."""
    calls = []

    def train(folder, config, assets):
        calls.append((folder, config, assets))
        return folder / "autoencoder"

    monkeypatch.setattr(autoencoder, "train_autoencoder", train)
    monkeypatch.setattr(EmojiAssets, "open", lambda: "assets")
    return calls


def test_settings_are_fields_of_the_recipe(trained, tmp_path, capsys):
    assert program.main(["autoencoder", str(tmp_path), "num_steps=3", "learning_rate=0.5"]) == 0
    ((folder, config, assets),) = trained
    assert (folder, config.num_steps, config.learning_rate, assets) == (tmp_path, 3, 0.5, "assets")
    assert capsys.readouterr().out == f"{tmp_path / 'autoencoder'}\n"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("fast", "Error: Got 'fast'; a setting is written key=value. The settings are num_steps, batch_size, "),
        ("steps=3", "Error: The settings are not valid: steps: Extra inputs are not permitted. The settings are num_"),
        ("num_steps=0", "num_steps: Input should be greater than or equal to 1"),
    ],
)
def test_wrong_settings_are_refused(trained, tmp_path, capsys, word, message):
    assert program.main(["autoencoder", str(tmp_path), word]) == 1
    assert message in capsys.readouterr().err
    assert not trained


def test_its_help_lists_every_recipe(capsys):
    with pytest.raises(SystemExit) as stopped:
        program.main(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    for name in (
        "clip_pretrain",
        "visual_words",
        "autoencoder",
        "scene_latents",
        "denoiser",
        "vocabulary",
        "visual_reader",
    ):
        assert f"    {name} " in shown


@pytest.mark.parametrize("name", program.RECIPES)
def test_help_of_a_recipe_explains_every_setting(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        program.main([name, "--help"])
    assert stopped.value.code == 0
    entries = capsys.readouterr().out.split("settings:\n")[1].splitlines()
    settings, texts = entries[::2], entries[1::2]
    assert any(each.startswith("  seed (default 0)") for each in settings)
    assert all(text.startswith("      ") and len(text) > 12 for text in texts)
    assert len(settings) == len(texts) > 5


@pytest.mark.parametrize("words", [[], ["painter", "runs/x"], ["denoiser"]])
def test_a_missing_or_unknown_word_shows_the_usage(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        program.main(words)
    assert stopped.value.code == 2
    assert "usage: python -m mgem_agent.recipes.nano" in capsys.readouterr().err


def test_the_vocabulary_is_written(tmp_path, capsys):
    file = tmp_path / "vocabulary.json"
    assert program.main(["vocabulary", str(file)]) == 0
    assert "fox" in {thing["name"] for thing in json.loads(file.read_text(encoding="utf-8"))["things"]}
