"""`manage.py demo`: the whole story as one JSON document; a round that waits; no site looks into another's home."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCE = Path(__file__).with_name("fence")
sys.path.insert(0, str(Path(__file__).parent))  # importlib mode: for three_admins
SITES = ("coordinator", "hospital-a", "hospital-b", "hospital-c", "hospital-d")
pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Demo:
    """A demonstration's folder and the environment of its commands."""

    folder: Path
    notes: Path
    environment: dict[str, str]

    def command(self, *words: str) -> list[str]:
        return [sys.executable, str(ROOT / "manage.py"), "demo", *words]


def free_ports(count: int) -> int:
    """The first of so many consecutive free ports."""
    for first in range(20001, 60000, 11):
        sockets = [socket.socket() for _ in range(count)]
        try:
            for number, probe in enumerate(sockets):
                probe.bind(("127.0.0.1", first + number))
            return first
        except OSError:
            continue
        finally:
            for probe in sockets:
                probe.close()
    raise AssertionError("no free ports")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Homes that are seeded by the first command that uses them, every process under the fence."""
    folder, notes = (tmp_path_factory.mktemp(name) for name in ("demo", "notes"))
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DJANGO_SETTINGS_MODULE", "GESTALTWEB_HOME", "GESTALTWEB_ROLE", "GESTALTWEB_SLUG")
    }
    return Demo(
        folder, notes,
        clean | {
            "GESTALTWEB_DEMO": str(folder), "GESTALTWEB_FENCE": str(notes), "PYTHONPATH": str(FENCE),
            "DEMO_PORT": str(free_ports(5) + 1),
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def story(demo: Demo) -> tuple[dict[str, Any], int, str]:
    """What `demo --once --json` printed on fresh homes, its exit code, and the end of its standard error."""
    done = subprocess.run(
        demo.command("--once", "--json"), env=demo.environment, capture_output=True, text=True, cwd=ROOT,
        timeout=840, check=False,
    )  # fmt: skip
    return json.loads(done.stdout), done.returncode, done.stderr[-3000:]


def test_the_story_is_one_json_document_and_holds(story: Any) -> None:
    outcome, code, said = story
    assert outcome["held"] and code == 0, (outcome, said)
    assert len(outcome["steps"]) >= 20 and outcome["ranking"]["rows"] >= 30
    assert [site["role"] for site in outcome["sites"]] == ["coordinator"] + ["hospital"] * 4


def test_the_round_is_told_in_numbers(story: Any) -> None:
    round_, hospitals = story[0]["round"], ["hospital-a", "hospital-b", "hospital-c"]
    assert round_["state"] == "published" and round_["participants"] == hospitals and round_["dropped"] == []
    assert round_["bytes_per_parameter"] == 4.0 and round_["parameters"] > 0 and round_["seconds"] > 0
    assert re.fullmatch(r"[0-9a-f]{64}", round_["model_sha256"])
    assert story[0]["newcomer"]["model_sha256"] == round_["model_sha256"]
    for figures in story[0]["accuracy"].values():
        assert {"before", "after", "local_only"} <= figures.keys()
    assert sorted(story[0]["accuracy"]) == hospitals


# --- every site for itself ---


def looked_at(notes: Path) -> dict[str, set[str]]:
    """Site → sites into whose homes its processes looked."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in notes.iterdir():
        home, *paths = file.read_text("utf-8").splitlines()
        found[Path(home).name] |= {Path(path).relative_to(Path(home).parent).parts[0] for path in paths}
    return found


def test_no_site_looks_into_the_home_of_another(story: Any, demo: Demo) -> None:
    assert looked_at(demo.notes) == {site: {site} for site in SITES}


def test_the_fence_sees_a_site_that_does(story: Any, demo: Demo, tmp_path: Path) -> None:
    (notes := tmp_path / "notes").mkdir()
    environment = demo.environment | {
        "GESTALTWEB_FENCE": str(notes), "GESTALTWEB_HOME": str(demo.folder / "hospital-a")
    }  # fmt: skip
    other = demo.folder / "hospital-b" / "database.sqlite3"
    code = f"import sqlite3; sqlite3.connect('file:{other}?mode=ro', uri=True).close()"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert looked_at(notes) == {"hospital-a": {"hospital-b"}}


def test_keys_and_identities_differ(story: Any, demo: Demo) -> None:
    for name in ("keys/master/1", "keys/django.key", "keys/identity/1.key"):
        assert len({(demo.folder / site / name).read_bytes() for site in SITES}) == len(SITES), name
    assert not (demo.folder / "coordinator" / "models").exists()


# --- a second start, to be looked at ---


@pytest.fixture(scope="module")
def started(story: Any, demo: Demo) -> Iterator[str]:
    """What `manage.py demo` announces on homes that are there already; stopped at the end as by Ctrl-C."""
    child = subprocess.Popen(
        demo.command(),
        env=demo.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    lines: list[str] = []
    assert child.stdout is not None
    for line in child.stdout:
        lines.append(line)
        if "Ctrl-C stops" in line:
            break
    assert lines and "Ctrl-C stops" in lines[-1], "".join(lines)
    yield "".join(lines)
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 0


@pytest.fixture
def sites(started: str, demo: Demo, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The running demonstration's sites."""
    from gestaltweb.demo import homes

    for name in ("GESTALTWEB_DEMO", "DEMO_PORT"):
        monkeypatch.setenv(name, demo.environment[name])
    return homes.demo_sites()


def test_the_demo_opens_on_a_round_that_waits_for_hospital_a(started: str, sites: Any) -> None:
    from gestaltweb.demo.outcome import sign_in

    assert all(site.address in started for site in sites.members)
    admin = sign_in(sites.hospitals[0], "admin").open("/federation/")
    number = re.search(r"Round (\d+) waits for this hospital", admin.text)
    assert number is not None, admin.text
    page = admin.open(f"/federation/rounds/{number.group(1)}/answer/")
    assert page.offers("/approve/") and page.text.count("approved") >= 2
    admin.close()


@pytest.mark.browser
def test_one_admin_declines_and_three_approve_in_three_browsers(sites: Any, chromium: Any) -> None:
    import three_admins

    ended, published = three_admins.play(chromium, list(sites.hospitals))
    assert len(ended) == 3 and published == ["Published"] * 3
