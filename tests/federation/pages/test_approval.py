"""The approval page: its order, its fixed texts, and that only an admin with a current code says yes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pages_world
import pytest
from django.test import Client
from django.urls import reverse
from test_pages import text_of

pytestmark = pytest.mark.django_db

ORDER = (
    "What is asked", "By whom", "Leaves this hospital", "Never leaves", "Who could still learn what",
    "Without an answer", "Tried here, nothing sent", "Who is asked", "The plan to the letter", "Plan hash",
    "This hospital's answer", "Code of your second factor", "Approve round 1", "Decline instead",
)  # fmt: skip
PAGE, APPROVE, DECLINE = (f"federation:round_{name}" for name in ("answer", "approve", "decline"))


def now(name: str, number: int = 1) -> str:
    return reverse(name, args=[number])


def answered() -> int:
    from federation.models import Approval, Outgoing

    assert Approval.objects.count() == Outgoing.objects.filter(kind="Answer").count()
    return Approval.objects.count()


@pytest.fixture
def asked(clinic: Any) -> Any:
    from federation.models import Round

    pages_world.asked()
    return Round.objects.get()


def test_the_page_answers_in_the_right_order(asked: Any, admin: Client) -> None:
    shown = text_of(admin.get(now(PAGE)))
    places = [shown.index(words) for words in ORDER]
    assert places == sorted(places)


def test_the_page_says_what_the_protocol_says(asked: Any, admin: Client) -> None:
    from federation.secagg.rules import colluders

    shown = text_of(admin.get(now(PAGE)))
    leaves = shown[shown.index("Leaves this hospital") : shown.index("Never leaves")]
    never = shown[shown.index("Never leaves") : shown.index("Who could still learn what")]
    learn = shown[shown.index("Who could still learn what") : shown.index("Without an answer")]
    assert "masked update" in leaves and "rounded up to tens: 210" in leaves
    for thing in ("Photos", "Names", "identifiers", "embeddings"):
        assert thing in never
    assert f"coordinator together with {colluders(4)} other hospital" in learn
    assert (
        "204 photos of 154 consented patients" in shown
        and "128 photos, whose patients did not agree" in shown
    )
    assert "about 8.4 MB" in shown and "about 5 minutes" in shown


def test_words_and_hash_stand_both_on_the_page(asked: Any, admin: Client) -> None:
    shown = text_of(admin.get(now(PAGE)))
    hashed = " ".join(asked.sha256[start : start + 8] for start in range(0, 64, 8))
    assert shown.index("Demo Hospital B asks this hospital") < shown.index(hashed)


def test_the_right_code_approves_exactly_this_plan(
    asked: Any, admin: Client, people: Any, code: Callable[[], str]
) -> None:
    from federation.models import Approval

    answer = admin.post(now(APPROVE), {"plan_sha256": asked.sha256, "code": code()})
    assert answer.status_code == 302 and answer["Location"] == now("federation:round_page")
    assert answered() == 1
    approval = Approval.objects.get()
    assert (approval.answer, approval.plan_sha256, approval.user) == ("approve", asked.sha256, people.admin)
    assert approval.shown["dry_run"]["photos"] == 204
    assert "Receipt (PDF)" in text_of(admin.get(now(PAGE)))


@pytest.mark.parametrize("typed", ["", "000000", "12345", "abcdef"])
def test_a_wrong_code_says_so_and_changes_nothing(asked: Any, admin: Client, code: Any, typed: str) -> None:
    typed = "000001" if typed == code() else typed
    answer = admin.post(now(APPROVE), {"plan_sha256": asked.sha256, "code": typed})
    assert answer.status_code == 400 and answered() == 0
    shown = text_of(answer)
    assert ("This code is wrong" in shown) if typed else ("This field is required" in shown)
    assert "Approve round 1" in shown


def test_a_code_is_used_once(asked: Any, admin: Client, code: Callable[[], str]) -> None:
    typed = code()
    assert admin.post(reverse("federation:rule_list"), rule(typed)).status_code == 302
    answer = admin.post(now(APPROVE), {"plan_sha256": asked.sha256, "code": typed})
    assert answer.status_code == 400 and "used already" in text_of(answer) and answered() == 0


def rule(code: str) -> dict[str, Any]:
    import datetime as dt

    return {
        "strategies": ["fedavg"], "sites": list(pages_world.TITLES), "maximum_epochs": 5,
        "minimum_participants": 3, "expires_on": (dt.date.today() + dt.timedelta(days=30)).isoformat(), "code": code,
    }  # fmt: skip


def test_after_five_wrong_codes_the_right_one_has_to_wait(asked: Any, admin: Client, code: Any) -> None:
    wrong = "000001" if code() == "000000" else "000000"
    for _ in range(5):
        admin.post(now(APPROVE), {"plan_sha256": asked.sha256, "code": wrong})
    answer = admin.post(now(APPROVE), {"plan_sha256": asked.sha256, "code": code()})
    assert answer.status_code == 400 and "Too many wrong codes" in text_of(answer) and answered() == 0


def test_a_recovery_code_does_not_approve(asked: Any, admin: Client, people: Any) -> None:
    from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes

    spare = RecoveryCodes.activate(people.admin).generate_codes()[0]
    answer = admin.post(now(APPROVE), {"plan_sha256": asked.sha256, "code": spare})
    assert answer.status_code == 400 and answered() == 0


def test_another_plan_than_the_one_shown_is_not_approved(asked: Any, admin: Client, code: Any) -> None:
    answer = admin.post(now(APPROVE), {"plan_sha256": "0" * 64, "code": code()})
    assert answer.status_code == 400 and answered() == 0
    assert "showed another plan" in text_of(answer)


def test_an_unconfirmed_key_blocks_the_button_and_says_what_to_do(
    clinic: Any, admin: Client, code: Any
) -> None:
    from federation.models import Peer, Round

    pages_world.asked_unconfirmed()
    round_ = Round.objects.get()
    answer = admin.get(now(PAGE))
    page, shown = answer.content.decode(), text_of(answer)
    assert "The key of Demo Hospital D is not confirmed here. Telephone its admin" in shown
    peer = Peer.objects.get(name="hospital-d")
    assert f'href="{reverse("federation:site_page", args=[peer.pk])}"' in page
    assert 'disabled aria-describedby="blocked"' in page and 'name="code"' not in page
    assert "Decline round 1" in shown
    refused = admin.post(now(APPROVE), {"plan_sha256": round_.sha256, "code": code()})
    assert refused.status_code == 400 and "is not confirmed here" in text_of(refused) and answered() == 0


def test_a_hospital_without_a_photo_cannot_approve(asked: Any, admin: Client, monkeypatch: Any) -> None:
    from federation.services import dry_run

    monkeypatch.setattr(dry_run, "samples_now", lambda k: 0)
    answer = admin.get(now(PAGE))
    assert "No photo here may be used for training yet" in text_of(answer)
    assert 'name="code"' not in answer.content.decode()


@pytest.mark.parametrize("reason", ["", "Our ethics board meets next month."])
def test_declining_needs_no_code_and_may_have_a_reason(asked: Any, admin: Client, reason: str) -> None:
    from federation.models import Approval

    assert admin.post(now(DECLINE), {"decline-reason": reason}).status_code == 302
    approval = Approval.objects.get()
    assert (approval.answer, approval.reason) == ("decline", reason) and answered() == 1
    page = admin.get(now(PAGE))
    assert "This hospital has answered." in text_of(page) and 'name="code"' not in page.content.decode()


def test_a_second_answer_is_refused_in_words(asked: Any, admin: Client, code: Any) -> None:
    admin.post(now(DECLINE), {"decline-reason": "no"})
    answer = admin.post(now(APPROVE), {"plan_sha256": asked.sha256, "code": code()})
    assert answer.status_code == 400 and answered() == 1


def test_who_may_only_look_sees_no_button(asked: Any, auditor: Client, people: Any, sign_in: Any) -> None:
    for client in (auditor, sign_in(Client(), people.bare)):
        page = client.get(now(PAGE))
        assert page.status_code == 200 and "Approve round 1" not in text_of(page)
        for name in (APPROVE, DECLINE):
            data = {"plan_sha256": asked.sha256, "code": "000000", "decline-reason": "x"}
            assert client.post(now(name), data).status_code == 403
    assert answered() == 0


def test_a_form_without_its_token_changes_nothing(asked: Any, people: Any, sign_in: Any, code: Any) -> None:
    client = sign_in(Client(enforce_csrf_checks=True), people.admin)
    data = {"plan_sha256": asked.sha256, "code": code(), "decline-reason": "x"}
    assert client.post(now(APPROVE), data).status_code == 403
    assert client.post(now(DECLINE), data).status_code == 403
    assert answered() == 0


def test_a_yes_is_taken_back_until_the_update_is_masked(asked: Any, admin: Client, code: Any) -> None:
    from federation.models import Outgoing, OwnSum

    admin.post(now(APPROVE), {"plan_sha256": asked.sha256, "code": code()})
    assert "Take this hospital's yes back" in text_of(admin.get(now("federation:round_page")))
    empty = admin.post(now("federation:round_withdraw"), {"withdraw-reason": ""}, follow=True)
    assert "This field is required" in text_of(empty)
    assert not Outgoing.objects.filter(kind="Drop").exists()
    made = pages_world.Federation()
    made.sums(asked, "update", state="inputs")
    OwnSum.objects.update(state="masked")
    assert "Take this hospital's yes back" not in text_of(admin.get(now("federation:round_page")))
    late = admin.post(now("federation:round_withdraw"), {"withdraw-reason": "x"}, follow=True)
    assert "cannot be taken back" in text_of(late) and not Outgoing.objects.filter(kind="Drop").exists()
    OwnSum.objects.update(state="prepared")
    done = admin.post(now("federation:round_withdraw"), {"withdraw-reason": "A patient asked."}, follow=True)
    assert "Taken back" in text_of(done) and Outgoing.objects.filter(kind="Drop").count() == 1


def test_only_its_proposer_stops_a_round(clinic: Any, admin: Client) -> None:
    from federation.models import Outgoing

    made = pages_world.quiet()
    made.open_round()
    assert "Stop this round" not in text_of(admin.get(now("federation:round_page")))
    refused = admin.post(now("federation:round_stop"), {"stop-reason": "x"}, follow=True)
    assert "Only its proposer, Demo Hospital B, can stop this round." in text_of(refused)
    assert not Outgoing.objects.filter(kind="StopRound").exists()


def test_the_proposer_stops_its_round(clinic: Any, admin: Client) -> None:
    from federation.models import Outgoing

    made = pages_world.quiet()
    made.open_round(proposer=pages_world.OWN)
    assert "Stop this round" in text_of(admin.get(now("federation:round_page")))
    admin.post(now("federation:round_stop"), {"stop-reason": "Wrong epochs."})
    assert Outgoing.objects.filter(kind="StopRound").count() == 1


def test_the_receipt_is_a_pdf_for_those_who_may_look(clinic: Any, admin: Client, auditor: Client) -> None:
    pages_world.approved()
    for client in (admin, auditor):
        answer = client.get(now("federation:receipt"))
        assert answer.status_code == 200 and answer["Content-Type"] == "application/pdf"
        assert answer.content.startswith(b"%PDF-")
        assert answer["Content-Disposition"] == 'attachment; filename="round-1-receipt.pdf"'


def test_no_receipt_before_an_answer(asked: Any, admin: Client) -> None:
    assert admin.get(now("federation:receipt")).status_code == 404


def test_a_standing_rule_is_set_and_ended(clinic: Any, admin: Client, auditor: Client, code: Any) -> None:
    from federation.models import StandingRule

    pages_world.quiet()
    place = reverse("federation:rule_list")
    assert admin.post(place, rule("000000" if code() != "000000" else "000001")).status_code == 400
    far = rule(code()) | {"expires_on": "2099-01-01"}
    assert "at most one year" in text_of(admin.post(place, far))
    assert not StandingRule.objects.exists()
    assert admin.post(place, rule(code())).status_code == 302
    made = StandingRule.objects.get()
    assert made.maximum_epochs == 5 and set(made.sites) == set(pages_world.TITLES)
    assert "at most 5 epochs" in text_of(auditor.get(place)) and "End it now" not in text_of(
        auditor.get(place)
    )
    assert auditor.post(reverse("federation:rule_end", args=[made.pk])).status_code == 403
    assert admin.post(reverse("federation:rule_end", args=[made.pk])).status_code == 302
    made.refresh_from_db()
    assert made.ended_at is not None and "ended" in text_of(admin.get(place))
