"""A hospital with patients whose photos are patches of colour, a tiny network, and a plan for it."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY = ("SYN:0001", "SYN:0002", "SYN:0003", "SYN:0004")
ALL = ("analysis", "gallery", "training")
_numbers = itertools.count(1)


def network() -> Any:
    """Every hospital's base model."""
    from learning_cases import tiny_net

    return tiny_net(3)


def base_sha256() -> str:
    from learning_cases import base_sha256

    return base_sha256(network())


def install(folder: Path) -> Any:
    """The tiny network as this hospital's adopted extractor."""
    from diagnosis import engine
    from diagnosis.phenotype.embed.weights import save_weights
    from diagnosis.services.model import MemberFile, extractor_adopt, extractor_install

    engine.forget()
    path = folder / "tiny.safetensors"
    save_weights(network(), path)
    made = extractor_install(
        user=None, name="tiny", members=[MemberFile("tiny", path)], flip=True, grey=True,
        origin="random numbers", licence="CC0", synthetic=True,
    )  # fmt: skip
    return extractor_adopt(user=None, extractor=made)


def catalogue() -> None:
    from diagnosis.models import Syndrome

    Syndrome.objects.all().delete()
    Syndrome.objects.bulk_create(
        [Syndrome(identifier=word, name=word, synthetic=True) for word in VOCABULARY]
    )


def crop(syndrome: str, seed: int) -> np.ndarray:
    """(112, 112, 3) uint8: the syndrome's four patches, a little different for each photo."""
    centre = np.random.default_rng(int(syndrome[4:])).integers(60, 196, (2, 2, 3))
    patches = np.clip(centre + np.random.default_rng(seed).normal(0, 25, (2, 2, 3)), 0, 255)
    noise = np.random.default_rng([seed, 1]).integers(-3, 4, (112, 112, 3))
    return np.clip(np.kron(patches, np.ones((56, 56, 1))) + noise, 0, 255).astype(np.uint8)


def sign(patient: Any, tiers: Any) -> Any:
    """A consent row straight into the table."""
    from django.utils import timezone

    from diagnosis.models import Consent, ConsentForm, Tier

    form, _ = ConsentForm.objects.get_or_create(
        version="test", language="en", sha256="0" * 64, defaults={"text": {"title": "Test form"}}
    )
    kind = "given" if tiers else "withdrawn"
    type(patient).objects.filter(pk=patient.pk).update(state=kind)
    choices = {tier.value: tier.value in tiers for tier in Tier}
    return Consent.objects.create(
        patient=patient,
        form=form,
        kind=kind,
        signer="self",
        language="en",
        signed_at=timezone.now(),
        **choices,
    )


def admit(syndrome: str, *, photos: int = 2, tiers: Any = ALL, state: str = "ready") -> Any:
    """A patient with a standing diagnosis and analysed photos."""
    from diagnosis import vault
    from diagnosis.models import Case, Diagnosis, Patient, Syndrome, Team

    number = next(_numbers)
    team, _ = Team.objects.get_or_create(name="Genetics")
    patient = Patient(code=f"F-{number:05d}", team=team, synthetic=True)
    vault.create_key(patient.key)
    patient.sealed_identity = vault.seal(patient.key, b'{"given_name": "Canaryname"}', purpose="identity")
    patient.save()
    sign(patient, tiers)
    case = Case.objects.create(patient=patient, team=team)
    for index in range(photos):
        photograph(patient, case, crop(syndrome, 100 * number + index), state)
    Diagnosis.objects.create(patient=patient, syndrome=Syndrome.objects.get(identifier=syndrome))
    return patient


def photograph(patient: Any, case: Any, pixels: np.ndarray, state: str = "ready") -> Any:
    from diagnosis import pictures, vault
    from diagnosis.models import Photo

    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    photo = Photo(
        case=case, patient=patient, state=state, fingerprint=digest, width=112, height=112,
        original=vault.blob_name("original"), crop=vault.blob_name("crop"),
        landmarks=[[38.0, 51.0], [73.0, 51.0], [56.0, 71.0], [41.0, 92.0], [70.0, 92.0]],
    )  # fmt: skip
    vault.create_key(photo.key)
    photo.save()
    vault.blob_write(photo.key, pictures.encode_png(pixels), purpose="crop", name=photo.crop)
    vault.blob_write(photo.key, pictures.encode_picture(pixels), purpose="original", name=photo.original)
    return photo


def admit_all(mix: dict[str, int], **fields: Any) -> list[Any]:
    return [admit(name, **fields) for name, count in mix.items() for _ in range(count)]


# --- plans ---


def member(**local: Any) -> Any:
    from federation import plans
    from federation.learning.config import LocalTraining
    from federation.learning.heads import build_head, trained_tensors

    tensors = trained_tensors(build_head(network(), 1))
    neck = tuple(plans.TrainedTensor(n, t.numel()) for n, t in tensors.items() if n.startswith("neck."))
    training = LocalTraining(**({"epochs": 3, "batch_photos": 16} | local))
    return plans.MemberAsked("tiny", "tiny", base_sha256(), neck, training)


