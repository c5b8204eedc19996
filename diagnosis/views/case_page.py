"""What the case page shows, put together from selectors: rows, look-alikes, progress, the comparison."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from django.http import HttpRequest, QueryDict
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from diagnosis import case_selectors as cases
from diagnosis.forms.cases import LANDMARK_NAMES, CompareForm
from diagnosis.models import Case, Extractor, Patient, Photo, RankingRecord, Syndrome, Tier, User
from diagnosis.registries import RankingSource, case_panels, ranking_sources
from diagnosis.selectors import consent_now, extractor_adopted, verdicts_standing
from diagnosis.services.composite import MIN_PATIENTS, composite_refusal
from diagnosis.words import BAND_WORDS

LISTS = {"syndromes": _("Syndromes"), "genes": _("Genes"), "patients": _("Patients")}
ROWS_FIRST = 30
FACES_FIRST, FACES_MOST = 2, 24
FARTHEST = 2.0
SLOW_AFTER = dt.timedelta(seconds=30)  # without any step: the worker is away or has much else to do


@dataclass(frozen=True)
class Face:
    """One gallery picture that may be shown now."""

    photo: int
    code: str
    age_months: int | None
    sex: str


@dataclass(frozen=True)
class Row:
    """One row of a list as the table shows it."""

    rank: int
    key: str
    title: str
    subtitle: str
    genes: list[str]
    band: str
    distance: float | None
    patients: int | None
    faces: list[Face]
    faces_hidden: bool = False
    answer: str = ""
    judged: bool = False

    @property
    def band_label(self) -> Any:
        return BAND_WORDS.get(self.band, _("no band"))

    @property
    def nearness(self) -> int:
        """Length of the bar in hundredths: 100 at distance 0, nothing from distance 1 on."""
        return 0 if self.distance is None else round(100 * min(max(1.0 - self.distance, 0.0), 1.0))


@dataclass(frozen=True)
class Comparison:
    """The patient beside gallery faces of one syndrome and their composite."""

    syndrome: Syndrome
    faces: list[Face]
    more_faces: list[Face]
    filtered_out: int
    composite_patients: int
    composite_refusal: str
    composite_url: str
    form: CompareForm
    choices: list[tuple[str, str]] = field(default_factory=list)


def case_context(request: HttpRequest, case: Case) -> dict[str, Any]:
    """Everything the page and its parts need."""
    user = cast(User, request.user)
    photos = cases.photos_of(case)
    record = cases.ranking_shown(case, user)
    consent = consent_now(case.patient)
    return {
        "case": case, "patient": case.patient, "photos": photos, "photo": photo_chosen(photos, request.GET),
        "tiers": [(tier.label, bool(consent and getattr(consent, tier.value))) for tier in Tier],
        "consent": consent, "landmark_names": LANDMARK_NAMES, "record": record,
        "differential_due": cases.differential_due(case, user),
        "diagnosis": cases.diagnosis_standing(case.patient), "panels": panels(case, user),
        "closed": case.state in ("solved", "unsolved", "withdrawn"),
        "may_change": case.state != "withdrawn",
        **progress_context(case, photos, record),
        **ranking_context(request, case, record),
    }  # fmt: skip


def asked_context(request: HttpRequest, case: Case) -> dict[str, Any]:
    """The progress alone, as every open page asks for it every few seconds: no list, no faces."""
    photos = cases.photos_of(case)
    record = cases.ranking_shown_facts(case, cast(User, request.user))
    return {"case": case, "record": record, **progress_context(case, photos, record)}


def photo_chosen(photos: list[Photo], query: QueryDict) -> Photo | None:
    """The photo the address names, else the newest that needs a hand, else the newest."""
    named = [photo for photo in photos if str(photo.pk) == query.get("photo")]
    needy = [photo for photo in photos if photo.state in ("refused", "failed")]
    found = named or needy[-1:] or photos[-1:]
    return found[0] if found else None


# --- progress --------------------------------------------------------------------------------------

# The steps of services.analysis by their names there, and the ranking that follows.
STEPS = (
    ("queued", _("waiting for a free worker")), ("reading", _("reading the photo")),
    ("finding the face", _("finding and aligning the face")), ("comparing features", _("measuring the face")),
    ("storing", _("storing the result")), ("rank", _("comparing with the gallery")),
)  # fmt: skip


def progress_context(case: Case, photos: list[Photo], record: RankingRecord | None) -> dict[str, Any]:
    """Which photos are being worked on, at which step, and what comes next."""
    waiting = [photo for photo in photos if photo.state in cases.UNFINISHED]
    jobs = cases.photo_jobs(waiting)
    lines = [_photo_line(photo, photos.index(photo) + 1, jobs.get(photo.pk)) for photo in waiting]
    ranking = cases.ranking_job(case)
    if ranking is not None and not waiting and ranking.state != "failed":
        lines.append(_line(_("The list"), "rank", ranking.progress))
    failed = ranking.error if ranking is not None and ranking.state == "failed" else ""
    moved = [photo.uploaded_at for photo in waiting] + [job.changed_at for job in jobs.values()]
    moved += [ranking.changed_at] if ranking is not None else []
    seen = ",".join(f"{photo.pk}:{photo.state}" for photo in photos)
    return {
        "progress": lines, "working": bool(lines), "ranking_failure": failed, "seen_photos": seen,
        "seen_ranking": record.pk if record else 0,
        "slow": bool(lines) and max(moved) < timezone.now() - SLOW_AFTER,
    }  # fmt: skip


def _photo_line(photo: Photo, number: int, job: Any) -> dict[str, Any]:
    step = job.step if job is not None and job.step else "queued"
    return _line(_("Photo %d") % number, step, job.progress if job is not None else 0)


def _line(what: Any, step: str, percent: int) -> dict[str, Any]:
    names = [name for name, _label in STEPS]
    place = names.index(step) if step in names else 0
    following = STEPS[place + 1][1] if place + 1 < len(STEPS) else _("showing the list")
    steps = [{"label": label, "done": i < place, "now": i == place} for i, (_name, label) in enumerate(STEPS)]
    return {"what": what, "now": STEPS[place][1], "next": following, "percent": percent, "steps": steps}


# --- the list --------------------------------------------------------------------------------------


def ranking_context(request: HttpRequest, case: Case, record: RankingRecord | None) -> dict[str, Any]:
    """The chosen list with its rows, and the comparison with one syndrome."""
    user = cast(User, request.user)
    source = request.GET.get("source", "local")
    sources = ranking_sources.items()
    base = {"sources": sources, "source": source, "lists": LISTS.items(), "list": "syndromes"}
    foreign = dict(sources).get(source)
    if foreign is not None:
        return base | foreign_context(case, foreign, user)
    if record is None:
        return base | {"rows": []}
    kind = request.GET.get("list", "syndromes")
    kind = kind if kind in LISTS else "syndromes"
    found = record.result.get(kind, [])
    shown = found if request.GET.get("rows") == "all" else found[:ROWS_FIRST]
    return base | {
        "list": kind, "rows": ranking_rows(record, kind, shown, user), "rows_all": len(found),
        "rows_first": ROWS_FIRST, "measured": band_legend(record.extractor),
        "model_replaced": replaced_by(record), "compare": comparison(request, case, record),
    }  # fmt: skip


def foreign_context(case: Case, source: RankingSource, user: Any) -> dict[str, Any]:
    """Another room's list. Its `rank` answers None, or {rows, behind, withheld}: rows as a RankingRecord
    keeps syndromes (distance and patients may be None where they may not be shown), behind says how many
    hospitals and patients stand behind the list, withheld what it may not show. Nobody's own differential
    is overtaken by it: while that is due, no list is asked for."""
    found = None if cases.differential_due(case, user) else source.rank(case, user)
    rows = [
        _row(row, title=str(row.get("name", row["id"])), subtitle=str(row["id"]), faces=[])
        for row in (found or {}).get("rows", [])
    ]
    return {"foreign": source, "foreign_list": found, "rows": rows, "rows_all": len(rows)}


def ranking_rows(record: RankingRecord, kind: str, found: list[dict[str, Any]], user: Any) -> list[Row]:
    """Rows with names from the catalogue and look-alikes as far as they may be shown at this moment."""
    shown = cases.gallery_now([int(key) for row in found for key in row["photos"]])
    if kind == "patients":
        return _patient_rows(found, shown)
    if kind == "genes":
        return [_row(row, title=str(row["id"]), subtitle="", faces=faces_of(row, shown)) for row in found]
    catalogue = Syndrome.objects.prefetch_related("genes").in_bulk(
        [row["id"] for row in found], field_name="identifier"
    )
    answers = verdicts_standing(record.case, user)
    return [_syndrome_row(row, catalogue.get(row["id"]), answers, shown) for row in found]


def _syndrome_row(
    row: dict[str, Any], syndrome: Syndrome | None, answers: dict[int, str], shown: dict[int, Photo]
) -> Row:
    genes = sorted(gene.symbol for gene in syndrome.genes.all()) if syndrome else list(row.get("genes", []))
    name = syndrome.name if syndrome else str(row.get("name", row["id"]))
    answer = answers.get(syndrome.pk, "") if syndrome else ""
    return _row(row, title=name, subtitle=str(row["id"]), faces=faces_of(row, shown), genes=genes,
                answer=answer, judged=syndrome is not None)  # fmt: skip


def _patient_rows(found: list[dict[str, Any]], shown: dict[int, Photo]) -> list[Row]:
    """A patient who left the gallery keeps the rank but loses the pseudonym and the pictures."""
    standing = {photo.patient_id: photo.patient for photo in shown.values()}
    named = cases.diagnoses_by_patient(standing)
    rows = []
    for row in found:
        patient: Patient | None = standing.get(int(row["id"]))
        title = patient.code if patient else str(_("no longer in the gallery"))
        subtitle = named.get(patient.pk, "") if patient else ""
        rows.append(_row(row, title=title, subtitle=subtitle, faces=faces_of(row, shown)))
    return rows


def _row(row: dict[str, Any], *, title: str, subtitle: str, faces: list[Face], **more: Any) -> Row:
    values: dict[str, Any] = {"genes": list(row.get("genes", [])), **more}
    distance, patients = row.get("distance"), row.get("patients")
    return Row(
        rank=int(row["rank"]), key=str(row["id"]), title=title, subtitle=subtitle,
        band=str(row.get("band") or "").lower(), distance=None if distance is None else float(distance),
        patients=None if patients is None else int(patients), faces=faces,
        faces_hidden=bool(row.get("photos")) and not faces, **values,
    )  # fmt: skip


def faces_of(row: dict[str, Any], shown: dict[int, Photo]) -> list[Face]:
    """The row's look-alikes that may be shown now, nearest first, but every patient before anybody's
    second photo."""
    faces = [face(shown[int(key)]) for key in row["photos"] if int(key) in shown]
    nearest = {one.code: one for one in reversed(faces)}
    return sorted(faces, key=lambda one: one != nearest[one.code])


def face(photo: Photo) -> Face:
    """A gallery photo under its patient's pseudonym."""
    return Face(photo.pk, photo.patient.code, photo.age_months, photo.patient.get_sex_display())


