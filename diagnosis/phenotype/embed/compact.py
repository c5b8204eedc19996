"""The default extractor's network: a small residual network that fits a laptop and a repository.

1.8 M parameters, 7 MB as float32. The trunk keeps the position of what it sees (it flattens a 7×7 map
instead of averaging it), because dysmorphology is measured in places and distances; the neck is one
Linear with its BatchNorm, small enough to be sent by every hospital in every federation round.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, cast

from torch import Tensor, nn

from diagnosis.phenotype.embed.backbone import Backbone
from diagnosis.phenotype.types import EMBEDDING_SIZE

STEM_WIDTH = 24
STAGE_WIDTHS = (32, 64, 128)
BLOCKS_PER_STAGE = 2
REDUCED_WIDTH = 32
MAP_SIDE = 7


class ResidualBlock(nn.Module):
    """(b, in, h, w) → (b, out, h / stride, w / stride): two 3×3 convolutions, shortcut (He et al. 2016)."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width_out),
            nn.ReLU(),
            nn.Conv2d(width_out, width_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width_out),
        )
        same_shape = stride == 1 and width_in == width_out
        self.shortcut = nn.Identity() if same_shape else _projection(width_in, width_out, stride)
        self.activation = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """(b, in, h, w) → (b, out, h / stride, w / stride) float32."""
        return cast(Tensor, self.activation(self.body(maps) + self.shortcut(maps)))


class CompactNet(Backbone):
    """Faces (b, 3, 112, 112) float32 RGB in [-1, 1] → features (b, 512) → embedding (b, 512)."""

    architecture: ClassVar[str] = "compact"
    feature_size: ClassVar[int] = 512

    def __init__(self) -> None:
        super().__init__()
        self.trunk = _trunk(self.feature_size)
        self.neck = nn.Sequential(
            nn.Linear(self.feature_size, EMBEDDING_SIZE),
            nn.BatchNorm1d(EMBEDDING_SIZE),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _projection(width_in: int, width_out: int, stride: int) -> nn.Module:
    """The shortcut where a block changes the shape."""
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, 1, stride, bias=False),
        nn.BatchNorm2d(width_out),
    )


def _stages() -> list[nn.Module]:
    """(b, 24, 56, 56) → (b, 128, 7, 7): each stage halves the side in its first block."""
    blocks: list[nn.Module] = []
    for width_in, width_out in pairwise((STEM_WIDTH, *STAGE_WIDTHS)):
        blocks.append(ResidualBlock(width_in, width_out, stride=2))
        blocks.extend(ResidualBlock(width_out, width_out, stride=1) for _ in range(BLOCKS_PER_STAGE - 1))
    return blocks


def _trunk(feature_size: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, STEM_WIDTH, 3, 2, 1, bias=False),  # (b, 24, 56, 56)
        nn.BatchNorm2d(STEM_WIDTH),
        nn.ReLU(),
        *_stages(),  # (b, 128, 7, 7)
        nn.Conv2d(STAGE_WIDTHS[-1], REDUCED_WIDTH, 1, bias=False),  # (b, 32, 7, 7)
        nn.BatchNorm2d(REDUCED_WIDTH),
        nn.PReLU(REDUCED_WIDTH),
        nn.Flatten(),  # (b, 1568)
        nn.Linear(REDUCED_WIDTH * MAP_SIDE * MAP_SIDE, feature_size, bias=False),
        nn.BatchNorm1d(feature_size),
        nn.PReLU(feature_size),  # (b, 512)
    )
