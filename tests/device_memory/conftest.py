"""A device that is counted, and two small real models that share it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerFast

from mgem_agent.core_model import MiniGeminiConfig, MiniGeminiForConditionalGeneration, MiniGeminiProcessor
from mgem_agent.device_memory import arbiter as arbiter_module
from mgem_agent.device_memory.arbiter import DeviceArbiter
from mgem_agent.device_memory.device_access import storage_bytes, tensors_of


class CountedDevice:
    """The CPU as a device of a limited size; weights that leave it are taken out of their tensors and kept apart.

    `fail` is called before each module moves, with the direction and its number.
    """

    def __init__(self, available: int | None = None, *, rest: int | None = None, can_rest: bool = True) -> None:
        self.available, self.rest, self.is_apart = available, rest, can_rest
        self.stored: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.fail: Callable[[str, int], None] = lambda direction, number: None

    def available_bytes(self, device: str) -> int | None:
        return self.available

    def can_rest(self, device: str) -> bool:
        return self.is_apart

    def free_rest_bytes(self) -> int | None:
        return self.rest

    def to_rest(self, modules: Iterable[Any], device: str) -> None:
        for number, module in enumerate(modules):
            self.fail("rest", number)
            for tensor in tensors_of([module]):
                if id(tensor) not in self.stored:
                    self.stored[id(tensor)] = (tensor, tensor.data)
                    tensor.data = torch.empty(0, dtype=tensor.dtype)

    def to_home(self, modules: Iterable[Any], device: str) -> None:
        for number, module in enumerate(modules):
            self.fail("home", number)
            for tensor in tensors_of([module]):
                if id(tensor) in self.stored:
                    tensor.data = self.stored.pop(id(tensor))[1]

    def resident_bytes(self, modules: Iterable[Any], device: str) -> int:
        return storage_bytes(tensors_of(modules))

    def release(self, device: str) -> None: ...


@pytest.fixture
def counted() -> type[CountedDevice]:
    return CountedDevice


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> Callable[..., DeviceArbiter]:
    """Make an arbiter with a counted device the one of the process."""

    def make(policy: Any = "auto", limit: int | None = None, **device: Any) -> DeviceArbiter:
        made = DeviceArbiter(policy, limit, access=CountedDevice(**device))
        monkeypatch.setattr(arbiter_module, "_shared", made)
        return made

    return make


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="session")
def vlm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny vision-language model that writes letters."""
    torch.manual_seed(0)
    symbols = ["<unk>", "<s>", "</s>", "<pad>", "Ċ", "Ġ", *map(chr, range(33, 127))]
    characters = Tokenizer(models.BPE(vocab={each: n for n, each in enumerate(symbols)}, merges=[], unk_token="<unk>"))
    characters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    characters.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=characters, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    config = MiniGeminiConfig(
        text_config=dict(
            model_type="llama", hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, head_dim=16, vocab_size=100, max_position_embeddings=2048, initializer_range=0.3,
        ),
        vision_config=dict(
            hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=28,
            patch_size=7,
        ),
        high_res_vision_config={"hidden_sizes": [4, 8, 12, 16], "depths": [1, 1, 2, 1], "layer_scale_init_value": 0.5},
        high_res_image_size=64,
        image_token_id=100,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("vlm")
    model = MiniGeminiForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    MiniGeminiProcessor.from_model_config(config, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    torch.manual_seed(0)
    letters = [chr(97 + number) for number in range(26)]
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4, layers_per_block=1, sample_size=32,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        ),
        text_encoder=CLIPTextModel(CLIPTextConfig(
            vocab_size=54, bos_token_id=52, eos_token_id=53, pad_token_id=53, hidden_size=16, intermediate_size=16,
            num_hidden_layers=2, num_attention_heads=2,
        )),
        tokenizer=CLIPTokenizer(vocab={p: n for n, p in enumerate(pieces)}, merges=[], model_max_length=77),
        unet=UNet2DConditionModel(
            block_out_channels=(8, 16), layers_per_block=1, sample_size=16, norm_num_groups=4, attention_head_dim=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), cross_attention_dim=16,
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("pipeline")
    pipeline.save_pretrained(folder)
    return folder
