"""Founding, inviting, joining, confirming, leaving: each binds, so each is checked from both sides."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict

import pytest
from console_story import OWN

from diagnosis.errors import Duplicate, InvalidInput, NotAllowed, NotReady
from diagnosis.models import AuditEvent
from federation import identity, kinds
from federation.errors import InvalidMessage, NotAMember
from federation.models import Confirmation, Invitation, Membership, Outgoing, OwnSum, Peer, SecureSum
from federation.peer_selectors import keys_confirmed, peers_with_confirmations
from federation.selectors import federation_overview
from federation.services import coordination, invitations, membership
from federation.transcript import Entry, decode_entry

ADDRESS = "https://coordinator.example"


def code_of(**changes: str) -> str:
    facts = {
        "address": ADDRESS, "federation": "f0" * 32, "coordinator_key": "ab" * 32, "token": "t" * 43, "title": "A",
    }  # fmt: skip
    return base64.urlsafe_b64encode(json.dumps(facts | changes).encode()).decode().rstrip("=")


@pytest.fixture
def coordinator(db, settings, admin):
    settings.SITE_ROLE = "coordinator"
    return membership.federation_found(user=admin, title="Network", address=ADDRESS)


# --- the coordinator ---


def test_founding_makes_a_key_a_name_and_one_row(coordinator, admin) -> None:
    assert (coordinator.role, coordinator.name, coordinator.pk) == ("coordinator", "coordinator", 1)
    assert len(bytes.fromhex(coordinator.federation)) == 32
    assert coordinator.coordinator_key == identity.public_hex(identity.identity_now())
    assert AuditEvent.objects.filter(action="federation.founded").count() == 1
    with pytest.raises(Duplicate):
        membership.federation_found(user=admin, title="Another")


def test_a_hospital_founds_nothing(hospital, admin) -> None:
    with pytest.raises(NotAllowed):
        membership.federation_found(user=admin, title="Network")
    assert not Membership.objects.exists()


def test_an_invitation_keeps_only_the_hash_of_its_token(coordinator, admin) -> None:
    code = membership.invitation_create(user=admin, title="Hospital A")
    found = invitations.code_parse(f"  {code[:20]}\n {code[20:]} ")  # as a mail program folds it
    assert (found.address, found.federation) == (ADDRESS, coordinator.federation)
    assert found.coordinator_key == coordinator.coordinator_key
    row = Invitation.objects.get()
    assert row.token_sha256 == hashlib.sha256(found.token.encode()).hexdigest()
    assert found.token not in repr(found)
    assert found.token not in json.dumps(list(AuditEvent.objects.values_list("detail", flat=True)))
    assert (row.expires_at - row.created_at).days in (13, 14)


def test_the_coordinator_admits_a_site_by_its_invitation_once(coordinator, admin) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    token = invitations.code_parse(membership.invitation_create(user=admin, title="Hospital A")).token

    def joining(name: str) -> bytes:
        key = Ed25519PrivateKey.generate()
        body = kinds.Join("Hospital A", identity.public_hex(key), hashlib.sha256(token.encode()).hexdigest())
        facts = {"federation": coordinator.federation, "seen": 0, "seen_sha256": "0" * 64, "key": "join/1"}
        return Entry(author=name, kind="Join", body=asdict(body), **facts).sign(key).encode()

    coordination.entry_append(peer=None, data=joining("a"), invitation=token)
    with pytest.raises(NotAMember):
        coordination.entry_append(peer=None, data=joining("b"), invitation=token)
    peer = Peer.objects.get()
    assert Invitation.objects.get().used_by == peer
    membership.peer_remove(user=admin, peer=peer, reason="It asked for that.")
    membership.peer_remove(user=admin, peer=peer, reason="It asked for that.")
    assert peer.state == "removed"
    assert AuditEvent.objects.filter(action="federation.peer_removed").count() == 1


def test_an_invitation_needs_an_address_that_hospitals_may_use(db, settings, admin) -> None:
    settings.SITE_ROLE = "coordinator"
    membership.federation_found(user=admin, title="Network")
    with pytest.raises(InvalidInput):
        membership.invitation_create(user=admin, title="Hospital A")
    with pytest.raises(InvalidMessage):
        membership.invitation_create(user=admin, title="Hospital A", address="http://coordinator.example")
    assert not Invitation.objects.exists()
    assert membership.invitation_create(user=admin, title="A", address="http://127.0.0.1:8000")


# --- joining ---


def test_joining_makes_a_key_and_says_so_with_the_hash_of_the_token(hospital, admin) -> None:
    membership.site_join(user=admin, code=code_of(), name="a", title="Hospital A")
    own = Membership.objects.get()
    assert (own.role, own.name, own.coordinator_key) == ("hospital", "a", "ab" * 32)
    said = Outgoing.objects.get()
    entry = decode_entry(said.text.encode())
    public = identity.public_hex(identity.identity_now())
    assert said.key == f"join/{public[:16]}"
    assert entry.body == {
        "title": "Hospital A", "public_key": public, "invitation_sha256": hashlib.sha256(b"t" * 43).hexdigest(),
    }  # fmt: skip
    entry.verify(public)
    assert "t" * 43 not in said.text
    with pytest.raises(Duplicate):
        membership.site_join(user=admin, code=code_of(), name="b", title="Hospital B")


@pytest.mark.parametrize(
    "code, fragment",
    [
        ("", "all of it"),
        ("?" * 50, "Copy it again"),
        (code_of()[:-30], "Copy it again"),
        (base64.urlsafe_b64encode(b'{"address":1}').decode(), "not in the form"),
        (code_of(token="short"), "damaged"),
        (code_of(federation="F0" * 32), "damaged"),
        (code_of(address="http://coordinator.example"), "https://"),
        (code_of(address="ftp://coordinator.example"), "https://"),
    ],
)
def test_a_code_that_is_none_is_refused_in_words(hospital, admin, code, fragment) -> None:
    with pytest.raises((InvalidInput, InvalidMessage), match=fragment):
        membership.site_join(user=admin, code=code, name="a", title="Hospital A")
    assert not Membership.objects.exists()
    assert not Outgoing.objects.exists()


@pytest.mark.parametrize("name", ["", "Coordinator", "coordinator", "with space", "x" * 65, "ä"])
def test_a_name_that_entries_cannot_carry_is_refused(hospital, admin, name) -> None:
    with pytest.raises(InvalidInput):
        membership.site_join(user=admin, code=code_of(), name=name, title="Hospital A")


def test_a_coordinator_joins_nothing(coordinator, admin) -> None:
    with pytest.raises(NotAllowed):
        membership.site_join(user=admin, code=code_of(), name="a", title="Hospital A")


def test_after_a_refusal_a_site_may_try_again_and_not_before(hospital, admin) -> None:
    membership.site_join(user=admin, code=code_of(), name="a", title="Hospital A")
    Outgoing.objects.update(sent=True, refusal="This name is taken in the federation.")
    assert "Join again" in federation_overview().next_step
    membership.site_join(user=admin, code=code_of(token="u" * 43), name="a2", title="Hospital A")
    assert Membership.objects.get().name == "a2"
    assert Outgoing.objects.get().refusal == ""


# --- confirming ---


def test_a_key_is_confirmed_only_by_its_own_fingerprint(member, admin) -> None:
    peer, other = member.join("b"), member.join("c")
    with pytest.raises(InvalidInput, match="Do not confirm"):
        membership.peer_confirm(user=admin, peer=peer, fingerprint=identity.fingerprint(other.public_key))
    assert not Outgoing.objects.exists()
    shown = identity.fingerprint(peer.public_key).upper().replace(" ", "  ")
    first = membership.peer_confirm(user=admin, peer=peer, fingerprint=shown)
    assert membership.peer_confirm(user=admin, peer=peer, fingerprint=shown).pk == first.pk
    assert keys_confirmed().keys() == {OWN}  # what is only said does not count yet
    assert [row.waiting for row in peers_with_confirmations()] == ["", "confirm", ""]
    assert member.accept() == ["Confirm"]
    assert keys_confirmed() == {OWN: Peer.objects.get(name=OWN).public_key, "b": peer.public_key}


def test_own_keys_and_former_members_are_not_confirmed(member, admin) -> None:
    own, peer = Peer.objects.get(name=OWN), member.join("b")
    member.say("b", kinds.Leave("Merged with another hospital."))
    for row in (own, peer):
        with pytest.raises(InvalidInput):
            membership.peer_confirm(user=admin, peer=row, fingerprint=identity.fingerprint(row.public_key))


def test_before_it_is_admitted_a_site_confirms_nobody(member, admin) -> None:
    peer = member.join("b")
    Peer.objects.filter(name=OWN).delete()
    with pytest.raises(NotReady):
        membership.peer_confirm(user=admin, peer=peer, fingerprint=identity.fingerprint(peer.public_key))


def test_a_confirmation_taken_back_counts_no_longer_at_once_and_can_be_given_again(member, admin) -> None:
    peer = member.join("b")
    fingerprint = identity.fingerprint(peer.public_key)
    assert membership.peer_unconfirm(user=admin, peer=peer, reason="never was") is None
    membership.peer_confirm(user=admin, peer=peer, fingerprint=fingerprint)
    member.accept()
    membership.peer_unconfirm(user=admin, peer=peer, reason="A stranger answered the telephone.")
    assert "b" not in keys_confirmed()
    assert not Confirmation.objects.get().withdrawn  # the others do not know yet
    assert member.accept() == ["Unconfirm"]
    assert "b" not in keys_confirmed()
    membership.peer_confirm(user=admin, peer=peer, fingerprint=fingerprint)
    assert member.accept() == ["Confirm"]
    assert keys_confirmed()["b"] == peer.public_key


def test_a_confirmation_stands_for_one_key_only(story) -> None:
    from console_story import FEDERATION
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from federation.transcript import rotation_bytes

    assert "b" in keys_confirmed()
    new = Ed25519PrivateKey.generate()
    public = identity.public_hex(new)
    story.say("b", kinds.Rotate(public, new.sign(rotation_bytes(FEDERATION, "b", public)).hex()))
    assert "b" not in keys_confirmed()
    row = next(row for row in peers_with_confirmations() if row.peer.name == "b")
    assert not row.confirmed_here and not row.confirmed_by
    assert row in federation_overview().to_confirm


# --- leaving ---


def test_leaving_ends_what_was_not_masked_and_is_said_once(story, round_, admin) -> None:
    total = SecureSum.objects.create(name="x.presence.1", round=round_, purpose="presence", attempt=1,
                                     sites=["a"], words=3, bits=64)  # fmt: skip
    own = OwnSum.objects.create(sum=total, state="prepared")
    first = membership.site_leave(user=admin, reason="The hospital closes.")
    assert membership.site_leave(user=admin, reason="The hospital closes.").pk == first.pk
    own.refresh_from_db()
    assert (Membership.objects.get().left, own.state) == (True, "left")
    assert AuditEvent.objects.filter(action="federation.left").count() == 1
    assert story.accept() == ["Leave"]
    with pytest.raises(Duplicate):
        membership.site_join(user=admin, code=code_of(), name="a", title="Hospital A")
