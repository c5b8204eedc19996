"""What clinicians enter on the case pages, parsed and checked; the sentences say what to change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from diagnosis.case_selectors import AGE_BANDS, FaceFilter, patients_to_choose
from diagnosis.errors import InvalidInput
from diagnosis.models import Gene, Patient, Sex, Syndrome, User
from diagnosis.words import STATE_WORDS

MAX_FILES = 12
LANDMARK_NAMES = (
    _("eye on the left"), _("eye on the right"), _("tip of the nose"), _("left corner of the mouth"),
    _("right corner of the mouth"),
)  # fmt: skip
STATES = (("", _("all states")), *STATE_WORDS.items())


class CaseFilterForm(forms.Form):
    """The case list's filter."""

    search = forms.CharField(label=_("Code or note"), required=False, max_length=60)
    state = forms.ChoiceField(label=_("State"), required=False, choices=STATES)


class CaseForm(forms.Form):
    """A new case: whose, and how it is to be read."""

    patient = forms.ModelChoiceField(
        label=_("Patient"), queryset=Patient.objects.none(), widget=forms.RadioSelect, empty_label=None,
        error_messages={
            "required": _("Choose the patient."), "invalid_choice": _("Choose a patient of your team."),
        },
    )  # fmt: skip
    note = forms.CharField(
        label=_("Note (optional)"), required=False, max_length=200,
        help_text=_("A working note for your team. Write no names."),
    )  # fmt: skip
    differential_first = forms.BooleanField(
        label=_("Ask for my own differential first"), required=False,
        help_text=_("The list stays hidden from each clinician until they have written down their own idea."),
    )  # fmt: skip

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["patient"].queryset = patients_to_choose(user)  # type: ignore[attr-defined]


class NoteForm(forms.Form):
    note = forms.CharField(label=_("Note"), required=False, max_length=200)


