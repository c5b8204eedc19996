"""The current code of the second factor, typed beside whatever it is to allow."""

from __future__ import annotations

from typing import Any, Final

from allauth.mfa.base.internal.flows import check_rate_limit
from allauth.mfa.models import Authenticator
from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from diagnosis.models import User

WRONG: Final = _(
    "This code is wrong, or was used already. Nothing was changed. Wait until your authenticator app shows "
    "the next code and type that one."
)
TOO_MANY: Final = _("Too many wrong codes. Nothing was changed. Wait five minutes, then try again.")


class SecondFactorForm(forms.Form):
    """Asks for the six digits that the app shows now. A recovery code does not do: it proves no presence.

    The code is looked at last, and only if all else is in order, because it can be used once. Wrong codes
    count towards the same limit as at sign-in.
    """

    code = forms.CharField(
        label=_("Code of your second factor"), max_length=12,
        help_text=_("The six digits that your authenticator app shows now."),
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
    )  # fmt: skip

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        self.order_fields([*(name for name in self.fields if name != "code"), "code"])

    def clean(self) -> dict[str, Any]:
        """ValidationError at `code` unless it is the current one."""
        data = super().clean() or {}
        if not self.errors:
            self._require_code(data["code"])
        return data

    def _require_code(self, code: str) -> None:
        try:
            forget_tries = check_rate_limit(self.user)
        except ValidationError:
            self.add_error("code", TOO_MANY)
            return
        found = Authenticator.objects.filter(user=self.user, type=Authenticator.Type.TOTP).first()
        if found is None or not found.wrap().validate_code(code):
            self.add_error("code", WRONG)
            return
        forget_tries()
        found.record_usage()
