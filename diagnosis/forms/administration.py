"""Forms of the administration pages."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from diagnosis.models import Role, Team


class UserForm(forms.Form):
    """A new account, or the roles and teams of one that exists."""

    username = forms.CharField(label=_("User name"), max_length=150)
    full_name = forms.CharField(label=_("Full name"), max_length=150, required=False)
    roles = forms.MultipleChoiceField(
        label=_("Roles"), choices=Role.choices, widget=forms.CheckboxSelectMultiple, required=False
    )
    teams = forms.ModelMultipleChoiceField(
        label=_("Teams"), queryset=Team.objects.order_by("name"), widget=forms.CheckboxSelectMultiple,
        required=False,
    )  # fmt: skip


class RolesForm(UserForm):
    """Roles and teams only; name and password belong to the person."""

    username = None  # type: ignore[assignment]
    full_name = None  # type: ignore[assignment]


class TeamForm(forms.Form):
    name = forms.CharField(label=_("Team name"), max_length=80)


class TokenForm(forms.Form):
    label = forms.CharField(label=_("What is it for?"), max_length=80)


class AuditFilterForm(forms.Form):
    action = forms.CharField(label=_("Action contains"), max_length=60, required=False)
    actor = forms.CharField(label=_("Who"), max_length=80, required=False)
    subject = forms.CharField(label=_("About"), max_length=80, required=False)
