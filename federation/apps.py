from django.apps import AppConfig


class FederationConfig(AppConfig):
    """The network of hospitals: sites, rounds, approvals, secure sums."""

    name = "federation"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from federation import (
            job_kinds,
            ledger,
            navigation,
            permissions,  # noqa: F401  adds the federation's actions to the one policy
        )

        ledger.register()
        job_kinds.register()
        navigation.register()