class CompareForm(forms.Form):
    """Which gallery faces stand beside the patient."""

    age = forms.ChoiceField(
        label=_("Age at photo"), required=False,
        choices=[("", _("any age")), *((band, f"{band.replace('-', '–')} y") for band in AGE_BANDS)],
    )  # fmt: skip
    sex = forms.ChoiceField(label=_("Sex"), required=False, choices=[("", _("any")), *Sex.choices])
    ancestry = forms.ChoiceField(label=_("Ancestry"), required=False)

    def __init__(self, *args: Any, ancestries: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", _("any")), *((name, name) for name in ancestries)]
        self.fields["ancestry"].choices = choices  # type: ignore[attr-defined]

    def faces(self) -> FaceFilter:
        """The filter; what is not understood is left out, as a filter in an address may be old."""
        self.is_valid()
        return FaceFilter(**{name: self.cleaned_data.get(name, "") for name in ("age", "sex", "ancestry")})


class VerdictForm(forms.Form):
    """One click on one row."""

    syndrome = forms.ModelChoiceField(queryset=Syndrome.objects.all(), to_field_name="identifier")
    answer = forms.CharField(max_length=10)


class DiagnosisForm(forms.Form):
    """The disorder a clinician confirms, and the gene where it is known."""

    syndrome = forms.ModelChoiceField(queryset=Syndrome.objects.all(), to_field_name="identifier")
    gene = forms.ModelChoiceField(
        label=_("Gene, if known"), queryset=Gene.objects.none(), required=False, empty_label=_("not known"),
        to_field_name="symbol",
    )  # fmt: skip

    def __init__(self, *args: Any, syndrome: Syndrome | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if syndrome is not None:
            self.fields["gene"].queryset = syndrome.genes.order_by("symbol")  # type: ignore[attr-defined]


class DifferentialForm(forms.Form):
    """Up to three disorders in one's own order, and free words."""

    first = forms.CharField(label=_("Most likely"), required=False, max_length=200)
    second = forms.CharField(label=_("Second"), required=False, max_length=200)
    third = forms.CharField(label=_("Third"), required=False, max_length=200)
    text = forms.CharField(
        label=_("In your words"), required=False, max_length=500, widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("What you see, and what you think of. Write no names."),
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("first", "second", "third"):
            self.fields[name].widget.attrs |= {"list": "catalogue", "autocomplete": "off"}

    def _disorder(self, name: str) -> Syndrome | None:
        """A disorder by identifier or name; the list that the field offers writes "name (identifier)"."""
        words = self.cleaned_data.get(name, "").strip()
        if not words:
            return None
        key = words.rsplit("(", 1)[-1].rstrip(")").strip()
        found = Syndrome.objects.filter(identifier__iexact=key).first()
        found = found or Syndrome.objects.filter(name__iexact=words).first()
        if found is None:
            raise forms.ValidationError(
                _("The catalogue has no disorder of this name. Choose one, or use the words below.")
            )
        return found

    def clean_first(self) -> Syndrome | None:
        return self._disorder("first")

    def clean_second(self) -> Syndrome | None:
        return self._disorder("second")

    def clean_third(self) -> Syndrome | None:
        return self._disorder("third")

    def syndromes(self) -> list[Syndrome]:
        """The named disorders in order, each once."""
        named = [self.cleaned_data.get(name) for name in ("first", "second", "third")]
        return list(dict.fromkeys(syndrome for syndrome in named if syndrome))


@dataclass(frozen=True)
class Upload:
    """One file of an upload: its bytes as they came, and the age at photo in completed months."""

    data: bytes
    age_months: int | None


def uploads_of(request: HttpRequest) -> list[Upload]:
    """The files of a photo form with their ages.

    The form has one pair of age fields per file where a script could add them, else one pair that counts
    for every file. Raises InvalidInput for no file, too many, one too large, or an age that is none.
    """
    files = [file for file in request.FILES.getlist("photos") if file]
    if not files:
        raise InvalidInput(str(_("Choose at least one photo.")))
    if len(files) > MAX_FILES:
        raise InvalidInput(str(_("Upload at most %d photos at once.") % MAX_FILES))
    if any((file.size or 0) > settings.UPLOAD_MAX_BYTES for file in files):
        limit = settings.UPLOAD_MAX_BYTES // (1024 * 1024)
        raise InvalidInput(str(_("A photo may have at most %d MB. Choose a smaller one.") % limit))
    ages = _ages(request.POST.getlist("age_years"), request.POST.getlist("age_months"))
    if len(ages) != len(files):
        ages = (ages or [None])[:1] * len(files)
    return [Upload(file.read(), age) for file, age in zip(files, ages, strict=True)]


def _ages(years: list[str], months: list[str]) -> list[int | None]:
    if len(years) != len(months):
        raise InvalidInput(str(_("Give each photo its age in years and months.")))
    return [_age(year.strip(), month.strip()) for year, month in zip(years, months, strict=True)]


def _age(years: str, months: str) -> int | None:
    if not years and not months:
        return None
    numbers = [part or "0" for part in (years, months)]
    if not all(part.isascii() and part.isdigit() and len(part) <= 4 for part in numbers):
        raise InvalidInput(str(_("An age is a whole number of years and months.")))
    total = 12 * int(numbers[0]) + int(numbers[1])
    if total > 12 * 120:
        raise InvalidInput(str(_("An age at photo is at most 120 years.")))
    return total


def words_of(request: HttpRequest, name: str) -> str:
    """A search from the address, without what no database takes and no longer than a name can be."""
    return request.GET.get(name, "").replace("\x00", "").strip()[:80]


def number_of(text: str) -> int | None:
    """A primary key that came as text, or None for anything that cannot be one."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def landmarks_of(request: HttpRequest) -> list[list[float]] | None:
    """The five points (x, y) in px of a landmark form, None where the form has none, else InvalidInput."""
    names = [(f"x{place}", f"y{place}") for place in range(len(LANDMARK_NAMES))]
    if not any(name in request.POST for pair in names for name in pair):
        return None
    try:
        return [[float(request.POST.get(name, "")) for name in pair] for pair in names]
    except ValueError:
        raise InvalidInput(str(_("Each of the five points needs an x and a y in pixels."))) from None


def face_of(request: HttpRequest) -> int | None:
    """The number of the chosen face, or None where the form does not ask."""
    value = request.POST.get("face_choice", "")
    if not value:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 4):
        raise InvalidInput(str(_("Choose one of the faces.")))
    return int(value)
