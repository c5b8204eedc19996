"""Names that say nothing, stay the same, and can be opened to an auditor."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from kernel_cases import MODEL, SECRET, config, people

from federation.kernel.commitments import Opening, class_tag, patient_name, read_tags, vector_sha256
from federation.kernel.errors import AuditFailed
from federation.kernel.mask import Mask
from federation.kernel.release import Query
from federation.kernel.session import audit_query

SITE_SECRET = bytes([7]) * 32
PHOTO = hashlib.sha256(b"pixels").hexdigest()
OTHER = hashlib.sha256(b"other pixels").hexdigest()


def test_hospitals_read_class_tags_and_nobody_else_does() -> None:
    catalogue = ["OMIM:1", "OMIM:2", "ORPHA:3"]
    tags = {class_tag(SECRET, name): name for name in catalogue}
    assert read_tags(SECRET, catalogue) == tags and len(tags) == 3
    assert not set(tags) & set(read_tags(bytes(32), catalogue))
    assert class_tag(SECRET, "") == ""


def test_names_stay_for_life_and_differ_between_hospitals() -> None:
    assert patient_name(SITE_SECRET, "17") == patient_name(SITE_SECRET, "17")
    assert (
        len({patient_name(SITE_SECRET, "17"), patient_name(SITE_SECRET, "18"), patient_name(SECRET, "17")})
        == 3
    )
    first, second = Opening.of(SITE_SECRET, PHOTO), Opening.of(SITE_SECRET, OTHER)
    assert first.photo != second.photo
    assert len({first.commitment(MODEL), first.commitment("b" * 64), second.commitment(MODEL)}) == 3
    assert first.photo_key.hex() not in repr(first)


def test_an_opening_opens_its_own_photo_only() -> None:
    own = Opening.of(SITE_SECRET, PHOTO)
    own.check(own.photo, own.commitment(MODEL), MODEL)
    for opening, model in (
        (Opening.of(SITE_SECRET, OTHER), MODEL),
        (own, "b" * 64),
        (replace(own, photo_sha256=OTHER), MODEL),
    ):
        with pytest.raises(AuditFailed):
            opening.check(own.photo, own.commitment(MODEL), model)


def test_an_auditor_tells_a_photo_s_rows_from_chosen_ones() -> None:
    mask, faces = Mask.derive(SECRET, config()), people(2)
    own = Opening.of(SITE_SECRET, PHOTO)
    honest, chosen = mask.apply(faces)
    for rows, fits in ((honest, True), (chosen, False)):
        query = Query("a", "p", own.photo, own.commitment(MODEL), MODEL, vector_sha256(rows), 1)
        again = mask.apply(faces[:1] + np.float32(1e-5))[0]
        if fits:
            audit_query(query, rows, own, again)
        else:
            with pytest.raises(AuditFailed, match="numbers"):
                audit_query(query, rows, own, again)
        with pytest.raises(AuditFailed, match="rows"):
            audit_query(query, rows + np.float32(1), own, again)
