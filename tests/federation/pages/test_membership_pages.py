"""Joining, comparing keys, proposing, leaving; and a coordinator's own doors."""

from __future__ import annotations

import re
from typing import Any

import pages_world
import pytest
from django.test import Client
from django.urls import reverse
from test_pages import text_of

pytestmark = pytest.mark.django_db
HOME = "/federation/"


def site(name: str, door: str = "site_page") -> str:
    from federation.models import Peer

    return reverse(f"federation:{door}", args=[Peer.objects.get(name=name).pk])


def heard(name: str) -> str:
    from federation import identity
    from federation.models import Peer

    return identity.fingerprint(Peer.objects.get(name=name).public_key)[-9:]


def invitation(settings: Any) -> str:
    """A code as a coordinator makes them."""
    from federation.models import Membership
    from federation.services.invitations import invitation_create

    settings.SITE_ROLE = "coordinator"
    pages_world.founded()
    made = invitation_create(user=None, title="Demo Hospital A")
    Membership.objects.all().delete()
    settings.SITE_ROLE = "hospital"
    return made


def test_a_hospital_joins_by_its_code(clinic: Any, admin: Client, settings: Any) -> None:
    from federation.models import Membership, Outgoing

    code = invitation(settings)
    broken = admin.post(reverse("federation:join"), {"code": code[:-9], "title": "A", "name": "a"})
    assert broken.status_code == 400 and "invitation" in text_of(broken).lower()
    bad_name = admin.post(reverse("federation:join"), {"code": code, "title": "A", "name": "a b"})
    assert bad_name.status_code == 400 and "Use letters, digits" in text_of(bad_name)
    assert not Membership.objects.exists()
    joined = {"code": f" {code[:40]}\n{code[40:]} ", "title": "Demo Hospital A", "name": "hospital-a"}
    answer = admin.post(reverse("federation:join"), joined, follow=True)
    assert "has asked to be admitted" in text_of(answer)
    assert Membership.objects.get().name == "hospital-a" and Outgoing.objects.get().kind == "Join"
    assert 'hx-trigger="every 5s"' in answer.content.decode()


def test_a_key_is_confirmed_by_what_was_heard(clinic: Any, admin: Client, code: Any) -> None:
    from federation.models import Outgoing

    pages_world.unconfirmed()
    wrong = {"heard": "0000 0000", "compared": "on", "code": code()}
    answer = admin.post(site("hospital-d", "site_confirm"), wrong)
    assert answer.status_code == 400 and "These are not the last two groups" in text_of(answer)
    untold = {"heard": heard("hospital-d"), "code": code()}
    assert admin.post(site("hospital-d", "site_confirm"), untold).status_code == 400
    assert not Outgoing.objects.filter(kind="Confirm").exists()
    right = {"heard": heard("hospital-d").upper().replace(" ", ""), "compared": "on", "code": code()}
    assert admin.post(site("hospital-d", "site_confirm"), right).status_code == 302
    assert Outgoing.objects.get(kind="Confirm").key.startswith("confirm/hospital-d/")
    assert "being sent" in text_of(admin.get(HOME))


def test_a_changed_key_is_named_as_such(clinic: Any, admin: Client) -> None:
    pages_world.unconfirmed()
    assert "This hospital's key has changed." in text_of(admin.get(site("hospital-c")))
    assert "This hospital's key has changed." not in text_of(admin.get(site("hospital-d")))


def test_a_confirmation_is_taken_back(clinic: Any, admin: Client) -> None:
    from federation.models import Outgoing
    from federation.peer_selectors import keys_confirmed

    pages_world.quiet()
    assert admin.post(site("hospital-b", "site_unconfirm"), {"reason": ""}).status_code == 400
    assert "hospital-b" in keys_confirmed()
    # This site said its confirmation itself, so that it can be taken back.
    Outgoing.objects.create(key=f"{confirm_key('hospital-b')}/0", kind="Confirm", text="", sent=True)
    assert admin.post(site("hospital-b", "site_unconfirm"), {"reason": "Key lost."}).status_code == 302
    assert "hospital-b" not in keys_confirmed()


