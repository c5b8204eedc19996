"""The stand-in for torchvision's nms against a loop written from torchvision's nms_kernel.cpp."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from diagnosis.phenotype.face.nms import _libraries, ensure_torchvision, nms_cpu

THRESHOLDS = (0.0, 0.3, 0.5, 0.6, 0.7, 1.0)


def naive_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """One pair at a time, in the boxes' own precision, compared as Python floats."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])  # sorted() is stable
    suppressed, kept = set(), []
    for place, i in enumerate(order):
        if i in suppressed:
            continue
        kept.append(i)
        for j in order[place + 1 :]:
            if naive_iou(boxes[i], boxes[j]) > threshold:
                suppressed.add(j)
    return kept


def naive_iou(a: np.ndarray, b: np.ndarray) -> float:
    zero = a.dtype.type(0)
    width = max(zero, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(zero, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return float(shared / union) if union != 0 else float("nan")


def generated_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes on a coarse grid, so that equal boxes, empty boxes and IoUs on the threshold all occur."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 60))
    dtype = np.float32 if seed % 2 else np.float64
    corner = rng.integers(0, 12, (n, 2)) / (1 if seed % 3 else 1.7)
    size = rng.integers(0, 8, (n, 2)) / (1 if seed % 3 else 1.7)
    scores = rng.integers(0, 5, n) / 5  # ties in most cases
    return np.concatenate([corner, corner + size], axis=1).astype(dtype), scores.astype(dtype)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_nms_equals_the_naive_loop(threshold: float) -> None:
    ties = 0
    for seed in range(60):
        boxes, scores = generated_case(seed)
        ties += len(scores) - len(set(scores.tolist()))
        kept = nms_cpu(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
        assert kept.dtype == torch.int64
        assert kept.tolist() == naive_nms(boxes, scores, threshold), seed
    assert ties > 500  # the cases are worth something


@pytest.mark.parametrize(
    ("shift", "threshold", "kept"),
    [(2.0, 0.6, [0]), (1.5, 0.7, [0, 1]), (0.0, 1.0, [0, 1])],
    ids=["float32 0.6 is above 0.6", "float32 0.7 is below 0.7", "an IoU equal to the threshold stays"],
)
def test_iou_is_compared_in_double_precision(shift: float, threshold: float, kept: list[int]) -> None:
    boxes = torch.tensor([[0, 0, 10 - shift, 1], [shift, 0, 10, 1]], dtype=torch.float32)
    assert nms_cpu(boxes, torch.tensor([0.9, 0.9]), threshold).tolist() == kept


def test_equal_scores_keep_their_order() -> None:
    boxes = torch.tensor([[20, 0, 30, 10], [0, 0, 10, 10], [0, 0, 10, 10]], dtype=torch.float32)
    assert nms_cpu(boxes, torch.tensor([0.5, 0.5, 0.5]), 0.5).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("boxes", "scores"),
    [
        (torch.zeros(2, 5), torch.zeros(2)),
        (torch.zeros(4), torch.zeros(1)),
        (torch.zeros(2, 4), torch.zeros(3)),
        (torch.zeros(2, 4), torch.zeros(2, dtype=torch.float64)),
        (torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)),
    ],
)
def test_wrong_shapes_and_types_are_refused(boxes: torch.Tensor, scores: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="must"):
        nms_cpu(boxes, scores, 0.5)


def test_torchvision_answers_through_its_own_functions() -> None:
    ensure_torchvision()
    ensure_torchvision()  # twice is as good as once
    from torchvision.ops import batched_nms, nms

    for seed in range(20):
        boxes, scores = (torch.from_numpy(array) for array in generated_case(2 * seed + 1))
        assert nms(boxes, scores, 0.5).tolist() == naive_nms(boxes.numpy(), scores.numpy(), 0.5)
        groups = torch.arange(len(scores)) % 3
        together = batched_nms(boxes, scores, groups, 0.5).tolist()
        for group in range(3):
            members = np.flatnonzero(groups.numpy() == group)
            alone = naive_nms(boxes.numpy()[members], scores.numpy()[members], 0.5)
            assert {i for i in together if i % 3 == group} == {int(members[i]) for i in alone}


def test_other_operators_still_refuse_where_nothing_is_compiled() -> None:
    ensure_torchvision()
    if not _libraries:
        pytest.skip("torchvision's compiled operators are present here")
    from torchvision.ops import roi_pool

    with pytest.raises(RuntimeError, match="custom C\\+\\+ ops"):
        roi_pool(torch.zeros(1, 1, 8, 8), torch.zeros(1, 5), 2)


def test_nothing_is_touched_where_the_operator_exists() -> None:
    """Operators declared by somebody else stand in for the compiled ones."""
    program = """
        import torch
        theirs = torch.library.Library("torchvision", "FRAGMENT")
        theirs.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        theirs.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from diagnosis.phenotype.face import nms
        nms.ensure_torchvision()
        import torchvision
        assert nms._libraries == []
        assert torchvision.ops.boxes._assert_has_ops is torchvision.extension._assert_has_ops
        print("untouched")
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.stdout.strip() == "untouched", run.stderr
