"""A site that had no part in a round: it has the model ready, and uses it only once its admin says so."""

from __future__ import annotations

import pytest

MIX = {"SYN:0001": 7, "SYN:0002": 7}


@pytest.fixture
def published(hospital, story):
    from federation.services.candidates import candidate_make

    hospital.admit_all(MIX)
    round_ = story.begin()
    story.count(round_)
    story.train(round_)
    members = candidate_make(round_)
    story.vote(round_, members)
    return story.publish(round_, members)


@pytest.fixture
def newcomer(monkeypatch):
    """newcomer(confirmed keys, checked=True): this site was not invited, and knows these hospitals' keys."""
    from federation.services import newcomers, own_rounds

    def become(confirmed: set[str], *, checked: bool = True) -> None:
        monkeypatch.setattr(own_rounds, "own_participation", lambda round_: None)
        monkeypatch.setattr(newcomers, "is_confirmed", lambda name, key: name in confirmed)
        monkeypatch.setattr(own_rounds, "trusted", lambda total: checked)

    return become


def test_enough_confirmed_hospitals_must_stand_behind_it(published, newcomer) -> None:
    from federation.services.newcomers import installation_due

    newcomer({"a"})  # the coordinator and one hospital could be one and the same
    assert installation_due() is None
    newcomer({"a", "b"}, checked=False)
    assert installation_due() is None
    newcomer({"a", "b"})
    assert installation_due() == published


def test_votes_for_other_hashes_do_not_count(published, newcomer) -> None:
    from federation.models import Participation
    from federation.services.newcomers import installation_due

    newcomer({"a", "b"})
    Participation.objects.filter(peer__name="b").update(made="[]")
    assert installation_due() is None


def test_it_is_installed_once_and_the_model_in_use_stays(published, newcomer) -> None:
    from diagnosis.models import Extractor, Job
    from federation import tasks
    from federation.models import AdoptedModel
    from federation.services.newcomers import installation_due, installation_request

    newcomer({"a", "b"})
    before = Extractor.objects.get(state="adopted")
    installation_request(published)
    installation_request(published)
    job = Job.objects.get(kind="federation_install")
    tasks.install(job.pk)
    job.refresh_from_db()
    assert job.state == "done" and Extractor.objects.get(state="adopted") == before
    made = Extractor.objects.exclude(pk=before.pk).get()
    assert [row.sha256 for row in made.members.all()] == [published.members[0]["weights"]]
    assert installation_due() is None and not AdoptedModel.objects.exists()
