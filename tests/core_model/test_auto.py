import subprocess
import sys

import pytest

FOLDERS_ARE_KNOWN = """
import sys
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
