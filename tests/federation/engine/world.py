"""A whole federation in one process: each site with a database, a home and keys of its own.

`world.at(name)` makes that site the current one. The line between sites calls the coordinator's own functions,
and can be made to fail; nothing of one site is reachable while another is current.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import connections
from django.test import override_settings

COORDINATOR = "coordinator"
VOCABULARY = ("SYN:0001", "SYN:0002", "SYN:0003", "SYN:0004")


@dataclass
class World:
    folder: Path
    template: Path | None  # a migrated database to copy, None where the folders are filled already
    names: list[str]
    connections: dict[str, Any] = field(default_factory=dict)
    current: str = ""
    #: called before and after everything that crosses the line: (site, what, "before" | "after")
    on_line: Callable[[str, str, str], None] = lambda site, what, when: None
    now_ms: int | None = None

    def __post_init__(self) -> None:
        for name in (COORDINATOR, *self.names) if self.template is not None else ():
            (self.folder / name).mkdir(parents=True)
            shutil.copy(self.template, self.folder / name / "database.sqlite3")

    @contextmanager
    def at(self, name: str) -> Iterator[None]:
        """Everything inside happens at this site."""
        before, outer = self.current, connections["default"]
        home = self.folder / name
        storages = {"default": {"BACKEND": "django.core.files.storage.FileSystemStorage",
                                "OPTIONS": {"location": home / "files", "base_url": None}},
                    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}  # fmt: skip
        options = {"GESTALTWEB_HOME": home, "GESTALTWEB_KEYS": home / "keys", "GESTALTWEB_FILES": home / "files",
                   "SITE_SLUG": name, "SITE_ROLE": "coordinator" if name == COORDINATOR else "hospital",
                   "STORAGES": storages}  # fmt: skip
        self.current = name
        connections["default"] = self._connection(name)
        try:
            with override_settings(**options):
                yield
        finally:
            connections["default"] = outer
            self.current = before

    def _connection(self, name: str) -> Any:
        if name not in self.connections:
            made = connections.create_connection("default")
            fast = "PRAGMA journal_mode=WAL;PRAGMA synchronous=OFF;PRAGMA foreign_keys=ON;"
            made.settings_dict = made.settings_dict | {
                "NAME": str(self.folder / name / "database.sqlite3"),
                "OPTIONS": made.settings_dict["OPTIONS"] | {"init_command": fast},
            }
            self.connections[name] = made
        return self.connections[name]

    def crash(self, name: str) -> None:
        """The process of this site is gone: what was not committed is lost."""
        connection = self.connections.pop(name, None)
        if connection is not None:
            connection.in_atomic_block = False
            connection.close()

    def close(self) -> None:
        for connection in self.connections.values():
            connection.close()

    # --- setting up ---

    def found(self) -> None:
        """Keys and catalogue everywhere; all sites join and confirm each other."""
        from diagnosis import vault
        from diagnosis.models import Syndrome
        from federation.identity import identity_create, identity_now, public_hex
        from federation.models import Membership

        for name in (COORDINATOR, *self.names):
            with self.at(name):
                vault.create_master_key()
                identity_create()
                Syndrome.objects.all().delete()
                Syndrome.objects.bulk_create(
                    [Syndrome(identifier=word, name=word, synthetic=True) for word in VOCABULARY]
                )
        with self.at(COORDINATOR):
            key = public_hex(identity_now())
            federation = hashlib.sha256(b"a federation").hexdigest()
            Membership.objects.create(
                pk=1, role="coordinator", federation=federation, name=COORDINATOR, title="Coordinator",
                coordinator_key=key,
            )  # fmt: skip
        for name in self.names:
            self.join(name, key, federation)
        self.settle()
        self.confirm_all()

    def join(self, name: str, key: str, federation: str) -> None:
        import datetime as dt

        from django.utils import timezone

        from federation import kinds
        from federation.identity import identity_now, public_hex
        from federation.models import Invitation, Membership
        from federation.services.speaking import entry_say

        token = f"token-{name}"
        sha256 = hashlib.sha256(token.encode()).hexdigest()
        with self.at(COORDINATOR):
            expires = timezone.now() + dt.timedelta(days=1)
            Invitation.objects.create(token_sha256=sha256, title=name, expires_at=expires)
        with self.at(name):
            Membership.objects.create(
                pk=1, role="hospital", federation=federation, name=name, title=name.title(),
                coordinator_address="http://127.0.0.1:1", coordinator_key=key, invitation=token,
            )  # fmt: skip
            own = public_hex(identity_now())
            entry_say(kinds.Join(name.title(), own, sha256), key=f"join/{own[:16]}")

    def confirm_all(self) -> None:
        """Every admin compares every fingerprint."""
        from federation import kinds
        from federation.models import Membership, Peer
        from federation.services.speaking import entry_say

        for name in self.names:
            with self.at(name):
                own = Membership.objects.get().name
                for peer in Peer.objects.filter(state="joined").exclude(name=own):
                    body = kinds.Confirm(peer.name, peer.public_key)
                    entry_say(body, key=f"confirm/{peer.name}/{peer.public_key[:16]}")
        self.settle()

    # --- going on ---

    def line(self, name: str) -> Line:
        return Line(self, name)

    def step(self, name: str) -> int:
        """One pass of one site's loop, and its jobs."""
        from federation import agent

        with self.at(name):
            if name == COORDINATOR:
                from federation.services.coordination import tick

                tick()
                return 0
            count = agent.step(self.line(name))
            return count + jobs_run()

    def settle(self, passes: int = 60) -> None:
        """Let every site's loop run until nothing is new any more."""
        quiet = 0
        for _ in range(passes):
            self.step(COORDINATOR)
            quiet = 0 if sum(self.step(name) for name in self.names) else quiet + 1
            if quiet == 2:
                return
        raise AssertionError("the federation did not come to rest")

    def report(self, name: str) -> dict[str, Any]:
        """What a site knows of the newest round."""
        from federation.models import Membership, Outgoing, Round

        with self.at(name):
            found = Round.objects.order_by("-pk").first()
            membership = Membership.objects.get()
            return {
                "state": found.state if found else None, "reason": found.reason if found else "",
                "sites": dict(found.participations.values_list("peer__name", "state")) if found else {},
                "why": dict(found.participations.values_list("peer__name", "reason")) if found else {},
                "sums": {total.name.split(".", 1)[1]: (total.state, total.result)
                         for total in found.sums.all()} if found else {},
                "alarm": membership.alarm, "seq": membership.seq, "sha256": membership.sha256,
                "refusals": list(Outgoing.objects.exclude(refusal="").values_list("kind", "refusal")),
            }  # fmt: skip


