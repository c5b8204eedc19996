"""What is said before a site serves."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command

from diagnosis import checks, engine


def ids(messages) -> list[str]:
    return [message.id for message in messages]


def test_separate_workers_need_shared_services(settings) -> None:
    assert ids(checks.check_arrangement(None)) == []
    settings.EMBEDDED_WORKER = False
    assert ids(checks.check_arrangement(None)) == ["gestaltweb.E001", "gestaltweb.E002"]


def test_an_open_key_folder_is_named(settings, site_home) -> None:
    (site_home / "keys").chmod(0o700)
    assert ids(checks.check_key_folder(None)) == []
    (site_home / "keys").chmod(0o750)
    assert ids(checks.check_key_folder(None)) == ["gestaltweb.W001"]


def test_missing_weights_stop_the_check(extractor) -> None:
    call_command("check", "--database", "default")
    engine.weights_path(extractor.members.get().sha256).unlink()
    with pytest.raises(CommandError, match="gestaltweb.E003"):
        call_command("check", "--database", "default")
