"""What every page shows: the site, its role and version, and the model in use."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from diagnosis.selectors import extractor_adopted


def site(request: HttpRequest) -> dict[str, Any]:
    """Template context of all pages."""
    return {
        "site_name": settings.SITE_NAME,
        "site_role": settings.SITE_ROLE,
        "version": settings.VERSION,
        "extractor": SimpleLazyObject(extractor_adopted),
    }
