"""The generic recogniser's reader: shapes, and refusal of anything but the published archive."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diagnosis.phenotype.errors import WeightsRefused
from diagnosis.synthetic.generic import GENERIC_SIZE, GenericRecogniser, read_generic


def test_network_has_the_published_size() -> None:
    """The names and shapes of the published state dict; 128 numbers per face."""
    network = GenericRecogniser().eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, 112, 112)).shape == (2, GENERIC_SIZE)
    names = network.state_dict()
    assert len(names) == 307  # as counted in the published file
    assert names["features.12.conv.0.0.weight"].shape == (512, 128, 1, 1)
    assert names["conv3.bias"].shape == (128,)


def test_input_is_standardised_by_imagenet() -> None:
    network = GenericRecogniser().eval()
    seen: list[torch.Tensor] = []
    network.conv1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        network(torch.ones(1, 3, 112, 112))  # white
    white = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen[0][0, :, 5, 5], white)


def test_another_archive_is_refused_with_what_to_do(tmp_path: Path) -> None:
    archive = tmp_path / "facesdk-0.0.8.tar.gz"
    archive.write_bytes(b"not the archive")
    with pytest.raises(WeightsRefused, match="pip download"):
        read_generic(archive)
