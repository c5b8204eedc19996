"""Install real weights: arcface_torch state dicts, InsightFace ONNX files, or safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError

from diagnosis.errors import ClinicError
from diagnosis.phenotype.embed.backbone import BACKBONES
from diagnosis.services.model import MemberFile, extractor_adopt, extractor_install

REFUSED = 2  # exit code for a file or ensemble that was refused; 1 is for a command that was typed wrongly


class Command(BaseCommand):
    help = (
        "Check weights and register them as a model. One network: install_weights FILE. An ensemble: "
        "--member a=r50.onnx --member b=tuned.pt:iresnet100. Nothing in a file is run."
    )

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("file", nargs="?", help="weights of a model with one network")
        parser.add_argument("--member", action="append", default=[], metavar="NAME=PATH[:ARCHITECTURE]")
        parser.add_argument(
            "--sha256", action="append", default=[], metavar="[NAME=]HEX",
            help="of the file as its publisher gives it; checked before anything is parsed",
        )  # fmt: skip
        parser.add_argument("--architecture", choices=sorted(BACKBONES), help="of FILE; else taken from it")
        parser.add_argument("--name", help="how pages call the model")
        parser.add_argument("--origin", default="", help="where the weights come from, as pages show it")
        parser.add_argument("--licence", default="not stated", help="as pages show it")
        parser.add_argument("--synthetic", action="store_true", help="trained on synthetic faces")
        parser.add_argument("--no-flip", action="store_true", help="leave out mirrored views")
        parser.add_argument("--no-grey", action="store_true", help="leave out grey views")
        parser.add_argument("--adopt", action="store_true", help="use it from now on")

    def handle(self, *args: Any, **options: Any) -> None:
        members = members_of(options)
        try:
            extractor = extractor_install(
                user=None, name=options["name"] or " + ".join(member.path.stem for member in members),
                members=members, flip=not options["no_flip"], grey=not options["no_grey"],
                origin=options["origin"] or ", ".join(member.path.name for member in members),
                licence=options["licence"], synthetic=options["synthetic"],
            )  # fmt: skip
            if options["adopt"]:
                extractor_adopt(user=None, extractor=extractor)
        except ClinicError as error:
            raise CommandError(str(error), returncode=REFUSED) from None
        self.stdout.write(f"{extractor.name}: {extractor.state}, sha256 {extractor.sha256}")
        for member in extractor.members.all():
            self.stdout.write(f"  {member.name}: {member.architecture}, sha256 {member.sha256}")
        self.stdout.write("Not calibrated: its lists show no bands until it is measured.")


def members_of(options: dict[str, Any]) -> list[MemberFile]:
    """The networks that the command line names. CommandError with what to write instead."""
    if bool(options["file"]) == bool(options["member"]):
        raise CommandError("Give either one FILE or --member NAME=PATH for each network.")
    hashes = dict(_pair(text, default="") for text in options["sha256"])
    if options["file"]:
        named = {"network": (options["file"], options["architecture"])}
        hashes = {"network": hashes.popitem()[1]} if hashes else {}
    else:
        named = dict(_member(text) for text in options["member"])
    if len(named) != max(1, len(options["member"])) or hashes.keys() - named.keys():
        raise CommandError("Each member needs a name of its own, and --sha256 NAME=HEX one of these names.")
    return [
        MemberFile(name, Path(path), architecture, hashes.get(name))
        for name, (path, architecture) in named.items()
    ]


def _member(text: str) -> tuple[str, tuple[str, str | None]]:
    name, path = _pair(text, default=None)
    before, colon, architecture = path.rpartition(":")
    if colon and architecture in BACKBONES:
        return name, (before, architecture)
    return name, (path, None)


def _pair(text: str, *, default: str | None) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if sign and name and value:
        return name, value
    if default is None:
        raise CommandError(f"{text!r} is not NAME=PATH. Write, for example, --member a=glint360k_r50.onnx.")
    return default, text
