"""Forms about membership: joining, founding, inviting, comparing a fingerprint, leaving."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from federation.forms.second_factor import SecondFactorForm

READ_BY_ALL: Final = _("Every member reads it. Write no patient's name.")
LINES: Final = {"rows": 5, "autocomplete": "off", "autocapitalize": "off", "spellcheck": "false"}


class JoinForm(forms.Form):
    """The invitation's code, and who this hospital is to the others."""

    code = forms.CharField(
        label=_("Invitation code"), max_length=4000, widget=forms.Textarea(attrs=LINES),
        help_text=_("All of it, as the coordinator's admin gave it to you. Line breaks do no harm."),
    )  # fmt: skip
    title = forms.CharField(
        label=_("Name of this hospital, as the others will read it"),
        max_length=80,
        initial=lambda: settings.SITE_NAME,
    )
    name = forms.RegexField(
        r"\A[A-Za-z0-9._-]{1,64}\Z", label=_("Short name"), max_length=64, initial=lambda: settings.SITE_SLUG,
        help_text=_("Letters, digits, dots, hyphens, underscores. It stays for good."),
        error_messages={"invalid": _("Use letters, digits, dots, hyphens and underscores only.")},
    )  # fmt: skip


class FoundForm(forms.Form):
    """A new federation, at its coordinator."""

    title = forms.CharField(label=_("Name of the federation, as hospitals will read it"), max_length=80)
    address = forms.CharField(
        label=_("Address of this site, as hospitals reach it"), max_length=200,
        help_text=_("Begins with https:// and has no path, for example https://coordinator.example.org"),
    )  # fmt: skip


class InvitationForm(forms.Form):
    title = forms.CharField(
        label=_("Which hospital?"), max_length=80, help_text=_("Only to tell invitations apart here.")
    )


class ConfirmForm(SecondFactorForm):
    """The last groups of the fingerprint, as they were heard over the telephone."""

    heard = forms.CharField(
        label=_("The last two groups that you heard"), max_length=20,
        help_text=_("Eight characters, as the other admin read them out. Do not copy them from this page."),
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false", "class": "mono"}
        ),
    )  # fmt: skip
    compared = forms.BooleanField(
        label=_(
            "I spoke to this hospital's admin on a number I knew before, and all eight groups were the same."
        ),
    )

    def __init__(self, *args: Any, fingerprint: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fingerprint = fingerprint

    def clean_heard(self) -> str:
        """ValidationError unless it is how this site's fingerprint of the key ends."""
        heard = "".join(self.cleaned_data["heard"].split()).lower()
        if heard != "".join(self.fingerprint.split())[-8:]:
            raise ValidationError(
                _(
                    "These are not the last two groups of the key that this site has. Ask for them once "
                    "more. If they still differ, do not confirm: tell the coordinator's admin."
                )
            )
        return heard


class ReasonForm(forms.Form):
    """Why, in words that every member reads."""

    reason = forms.CharField(label=_("Reason"), max_length=200, help_text=READ_BY_ALL)


class DeclineForm(forms.Form):
    """A no needs no reason, and may have one."""

    reason = forms.CharField(
        label=_("Reason (may be left empty)"), max_length=200, required=False, help_text=READ_BY_ALL
    )


class FollowForm(SecondFactorForm):
    """Why the alarm is over."""

    reason = forms.CharField(
        label=_("What was found"), max_length=200,
        help_text=_("Whom you spoke to, what you compared. It stays at this hospital, in the audit chain."),
    )  # fmt: skip


class BindingReasonForm(SecondFactorForm):
    """The same for what cannot be taken back."""

    reason = forms.CharField(label=_("Reason"), max_length=200, help_text=READ_BY_ALL)
