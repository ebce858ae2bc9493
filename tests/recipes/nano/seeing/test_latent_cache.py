"""Latents are made once, and again where a process died while it wrote them."""

import numpy as np
import pytest
import torch

from mgem_agent.errors import CheckpointError
from mgem_agent.recipes.nano.seeing.latent_cache import LatentCache


class Encoder:
    def __init__(self):
        self.asked = []

    def __call__(self, indices):
        self.asked.append(list(indices))
        return torch.tensor(indices).float().view(-1, 1, 1).expand(-1, 2, 3)


def test_each_scene_is_encoded_once_and_outlives_the_process(tmp_path):
    encode = Encoder()
    cache = LatentCache(tmp_path / "latents.npy", 5, (2, 3), encode)
    torch.testing.assert_close(cache.latents([4, 1])[:, 0, 0], torch.tensor([4.0, 1.0]))
    torch.testing.assert_close(cache.latents([1, 2])[:, 1, 2], torch.tensor([1.0, 2.0]))
    again = LatentCache(tmp_path / "latents.npy", 5, (2, 3), encode)
    assert again.latents([2, 4, 0])[:, 0, 0].tolist() == [2, 4, 0]
    assert encode.asked == [[4, 1], [2], [0]]


def test_a_half_written_row_is_made_again(tmp_path):
    encode = Encoder()
    LatentCache(tmp_path / "latents.npy", 5, (2, 3), encode).latents([3])
    rows = np.lib.format.open_memmap(tmp_path / "latents.npy", "r+")
    rows[3, 1, 2] = np.nan
    del rows
    assert LatentCache(tmp_path / "latents.npy", 5, (2, 3), encode).latents([3]).eq(3).all()
    assert encode.asked == [[3], [3]]


def test_a_file_of_other_latents_is_refused(tmp_path):
    LatentCache(tmp_path / "latents.npy", 5, (2, 3), Encoder())
    with pytest.raises(CheckpointError, match=r"holds latents of shape \(5, 2, 3\), but \(6, 2, 3\) is needed"):
        LatentCache(tmp_path / "latents.npy", 6, (2, 3), Encoder())
