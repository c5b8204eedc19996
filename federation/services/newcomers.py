"""Published models at a site that had no part in their round: a newcomer, or one that declined.

The site has the model ready and leaves the choice to its admin (on the clinic's model page): nobody here has
signed that round's plan, and nobody here has tried the model on own patients.
"""

from __future__ import annotations

import json

from diagnosis import jobs
from diagnosis.models import Extractor
from federation.models import AdoptedModel, GlobalModel, Participation, SecureSum
from federation.plans import parse_plan
from federation.secagg.rules import colluders
from federation.services import own_rounds
from federation.services.validity import is_confirmed


def installation_due() -> GlobalModel | None:
    """The newest published model, while it is not here, this site does not adopt it by itself, and enough
    hospitals whose keys were confirmed here have voted for exactly these hashes."""
    newest = GlobalModel.objects.order_by("-number").select_related("round").first()
    if newest is None or AdoptedModel.objects.filter(model=newest).exists():
        return None
    if own_rounds.adoption_due() is not None or not _vouched(newest) or not sums_behind(newest):
        return None
    return None if _is_installed(newest) else newest


def _vouched(model: GlobalModel) -> bool:
    """Enough: more than could collude with the coordinator. Their votes are signed and name the hashes."""
    keys = parse_plan(model.round.plan).keys
    votes = Participation.objects.filter(round=model.round, ballot="accept").select_related("peer")
    same = [vote.peer.name for vote in votes if json.loads(vote.made) == model.members]
    confirmed = [name for name in same if name in keys and is_confirmed(name, keys[name])]
    return len(confirmed) > colluders(len(keys))


def sums_behind(model: GlobalModel) -> list[str]:
    """Hashes of the opened sums that say which syndromes a model's rows and centroids stand for.

    A site that took part has the files already. [] while too few confirmed hospitals have checked them.
    """
    opened = SecureSum.objects.filter(round=model.round, state="opened", purpose__in=("presence", "counts"))
    trusted = all(own_rounds.trusted(total) for total in opened)
    return [total.result for total in opened] if trusted else []


def _is_installed(model: GlobalModel) -> bool:
    from federation.services.candidate_rows import candidate_spec

    spec = candidate_spec(parse_plan(model.round.plan), model.members)
    return Extractor.objects.filter(sha256=spec.sha256).exists()


def installation_request(model: GlobalModel) -> None:
    """Queue the installation; its files are here."""
    jobs.enqueue_many(kind="federation_install", keys={f"federation_install:{model.pk}": model.pk})
