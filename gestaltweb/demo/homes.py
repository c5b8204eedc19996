"""The demonstration's sites: where each lives, what it is called, and who may sign in.

Passwords and second factors are drawn when a home is first made and lie in its demo.json (mode 0600);
they open nothing but this demonstration on this machine.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gestaltweb import env

ROOT = Path(__file__).resolve().parents[2]
FIRST_PORT = 8001
# The cohort's hospitals hold out 6 to 9 patients: with a plan's usual 10 each would abstain.
JUDGED_BY = 5

# user name → roles; named for what they do, because nobody here exists.
USERS: dict[str, dict[str, list[str]]] = {
    "hospital": {
        "geneticist": ["geneticist"],
        "intake": ["intake"],
        "admin": ["site_admin"],
        "auditor": ["auditor"],
    },
    "coordinator": {"admin": ["site_admin"], "auditor": ["auditor"]},
}
# Variables that would make two sites of this machine share keys, rows, files or messages.
SHARED = (
    "GESTALTWEB_KEYS", "DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "S3_BUCKET", "S3_ENDPOINT",
    "SECRET_KEY", "SECRET_KEY_FILE",
)  # fmt: skip


@dataclass(frozen=True)
class DemoSite:
    """One site of the demonstration. `cohort` is the hospital's key in the shipped synthetic cohort."""

    slug: str
    name: str
    cohort: str
    port: int
    role: str = "hospital"

    @property
    def home(self) -> Path:
        """The site's GESTALTWEB_HOME."""
        return demo_folder() / self.slug

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """The environment of this site's processes; nothing of another site is in it."""
        own = {name: value for name, value in os.environ.items() if name not in SHARED}
        return own | {
            "DJANGO_SETTINGS_MODULE": "gestaltweb.settings.dev",
            "GESTALTWEB_HOME": str(self.home),
            "GESTALTWEB_SLUG": self.slug,
            "GESTALTWEB_NAME": self.name,
            "GESTALTWEB_ROLE": self.role,
            "OMP_NUM_THREADS": "1",
        }

    def command(self, *words: str) -> list[str]:
        """A manage.py command line of this site."""
        return [sys.executable, str(ROOT / "manage.py"), *words]


def demo_folder() -> Path:
    """Where all demo homes lie: GESTALTWEB_DEMO, or var/demo."""
    return Path(env.text("GESTALTWEB_DEMO", str(ROOT / "var" / "demo"))).resolve()


@dataclass(frozen=True)
class DemoSites:
    """All sites: the coordinator on the port before DEMO_PORT (8001), hospitals from there on.

    `newcomer` is no member at first and runs only in the story.
    """

    coordinator: DemoSite
    hospitals: tuple[DemoSite, ...]
    newcomer: DemoSite

    @property
    def members(self) -> tuple[DemoSite, ...]:
        """What `make demo` runs, the coordinator first."""
        return (self.coordinator, *self.hospitals)

    def named(self, slug: str) -> DemoSite:
        """A site by its slug; KeyError for another word."""
        return {site.slug: site for site in (*self.members, self.newcomer)}[slug]


def demo_sites() -> DemoSites:
    """Coordinator, hospitals A to C, and the newcomer D."""
    first = env.integer("DEMO_PORT", FIRST_PORT)
    hospitals = [
        DemoSite(f"hospital-{letter.lower()}", f"Demo Hospital {letter}", letter, first + number)
        for number, letter in enumerate("ABCD")
    ]
    coordinator = DemoSite("coordinator", "Demo Coordinator", "", first - 1, "coordinator")
    return DemoSites(coordinator, tuple(hospitals[:3]), hospitals[3])


def logins_file(home: Path) -> Path:
    return home / "demo.json"


def logins_read(home: Path) -> dict[str, Any]:
    """{user name: {"password", "totp"}} of a home, or {} before it was seeded."""
    path = logins_file(home)
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}


def logins_draw(home: Path, role: str) -> dict[str, Any]:
    """Draw passwords (and TOTP secrets are added by the seed) once and keep them."""
    known = logins_read(home)
    for name in USERS[role]:
        known.setdefault(name, {"password": secrets.token_urlsafe(9), "totp": ""})
    logins_write(home, known)
    return known


def logins_write(home: Path, logins: dict[str, Any]) -> None:
    """Write demo.json, readable by this user alone."""
    path = logins_file(home)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(logins, stream, indent=1)
