"""All settings. dev, test and prod only differ in where secrets come from and how tight transport is."""

from __future__ import annotations

from pathlib import Path

from gestaltweb import env

BASE_DIR = Path(__file__).resolve().parents[2]

# --- this site -------------------------------------------------------------------------------------
SITE_SLUG = env.text("GESTALTWEB_SLUG", "site")
SITE_NAME = env.text("GESTALTWEB_NAME", "GestaltWeb")
GESTALTWEB_HOME = env.home(BASE_DIR / "var" / SITE_SLUG)
GESTALTWEB_KEYS = Path(env.text("GESTALTWEB_KEYS", str(GESTALTWEB_HOME / "keys")))
GESTALTWEB_FILES = GESTALTWEB_HOME / "files"
VERSION = "0.1.0"

# hospital or coordinator, never both: who runs the coordinator must belong to no member hospital.
SITE_ROLE = env.choice("GESTALTWEB_ROLE", ("hospital", "coordinator"))
# How long a site's request for news may wait at the coordinator, and how often the coordinator looks at
# deadlines.
FEDERATION_POLL_SECONDS = env.integer("FEDERATION_POLL_SECONDS", 20)
FEDERATION_TICK_SECONDS = env.integer("FEDERATION_TICK_SECONDS", 1)
# A site recomputes an opened sum itself from all masked inputs up to this many bytes of download.
FEDERATION_RECOMPUTE_BYTES = env.integer("FEDERATION_RECOMPUTE_BYTES", 512 * 1024 * 1024)
# What one file, and all files of one site, may take at the coordinator.
FEDERATION_BLOB_MAX_BYTES = env.integer("FEDERATION_BLOB_MAX_BYTES", 4 * 1024**3)
FEDERATION_PEER_QUOTA_BYTES = env.integer("FEDERATION_PEER_QUOTA_BYTES", 20 * 1024**3)

# Two machines may share this project only through PostgreSQL, Redis and a shared key folder; alone, one
# process does everything.
EMBEDDED_WORKER = not env.text("CELERY_BROKER_URL")

# --- Django ----------------------------------------------------------------------------------------
DEBUG = False
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]")
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")
# Whose X-Forwarded-For is believed: without it, all patients behind a proxy share one limit of tries.
TRUSTED_PROXIES = env.networks("TRUSTED_PROXY")
ROOT_URLCONF = "gestaltweb.urls" if SITE_ROLE == "hospital" else "gestaltweb.coordinator_urls"
ASGI_APPLICATION = "gestaltweb.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "diagnosis.User"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "channels",
    "csp",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "diagnosis",
    "federation",
    "gestaltweb",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "diagnosis.middleware.SecondFactorMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "diagnosis.middleware.PatientPagesMiddleware",
    "diagnosis.middleware.ErrorSentencesMiddleware",
    "diagnosis.intake_lock.IntakeLockMiddleware",
    "diagnosis.page_language.PageLanguageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "diagnosis.context.site",
            ],
        },
    }
]

# --- database --------------------------------------------------------------------------------------
# SQLite is a full database here: WAL for readers beside the writer, synchronous FULL so that a commit
# survives a power cut, IMMEDIATE so that writers queue instead of failing, secure_delete so that a
# withdrawn patient's pages are overwritten.
SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 30,
    "init_command": (
        "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;PRAGMA foreign_keys=ON;"
        "PRAGMA secure_delete=ON;PRAGMA temp_store=MEMORY;"
    ),
}
if env.text("DATABASE_URL"):
    import dj_database_url

    DATABASES = {"default": dj_database_url.parse(env.text("DATABASE_URL"), conn_max_age=0)}
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(GESTALTWEB_HOME / "database.sqlite3"),
            "OPTIONS": SQLITE_OPTIONS,
        }
    }

# --- files -----------------------------------------------------------------------------------------
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Sealed blobs only; nothing here is ever served by a URL.
_BLOBS: dict[str, object] = {
    "BACKEND": "django.core.files.storage.FileSystemStorage",
    "OPTIONS": {"location": GESTALTWEB_FILES, "base_url": None, "file_permissions_mode": 0o600},
}
if env.text("S3_BUCKET"):
    _BLOBS = {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {"bucket_name": env.text("S3_BUCKET"), "endpoint_url": env.text("S3_ENDPOINT") or None},
    }