def plan(keys: dict[str, str], **fields: Any) -> Any:
    """A RoundPlan of these sites (name → key), proposed by the first."""
    from federation import plans
    from federation.learning.config import AnalyticOptions, ServerStep

    invited = tuple(plans.Invited(site, keys[site]) for site in sorted(keys))
    facts: dict[str, Any] = {
        "version": 1, "federation": "f" * 64, "number": 1, "proposer": invited[0].site,
        "strategy": "fedavg", "seed": 7, "k": 5, "row_weighting": "class", "views": plans.default_views(),
        "members": (member(),), "server": ServerStep(), "analytic": AnalyticOptions(), "invited": invited,
        "minimum_participants": 3, "vocabulary_sha256": plans.vocabulary_of(VOCABULARY),
        "vocabulary_size": len(VOCABULARY), "previous_round": "",
        "schedule": plans.Schedule(int(time.time() * 1000) + 3_600_000, 3600, 3600, 3600),
        "vote": plans.VoteTerms(0.5, 1, 2), "data_use": plans.DATA_USE,
    }  # fmt: skip
    return plans.RoundPlan(**(facts | fields))


# --- a round in the tables of one hospital, whose other sites are numbers ---


@dataclasses.dataclass
class Story:
    """One hospital named "a" in a round with "b" and "c"; sums are opened in the plain."""

    number: int = 0

    def begin(self, **fields: Any) -> Any:
        """A Round with participations and its plan."""
        from federation.models import Membership, Participation, Peer, Round
        from federation.plans import encode_plan

        self.number += 1
        Membership.objects.get_or_create(
            pk=1, defaults={"role": "hospital", "federation": "f" * 64, "name": "a", "title": "A",
                            "coordinator_key": "0" * 64},
        )  # fmt: skip
        keys = {name: hashlib.sha256(name.encode()).hexdigest() for name in "abc"}
        made = plan(keys, **({"number": self.number} | fields))
        peers = {
            name: Peer.objects.get_or_create(name=name, defaults={"title": name, "public_key": key})[0]
            for name, key in keys.items()
        }
        round_ = Round.objects.create(
            sha256=made.sha256, number=made.number, plan=encode_plan(made), proposer=peers["a"],
            state="counting",
        )  # fmt: skip
        for peer in peers.values():
            Participation.objects.create(round=round_, peer=peer, state="approved", samples=100)
        return round_

    def sum(self, round_: Any, purpose: str, words: int, attempt: int = 1) -> Any:
        from federation.models import SecureSum

        name = "tiny" if purpose == "update" else ""
        return SecureSum.objects.create(
            name=f"{round_.sha256[:16]}.{purpose}.{attempt}", round=round_, purpose=purpose, member=name,
            attempt=attempt, sites=["a", "b", "c"], keyed=["a", "b", "c"], survivors=["a", "b", "c"],
            words=words, bits=32 if purpose == "update" else 64, state="inputs",
        )  # fmt: skip

    def contribute(self, total: Any) -> Any:
        """This hospital's words, recorded as if they had been masked."""
        from federation.services.contributions import contribution_record, input_words

        found = input_words(total)
        contribution_record(total, patients=found.patients, photos=found.photos)
        return found

    def open(self, total: Any, words: np.ndarray) -> None:
        """The plain sum of all sites as the opened one."""
        from federation.models import SecureSum
        from federation.storage import blob_add

        data = words.astype(words.dtype.newbyteorder("<")).tobytes()
        SecureSum.objects.filter(pk=total.pk).update(state="opened", result=blob_add(data))
        total.refresh_from_db()

    def count(self, round_: Any, others: dict[str, int] | None = None) -> Any:
        """Presence and counts, opened; the other hospitals hold these patients. Returns the count's input."""
        others = {"SYN:0001": 10, "SYN:0002": 10} if others is None else others
        total = self.sum(round_, "presence", len(VOCABULARY))
        own = self.contribute(total).words
        self.open(total, own + np.array([others.get(name, 0) for name in VOCABULARY], dtype=np.uint64))
        from federation.services.results import open_identifiers

        classes = open_identifiers(round_)
        total = self.sum(round_, "counts", len(classes))
        found = self.contribute(total)
        self.open(total, found.words + np.array([others.get(name, 0) for name in classes], dtype=np.uint64))
        return found

    def update_sum(self, round_: Any, attempt: int = 1) -> Any:
        from federation.plans import parse_plan, update_words
        from federation.services.results import open_counts

        asked = parse_plan(round_.plan).members[0]
        return self.sum(round_, "update", update_words(asked, len(open_counts(round_))), attempt)

    def train(self, round_: Any) -> Any:
        """The update, opened over this hospital alone (the others send zeros)."""
        total = self.update_sum(round_)
        found = self.contribute(total)
        self.open(total, found.words)
        return found

    def vote(self, round_: Any, members: Any) -> None:
        """Everybody accepts these members."""
        import json

        from federation.models import Participation

        made = json.dumps([dataclasses.asdict(one) for one in members], sort_keys=True)
        Participation.objects.filter(round=round_).update(ballot="accept", made=made, state="confirmed")

    def publish(self, round_: Any, members: Any, centroids: str = "") -> Any:
        from federation.models import GlobalModel, Round

        self.vote(round_, members)
        Round.objects.filter(pk=round_.pk).update(state="published")
        return GlobalModel.objects.create(
            number=self.number, round=round_, members=[dataclasses.asdict(one) for one in members],
            centroids=centroids, published_at=1,
        )  # fmt: skip
