import subprocess
import sys
from pathlib import Path

import pytest

FOLDERS_ARE_KNOWN = """
import sys
from pathlib import Path
import mgem_agent.core_model
assert "transformers" not in sys.modules
mgem_agent.core_model.MiniGeminiConfig
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText
config = AutoConfig.for_model("mini_gemini")
assert type(config) in AutoModel._model_mapping and type(config) in AutoModelForImageTextToText._model_mapping
print(type(config).__name__)
"""


@pytest.mark.parametrize("name", ["mgem_agent.core_model"])
def test_using_a_name_makes_the_auto_classes_know_the_model(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", FOLDERS_ARE_KNOWN], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "MiniGeminiConfig"), done.stderr


OFFICIAL_FOLDER_IS_READ = """
import json, pathlib, sys
import mgem_agent.core_model
from mgem_agent.core_model.checkpoints import official_config
mgem_agent.core_model.MiniGeminiConfig
from transformers import AutoConfig
folder = pathlib.Path(sys.argv[1])
(folder / "config.json").write_text(json.dumps({**official_config("MGM-8x7B"), "model_type": "mgm_mixtral"}))
config = AutoConfig.from_pretrained(folder)
print(type(config).__name__, config.text_config.model_type)
"""


def test_the_authors_own_model_types_are_known(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OFFICIAL_FOLDER_IS_READ, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "MiniGeminiConfig mixtral"), done.stderr
