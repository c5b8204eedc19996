"""A site of its own for fault tests: `python site.py setup|feed N|report`, with GESTALTWEB_HOME set."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gestaltweb.settings.dev")

import django
import numpy as np

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db.models import Count  # noqa: E402
from django.utils import timezone  # noqa: E402

from diagnosis.models import (  # noqa: E402
    Case,
    Consent,
    ConsentForm,
    Embedding,
    Job,
    LedgerEntry,
    Patient,
    Photo,
    RankingRecord,
    RoleGrant,
    Team,
    User,
)  # fmt: skip


def setup() -> None:
    """Keys, tables, a geneticist, a consenting patient with a case, and a model with seeded weights."""
    import torch

    from diagnosis import engine, vault
    from diagnosis.phenotype.embed.backbone import build_backbone
    from diagnosis.phenotype.embed.weights import save_weights
    from diagnosis.services.model import MemberFile, extractor_adopt, extractor_install

    call_command("init_site", "--no-extractor", verbosity=0)
    team = Team.objects.first()
    user = User.objects.create_user("geneticist", password="correct horse battery")
    user.teams.add(team)
    RoleGrant.objects.create(user=user, role="geneticist")
    form = ConsentForm.objects.create(version="test", language="en", sha256="0" * 64, text={})
    patient = Patient(code="K-0001", team=team, state="given")
    vault.create_key(patient.key)
    patient.save()
    Consent.objects.create(
        patient=patient, form=form, kind="given", analysis=True, signer="self", language="en",
        signed_at=timezone.now(),
    )  # fmt: skip
    for _ in range(4):
        Case.objects.create(patient=patient, team=team)
    torch.manual_seed(7)
    file = engine.models_folder().parent / "seeded.safetensors"
    save_weights(build_backbone("compact"), file)
    extractor = extractor_install(
        user=None, name="seeded", members=[MemberFile("compact", file)], flip=True, grey=True,
        origin="random numbers", licence="none", synthetic=True,
    )  # fmt: skip
    extractor_adopt(user=None, extractor=extractor)


def feed(count: int) -> None:
    """Take in `count` different photos, spread over the cases, as fast as they are accepted."""
    from PIL import Image
    from skimage.data import astronaut

    from diagnosis.services.photo import photo_add

    user, cases = User.objects.get(username="geneticist"), list(Case.objects.order_by("pk"))
    face = astronaut()[40:260, 120:340]
    for number in range(count):
        pixels = face.copy()
        pixels[:4, :4] = np.random.default_rng(number).integers(0, 256, (4, 4, 3))
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        photo_add(user=user, case=cases[number % len(cases)], data=stream.getvalue())


def session() -> None:
    """Cookie name, session key and first case of the geneticist, as JSON."""
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore

    user, store = User.objects.get(username="geneticist"), SessionStore()
    store[SESSION_KEY], store[BACKEND_SESSION_KEY] = str(user.pk), settings.AUTHENTICATION_BACKENDS[0]
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.save()
    case = Case.objects.order_by("pk").first()
    facts = {"cookie": settings.SESSION_COOKIE_NAME, "key": store.session_key, "case": case.pk}
    print(json.dumps(facts))


def report() -> None:
    """What the database holds now, as JSON."""
    from diagnosis.services.audit import chain_fault

    jobs = Job.objects.filter(kind="analyse_photo")
    per_photo = Embedding.objects.values("photo").annotate(n=Count("pk")).values_list("n", flat=True)
    lines: dict[str, int] = {}
    for photo in LedgerEntry.objects.filter(kind="photo.analysed").values_list("detail__photo", flat=True):
        lines[str(photo)] = lines.get(str(photo), 0) + 1
    facts = {
        "photos": dict(Photo.objects.values_list("state").annotate(n=Count("pk"))),
        "jobs": dict(jobs.values_list("state").annotate(n=Count("pk"))),
        "waiting": Job.objects.filter(state__in=["queued", "running"]).count(),
        "attempts": sum(jobs.values_list("attempts", flat=True)),
        "embeddings": len(per_photo), "embeddings_most": max(per_photo, default=0),
        "ledger": len(lines), "ledger_most": max(lines.values(), default=0),
        "rankings": RankingRecord.objects.count(),
        "ranked_photos": sorted(
            {n for case in Case.objects.all() for r in case.rankings.order_by("-pk")[:1] for n in r.photos}
        ),
        "cases": dict(Case.objects.values_list("state").annotate(n=Count("pk"))),
        "chain_fault": chain_fault(),
        "last_ranked_at": max((r.created_at.timestamp() for r in RankingRecord.objects.all()), default=0),
    }  # fmt: skip
    print(json.dumps(facts))


if __name__ == "__main__":
    {"setup": setup, "feed": lambda: feed(int(sys.argv[2])), "report": report, "session": session}[
        sys.argv[1]
    ]()
