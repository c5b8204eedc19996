from django.apps import AppConfig


class DiagnosisConfig(AppConfig):
    """The clinic: patients, consent, photos, rankings, case pages."""

    name = "diagnosis"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from diagnosis import checks, security_checks  # noqa: F401  the checks register themselves