def confirm_key(name: str) -> str:
    from federation.models import Peer

    return f"confirm/{name}/{Peer.objects.get(name=name).public_key[:16]}"


def test_own_key_cannot_be_confirmed_here(clinic: Any, admin: Client) -> None:
    pages_world.quiet()
    assert 'name="heard"' not in admin.get(site(pages_world.OWN)).content.decode()


def test_a_plan_is_shown_before_it_is_said_and_said_as_shown(clinic: Any, admin: Client) -> None:
    from federation.models import Outgoing
    from federation.plans import parse_plan

    pages_world.quiet()
    choices = {
        "strategy": "fedprox", "epochs": 4, "answer_hours": 48, "minimum_participants": 3,
        "training_minutes": 60, "minimum_patients": 10, "sites": list(pages_world.TITLES),
    }  # fmt: skip
    preview = admin.post(reverse("federation:propose"), choices)
    assert preview.status_code == 200 and not Outgoing.objects.exists()
    plan = parse_plan(preview.context["form"].initial["plan"])
    assert (plan.strategy, plan.members[0].local.epochs, len(plan.invited)) == ("fedprox", 4, 4)
    assert plan.sha256[:8] in text_of(preview) and "Demo Hospital D" in text_of(preview)
    said = admin.post(reverse("federation:propose"), {"plan": preview.context["form"].initial["plan"]})
    assert said.status_code == 302
    assert Outgoing.objects.get(kind="Propose").key == f"propose/{plan.sha256}"


@pytest.mark.parametrize("change", [{"minimum_participants": 2}, {"sites": ["hospital-b"]}, {"epochs": 0}])
def test_a_plan_that_cannot_be_is_refused_in_words(
    clinic: Any, admin: Client, change: dict[str, Any]
) -> None:
    from federation.models import Outgoing

    pages_world.quiet()
    choices = {
        "strategy": "fedavg", "epochs": 5, "answer_hours": 48, "minimum_participants": 3,
        "training_minutes": 60, "minimum_patients": 10, "sites": list(pages_world.TITLES),
    }  # fmt: skip
    answer = admin.post(reverse("federation:propose"), choices | change)
    assert answer.status_code == 400 and not Outgoing.objects.exists()
    assert re.search(r'class="errorlist|role="alert"', answer.content.decode())


def test_a_changed_text_is_no_plan(clinic: Any, admin: Client) -> None:
    from federation.models import Outgoing
    from federation.plans import encode_plan

    made = pages_world.quiet()
    text = encode_plan(made.plan(proposer=pages_world.OWN)).replace('"k":5', '"k":1')
    assert admin.post(reverse("federation:propose"), {"plan": text}).status_code == 302
    others = encode_plan(made.plan())
    answer = admin.post(reverse("federation:propose"), {"plan": others})
    assert answer.status_code == 400 and "in its own name only" in text_of(answer)
    assert not Outgoing.objects.exists()


def test_leaving_needs_a_reason_and_a_code(clinic: Any, admin: Client, code: Any) -> None:
    from federation.models import Membership

    pages_world.quiet()
    place = reverse("federation:leave")
    for data in ({"reason": "x", "code": ""}, {"reason": "", "code": code()}):
        assert admin.post(place, data).status_code == 400 and not Membership.objects.get().left
    assert admin.post(place, {"reason": "Merged.", "code": code()}).status_code == 302
    assert Membership.objects.get().left and "has left" in text_of(admin.get(HOME))


def test_a_new_key_is_announced(clinic: Any, admin: Client, code: Any) -> None:
    from federation.models import Outgoing

    pages_world.quiet()
    assert admin.post(reverse("federation:key"), {"code": code()}).status_code == 302
    assert Outgoing.objects.get().kind == "Rotate"


def test_a_site_in_alarm_refuses_to_speak(clinic: Any, admin: Client, code: Any) -> None:
    from federation.models import Outgoing

    pages_world.alarm()
    assert "Propose a round" not in text_of(admin.get(HOME))
    answer = admin.post(reverse("federation:leave"), {"reason": "x", "code": code()})
    assert answer.status_code == 400 and "stopped following" in text_of(answer)
    assert not Outgoing.objects.exists()


