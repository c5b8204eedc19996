"""Stand-ins for a hospital's clinic: patients are numbers, an update is a vector drawn from a seed.

Everything between hospitals is the real thing: transcript, secure sums, states, checks, files.
"""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

import numpy as np

from diagnosis import jobs
from federation import kinds, storage
from federation.learning.statistics import count_words, presence_words

#: site → {syndrome: patients}; filled by the fixture
PATIENTS: dict[str, dict[str, int]] = {}
NECK = (("neck.0.bias", 4), ("neck.0.weight", 40))
MADE: dict[tuple[str, str], Any] = {}


def site() -> str:
    from federation.services.own import membership_now

    return membership_now().name


def plain_update(name: str, total: Any) -> Any:
    """(k,) uint32: small numbers, so that a wrong sum shows; a fixed function of site and sum."""
    seed = hashlib.sha256(f"{name}/{total.round.sha256}/{total.member}".encode()).digest()
    return np.random.default_rng(list(seed)).integers(0, 1 << 20, total.words).astype(np.uint32)


def input_words(total: Any) -> Any:
    from federation.plans import parse_plan
    from federation.services import results

    own, k = PATIENTS[site()], parse_plan(total.round.plan).k
    if total.purpose == "presence":
        words = presence_words(own, results.vocabulary(), k)
    elif total.purpose == "counts":
        words = count_words(own, results.open_identifiers(total.round), k)
    elif total.purpose == "update":
        words = plain_update(site(), total)
    else:
        words = np.arange(total.words, dtype=np.uint64)
    return SimpleNamespace(words=words, patients={name: [1] for name in own}, photos=[1])


def contribution_record(total: Any, *, patients: Any, photos: Any) -> None:
    from federation.models import Contribution

    Contribution.objects.create(
        sum=total.name, round=total.round, purpose=total.purpose, patients=patients, photos=photos
    )


def candidate_make(round_: Any) -> tuple[kinds.MadeMember, ...]:
    """Blobs that follow from the opened sums alone."""
    made = []
    for total in round_.sums.filter(purpose="update", state="opened").order_by("pk"):
        parts = [
            storage.blob_add(f"{part} {total.result}".encode()) for part in ("weights", "classifier", "state")
        ]
        made.append(kinds.MadeMember(total.member, *parts))
    return tuple(made)


def candidate_validate(round_: Any, members: Any) -> Any:
    from federation.models import SiteValidation

    found = SiteValidation.objects.filter(round=round_).first()
    return found or SiteValidation.objects.create(
        round=round_, ballot=BALLOTS.get(site(), "accept"), reason="as the test says", figures={}, members=[]
    )


BALLOTS: dict[str, str] = {}


def prepare(lease: Any) -> None:
    from federation.models import OwnSum
    from federation.services.sums import sum_prepare

    sum_prepare(lease=lease, own=OwnSum.objects.get(pk=lease.subject))


def candidate(lease: Any) -> None:
    from federation.models import Round
    from federation.services.own_rounds import round_validate

    round_validate(lease=lease, round=Round.objects.get(pk=lease.subject))


def adopt(lease: Any) -> None:
    from diagnosis.models import Extractor
    from federation.models import AdoptedModel, GlobalModel

    model = GlobalModel.objects.get(pk=lease.subject)
    with jobs.finish(lease):
        extractor, _ = Extractor.objects.get_or_create(
            sha256=hashlib.sha256(str(model.members).encode()).hexdigest(), defaults={"name": "global"}
        )
        AdoptedModel.objects.get_or_create(model=model, defaults={"extractor": extractor})


WORK = {"federation_prepare": prepare, "federation_candidate": candidate, "federation_adopt": adopt}

contributions = SimpleNamespace(
    input_words=input_words,
    contribution_record=contribution_record,
    still_allowed=lambda patients, photos: True,
)
candidates = SimpleNamespace(candidate_make=candidate_make, candidate_validate=candidate_validate)
adoption = SimpleNamespace(centroids_publish=lambda total: total.result)
