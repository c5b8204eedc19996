"""`manage.py demo`: three hospitals and their coordinator with synthetic patients, until Ctrl-C."""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import Any

from django.core.management import BaseCommand, CommandError

from gestaltweb.demo import homes, meeting, story, supervise
from gestaltweb.demo.codes import current_code


class Command(BaseCommand):
    help = "Run demonstration sites on this machine (http://127.0.0.1:8000 to 8003; DEMO_PORT moves them)."
    requires_system_checks = ()

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--once", action="store_true", help="play the whole story over HTTP and stop")
        parser.add_argument("--json", action="store_true", help="with --once: print the outcome as JSON")
        parser.add_argument("--otp", metavar="USER[@SITE]", help="print a demo user's current code")

    def handle(self, *args: Any, **options: Any) -> None:
        sites = homes.demo_sites()
        if options["otp"]:
            self.stdout.write(_code(sites, options["otp"]))
            return
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            if options["once"]:
                self._play(sites, as_json=options["json"])
            else:
                self._run(sites)
        except supervise.DemoFailed as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            self.stderr.write("\nStopped. Nothing is lost: the next start opens the same sites.")

    def _run(self, sites: homes.DemoSites) -> None:
        self._prepare(sites.members, sites)
        with supervise.running(sites.members) as children:
            meeting.meet(sites)
            self._announce(sites)
            supervise.watch(sites.members, children)

    def _play(self, sites: homes.DemoSites, *, as_json: bool) -> None:
        self._prepare((*sites.members, sites.newcomer), sites)
        with supervise.running(sites.members):
            outcome = story.play(sites)
        self.stdout.write(json.dumps(outcome, indent=1) if as_json else story.in_words(outcome))
        if not outcome["held"]:
            sys.exit(1)

    def _prepare(self, chosen: tuple[homes.DemoSite, ...], sites: homes.DemoSites) -> None:
        began = time.monotonic()
        supervise.prepare_all(sorted(chosen, key=lambda site: site is sites.coordinator))
        self.stderr.write(f"Prepared in {time.monotonic() - began:.0f} s.")

    def _announce(self, sites: homes.DemoSites) -> None:
        first = sites.hospitals[0]
        for site in sites.members:
            self.stdout.write(f"\n{site.name}: {site.address}\n")
            for name, login in homes.logins_read(site.home).items():
                code = f"  (code: manage.py demo --otp {name}@{site.slug})" if login["totp"] else ""
                self.stdout.write(f"  {name:<11} {login['password']}{code}")
        self.stdout.write(
            f"\nA round waits for {first.name}'s answer: sign in there as admin, then "
            f"{first.address}/federation/\n"
            f"All patients are synthetic. Photos to try lie in {first.home / 'photos-to-try'}. "
            "Ctrl-C stops.\n"
        )
        self.stdout.flush()


def _code(sites: homes.DemoSites, asked: str) -> str:
    """The code of USER or USER@SITE; without a site, hospital A's."""
    name, _, slug = asked.partition("@")
    try:
        login = homes.logins_read(sites.named(slug or sites.hospitals[0].slug).home).get(name)
    except KeyError:
        raise CommandError(f"No demo site '{slug}': coordinator or hospital-a to hospital-d.") from None
    if not login or not login["totp"]:
        raise CommandError(f"No demo user '{name}' with a second factor. Start the demo once first.")
    return current_code(login["totp"])


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
