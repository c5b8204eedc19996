"""The coordinator's rows: one per patient, of unit length, each its owner's; who may be there; group means."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import SECRET, config, people

from federation.kernel.cohorts import Groups, group_means
from federation.kernel.eligibility import Opened, eligible_patients, summable_patients
from federation.kernel.errors import GroupRefused, RowsRefused
from federation.kernel.gallery import Gallery, Row
from federation.kernel.mask import Mask

PLAIN = people(12)
MASKED = Mask.derive(SECRET, config()).apply(PLAIN)
ROWS = tuple(Row(f"p{index:02d}", "ab"[index % 2], "") for index in range(12))
GALLERY = Gallery(ROWS, MASKED)


def test_rows_come_go_and_are_replaced() -> None:
    smaller = GALLERY.without(["p03", "nobody"])
    assert len(smaller.rows) == 11 and "p03" not in smaller.positions
    again = smaller.with_rows([ROWS[3], Row("p04", "a", "t")], MASKED[[3, 5]])
    assert len(again.rows) == 12
    assert (again.masked[again.positions["p04"]] == MASKED[5]).all()
    assert again.rows[again.positions["p04"]].tag == "t"
    with pytest.raises(RowsRefused):
        GALLERY.with_rows([Row("p04", "b", "")], MASKED[:1])
    with pytest.raises(RowsRefused):
        GALLERY.with_rows([ROWS[1], ROWS[1]], MASKED[:2])


@pytest.mark.parametrize("factor", [1.01, 0.0, np.nan, np.inf])
def test_rows_of_another_length_are_refused(factor: float) -> None:
    wrong = MASKED.copy()
    wrong[5, 1] *= factor
    with pytest.raises(RowsRefused):
        Gallery(ROWS, wrong)
    with pytest.raises(RowsRefused):
        Gallery(ROWS, MASKED.astype(np.float64))


def test_only_patients_of_no_opened_sum_are_eligible() -> None:
    given = [
        Opened(frozenset("ab"), opened=True), Opened(frozenset("cd"), opened=False),
        Opened(frozenset("de"), opened=True),
    ]  # fmt: skip
    assert eligible_patients("abcdef", given) == frozenset("cf")
    assert eligible_patients("ab", []) == frozenset("ab")
    assert summable_patients("abc", "b") == frozenset("ac")


def test_group_means_are_the_means_of_all_pairs() -> None:
    groups = {"x": frozenset(["p00", "p01", "p02"]), "y": frozenset(["p05", "p07", "p09", "p11"])}
    means, after = group_means(GALLERY, groups, Groups(), k=3)
    slow = np.mean(1.0 - np.einsum("imk,jmk->ijm", PLAIN, PLAIN), axis=2)
    x, y = [0, 1, 2], [5, 7, 9, 11]
    within = [slow[i, j] for i in x for j in x if i != j]
    assert means[0, 0] == pytest.approx(np.mean(within), abs=1e-5)
    assert means[0, 1] == means[1, 0] == pytest.approx(slow[np.ix_(x, y)].mean(), abs=1e-5)
    again, same = group_means(GALLERY, groups, after, k=3)
    assert (again == means).all() and same == after


def test_groups_are_large_and_never_overlap() -> None:
    before = Groups().admit([frozenset("abc")], 3)
    for group in (frozenset("ab"), frozenset("abcd"), frozenset("cde")):
        with pytest.raises(GroupRefused):
            before.admit([group], 3)
    assert len(before.admit([frozenset("def"), frozenset("abc")], 3).known) == 2
    with pytest.raises(GroupRefused):
        group_means(GALLERY, {"x": frozenset(["p00", "p01", "gone"])}, Groups(), k=3)
    with pytest.raises(GroupRefused):
        group_means(GALLERY, {"x": frozenset(["p00"])}, Groups(), k=1)
