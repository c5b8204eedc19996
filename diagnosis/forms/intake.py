"""Forms of the patient's own pages. Nothing is ticked beforehand; every message is a short sentence."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from diagnosis.consent_forms.signature import MAX_BYTES
from diagnosis.models import Signer

SILENT = ("required", "invalid", "min_value", "max_value")
CODE_INPUT = {"autocomplete": "off", "autocapitalize": "characters", "spellcheck": "false"}
DATA_URL = "data:image/png;base64,"
WHO_LABELS = {
    Signer.SELF.value: _("I am the patient"),
    Signer.PARENT.value: _("I am a parent of the patient"),
    Signer.GUARDIAN.value: _("I am the patient’s legal guardian"),
    Signer.REPRESENTATIVE.value: _("I legally represent an adult who cannot decide alone"),
}


class WhoForm(forms.Form):
    """Who reads and signs."""

    answer = forms.ChoiceField(
        widget=forms.RadioSelect, error_messages={"required": _("Please choose one answer.")}
    )

    def __init__(self, *args: Any, signers: list[str], **kwargs: Any) -> None:
        kwargs.setdefault("use_required_attribute", False)  # our own sentence instead of the browser's
        super().__init__(*args, **kwargs)
        self.fields["answer"].choices = [(signer, WHO_LABELS[signer]) for signer in signers]  # type: ignore[attr-defined]


class QuestionForm(forms.Form):
    """Yes or no to one question, with the form's own words for both."""

    answer = forms.ChoiceField(
        widget=forms.RadioSelect, error_messages={"required": _("Please choose yes or no.")}
    )

    def __init__(self, *args: Any, page: dict[str, Any], **kwargs: Any) -> None:
        kwargs.setdefault("use_required_attribute", False)
        super().__init__(*args, **kwargs)
        self.fields["answer"].choices = [("yes", page["yes"]), ("no", page["no"])]  # type: ignore[attr-defined]


class BirthFields(forms.Form):
    """A date of birth as three plain fields: easier than a calendar for a day long ago."""

    day = forms.IntegerField(label=_("Day"), min_value=1, max_value=31)
    month = forms.IntegerField(label=_("Month"), min_value=1, max_value=12)
    year = forms.IntegerField(label=_("Year"), min_value=1900, max_value=2100)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("use_required_attribute", False)
        super().__init__(*args, **kwargs)
        for name in ("day", "month", "year"):
            widget = forms.TextInput({"inputmode": "numeric", "autocomplete": "off", "maxlength": 4})
            self.fields[name].widget = widget
            # The form says once what is wrong with the date; three fields would say it three times.
            self.fields[name].error_messages = dict.fromkeys(SILENT, "")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        try:
            data["date_of_birth"] = dt.date(data["year"], data["month"], data["day"])
        except (KeyError, ValueError):
            raise forms.ValidationError(_("Please enter the date of birth: day, month and year.")) from None
        if data["date_of_birth"] > timezone.localdate():
            raise forms.ValidationError(_("This date is in the future. Please check it."))
        return data


class LedgerForm(BirthFields):
    """The code from the signed form, and the patient's date of birth."""

    code = forms.CharField(
        label=_("Your code"), max_length=40, widget=forms.TextInput(CODE_INPUT),
        error_messages={"required": _("Please enter the code from your signed form.")},
    )  # fmt: skip

    field_order = ["code", "day", "month", "year"]


class SignForm(forms.Form):
    """Name, and either a drawn signature or the typed name as one."""

    name = forms.CharField(
        label=_("Your full name"), max_length=120, widget=forms.TextInput({"autocomplete": "name"}),
        error_messages={"required": _("Please enter your full name.")},
    )  # fmt: skip
    agreed = forms.BooleanField(error_messages={"required": _("Please tick this sentence if it is true.")})
    drawing = forms.CharField(required=False, max_length=MAX_BYTES * 4 // 3 + 100, widget=forms.HiddenInput())
    typed = forms.BooleanField(label=_("My typed name is my signature."), required=False)
    form_sha256 = forms.CharField(max_length=64, widget=forms.HiddenInput())

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("use_required_attribute", False)
        super().__init__(*args, **kwargs)

    def clean_drawing(self) -> bytes | None:
        """PNG bytes from the canvas' data URL, or None when nothing was drawn."""
        text = self.cleaned_data["drawing"]
        if not text:
            return None
        try:
            if not text.startswith(DATA_URL):
                raise ValueError
            return base64.b64decode(text[len(DATA_URL) :], validate=True)
        except (ValueError, binascii.Error):
            raise forms.ValidationError(_("The drawing could not be read. Please draw again.")) from None

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not data.get("drawing") and not data.get("typed") and "drawing" not in self.errors:
            raise forms.ValidationError(_("Please draw your signature, or tick that your typed name is it."))
        return data
