"""The embedded default on one machine, plain HTTP on loopback: demo, development, a first look."""

from __future__ import annotations

import secrets

from gestaltweb.settings.base import *

# init_site writes this file (mode 0600). Before it exists only commands run, for which a key that dies
# with the process is enough.
_key_file = GESTALTWEB_KEYS / "django.key"
SECRET_KEY = _key_file.read_text("utf-8").strip() if _key_file.exists() else secrets.token_urlsafe(50)
