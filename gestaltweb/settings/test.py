"""Tests: an own home that is thrown away, fast password hashes, everything else as in dev.

With GESTALTWEB_TEST_BACKEND=production the same tests use PostgreSQL and Redis from DATABASE_URL and
REDIS_URL.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

if "GESTALTWEB_HOME" not in os.environ:
    _home = tempfile.mkdtemp(prefix="gestaltweb-test-")
    os.environ["GESTALTWEB_HOME"] = _home
    atexit.register(shutil.rmtree, _home, ignore_errors=True)

from gestaltweb.settings.base import *

SECRET_KEY = "only-for-tests-" + "x" * 50
SITE_SLUG = "test"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ALLOWED_HOSTS = ["*"]
STORAGES = STORAGES | {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["TEST"] = {"NAME": str(Path(GESTALTWEB_HOME) / "test.sqlite3")}
