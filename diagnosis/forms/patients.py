"""Forms of the patient pages for staff."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from diagnosis.models import Sex, Team, User
from diagnosis.patient_selectors import teams_of


class PatientSearchForm(forms.Form):
    search = forms.CharField(label=_("Code"), required=False, max_length=20)


class IdentityForm(forms.Form):
    """Who somebody is. It is stored sealed."""

    given_name = forms.CharField(label=_("Given name"), max_length=80)
    family_name = forms.CharField(label=_("Family name"), max_length=80)
    date_of_birth = forms.DateField(
        label=_("Date of birth"), widget=forms.DateInput({"type": "date"}, "%Y-%m-%d")
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["date_of_birth"].widget.attrs["max"] = timezone.localdate().isoformat()


class PatientForm(IdentityForm):
    """A new patient. The code is made by the site."""

    sex = forms.ChoiceField(label=_("Sex"), choices=Sex.choices, initial=Sex.UNKNOWN)
    ancestry = forms.CharField(
        label=_("Ancestry (optional)"), required=False, max_length=60,
        help_text=_("In the family's own words. It helps to compare like with like."),
    )  # fmt: skip
    affected = forms.TypedChoiceField(
        label=_("Registered as"), coerce=lambda value: value == "yes", initial="yes",
        choices=[("yes", _("patient")), ("no", _("unaffected reference person"))],
    )  # fmt: skip
    team = forms.ModelChoiceField(label=_("Team"), queryset=Team.objects.none(), empty_label=None)

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["team"].queryset = teams_of(user)  # type: ignore[attr-defined]


class LanguageForm(forms.Form):
    """In which language the patient reads the form."""

    language = forms.ChoiceField(label=_("Language of the form"), choices=settings.LANGUAGES)
