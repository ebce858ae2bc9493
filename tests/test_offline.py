"""The rules of every test hold: it reaches this machine only, and starts from a known random state."""

from __future__ import annotations

import random
import socket

import huggingface_hub.constants
import numpy as np
import pytest
import pytest_socket
import torch


def test_a_test_cannot_connect_to_another_machine() -> None:
    with socket.socket() as outward, pytest.raises((pytest_socket.SocketConnectBlockedError, UserWarning), match="192"):
        outward.connect(("192.0.2.1", 80))


def test_a_test_may_talk_to_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()


def test_the_hub_is_offline() -> None:
    assert huggingface_hub.constants.HF_HUB_OFFLINE


@pytest.mark.parametrize("_run", range(2))
def test_every_test_starts_from_the_same_random_state(_run: int) -> None:
    assert random.random() == pytest.approx(0.8444218515250481)
    assert np.random.rand() == pytest.approx(0.5488135039273248)
    assert torch.rand(()).item() == pytest.approx(0.4962565898895264)
    assert torch.get_num_threads() == 1
