"""Every page renders in every state, says what happens next, and shows nothing to those who may not look."""

from __future__ import annotations

import re
from typing import Any

import pages_world
import pytest
from django.test import Client
from django.urls import reverse

pytestmark = pytest.mark.django_db

#: What the first page must say in each state: where one stands, or what one does next.
FIRST_PAGE = {
    "nothing": "Join by invitation", "joining": "has not admitted this site yet",
    "not_admitted": "did not admit this site", "alone": "Fingerprint to read out",
    "unconfirmed": "wait for you to compare their keys", "quiet": "Propose a round",
    "asked": "Round 1 waits for this hospital", "asked_unconfirmed": "waits for you to compare its key",
    "approved": "Hospitals answer", "declined": "Hospitals answer", "counting": "are counted",
    "training": "Hospitals train", "unmasking": "The sum is opened", "validating": "try the result and vote",
    "published": "Global model 1", "aborted": "Ended without a model",
    "alarm": "this site has stopped following the coordinator", "left": "has left the federation",
    "removed": "was removed by the coordinator",
}  # fmt: skip
#: What the round's page must say.
ROUND_PAGE = {
    "asked": "This hospital has not answered.", "approved": "Receipt (PDF)", "declined": "Declined",
    "counting": "Waiting for keys from", "training": "This hospital's own curve. It is never sent.",
    "unmasking": "added up here too: the same", "validating": "No sure difference here.",
    "published": "Better here.", "aborted": "Only two hospitals remained",
}  # fmt: skip


def text_of(answer: Any) -> str:
    """The page as one line of text, tags left out."""
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


def test_every_state_is_described() -> None:
    assert set(FIRST_PAGE) == set(pages_world.HOSPITAL)


@pytest.mark.parametrize("state", FIRST_PAGE)
def test_first_page_says_where_one_stands(clinic: Any, admin: Client, state: str) -> None:
    pages_world.HOSPITAL[state]()
    answer = admin.get(reverse("federation:home"))
    assert answer.status_code == 200
    assert FIRST_PAGE[state] in text_of(answer)


@pytest.mark.parametrize("state", ROUND_PAGE)
def test_round_page_says_how_far_it_is(clinic: Any, admin: Client, state: str) -> None:
    pages_world.HOSPITAL[state]()
    answer = admin.get(reverse("federation:round_page", args=[1]))
    assert answer.status_code == 200
    assert ROUND_PAGE[state] in text_of(answer)
    polls = 'hx-trigger="every 2s"' in answer.content.decode()
    assert polls == (state not in ("published", "aborted"))


@pytest.mark.parametrize("state", pages_world.HOSPITAL)
def test_other_pages_render(clinic: Any, admin: Client, auditor: Client, state: str) -> None:
    from federation.models import Peer, Round

    pages_world.HOSPITAL[state]()
    pages = [reverse(f"federation:{name}") for name in ("transcript", "round_list", "rule_list")]
    pages += [reverse("federation:site_page", args=[peer.pk]) for peer in Peer.objects.all()]
    for round_ in Round.objects.all():
        names = ("round_page", "round_live", "round_answer")
        pages += [reverse(f"federation:{name}", args=[round_.number]) for name in names]
    for client in (admin, auditor):
        assert [(page, client.get(page).status_code) for page in pages] == [(page, 200) for page in pages]
    for name in ("propose", "leave", "key"):
        assert admin.get(reverse(f"federation:{name}")).status_code == 200
        assert auditor.get(reverse(f"federation:{name}")).status_code == 403


@pytest.mark.parametrize("state", pages_world.COORDINATOR)
def test_coordinator_shows_no_face_no_curve_and_no_clinic(
    coordinator: None, admin: Client, auditor: Client, state: str
) -> None:
    from federation.models import Peer, Round

    pages_world.COORDINATOR[state]()
    pages = [reverse(f"federation:{name}") for name in ("home", "transcript", "round_list")]
    pages += [reverse("federation:site_page", args=[peer.pk]) for peer in Peer.objects.all()]
    pages += [reverse("federation:round_page", args=[round_.number]) for round_ in Round.objects.all()]
    pages += [reverse("federation:round_live", args=[round_.number]) for round_ in Round.objects.all()]
    for client in (admin, auditor):
        for page in pages:
            answer = client.get(page)
            assert answer.status_code == 200, page
            shown = answer.content.decode()
            assert "<svg" not in shown and "/cases/" not in shown and "/patients/" not in shown
            assert "never sent" not in shown and "Take this hospital" not in shown
    assert admin.get(reverse("federation:invitations")).status_code == 200


def test_a_link_of_the_navigation_leads_here_for_those_who_may_look(
    clinic: Any, admin: Client, auditor: Client, people: Any, sign_in: Any
) -> None:
    pages_world.quiet()
    entry = f'<a href="{reverse("federation:home")}" aria-current="page">Federation</a>'
    for client in (admin, auditor):
        assert entry in client.get(reverse("federation:home")).content.decode()
    geneticist = sign_in(Client(), people.geneticist)
    assert 'href="/federation/"' not in geneticist.get("/cases/").content.decode()
    assert geneticist.get(reverse("federation:home")).status_code == 403


def test_live_part_is_sent_again_only_when_it_changed(clinic: Any, admin: Client) -> None:
    from federation.models import Curve, Round

    pages_world.training()
    page = admin.get(reverse("federation:round_page", args=[1])).content.decode()
    seen = re.search(r"\?seen=(\w+)", page).group(1)  # type: ignore[union-attr]
    live = reverse("federation:round_live", args=[1])
    assert admin.get(live, {"seen": seen}).status_code == 204
    Curve.objects.create(round=Round.objects.get(), member="compact", attempt=2, epoch=5, loss=0.3, top_1=0.7)
    answer = admin.get(live, {"seen": seen})
    assert answer.status_code == 200 and b'id="live"' in answer.content
    assert f"?seen={seen}" not in answer.content.decode()


def test_a_page_that_is_not_to_move_does_not_ask_again(clinic: Any, admin: Client) -> None:
    pages_world.training()
    page = admin.get(reverse("federation:round_page", args=[1]), {"still": "1"}).content.decode()
    assert "hx-get" not in page and "Go on updating" in page


def test_the_curve_stands_beside_a_table_of_the_same_values(clinic: Any, admin: Client) -> None:
    from federation.models import Curve

    pages_world.training()
    answer = admin.get(reverse("federation:round_page", args=[1]))
    page, shown = answer.content.decode(), text_of(answer)
    newest = re.search(r'class="curve-line" points="([^"]+)"', page).group(1)  # type: ignore[union-attr]
    assert len(newest.split()) == 4 and page.count("curve-old") == 1
    for row in Curve.objects.filter(attempt=2):
        assert f"{row.epoch} {row.loss:.3f} {100 * row.top_1:.0f} %" in shown
