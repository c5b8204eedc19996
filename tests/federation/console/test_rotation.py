"""A change of key survives a stop at any line, and is signed by the old key with a proof by the new one."""

from __future__ import annotations

from pathlib import Path

import pytest
from console_story import FEDERATION, OWN

from diagnosis.errors import NotReady
from federation import identity, kinds
from federation.models import Outgoing, Peer
from federation.services import rotation
from federation.services.membership import key_rotate
from federation.services.speaking import entry_say
from federation.transcript import decode_entry, rotation_bytes


def in_use() -> str:
    return identity.public_hex(identity.identity_now())


def announced(row: Outgoing) -> str:
    return str(decode_entry(row.text.encode()).body["public_key"])


def test_the_old_key_signs_until_the_federation_accepted_the_new_one(member, admin) -> None:
    old = in_use()
    said = key_rotate(user=admin)
    entry = decode_entry(said.text.encode())
    entry.verify(old)
    new = announced(said)
    proof = bytes.fromhex(entry.body["proof"])
    identity.public_key(new).verify(proof, rotation_bytes(FEDERATION, OWN, new))
    assert (in_use(), identity.public_hex(rotation.key_waiting())) == (old, new)
    assert key_rotate(user=admin).pk == said.pk
    assert member.accept() == ["Rotate"]
    rotation.key_promote(new)
    assert in_use() == Peer.objects.get(name=OWN).public_key == new
    assert rotation.key_waiting() is None
    rotation.key_promote(new)
    assert in_use() == new


def test_a_stop_before_the_announcement_is_stored_keeps_the_key_for_the_next_try(
    member, admin, monkeypatch
) -> None:
    old = in_use()

    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rotation, "entry_say", stop)
        with pytest.raises(KeyboardInterrupt):
            key_rotate(user=admin)
    assert not Outgoing.objects.exists()
    made = identity.public_hex(rotation.key_waiting())
    assert in_use() == old
    assert announced(key_rotate(user=admin)) == made


def test_a_stop_after_the_new_key_is_durable_leaves_it_in_use(member, admin, monkeypatch) -> None:
    new = announced(key_rotate(user=admin))
    member.accept()

    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stop)
        with pytest.raises(KeyboardInterrupt):
            rotation.key_promote(new)
    assert in_use() == new
    assert rotation.key_waiting() is None  # the file is still there, and waits for nothing
    rotation.key_promote(new)
    assert announced(key_rotate(user=admin)) != new


def test_a_refused_announcement_leaves_the_old_key_and_the_next_try_makes_another(member, admin) -> None:
    old, refused = in_use(), announced(key_rotate(user=admin))
    member.refuse("A round is under way.")
    assert in_use() == old
    assert announced(key_rotate(user=admin)) != refused


def test_no_change_of_key_during_a_round_or_while_entries_wait(story, make_plan, admin) -> None:
    entry_say(kinds.Unconfirm("b", "0" * 64, ""), key="something")
    with pytest.raises(NotReady, match="wait to be sent"):
        key_rotate(user=admin)
    story.refuse("This key was not confirmed by this site.")
    plan = make_plan()
    story.open_round(plan)
    with pytest.raises(NotReady, match="round"):
        key_rotate(user=admin)
    assert not Outgoing.objects.filter(kind="Rotate").exists()
    story.answer(OWN, plan, "decline")
    assert key_rotate(user=admin)


def test_a_key_that_this_site_does_not_hold_is_never_promoted(member, admin) -> None:
    old = in_use()
    with pytest.raises(NotReady):
        rotation.key_promote("ab" * 32)
    key_rotate(user=admin)
    with pytest.raises(NotReady):
        rotation.key_promote("ab" * 32)
    assert in_use() == old


def test_key_files_are_for_the_site_alone(member, admin, settings) -> None:
    key_rotate(user=admin)
    path = Path(settings.GESTALTWEB_KEYS) / "identity" / "waiting.key"
    assert path.stat().st_mode & 0o777 == 0o600
