"""`manage.py demo --once --json`: stdout is one JSON document, from the very first start on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_story_is_one_json_document(tmp_path: Path, unused_tcp_port: int) -> None:
    environment = os.environ | {"GESTALTWEB_DEMO": str(tmp_path), "DEMO_PORT": str(unused_tcp_port)}
    for name in ("DJANGO_SETTINGS_MODULE", "GESTALTWEB_HOME"):
        environment.pop(name, None)
    command = [sys.executable, str(ROOT / "manage.py"), "demo", "--once", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, timeout=280)
    outcome = json.loads(done.stdout)
    assert outcome["held"] and done.returncode == 0, (outcome, done.stderr[-2000:])
    assert len(outcome["steps"]) >= 11 and outcome["ranking"]["rows"] >= 30