def band_legend(extractor: Extractor) -> dict[str, Any]:
    """What was measured for this extractor: {bands: [{name, label, cutoff, everything, sensitivity,
    precision}], match: {area, sensitivity, specificity}}; {} where nothing was."""
    facts = extractor.facts.get("calibration") or {}
    bands = [
        band
        | {
            "name": band["band"].lower(),
            "label": BAND_WORDS[band["band"].lower()],
            "everything": band["cutoff"] >= FARTHEST,
        }
        for band in facts.get("bands", [])
        if band["cutoff"] >= 0  # below 0: no distance earned this band when it was measured
    ]
    names = ("area", "sensitivity", "specificity")
    return {"bands": bands, "match": {name: facts[name] for name in names if name in facts}} if facts else {}


def replaced_by(record: RankingRecord) -> Extractor | None:
    """The extractor in use now where the list was made with another one."""
    adopted = extractor_adopted()
    return adopted if adopted is not None and adopted.pk != record.extractor_id else None


# --- the comparison --------------------------------------------------------------------------------


def comparison(request: HttpRequest, case: Case, record: RankingRecord) -> Comparison | None:
    """The syndrome the address names, else the first of the list, beside the patient."""
    found = record.result.get("syndromes", [])
    wanted = request.GET.get("syndrome", "")
    row = next((row for row in found if row["id"] == wanted), found[0] if found else None)
    syndrome = Syndrome.objects.filter(identifier=row["id"]).first() if row else None
    if row is None or syndrome is None:
        return None
    form = CompareForm(request.GET, ancestries=cases.ancestries_known())
    faces = form.faces()
    keys = [int(key) for key in row["photos"]]
    here, matching = cases.gallery_now(keys), cases.gallery_now(keys, faces)
    others = cases.composite_photos(syndrome, faces, case.patient)
    alike = _compared(faces_of(row, matching), others)
    query = QueryDict(mutable=True)
    query.update({"case": str(case.pk), "age": faces.age, "sex": faces.sex, "ancestry": faces.ancestry})
    return Comparison(
        syndrome=syndrome, faces=alike[:FACES_FIRST], more_faces=alike[FACES_FIRST:FACES_MOST],
        filtered_out=len(here) - len(matching), composite_patients=len(others),
        composite_refusal="" if len(others) >= MIN_PATIENTS else composite_refusal(len(others)),
        composite_url=f"{reverse('clinic:composite_picture', args=[syndrome.pk])}?{query.urlencode()}",
        form=form, choices=_choices(found[:ROWS_FIRST]),
    )  # fmt: skip


def _compared(nearest: list[Face], others: list[Photo]) -> list[Face]:
    """One face per patient: those that caused the row, nearest first, then the others with the disorder."""
    named: dict[str, Face] = {}
    for one in nearest + [face(photo) for photo in others]:
        named.setdefault(one.code, one)
    return list(named.values())


def _choices(found: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["id"], f"{row['rank']}. {row.get('name', row['id'])}") for row in found]


def panels(case: Case, user: User) -> list[tuple[str, dict[str, Any]]]:
    """Panels that other rooms add: (template, context)."""
    filled = [(panel.template, panel.context(case, user)) for _name, panel in case_panels.items()]
    return [(template, context) for template, context in filled if context is not None]
