"""Images grouped by a key (syndrome, gene or patient), laid out so that a minimum per group is one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.intp]
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Grouping:
    """Groups in ascending order of their key; an image may stand in several groups (genes) or in none.

    keys: the K group keys, ascending. members (E,) intp: image indices, group after group.
    starts (K,) intp: where each group begins in `members`. Every group has at least one member.
    """

    keys: tuple[str, ...]
    members: Indices
    starts: Indices

    @classmethod
    def from_keys(cls, keys_of_image: Sequence[Sequence[str]]) -> Grouping:
        """One sequence of group keys per image (empty: the image belongs to no group)."""
        images_of: dict[str, list[int]] = {}
        for image, keys in enumerate(keys_of_image):
            for key in dict.fromkeys(keys):
                images_of.setdefault(key, []).append(image)
        ordered = sorted(images_of)
        sizes = [len(images_of[key]) for key in ordered]
        members = [image for key in ordered for image in images_of[key]]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]) if sizes else np.empty(0)
        return cls(tuple(ordered), np.asarray(members, dtype=np.intp), starts.astype(np.intp))

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def sizes(self) -> Indices:
        """(K,) intp: images in each group."""
        return np.diff(np.append(self.starts, len(self.members)))

    @cached_property
    def index(self) -> dict[str, int]:
        """Group key → position in `keys`."""
        return {key: position for position, key in enumerate(self.keys)}

    def members_of(self, group: int) -> Indices:
        """Image indices of one group, ascending."""
        return self.members[self.starts[group] : self.starts[group] + self.sizes[group]]

    def members_of_many(self, groups: Indices) -> tuple[Indices, Indices]:
        """Members of several groups laid end to end, and for each the place of its group in `groups`."""
        sizes = self.sizes[groups]
        row = np.repeat(np.arange(len(groups)), sizes)
        before = np.cumsum(sizes) - sizes
        within = np.arange(len(row)) - before[row]
        return self.members[self.starts[groups][row] + within], row

    def minimum(self, values: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """values (..., N) → (..., K): the least value among each group's images, dtype kept."""
        if not self.keys:
            return np.empty((*values.shape[:-1], 0), dtype=values.dtype)
        least: npt.NDArray[Number] = np.minimum.reduceat(values[..., self.members], self.starts, axis=-1)
        return least

    def group_of_image(self, images: int) -> Indices:
        """(N,) intp: the group of each image, −1 for none. Only where no image stands in two groups."""
        groups = np.full(images, -1, dtype=np.intp)
        groups[self.members] = np.repeat(np.arange(len(self.keys)), self.sizes)
        return groups