class Line:
    """The coordinator's doors without HTTP: bytes in, JSON out, errors as transport gives them."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name

    def _call(self, what: str, work: Callable[[], Any]) -> Any:
        from federation.errors import FederationError, Refused

        self.world.on_line(self.name, what, "before")
        try:
            with self.world.at(COORDINATOR):
                answer = work()
        except FederationError as error:
            raise Refused(error.status, str(error)) from None
        self.world.on_line(self.name, what, "after")
        return answer

    def post_entry(self, data: bytes, invitation: str = "") -> dict[str, Any]:
        from federation.models import Peer
        from federation.services.coordination import entry_append

        def work() -> Any:
            peer = Peer.objects.filter(name=self.name).first()
            return json.loads(json.dumps(entry_append(peer=peer, data=data, invitation=invitation)))

        return self._call("post", work)

    def links(self, after: int, wait: float = 0) -> dict[str, Any]:
        from federation.services.coordination import head_now, links_after

        def work() -> Any:
            found = {"links": links_after(seq=after, limit_bytes=2_000_000), "head": head_now()}
            return json.loads(json.dumps(found))

        return self._call("links", work)

    def blob_put(self, path: Path, sha256: str) -> None:
        from federation import storage

        data = path.read_bytes()
        self._call("put", lambda: storage.blob_add(data, owner=self.name))

    def blob_state(self, sha256: str) -> dict[str, Any]:
        from federation import storage

        return self._call("state", lambda: storage.blob_state(sha256))

    def blob_get(self, sha256: str, size: int, target: Path) -> Path:
        from federation import storage

        data = self._call("get", lambda: storage.blob_path(sha256).read_bytes())
        target.write_bytes(data)
        return target


def jobs_run() -> int:
    """Do all due jobs of this site, as a worker would."""
    import light

    from diagnosis import jobs

    done = 0
    while (job := jobs.due().order_by("pk").first()) is not None:
        lease = jobs.claim(job.pk)
        assert lease is not None
        light.WORK[job.kind](lease)
        done += 1
    return done
