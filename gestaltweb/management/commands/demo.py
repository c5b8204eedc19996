"""`manage.py demo`: a demonstration hospital with synthetic patients, in the foreground until Ctrl-C."""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import Any

from django.core.management import BaseCommand, CommandError

from gestaltweb.demo import homes, story, supervise

TOTP_PERIOD_SECONDS = 30  # RFC 6238's default, which allauth keeps


class Command(BaseCommand):
    help = "Run demonstration sites on this machine (http://127.0.0.1:8001; DEMO_PORT moves it)."
    requires_system_checks = ()

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--once", action="store_true", help="play the whole story over HTTP and stop")
        parser.add_argument("--json", action="store_true", help="with --once: print the outcome as JSON")
        parser.add_argument("--otp", metavar="USER", help="print a demo user's current code")
        parser.add_argument("--sites", type=int, default=1, help="how many hospitals (1 to 3)")

    def handle(self, *args: Any, **options: Any) -> None:
        sites = homes.demo_sites(options["sites"])
        if options["otp"]:
            self.stdout.write(_code(sites[0], options["otp"]))
            return
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            self._prepare(sites)
            with supervise.running(sites) as children:
                if options["once"]:
                    self._play(sites[0], as_json=options["json"])
                else:
                    self._announce(sites)
                    supervise.watch(sites, children)
        except supervise.DemoFailed as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            self.stderr.write("\nStopped. Nothing is lost: the next start opens the same sites.")

    def _prepare(self, sites: list[homes.DemoSite]) -> None:
        began = time.monotonic()
        for site in sites:
            supervise.prepare(site)
        self.stderr.write(f"Prepared in {time.monotonic() - began:.0f} s.")

    def _announce(self, sites: list[homes.DemoSite]) -> None:
        for site in sites:
            self.stdout.write(f"\n{site.name}: {site.address}\n")
            for name, login in homes.logins_read(site.home).items():
                code = "  (code: manage.py demo --otp admin)" if login["totp"] else ""
                self.stdout.write(f"  {name:<11} {login['password']}{code}")
        self.stdout.write("\nAll patients are synthetic. Photos to try lie in "
                          f"{sites[0].home / 'photos-to-try'}. Ctrl-C stops.\n")  # fmt: skip
        self.stdout.flush()

    def _play(self, site: homes.DemoSite, *, as_json: bool) -> None:
        outcome = story.play(site)
        text = json.dumps(outcome, indent=1) if as_json else story.in_words(outcome)
        self.stdout.write(text)
        if not outcome["held"]:
            sys.exit(1)


def _code(site: homes.DemoSite, name: str) -> str:
    login = homes.logins_read(site.home).get(name)
    if not login or not login["totp"]:
        raise CommandError(f"No demo user '{name}' with a second factor. Start the demo once first.")
    return current_code(login["totp"])


def current_code(secret: str) -> str:
    """The six digits of a second factor at this moment (RFC 6238)."""
    from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value

    return str(format_hotp_value(hotp_value(secret, int(time.time()) // TOTP_PERIOD_SECONDS)))


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
