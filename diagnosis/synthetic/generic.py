"""The opponent in the evaluation: a generic face recogniser, trained by others on photos of real people.

PyPI's `facesdk` 0.0.8 (MIT) carries a MobileFaceNet of 128 numbers per face as a plain state dict. It is
read from its source archive for experiments only: the package is no dependency, is never imported, and
its weights are not shipped (its training set was withdrawn by its publisher).

Fetch it with `pip download --no-deps facesdk==0.0.8`.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from diagnosis.phenotype.errors import WeightsRefused

ARCHIVE_SHA256 = "f62b607459ebc49773fcf238296c8b313c2df3f8355ab345aba5a76275cd7195"
ARCHIVE_MEMBER = "facesdk-0.0.8/facesdk/model.pt"
GENERIC_SIZE = 128
# (expansion, width, repeats, first stride) of the inverted residuals (Chen et al. 2018, table 1).
BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
# Its input is standardised by ImageNet's statistics, on grey levels in [0, 1].
_MEAN = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
_STD = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)


def _convolution(width_in: int, width_out: int, side: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, side, stride, side // 2, groups=groups, bias=False),
        nn.BatchNorm2d(width_out),
        nn.ReLU6(),
    )


class _Bottleneck(nn.Module):
    """(b, in, h, w) → (b, out, h / stride, w / stride): widen, filter per channel, narrow (MobileNetV2)."""

    def __init__(self, width_in: int, width_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = width_in * expansion
        self.keeps_shape = stride == 1 and width_in == width_out
        self.conv = nn.Sequential(
            _convolution(width_in, hidden, 1),
            _convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, width_out, 1, bias=False),
            nn.BatchNorm2d(width_out),
        )

    def forward(self, maps: Tensor) -> Tensor:
        narrowed = cast(Tensor, self.conv(maps))
        return maps + narrowed if self.keeps_shape else narrowed


class _Separable(nn.Module):
    """(b, 64, 56, 56) → the same shape: a filter per channel, then a mix of channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pointwise = nn.Conv2d(width, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, maps: Tensor) -> Tensor:
        filtered = torch.relu(self.bn1(self.depthwise(maps)))
        return torch.relu(self.bn2(self.pointwise(filtered)))


class _GlobalDepthwise(nn.Module):
    """(b, 512, 7, 7) → (b, 512, 1, 1): a learned weight for each place instead of an average."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, groups=width, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, maps: Tensor) -> Tensor:
        return cast(Tensor, self.bn(self.depthwise(maps)))


class GenericRecogniser(nn.Module):
    """Faces (b, 3, 112, 112) float32 RGB in [-1, 1] → (b, 128) float32, not normalised.

    Module names follow the keys of the published state dict. The input convention of our own networks
    is converted here, so that both are fed the same pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _convolution(3, 64, 3, 2)
        self.dw_conv = _Separable(64)
        blocks: list[nn.Module] = []
        width_in = 64
        for expansion, width, repeats, stride in BOTTLENECKS:
            for repeat in range(repeats):
                blocks.append(_Bottleneck(width_in, width, stride if repeat == 0 else 1, expansion))
                width_in = width
        self.features = nn.Sequential(*blocks)
        self.conv2 = _convolution(width_in, 512, 1)
        self.gdconv = _GlobalDepthwise(512)
        self.conv3 = nn.Conv2d(512, GENERIC_SIZE, 1)
        self.bn = nn.BatchNorm2d(GENERIC_SIZE)

    def forward(self, faces: Tensor) -> Tensor:
        """(b, 3, 112, 112) float32 in [-1, 1] → (b, 128) float32."""
        levels = (faces * 0.5 + 0.5 - _MEAN) / _STD
        maps = self.features(self.dw_conv(self.conv1(levels)))  # (b, 128, 7, 7)
        return cast(Tensor, self.bn(self.conv3(self.gdconv(self.conv2(maps)))).flatten(1))


def read_generic(archive: Path) -> GenericRecogniser:
    """The recogniser from facesdk-0.0.8.tar.gz, in evaluation mode. WeightsRefused if it is another file."""
    data = archive.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != ARCHIVE_SHA256:
        raise WeightsRefused(
            f"{archive.name} is not the published facesdk 0.0.8 archive; fetch it again with "
            "`pip download --no-deps facesdk==0.0.8`."
        )
    with tarfile.open(fileobj=io.BytesIO(data)) as package:
        member = package.extractfile(ARCHIVE_MEMBER)
        if member is None:
            raise WeightsRefused(f"{archive.name} holds no {ARCHIVE_MEMBER}.")
        state = torch.load(io.BytesIO(member.read()), map_location="cpu", weights_only=True)  # noqa: TID251 after the hash check
    network = GenericRecogniser()
    network.load_state_dict(state)
    return network.eval()
