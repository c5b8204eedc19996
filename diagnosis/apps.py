from django.apps import AppConfig


class DiagnosisConfig(AppConfig):
    """The clinic: patients, consent, photos, rankings, case pages."""

    name = "diagnosis"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from diagnosis import checks, engine, security_checks  # noqa: F401  the checks register themselves
        from diagnosis.registries import after_erasure

        after_erasure.register("galleries in memory", engine.forget_galleries)
