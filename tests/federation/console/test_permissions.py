"""Who may call which service: every role, with and without a second factor. A refusal changes nothing."""

from __future__ import annotations

import datetime as dt

import pytest
from django.contrib.auth.models import AnonymousUser
from django.utils import timezone

from diagnosis.errors import NotAllowed
from diagnosis.models import AuditEvent, Role
from diagnosis.permissions import ACTIONS, SECOND_FACTOR, can, register_actions
from federation import identity, permissions
from federation.models import Approval, Invitation, Membership, Outgoing, Peer, StandingRule
from federation.services import approvals, membership, proposals, receipts
from federation.services.proposals import plan_suggest

AT_HOSPITAL = {
    "peer_confirm": lambda user, round_: membership.peer_confirm(
        user=user, peer=peer("e"), fingerprint=identity.fingerprint(peer("e").public_key)
    ),
    "peer_unconfirm": lambda user, round_: membership.peer_unconfirm(user=user, peer=peer("b"), reason="Doubt."),
    "key_rotate": lambda user, round_: membership.key_rotate(user=user),
    "site_leave": lambda user, round_: membership.site_leave(user=user, reason="We leave."),
    "site_join": lambda user, round_: membership.site_join(user=user, code="x", name="a", title="A"),
    "plan_suggest": lambda user, round_: proposals.plan_suggest(user=user),
    "round_propose": lambda user, round_: proposals.round_propose(user=user, plan=plan_suggest(user=None)),
    "round_approve": lambda user, round_: approvals.round_approve(
        user=user, round_=round_, plan_sha256=round_.sha256
    ),
    "round_decline": lambda user, round_: approvals.round_decline(user=user, round_=round_, reason=""),
    "round_withdraw": lambda user, round_: approvals.round_withdraw(user=user, round_=round_, reason="No."),
    "round_stop": lambda user, round_: approvals.round_stop(user=user, round_=round_, reason="No."),
    "rule_create": lambda user, round_: approvals.rule_create(
        user=user, strategies=["fedavg"], sites=["b", "c"], maximum_epochs=5, minimum_participants=3,
        expires_at=timezone.now() + dt.timedelta(days=1),
    ),
}  # fmt: skip
AT_COORDINATOR = {
    "federation_found": lambda user: membership.federation_found(user=user, title="Network"),
    "invitation_create": lambda user: membership.invitation_create(user=user, title="A", address="https://c.example"),
    "peer_remove": lambda user: membership.peer_remove(user=user, peer=Peer(name="a"), reason="No."),
}  # fmt: skip
OTHERS = [{role} for role in Role.values if role != Role.SITE_ADMIN] + [set()]


def peer(name: str) -> Peer:
    return Peer.objects.get(name=name)


def kept() -> tuple[int, ...]:
    models = (Outgoing, Approval, StandingRule, Invitation, Membership, AuditEvent)
    return tuple(model.objects.count() for model in models)


@pytest.mark.parametrize("service", AT_HOSPITAL)
def test_a_hospitals_services_need_a_site_admin_with_a_second_factor(
    story, round_, make_user, service
) -> None:
    users = [make_user(roles=roles, second_factor=True) for roles in OTHERS]
    users += [make_user(roles={"site_admin"}), AnonymousUser()]
    before = kept()
    for user in users:
        with pytest.raises(NotAllowed):
            AT_HOSPITAL[service](user, round_)
    assert kept() == before


@pytest.mark.parametrize("service", AT_HOSPITAL)
def test_a_coordinators_site_admin_calls_none_of_them(story, round_, admin, settings, service) -> None:
    settings.SITE_ROLE = "coordinator"
    before = kept()
    with pytest.raises(NotAllowed):
        AT_HOSPITAL[service](admin, round_)
    assert kept() == before


@pytest.mark.parametrize("service", AT_COORDINATOR)
def test_the_coordinators_services_need_its_site_admin_with_a_second_factor(
    db, settings, make_user, admin, service
) -> None:
    settings.SITE_ROLE = "coordinator"
    users = [make_user(roles=roles, second_factor=True) for roles in OTHERS] + [
        make_user(roles={"site_admin"})
    ]
    before = kept()
    for user in users:
        with pytest.raises(NotAllowed):
            AT_COORDINATOR[service](user)
    settings.SITE_ROLE = "hospital"
    with pytest.raises(NotAllowed):
        AT_COORDINATOR[service](admin)
    assert kept() == before


def test_receipts_are_for_site_admins_and_auditors(story, round_, admin, make_user) -> None:
    approval = approvals.round_approve(user=admin, round_=round_, plan_sha256=round_.sha256)
    for roles in OTHERS:
        user = make_user(roles=roles)
        if roles == {"auditor"}:
            assert receipts.receipt_pdf(user=user, approval=approval).startswith(b"%PDF")
            continue
        with pytest.raises(NotAllowed):
            receipts.receipt_pdf(user=user, approval=approval)


def test_the_actions_stand_in_the_clinics_one_policy(db, make_user) -> None:
    assert permissions.ACTIONS.items() <= ACTIONS.items()
    assert permissions.SECOND_FACTOR <= SECOND_FACTOR
    auditor, both = make_user(roles={"auditor"}), make_user(roles={"site_admin"}, second_factor=True)
    assert can(auditor, "federation.view") and can(both, "federation.view")
    assert [name for name in permissions.SECOND_FACTOR if can(auditor, name)] == []
    assert all(can(both, name) for name in permissions.ACTIONS)


def test_an_action_is_registered_once_and_never_widened() -> None:
    register_actions(permissions.ACTIONS, second_factor=permissions.SECOND_FACTOR)  # the same again is fine
    with pytest.raises(ValueError, match="case.view"):
        register_actions({"case.view": frozenset({"auditor"})}, second_factor=())
    assert ACTIONS["case.view"] == frozenset({Role.GENETICIST})
