"""Production: behind HTTPS, secrets from the environment or from files, and nothing is defaulted away."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from gestaltweb import env
from gestaltweb.settings.base import *

SECRET_KEY = env.secret("SECRET_KEY")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS")
if not ALLOWED_HOSTS:
    raise ImproperlyConfigured("set ALLOWED_HOSTS to the host names this site answers to")

STATIC_ROOT = env.text("STATIC_ROOT", str(BASE_DIR / "staticfiles"))
SECURE_SSL_REDIRECT = True
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env.flag("BEHIND_TLS_PROXY") else None
SECURE_HSTS_SECONDS = 365 * 24 * 3600
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
LANGUAGE_COOKIE_SECURE = True
SESSION_COOKIE_NAME = f"__Host-gw_{SITE_SLUG}_session"
CSRF_COOKIE_NAME = f"__Host-gw_{SITE_SLUG}_csrf"
STORAGES = STORAGES | {"staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}}
WHITENOISE_USE_FINDERS = False