STORAGES: dict[str, dict[str, object]] = {
    "default": _BLOBS,
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True
# Uploads stay in memory and never touch a temporary file in plain: gestaltweb.limits caps every request below
# the size from which Django would spool it to disk.
UPLOAD_MAX_BYTES = env.integer("UPLOAD_MAX_BYTES", 25 * 1024 * 1024)
UPLOAD_TOTAL_BYTES = env.integer("UPLOAD_TOTAL_BYTES", 100 * 1024 * 1024)
FILE_UPLOAD_HANDLERS = ["diagnosis.uploads.InMemoryUploads"]
FILE_UPLOAD_MAX_MEMORY_SIZE = UPLOAD_TOTAL_BYTES + 1024 * 1024
DATA_UPLOAD_MAX_MEMORY_SIZE = 48 * 1024 * 1024

# --- people and sessions ---------------------------------------------------------------------------
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_ADAPTER = "diagnosis.accounts.ClosedAccounts"
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = False
ACCOUNT_REAUTHENTICATION_TIMEOUT = 300
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_ISSUER = "GestaltWeb"
MFA_ADAPTER = "diagnosis.accounts.SealedSecondFactor"
# The cookie names carry the site so that several sites on one host do not sign each other out.
SESSION_COOKIE_NAME = f"gw_{SITE_SLUG}_session"
CSRF_COOKIE_NAME = f"gw_{SITE_SLUG}_csrf"
LANGUAGE_COOKIE_NAME = f"gw_{SITE_SLUG}_language"
# Messages live in the session: a cookie of their own would be shared by all sites on one host.
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "diagnosis.views.errors.csrf_failed"
SESSION_COOKIE_AGE = 10 * 3600
SESSION_EXPIRE_AT_BROWSER_CLOSE = True

# --- headers ---------------------------------------------------------------------------------------
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:", "blob:"],
        "connect-src": ["'self'"],
        "font-src": ["'self'"],
        "form-action": ["'self'"],
        "manifest-src": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"

# --- languages and time ----------------------------------------------------------------------------
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LOCALE_PATHS = [BASE_DIR / "diagnosis" / "locale"]
USE_TZ = True
TIME_ZONE = env.text("TIME_ZONE", "Europe/Berlin")

# --- mail: without SMTP, links are shown to staff instead ---------------------------------------------
EMAIL_HOST = env.text("EMAIL_HOST")
EMAIL_BACKEND = (
    "django.core.mail.backends.smtp.EmailBackend"
    if EMAIL_HOST
    else "django.core.mail.backends.dummy.EmailBackend"
)

# --- long work -------------------------------------------------------------------------------------
CELERY_BROKER_URL = env.text("CELERY_BROKER_URL", "memory://")
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_DEFAULT_QUEUE = "analyse"
JOB_LEASE_SECONDS = env.integer("JOB_LEASE_SECONDS", 60)
JOB_SWEEP_SECONDS = env.integer("JOB_SWEEP_SECONDS", 15)
JOB_MAX_ATTEMPTS = 5

CHANNEL_LAYERS: dict[str, dict[str, object]] = {
    "default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}
}
# Locks after wrong tries live here: the default of 300 entries would let a flood of names push them out.
CACHES: dict[str, dict[str, object]] = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}
if env.text("REDIS_URL"):
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {
                # The layer waits 5 s at a time for messages; redis-py's own timeout of 5 s would race it.
                "hosts": [{"address": env.text("REDIS_URL"), "socket_timeout": 15}],
                "prefix": f"gw-{SITE_SLUG}",
            },
        }
    }
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": env.text("REDIS_URL"),
            "KEY_PREFIX": f"gw-{SITE_SLUG}",
        }
    }

# --- API -------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication",
        "diagnosis.api.authentication.TokenAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "diagnosis.api.errors.answer_error",
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.LimitOffsetPagination",
    "PAGE_SIZE": 50,
    "DEFAULT_THROTTLE_RATES": {"arc": "120/min"},
}
SPECTACULAR_SETTINGS = {
    "TITLE": "GestaltWeb",
    "DESCRIPTION": "Research use. Decision support for qualified clinicians. Not a diagnosis.",
    "VERSION": VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        f"{name.title()}State": f"diagnosis.api.base.{name}_STATES"
        for name in ("CASE", "PHOTO", "JOB", "EXTRACTOR", "CONSENT")
    },
}
# GestaltMatcher-Arc's POST /encode hands out embeddings, from which faces can be rebuilt; a site's admin
# turns it on knowingly or not at all.
ARC_ENCODE_ENABLED = env.flag("ARC_ENCODE_ENABLED", False)

# --- logs: ids and outcomes, never names, photos, or request bodies ------------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "filters": {"private": {"()": "diagnosis.log_privacy.WithoutSecrets"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["private"]},
    },
    "root": {"handlers": ["console"], "level": env.text("LOG_LEVEL", "WARNING")},
    # At DEBUG these write whole page contexts and SQL values, names included; LOG_LEVEL must not reach them.
    "loggers": {"django.template": {"level": "INFO"}, "django.db.backends": {"level": "INFO"}},
}
