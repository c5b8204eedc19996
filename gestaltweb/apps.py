from django.apps import AppConfig


class GestaltwebConfig(AppConfig):
    """The project itself, an app only so that its commands (serve, init_site, demo) are found."""

    name = "gestaltweb"
