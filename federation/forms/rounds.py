"""Forms about rounds: proposing, answering, answering in advance."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from federation.forms.second_factor import SecondFactorForm
from federation.learning.errors import PlanRefused
from federation.plans import RoundPlan, parse_plan

STRATEGIES: Final = (
    ("fedavg", _("FedAvg: the mean of all hospitals' updates (the usual choice)")),
    ("fedprox", _("FedProx: the same, hospitals held closer to the shared model; for unlike hospitals")),
    ("fedadam", _("FedAdam: the mean, applied with Adam")),
    ("fedavgm", _("FedAvgM: the mean, applied with momentum")),
)  # fmt: skip
LONGEST_RULE: Final = dt.timedelta(days=365)


class ProposeForm(forms.Form):
    """What a proposer chooses; everything else has a default that the plan shows."""

    strategy = forms.ChoiceField(
        label=_("Strategy"), choices=STRATEGIES, initial="fedavg", widget=forms.RadioSelect
    )
    epochs = forms.IntegerField(
        label=_("Local epochs"), initial=5, min_value=1, max_value=1000,
        help_text=_("How often each hospital's photos are gone through."),
    )  # fmt: skip
    answer_hours = forms.FloatField(
        label=_("Hours to answer"), initial=72, min_value=0.02, max_value=24 * 30,
        help_text=_("A hospital that has not answered by then does not take part."),
    )  # fmt: skip
    minimum_participants = forms.IntegerField(
        label=_("Fewest participants"), initial=3, min_value=3, max_value=1000,
        help_text=_("With fewer approvals the round ends. Never below 3: two would see each other's update."),
    )  # fmt: skip
    training_minutes = forms.FloatField(
        label=_("Minutes for training"), initial=240, min_value=0.1, max_value=60 * 24 * 30,
        help_text=_("A hospital that takes longer is left out of the sum."),
    )  # fmt: skip
    minimum_patients = forms.IntegerField(
        label=_("Fewest patients to judge by"), initial=10, min_value=1, max_value=10_000,
        help_text=_("A hospital that holds out fewer patients abstains from the vote on the result."),
    )  # fmt: skip
    sites = forms.MultipleChoiceField(label=_("Hospitals to invite"), widget=forms.CheckboxSelectMultiple)

    def __init__(self, *args: Any, sites: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["sites"].choices = sites  # type: ignore[attr-defined]
        self.initial.setdefault("sites", [name for name, _title in sites])


class PlanForm(forms.Form):
    """A plan that was shown and is now to be said, as the text it was shown as."""

    plan = forms.CharField(widget=forms.HiddenInput, max_length=200_000, strip=False)

    def clean_plan(self) -> RoundPlan:
        """The plan; refused unless the text is a plan's own form."""
        try:
            return parse_plan(self.cleaned_data["plan"])
        except PlanRefused as refused:
            raise forms.ValidationError(str(refused)) from None


class ApproveForm(SecondFactorForm):
    """Yes to exactly the plan that was on the page."""

    plan_sha256 = forms.RegexField(r"\A[0-9a-f]{64}\Z", widget=forms.HiddenInput)


class RuleForm(SecondFactorForm):
    """A yes in advance, and its limits."""

    strategies = forms.MultipleChoiceField(
        label=_("Strategies"), choices=STRATEGIES, widget=forms.CheckboxSelectMultiple, initial=["fedavg"]
    )
    sites = forms.MultipleChoiceField(
        label=_("Only these hospitals"), widget=forms.CheckboxSelectMultiple,
        help_text=_("A round that invites anybody else is not answered by the rule."),
    )  # fmt: skip
    maximum_epochs = forms.IntegerField(
        label=_("At most so many local epochs"), initial=5, min_value=1, max_value=1000
    )
    minimum_participants = forms.IntegerField(
        label=_("At least so many participants"), initial=3, min_value=3, max_value=1000,
        help_text=_("A round whose plan is content with fewer is not answered by the rule."),
    )  # fmt: skip
    expires_on = forms.DateField(
        label=_("Last day"), widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        help_text=_("At most one year from now. You can end the rule at any time."),
    )  # fmt: skip

    def __init__(self, *args: Any, sites: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["sites"].choices = sites  # type: ignore[attr-defined]
        self.initial.setdefault("sites", [name for name, _title in sites])
        self.initial.setdefault("expires_on", timezone.localdate() + dt.timedelta(days=90))

    def clean_expires_on(self) -> dt.datetime:
        """The end of that day, here; refused outside of the coming year."""
        day = self.cleaned_data["expires_on"]
        end = timezone.make_aware(dt.datetime.combine(day, dt.time(23, 59, 59)))
        if not timezone.now() < end <= timezone.now() + LONGEST_RULE:
            raise forms.ValidationError(_("Choose a day from today on, at most one year from now."))
        return end
