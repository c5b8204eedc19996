"""One round in which a hospital runs as in production: PostgreSQL, Redis, agent and workers of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from outcome import results_of

from tests.faults.rounds import ROOT, Server, check, wait_for

FACTS = ("federation", "name", "title", "coordinator_address", "coordinator_key")
COUNTS = {
    "federation_contribution": 4, "federation_opening": 4, "federation_adoptedmodel": 1,
    "federation_publishedcentroids": 1, "federation_approval": 1, "federation_sitevalidation": 1,
}  # fmt: skip


class Production(Server):
    """A hospital of several processes: the loop, and workers that do what it queues."""

    def __init__(self, old: Server, home: Path, services: dict[str, str]) -> None:
        membership = {fact: old.ask(f"SELECT {fact} FROM federation_membership") for fact in FACTS}  # noqa: S608
        shutil.copytree(old.home / "keys", home / "keys")
        join = old.ask("SELECT text FROM federation_outgoing WHERE kind = 'Join'")
        services = {**services, "FEDERATION_JOIN": join}
        super().__init__(old.name, home, old.port, FEDERATION_MEMBERSHIP=json.dumps(membership), **services)
        self.url = services["DATABASE_URL"].replace("postgres://", "postgresql://")
        self.run("setup")

    def run(self, what: str) -> None:
        command = [sys.executable, str(Path(__file__).with_name("hospital_again.py")), what]
        done = subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]

    def begin(self, *command: str) -> Server:
        """One of its processes, to be killed on its own."""
        part = Server(self.name, self.home, self.port)
        part.environment, part.command = self.environment, [sys.executable, *command]
        part.start()
        return part

    def agent(self) -> Server:
        return self.begin("manage.py", "agent")

    def worker(self) -> Server:
        options = ("-Q", "analyse,train", "-c", "1", "--loglevel", "WARNING", "--without-gossip")
        name = f"--hostname=w{uuid.uuid4().hex[:6]}@%h"
        return self.begin("-m", "celery", "-A", "gestaltweb", "worker", *options, name)

    def ask(self, query: str) -> Any:
        import psycopg

        with psycopg.connect(self.url) as database:
            found = database.execute(query).fetchone()
            return found[0] if found else None


@pytest.mark.backend
@pytest.mark.timeout(400)
def test_a_round_with_a_production_hospital(federation, template, tmp_path, production_services) -> None:
    """Its agent and its worker are killed once each."""
    servers, expected = federation
    (tmp_path / "production").mkdir()
    hospital = Production(servers.pop("b"), tmp_path / "production", production_services)
    for server in servers.values():
        server.start()
    parts: list[Server] = []
    try:
        wait_for(lambda: "Uvicorn running" in servers["coordinator"].log(), servers, 60)
        hospital.run("answer")
        parts += [hospital.worker(), hospital.agent()]
        for number, purpose in enumerate(("counts", "update")):
            wait_for(lambda purpose=purpose: _begun(hospital, purpose), servers, 120)
            parts[number].kill()
            parts.append((hospital.worker, hospital.agent)[number]())
        wait_for(lambda: _ended({**servers, "b": hospital}), {**servers, "b": hospital}, 150)
        state = {query: hospital.ask(f"SELECT COUNT(*) FROM {query}") for query in COUNTS}  # noqa: S608
        for purpose, result in results_of(expected).items():
            query = f"SELECT result FROM federation_securesum WHERE purpose = '{purpose}'"  # noqa: S608
            assert hospital.ask(query) == result, purpose
        print(
            f"published with the undisturbed sums; on PostgreSQL {state}; agent and worker killed once each"
        )
        assert state == COUNTS and hospital.ask("SELECT alarm FROM federation_membership") == ""
    finally:
        for part in (*parts, *servers.values()):
            part.close()
    check(servers, expected, template)


def _begun(hospital: Production, purpose: str) -> bool:
    return bool(hospital.ask(
        "SELECT COUNT(*) FROM federation_ownsum JOIN federation_securesum s ON s.id = sum_id "
        f"WHERE s.purpose = '{purpose}' AND federation_ownsum.state = 'received'"  # noqa: S608
    ))  # fmt: skip


def _ended(servers: dict[str, Server]) -> bool:
    said = "SELECT COUNT(*) FROM federation_transcriptlink WHERE kind = 'Adopted'"
    kept = "SELECT COUNT(*) FROM federation_ownsum WHERE checked = 'agrees'"
    if servers["coordinator"].ask(said) < 3:
        return False
    checked = {name: server.ask(kept) for name, server in servers.items() if name != "coordinator"}
    return set(checked.values()) == {4} and len({server.seq() for server in servers.values()}) == 1
