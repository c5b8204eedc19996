"""What every page shows: the site, the model and gallery behind it, and the places this user may go."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from diagnosis.registries import navigation
from diagnosis.selectors import extractor_adopted


def site(request: HttpRequest) -> dict[str, Any]:
    """Template context of all pages."""
    return {
        "site_name": settings.SITE_NAME,
        "version": settings.VERSION,
        "extractor": SimpleLazyObject(extractor_adopted),
        "more_navigation": [
            link for _, links in navigation.items() for link in links(getattr(request, "user", None))
        ],
    }
