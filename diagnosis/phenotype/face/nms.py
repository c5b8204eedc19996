"""Lets `torchvision.ops.nms` work beside a CPU build of torch, which is all that MTCNN needs of it.

PyPI's torchvision links against CUDA libraries. Next to a CPU build of torch its compiled half does
not load, and `import torchvision` ends with "operator torchvision::nms does not exist" while it
registers shape functions for `nms` and `qnms`. Where, and only where, that has happened, this module
declares the two operators through torch.library before torchvision is imported, gives `nms` a CPU
kernel with the order and tie rules of torchvision's own, and lifts the check that stands in front of
it in torchvision/ops/boxes.py. Every other operator of torchvision keeps refusing.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

_NMS_SCHEMA = "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_QNMS_SCHEMA = "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

_lock = threading.Lock()
# A torch.library.Library takes its operators away when it is collected, so it lives with the module.
_libraries: list[Any] = []


def ensure_torchvision() -> None:
    """Makes `import torchvision` and `torchvision.ops.nms` work on CPU; idempotent and thread-safe.

    Does nothing where torchvision's compiled operators load. Raises ImportError where torchvision is
    not installed.
    """
    with _lock:
        if _compiled_nms_present():
            importlib.import_module("torchvision")
            return
        if not _libraries:
            _libraries.append(_declare_operators())
        boxes: Any = importlib.import_module("torchvision.ops.boxes")
        boxes._assert_has_ops = _nms_is_present


def _compiled_nms_present() -> bool:
    """Whether torchvision's compiled library is loaded, after one attempt to load it."""
    if _libraries:
        return False
    if "torchvision" not in sys.modules:
        _try_to_load_compiled_library()
    return hasattr(torch.ops.torchvision, "nms")


def _try_to_load_compiled_library() -> None:
    """Loads torchvision/_C without importing torchvision, which would raise where it does not load."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("torchvision is not installed; install torchvision to detect faces.")
    load_library: Any = torch.ops.load_library  # untyped in torch
    for library in sorted(Path(spec.submodule_search_locations[0]).glob("_C.*")):
        try:
            load_library(str(library))
        except OSError:
            continue  # what a missing libcudart looks like; torchvision itself catches the same


def _declare_operators() -> Any:
    make_library: Any = torch.library.Library  # untyped in torch
    library = make_library("torchvision", "FRAGMENT")
    library.define(_NMS_SCHEMA)
    library.define(_QNMS_SCHEMA)  # only declared: boxes from MTCNN are never quantised
    library.impl("nms", nms_cpu, "CPU")
    return library


def _nms_is_present() -> None:
    """Stands in for boxes.py's `_assert_has_ops`: the operators that boxes.py calls are declared."""


def nms_cpu(dets: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Non-maximum suppression: kept indices, int64, by falling score.

    dets (n, 4) float32 or float64, x0 y0 x1 y1; scores (n,) of the same dtype. As torchvision's
    nms_kernel.cpp: equal scores keep their input order, a box falls when its IoU with an earlier kept
    box is strictly greater than the threshold, the IoU is computed in the boxes' precision and compared
    in float64, and a pair without area (0/0) suppresses nothing. Raises ValueError on other shapes.
    """
    if dets.dim() != 2 or dets.size(1) != 4 or scores.dim() != 1 or dets.size(0) != scores.size(0):
        raise ValueError(
            f"boxes must be (n, 4) and scores (n,), not {tuple(dets.shape)} and {tuple(scores.shape)}."
        )
    if dets.dtype not in (torch.float32, torch.float64) or scores.dtype != dets.dtype:
        raise ValueError("boxes and scores must both be float32 or both float64.")
    order = torch.sort(scores, stable=True, descending=True).indices.numpy()
    kept = _suppress(dets.detach().numpy()[order], float(iou_threshold))
    return torch.from_numpy(order[kept])


def _suppress(boxes: npt.NDArray[np.floating], iou_threshold: float) -> npt.NDArray[np.bool_]:
    """Greedy suppression over boxes (n, 4) sorted by falling score: (n,) bool, True where kept."""
    x0, y0, x1, y1 = np.ascontiguousarray(boxes.T)
    areas = (x1 - x0) * (y1 - y0)
    alive = np.ones(len(boxes), dtype=np.bool_)
    for i in range(len(boxes)):
        if not alive[i]:
            continue
        later = slice(i + 1, None)
        width = np.maximum(np.minimum(x1[i], x1[later]) - np.maximum(x0[i], x0[later]), 0)
        height = np.maximum(np.minimum(y1[i], y1[later]) - np.maximum(y0[i], y0[later]), 0)
        shared = width * height
        with np.errstate(divide="ignore", invalid="ignore"):
            iou = shared / (areas[i] + areas[later] - shared)
        # In float32 a threshold of 0.6 would round up and spare a box that torchvision suppresses.
        alive[later] &= ~(iou.astype(np.float64) > iou_threshold)
    return alive
