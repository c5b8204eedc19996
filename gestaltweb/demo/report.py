"""What one site's own tables say about the federation's newest round: for the demonstration's outcome."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.conf import settings

from diagnosis.selectors import extractor_adopted
from federation.models import Blob, GlobalModel, OwnSum, Round, SecureSum
from federation.plans import base_of

OUTSIDE = ("invited", "declined")


def site_report(told: Any = None) -> dict[str, Any]:
    """{"site", "round", "model_sha256", "sums", "adopted", "accuracy"}; JSON throughout, no patient in it."""
    round_ = Round.objects.order_by("-pk").first()
    if round_ is None:
        nothing: dict[str, Any] = {
            "round": {},
            "sums": {},
            "model_sha256": "",
            "model_number": 0,
            "accuracy": {},
        }
        return {"site": settings.SITE_SLUG, **nothing, "adopted": _adopted()}
    model = GlobalModel.objects.filter(round=round_).first()
    return {
        "site": settings.SITE_SLUG, "round": _round(round_), "sums": _sums(round_),
        "model_sha256": _hash_of((m["name"], m["weights"]) for m in model.members) if model else "",
        "model_number": model.number if model else 0, "adopted": _adopted(), "accuracy": _accuracy(round_),
    }  # fmt: skip


def _round(round_: Round) -> dict[str, Any]:
    parts = list(round_.participations.select_related("peer"))
    moments = round_.moments
    ended = moments.get(round_.state, 0)
    return {
        "number": round_.number, "state": round_.state, "reason": round_.reason,
        "participants": [part.peer.name for part in parts if part.state not in OUTSIDE],
        "dropped": [part.peer.name for part in parts if part.state == "dropped"],
        "seconds": round((ended - moments["counting"]) / 1000, 1) if "counting" in moments else None,
        **_size(round_),
    }  # fmt: skip


def _size(round_: Round) -> dict[str, Any]:
    """Numbers that were sent per site, and the bytes of this site's own masked files per number."""
    updates = SecureSum.objects.filter(round=round_, purpose="update", state="opened")
    parameters = sum(update.words for update in updates)
    own = OwnSum.objects.filter(sum__in=updates).exclude(masked="")
    sent = sum(Blob.objects.filter(sha256__in=own.values("masked")).values_list("size", flat=True))
    return {"parameters": parameters, "bytes_per_parameter": sent / parameters if sent else None}


def _sums(round_: Round) -> dict[str, dict[str, Any]]:
    """Each opened sum: its hash, and what this site found when it added the masked files up itself."""
    own = {row.sum_id: row.checked for row in OwnSum.objects.filter(sum__round=round_)}
    return {
        total.name: {"sha256": total.result, "checked": own.get(total.pk, "")}
        for total in SecureSum.objects.filter(round=round_, state="opened")
    }


def _adopted() -> str:
    """The hash, as above, of the model that this hospital works with now, or ""."""
    extractor = extractor_adopted()
    return _hash_of(extractor.members.values_list("name", "sha256")) if extractor is not None else ""


def _hash_of(members: Iterable[tuple[str, str]]) -> str:
    """The weights' own hash for one network, one hash over all for an ensemble."""
    made = list(members)
    return made[0][1] if len(made) == 1 else base_of(made)


def _accuracy(round_: Round) -> dict[str, Any]:
    """This hospital's own held-out patients: macro top-1 of the model before, of the candidate, and of one
    trained here alone."""
    validation = getattr(round_, "validation", None)
    if validation is None:
        return {}
    figures = validation.figures
    shown = {"before": "before", "after": "after", "local_only": "alone"}
    accuracy = {name: _top_1(figures.get(key)) for name, key in shown.items()}
    return {**accuracy, "patients": figures["patients"], "ballot": validation.ballot}


def _top_1(figures: dict[str, Any] | None) -> float | None:
    return round(figures["macro"]["1"], 4) if figures else None
