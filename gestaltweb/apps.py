from django.apps import AppConfig


class GestaltwebConfig(AppConfig):
    """The project itself, an app only so that its commands (serve, init_site, demo) are found."""

    name = "gestaltweb"

    def ready(self) -> None:
        from gestaltweb import celery  # noqa: F401  the app that sends messages from this process
