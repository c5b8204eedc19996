"""The federation's long work runs as jobs of the clinic: registered by name, one effect, honest ends."""

from __future__ import annotations

import pytest

from diagnosis import jobs


def test_kinds_are_known_by_name_and_route_to_the_training_queue() -> None:
    from celery import current_app

    from federation import tasks  # noqa: F401  a worker imports it
    from federation.job_kinds import KINDS, register

    register()  # twice is once
    for kind, name in KINDS.items():
        assert jobs.TASKS[kind] == (name, "train") and name in current_app.tasks
    with pytest.raises(ValueError, match="another kind"):
        jobs.register_kind("federation_adopt", "another.task", "train")


def test_a_web_process_loads_no_torch() -> None:
    import subprocess
    import sys
    from pathlib import Path

    code = (
        "import os, sys, django\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'gestaltweb.settings.test'\n"
        "django.setup()\n"
        "from federation.services import adoption, candidates, centroids, contributions, features\n"
        "print('torch' in sys.modules)\n"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_preparing_that_cannot_succeed_says_that_this_hospital_leaves(hospital, story, monkeypatch) -> None:
    from diagnosis.models import Job
    from federation import tasks
    from federation.errors import FederationError
    from federation.models import OwnSum
    from federation.services import sums

    hospital.admit_all({"SYN:0001": 6, "SYN:0002": 6})
    round_ = story.begin()
    story.count(round_)
    own = OwnSum.objects.create(sum=story.update_sum(round_), state="received")
    left = []
    monkeypatch.setattr(sums, "sum_leave", lambda own, reason: left.append((own.pk, reason)))

    def refuse(*, lease, own):
        raise FederationError("This hospital cannot take part.")

    monkeypatch.setattr(sums, "sum_prepare", refuse)
    job = jobs.enqueue(kind="federation_prepare", subject=own.pk, key="prepare")
    tasks.prepare(job.pk)
    assert Job.objects.get(pk=job.pk).state == "failed"
    assert left == [(own.pk, "This hospital cannot take part.")]
