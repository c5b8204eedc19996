"""Replays look at what may still be open, and at everything where that may have changed."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import time_machine
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone

from diagnosis import vault
from diagnosis.models import Erasure, Photo
from diagnosis.services import consent, replay
from diagnosis.services.backup import backup_restore, backup_write

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def photo(register: Any, agree: Any, make_photo: Any) -> Any:
    patient = register()
    agree(patient)
    return make_photo(patient)


def checked(monkeypatch: Any) -> list[Any]:
    """The keys that the next replays look at."""
    seen: list[Any] = []
    real = replay._unfinished
    monkeypatch.setattr(replay, "_unfinished", lambda line: seen.append(line.key) or real(line))
    return seen


def test_settled_erasures_are_not_checked_again(photo: Any, monkeypatch: Any) -> None:
    start = timezone.now()
    consent.consent_withdraw(user=None, patient=photo.patient, signer="self")
    seen = checked(monkeypatch)
    keys = set(Erasure.objects.values_list("key", flat=True))
    with time_machine.travel(start + dt.timedelta(minutes=30)):
        assert replay.erasures_replay() == 0 and set(seen) == keys
    seen.clear()
    with time_machine.travel(start + dt.timedelta(minutes=70)):
        assert replay.erasures_replay() == 0 and set(seen) == keys
        seen.clear()
        monkeypatch.setattr(replay, "erased_lines", lambda: pytest.fail("the journal was read again"))
        assert replay.erasures_replay() == 0 and seen == []


def test_a_file_that_appears_after_its_end_is_found(photo: Any) -> None:
    """An analysis had sealed the crop before the key went, and wrote the file after the file was removed."""
    consent.consent_withdraw(user=None, patient=photo.patient, signer="self")
    assert replay.erasures_replay() == 0
    default_storage.save(photo.crop, ContentFile(b"late"))
    assert replay.erasures_replay() == 1 and not default_storage.exists(photo.crop)


def test_after_a_restore_everything_is_checked(photo: Any, tmp_path: Any) -> None:
    backup_write(target=tmp_path / "b")
    start = timezone.now()
    consent.consent_withdraw(user=None, patient=photo.patient, signer="self")
    with time_machine.travel(start + dt.timedelta(hours=2)):
        assert replay.erasures_replay() == 0
        backup_restore(source=tmp_path / "b", replace=True)
    assert not Photo.objects.exists() and not vault.has_key(photo.key)