def test_an_alarm_is_ended_with_a_reason_and_a_code(clinic: Any, admin: Client, code: Any) -> None:
    from diagnosis.models import AuditEvent
    from federation.models import Membership

    pages_world.alarm()
    assert reverse("federation:follow") in admin.get(HOME).content.decode()
    wrong = admin.post(reverse("federation:follow"), {"reason": "compared with B and C", "code": "000000"})
    assert wrong.status_code == 400 and Membership.objects.get().alarm
    right = {"reason": "compared with B and C", "code": code()}
    assert admin.post(reverse("federation:follow"), right).status_code == 302
    assert Membership.objects.get().alarm == ""
    event = AuditEvent.objects.get(action="federation.alarm_ended")
    assert "another entry 14" in event.detail["was"] and event.detail["reason"] == right["reason"]


# --- a coordinator ---


def test_a_coordinator_begins_and_invites(coordinator: None, admin: Client) -> None:
    from federation.models import Invitation, Membership

    assert "Begin a federation" in text_of(admin.get(HOME))
    bad = admin.post(reverse("federation:found"), {"title": "F", "address": "http://elsewhere.example"})
    assert bad.status_code == 400 and not Membership.objects.exists()
    good = {"title": "Demo Federation", "address": "https://coordinator.example.org"}
    assert admin.post(reverse("federation:found"), good).status_code == 302
    answer = admin.post(reverse("federation:invitations"), {"title": "Demo Hospital A"})
    (code,) = answer.context["codes"]
    assert code in answer.content.decode() and Invitation.objects.count() == 1
    assert code not in admin.get(reverse("federation:invitations")).content.decode()


def test_a_coordinator_removes_a_site(coordinator: None, admin: Client, code: Any) -> None:
    from federation.models import Peer

    pages_world.gathered()
    place = site("hospital-d", "site_remove")
    assert admin.get(place).status_code == 200
    assert admin.post(place, {"reason": "x", "code": ""}).status_code == 400
    assert Peer.objects.get(name="hospital-d").state == "joined"
    assert admin.post(place, {"reason": "Asked by telephone.", "code": code()}).status_code == 302
    assert Peer.objects.get(name="hospital-d").state == "removed"


HOSPITAL_DOORS = (
    ("post", "join"), ("get", "leave"), ("post", "leave"), ("get", "key"), ("post", "key"), ("get", "propose"),
    ("post", "propose"), ("get", "rule_list"), ("post", "rule_list"),
)  # fmt: skip
ROUND_DOORS = (
    ("get", "round_answer"), ("post", "round_approve"), ("post", "round_decline"), ("post", "round_withdraw"),
    ("post", "round_stop"), ("get", "receipt"),
)  # fmt: skip


def test_what_a_hospital_does_is_refused_at_a_coordinator(coordinator: None, admin: Client) -> None:
    pages_world.coordinating()
    for method, name in HOSPITAL_DOORS:
        assert getattr(admin, method)(reverse(f"federation:{name}")).status_code == 403, name
    for method, name in ROUND_DOORS:
        assert getattr(admin, method)(reverse(f"federation:{name}", args=[1])).status_code == 403, name
    for name in ("site_confirm", "site_unconfirm"):
        assert admin.post(site("hospital-b", name)).status_code == 403


def test_a_coordinators_doors_are_for_its_admin(
    coordinator: None, auditor: Client, people: Any, sign_in: Any
) -> None:
    pages_world.gathered()
    for client in (auditor, sign_in(Client(), people.bare), sign_in(Client(), people.geneticist)):
        for name in ("found", "invitations"):
            assert client.post(reverse(f"federation:{name}"), {"title": "x"}).status_code == 403
        assert client.get(reverse("federation:invitations")).status_code == 403
        assert client.post(site("hospital-d", "site_remove"), {"reason": "x"}).status_code == 403
    assert Client().post(reverse("federation:found")).status_code == 302
