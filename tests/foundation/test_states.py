"""Every (state, event) pair of every workflow: allowed ones move, all others change nothing."""

from __future__ import annotations

from itertools import product

import pytest

from diagnosis import states
from diagnosis.models import AuditEvent, Job
from diagnosis.services.transitions import move

PAIRS = [
    (workflow, state, event)
    for workflow, table in states.TABLES.items()
    for state, event in product(states.states_of(table), sorted({event for _, event in table}))
]


@pytest.mark.parametrize(("workflow", "state", "event"), PAIRS)
def test_each_pair_is_in_the_table_or_refused(workflow: str, state: str, event: str) -> None:
    table = states.TABLES[workflow]
    if (state, event) in table:
        assert states.next_state(workflow, state, event) in states.states_of(table)
    else:
        with pytest.raises(states.IllegalMove):
            states.next_state(workflow, state, event)


@pytest.mark.parametrize("workflow", states.TABLES)
def test_every_state_can_be_reached_from_the_first(workflow: str) -> None:
    table = states.TABLES[workflow]
    reached = {states.states_of(table)[0]}
    while True:
        further = {after for (before, _), after in table.items() if before in reached} | reached
        if further == reached:
            break
        reached = further
    assert reached == set(states.states_of(table))


def test_a_move_saves_audits_and_runs_its_follow_up_after_the_commit(
    make_patient, make_case, make_user, team, django_capture_on_commit_callbacks
) -> None:
    case, user, calls = make_case(make_patient()), make_user(team=team), []
    with django_capture_on_commit_callbacks(execute=True):
        move(case, "left_unsolved", actor=user, then=lambda: calls.append(case.pk), note="seen twice")
        assert calls == []
    case.refresh_from_db()
    assert (case.state, case.note, calls) == ("unsolved", "seen twice", [case.pk])
    event = AuditEvent.objects.get(action="case.left_unsolved")
    assert event.detail == {"before": "open", "after": "unsolved"}
    assert event.actor == user


def test_an_illegal_move_changes_nothing(make_patient, make_case) -> None:
    case = make_case(make_patient())
    with pytest.raises(states.IllegalMove):
        move(case, "reopened", note="never written")
    case.refresh_from_db()
    assert (case.state, case.note, AuditEvent.objects.count()) == ("open", "", 0)


def test_the_row_is_read_again_under_the_lock(make_patient, make_case) -> None:
    case = make_case(make_patient())
    stale = type(case).objects.get(pk=case.pk)
    move(case, "withdrawn")
    with pytest.raises(states.IllegalMove):
        move(stale, "ranked")


def test_the_database_refuses_a_state_no_table_knows(db) -> None:
    from django.db import IntegrityError, transaction

    job = Job.objects.create(kind="analyse_photo", subject=1, key="k")
    with pytest.raises(IntegrityError), transaction.atomic():
        Job.objects.filter(pk=job.pk).update(state="nowhere")
