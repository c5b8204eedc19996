"""Rank photos of one person against this site's gallery without storing them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from diagnosis.errors import ClinicError
from diagnosis.services.one_off import NamedPhoto, photos_rank_once

NOTE = (
    "Research use. Not a diagnosis. No patient record and no consent stand behind this command: you answer "
    "for the legal basis of using these photos. Nothing of them is stored."
)


class Command(BaseCommand):
    help = f"Rank photos of one person, fused, against this site's gallery. {NOTE}"

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("photos", nargs="+", metavar="PHOTO", help="JPEG, PNG, WebP or HEIC")
        parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")

    def handle(self, *args: Any, **options: Any) -> None:
        self.stderr.write(NOTE)
        photos = [NamedPhoto(name, _read(name)) for name in options["photos"]]
        try:
            answer = photos_rank_once(photos=photos)
        except ClinicError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(json.dumps(answer, indent=2) if options["json"] else as_text(answer))
        if all(photo["refusal"] for photo in answer["photos"]):
            raise CommandError("No photo could be used.", returncode=2)


def _read(name: str) -> bytes:
    """At most one byte more than is accepted, so that a huge file is refused without being read."""
    try:
        with Path(name).open("rb") as stream:
            return stream.read(settings.UPLOAD_MAX_BYTES + 1)
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error.strerror}.") from None


def as_text(answer: dict[str, Any]) -> str:
    """The answer for a terminal."""
    model, gallery = answer["model"], answer["gallery"]
    lines = [f"{photo['file']}: {_photo_text(photo)}" for photo in answer["photos"]]
    lines.append(f"Model {model['name']}{' (trained on synthetic faces)' if model['synthetic'] else ''}")
    lines.append(f"Gallery of {gallery['patients']} patients with {gallery['syndromes']} syndromes")
    lines.append("A confident match." if answer["match"] == "confident" else "No confident match.")
    for row in answer["syndromes"]:
        lines.append(
            f"{row['rank']:4d}  {row['distance']:.4f}  {row['band']:6s}  {row['id']:14s} {row['name']}"
        )
    return "\n".join(lines)


def _photo_text(photo: dict[str, Any]) -> str:
    if photo["refusal"]:
        return f"{photo['refusal']['sentence']} {photo['refusal']['remedy']}".strip()
    return f"{photo['faces']} face(s), quality {photo['quality']:.2f}"
