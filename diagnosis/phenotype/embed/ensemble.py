"""Aligned faces → embedding sets, by the ensemble of the registry (GestaltMatcher-Arc, arXiv 2211.06764).

Straightforward would be one pass of a whole network per row. Here the views of a face go through a
network as one batch, members whose trunks are equal in every number share its pass (fine-tuning that
freezes the trunk, with its BatchNorm statistics, changes only the neck),
BatchNorms are folded into convolutions when the ensemble is built, and a batch's channels lie next to
each other in memory. The rows are the same to 1e-5.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from diagnosis.phenotype.embed.backbone import Backbone
from diagnosis.phenotype.embed.folding import fold_batch_norms
from diagnosis.phenotype.embed.self_test import synthetic_faces, unit_rows
from diagnosis.phenotype.embed.spec import EnsembleSpec
from diagnosis.phenotype.embed.views import View, view_batch
from diagnosis.phenotype.embed.weights import load_weights, trunk_sha256
from diagnosis.phenotype.errors import WeightsRefused
from diagnosis.phenotype.types import CROP_SIDE, AlignedFace, EmbeddingSet, FloatArray, PixelArray

FOLDING_TOLERANCE = 1e-5  # largest difference in a unit row that folding may make


@dataclass(frozen=True)
class Optimisations:
    """What may be done faster; the benchmark turns each off. None of them changes a row by over 1e-5."""

    share_trunks: bool = True
    batch_views: bool = True
    fold: bool = True
    channels_last: bool = True


@dataclass(frozen=True)
class _TrunkGroup:
    """A trunk, the necks of its members by name, and the views that any of them needs."""

    trunk: nn.Module
    necks: dict[str, nn.Module]
    views: tuple[View, ...]


class Ensemble:
    """The loaded networks of one EnsembleSpec. Safe to call from several threads; holds no photo."""

    def __init__(
        self,
        spec: EnsembleSpec,
        backbones: Mapping[str, Backbone],
        *,
        optimisations: Optimisations | None = None,
    ) -> None:
        """backbones: member name → its network, in evaluation mode. They are used, not copied."""
        self.spec = spec
        self._optimisations = optimisations or Optimisations()
        self._groups = _trunk_groups(spec, backbones, self._optimisations)

    @property
    def trunk_passes(self) -> int:
        """How many trunks run per photo."""
        return len(self._groups)

    def embed(self, faces: PixelArray | Sequence[AlignedFace]) -> list[EmbeddingSet]:
        """faces (b, 112, 112, 3) uint8 RGB, or b aligned faces → b sets of (m, 512) float32 unit rows.

        Row order is that of spec.rows. Photos go through one after the other, so that a face has the
        same embedding, bit for bit, whatever it is embedded together with. Raises ValueError for other
        shapes or dtypes and WeightsRefused if a network answers NaN or nothing.
        """
        return [EmbeddingSet(self._embed_face(face), self.spec.sha256) for face in _pixels_of(faces)]

    def _embed_face(self, face: PixelArray) -> FloatArray:
        found: dict[tuple[str, View], FloatArray] = {}
        with torch.inference_mode():
            for group in self._groups:
                features = self._features(group, face)  # (v, F...)
                for name, neck in group.necks.items():
                    rows = unit_rows(neck(features)).numpy()  # (v, 512)
                    found.update({(name, view): row for view, row in zip(group.views, rows, strict=True)})
        return np.stack([found[row.member, row.view] for row in self.spec.rows])  # (m, 512)

    def _features(self, group: _TrunkGroup, face: PixelArray) -> Tensor:
        batch = view_batch(face[None], group.views)  # (v, 3, 112, 112)
        memory = torch.channels_last if self._optimisations.channels_last else torch.contiguous_format
        step = len(batch) if self._optimisations.batch_views else 1
        parts = [group.trunk(part.contiguous(memory_format=memory)) for part in torch.split(batch, step)]
        return torch.cat(parts)


def load_ensemble(
    spec: EnsembleSpec, paths: Mapping[str, Path], *, optimisations: Optimisations | None = None
) -> Ensemble:
    """The ensemble from its members' safetensors files. paths: a member's sha256 → its file.

    Raises WeightsRefused if a file is missing, altered or not of its member's architecture.
    """
    backbones = {}
    for member in spec.members:
        if member.sha256 not in paths:
            raise WeightsRefused(
                f"The weights of member {member.name} are not on this site; install them with "
                "manage.py install_weights, or choose another model."
            )
        backbones[member.name] = load_weights(
            paths[member.sha256], sha256=member.sha256, architecture=member.architecture
        )
    return Ensemble(spec, backbones, optimisations=optimisations)


def _pixels_of(faces: PixelArray | Sequence[AlignedFace]) -> Sequence[PixelArray]:
    pixels = faces if isinstance(faces, np.ndarray) else [face.pixels for face in faces]
    shape = (CROP_SIDE, CROP_SIDE, 3)
    if any(face.shape != shape or face.dtype != np.uint8 for face in pixels):
        raise ValueError("faces must be (b, 112, 112, 3) uint8 RGB")
    return list(pixels)


def _trunk_groups(
    spec: EnsembleSpec, backbones: Mapping[str, Backbone], optimisations: Optimisations
) -> list[_TrunkGroup]:
    """Members by equal trunks, in the order of their first member."""
    members: dict[str, list[str]] = {}
    for member in spec.members:
        own = f"{member.name}:not shared"
        trunk = trunk_sha256(backbones[member.name]) if optimisations.share_trunks else own
        members.setdefault(trunk, []).append(member.name)
    return [_trunk_group(spec, names, backbones, optimisations) for names in members.values()]


def _trunk_group(
    spec: EnsembleSpec, names: list[str], backbones: Mapping[str, Backbone], optimisations: Optimisations
) -> _TrunkGroup:
    first = backbones[names[0]].eval()
    trunk = _folded_trunk(first) if optimisations.fold else first.trunk
    if optimisations.channels_last:  # in a copy where the caller's network would change its strides
        trunk = trunk if trunk is not first.trunk else copy.deepcopy(trunk)
        trunk = trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    necks = {name: backbones[name].neck.eval() for name in names}
    views = tuple(dict.fromkeys(row.view for row in spec.rows if row.member in names))
    return _TrunkGroup(trunk, necks, views)


def _folded_trunk(backbone: Backbone) -> nn.Module:
    """The trunk with folded BatchNorms if the network then gives the same rows, else the trunk itself.

    Weights with a tiny running variance make folding inexact; they are few, and then it is left out.
    """
    folded, count = fold_batch_norms(backbone.trunk)
    faces = view_batch(synthetic_faces(1), [View(flip=False, grey=False)])
    with torch.inference_mode():
        plain = unit_rows(backbone(faces))
        fast = unit_rows(backbone.neck(folded(faces)))
    same = count > 0 and float((plain - fast).abs().max()) <= FOLDING_TOLERANCE
    return folded if same else backbone.trunk
