"""Teaches nano from ten pictures with captions, and exports what it learned.

`python examples/fine_tune_on_ten_pictures.py photos/`: a folder with `cat.jpg` and `cat.txt` (its caption), and so on.
On two CPU cores it takes a few minutes. Ten pictures teach names and style, not a new world.
"""

import json
import sys
from pathlib import Path

from mgem_agent.recipes.train.config import TrainConfig
from mgem_agent.recipes.train.program import train

QUESTION = "<image>\nWhat do you see?"
PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def write_records(folder: Path) -> Path:
    """Write a record for each picture that has a caption, and return the file."""
    lines = []
    for picture in sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES):
        caption = picture.with_suffix(".txt").read_text(encoding="utf-8").strip()
        turns = [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": caption}]
        lines.append(json.dumps({"id": picture.stem, "image": picture.name, "conversations": turns}))
    file = folder / "records.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def main(folder: str, output: str = "runs/ten_pictures", checkpoint: str = "nano", epochs: int = 6) -> Path:
    """Train a LoRA adapter, mining and the projector, and return the run's folder."""
    records = write_records(Path(folder))
    config = TrainConfig.model_validate(
        {
            "stage": "instruct",
            "model": {"checkpoint": checkpoint},
            "train": {"llm": "lora", "lora": {"rank": 8, "alpha": 16}},
            "data": {"sources": [{"path": str(records)}], "max_length": 384},
            "optimizer": {"learning_rate": 2e-4},
            "run": {"output": output, "epochs": epochs, "global_batch": 2, "micro_batch": 2, "save": "trained"},
        }
    )
    outcome = train(config, report=print)
    print(f"{outcome.step} steps. Export it: mgem train export {output} models/mine --small")
    return Path(output)


if __name__ == "__main__":
    main(*sys.argv[1:3])
