"""The patient's way through the form: one question a page, always a way back, no account."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import translation
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from diagnosis.consent_forms import flow, form_page
from diagnosis.consent_forms.qr import qr_svg_path
from diagnosis.errors import InvalidInput
from diagnosis.forms.intake import BirthFields, QuestionForm, SignForm, WhoForm
from diagnosis.intake_lock import is_locked
from diagnosis.models import Consent, ConsentForm, IntakeLink
from diagnosis.patient_selectors import choices_now
from diagnosis.places import place_of
from diagnosis.selectors import consent_now
from diagnosis.services import consent as consents
from diagnosis.services import ledger
from diagnosis.services.consent_document import consent_pdf
from diagnosis.services.intake_links import LinkRefused, birth_check, link_find
from diagnosis.services.ledger import TooManyTries
from diagnosis.services.people import signers_possible
from diagnosis.views.intake_visit import KEY, Visit, in_visit, visit_of, visit_start


@require_http_methods(["GET", "POST"])
def intake_open(request: HttpRequest, token: str) -> HttpResponse:
    """A one-time link: says whose form this is in general words; the birth date opens it."""
    try:
        ledger.tries_limit(what="link", place=place_of(request), limit=30)
        link = link_find(token)
    except (LinkRefused, TooManyTries) as refused:
        return _refused(request, refused)
    if settings.LANGUAGE_COOKIE_NAME not in request.COOKIES:
        translation.activate(link.language)
    form = BirthFields(request.POST or None)
    if request.method == "POST" and form.is_valid() and _birth_fits(request, link, form):
        language = (translation.get_language() or "en")[:2]
        visit_start(request, Visit(link.patient.pk, "link", language, link=link.pk))
        return redirect("clinic:intake_now")
    answer = render(request, "intake/open.html", {"form": form, "link": link})
    _language_keep(answer, translation.get_language() or "en")
    return answer


def _language_keep(answer: HttpResponse, language: str) -> None:
    """Remember the language on this device, as the settings say how (over HTTPS only in production)."""
    answer.set_cookie(
        settings.LANGUAGE_COOKIE_NAME, language, path=settings.LANGUAGE_COOKIE_PATH,
        secure=settings.LANGUAGE_COOKIE_SECURE, httponly=True, samesite="Lax",
    )  # fmt: skip


def _birth_fits(request: HttpRequest, link: IntakeLink, form: BirthFields) -> bool:
    """Whether the date fits; if not, the form says so."""
    born = form.cleaned_data["date_of_birth"]
    try:
        if birth_check(patient=link.patient, date_of_birth=born, place=place_of(request)):
            return True
        form.add_error(None, _("This date of birth does not fit this link. Please check it."))
    except TooManyTries as error:
        form.add_error(None, str(error))
    return False


def _refused(request: HttpRequest, refused: LinkRefused | TooManyTries) -> HttpResponse:
    """The link opens nothing; the sentence says why."""
    unknown = isinstance(refused, LinkRefused) and refused.reason == "unknown"
    page = {"sentence": str(refused)}
    return render(request, "intake/refused.html", page, status=404 if unknown else refused.status)


@require_GET
@in_visit
def intake_now(request: HttpRequest, visit: Visit) -> HttpResponse:
    """To the page that is next."""
    if visit.signed:
        return redirect("clinic:intake_done")
    return redirect("clinic:intake_page", page=flow.first_open_page(visit.answers))


@require_http_methods(["GET", "POST"])
@in_visit
def intake_page(request: HttpRequest, visit: Visit, page: str) -> HttpResponse:
    """One page of the form."""
    if visit.signed or visit.ended or not flow.may_show(page, visit.answers):
        return redirect("clinic:intake_now")
    if page == "sign":
        return _sign(request, visit)
    if page == "declined":
        return _declined(request, visit)
    form = _form_of(request, visit, page)
    if request.method == "POST" and (form is None or form.is_valid()):
        return _answered(request, visit, page, form)
    return _show(request, visit, page, form=form)


def _form_of(request: HttpRequest, visit: Visit, page: str) -> WhoForm | QuestionForm | None:
    """The page's form, carrying an answer given earlier in this visit and nothing else."""
    posted = request.POST if request.method == "POST" else None
    start = {"answer": visit.answers.get(page)}
    if page == "who":
        return WhoForm(posted, initial=start, signers=signers_possible(visit.row()))
    if page in flow.QUESTIONS:
        return QuestionForm(posted, initial=start, page=form_page(_form(visit).text, page))
    return None


def _form(visit: Visit) -> ConsentForm:
    return consents.form_current(visit.language, visit.answers.get("who", "self"))


def _answered(request: HttpRequest, visit: Visit, page: str, form: Any) -> HttpResponse:
    visit.answers[page] = form.cleaned_data["answer"] if form else "read"
    visit.save(request)
    following = "review" if "change" in request.GET else flow.page_after(page, visit.answers)
    if not flow.may_show(following, visit.answers):
        following = flow.first_open_page(visit.answers)
    return redirect("clinic:intake_page", page=following)


def _show(request: HttpRequest, visit: Visit, page: str, status: int = 200, **more: Any) -> HttpResponse:
    pages = flow.intake_pages(visit.answers)
    text = _form(visit).text
    shown = next((part for part in text["pages"] if part["id"] == page), None)
    context = {
        "visit": visit, "page_id": page, "page": shown, "text": text, "step": pages.index(page) + 1,
        "steps": len(pages), "before": flow.page_before(page, visit.answers), "today": _today(visit, page),
        "review": _review(visit, text) if page == "review" else (), **more,
    }  # fmt: skip
    form = more.get("form")
    if form is not None and form.is_bound and form.errors:
        status = 400
    return render(request, "intake/page.html", context, status=status)


def _today(visit: Visit, page: str) -> bool | None:
    """What holds now for a question that was answered at an earlier signing; None when never asked."""
    standing = consent_now(visit.row())
    if standing is None or standing.kind == "withdrawn" or page not in flow.QUESTIONS:
        return None
    return not standing.no_methods_research if page == "methods" else bool(getattr(standing, page))


def _review(visit: Visit, text: dict[str, Any]) -> list[dict[str, Any]]:
    asked = [page for page in flow.intake_pages(visit.answers) if page in flow.QUESTIONS]
    parts = [(form_page(text, page), visit.answers.get(page)) for page in asked]
    return [{"id": part["id"], "question": part["question"], "answer": part[answer], "yes": answer == "yes"}
            for part, answer in parts if answer]  # fmt: skip


def _sign(request: HttpRequest, visit: Visit) -> HttpResponse:
    shown = _form(visit)
    form = SignForm(request.POST or None, initial={"form_sha256": shown.sha256})
    if request.method == "POST" and form.is_valid():
        try:
            return _signed(request, visit, shown, form.cleaned_data)
        except InvalidInput as error:
            form.add_error(None, str(error))
        except LinkRefused as refused:
            return _refused(request, refused)
    return _show(request, visit, "sign", form=form, review=_review(visit, shown.text))


def _signed(request: HttpRequest, visit: Visit, shown: ConsentForm, data: dict[str, Any]) -> HttpResponse:
    if data["form_sha256"] != shown.sha256:
        raise InvalidInput(_("The text has changed since you opened this page. Please read it again."))
    consent = consents.consent_sign(
        user=visit.staff_user(), patient=visit.row(), form=shown, tiers=flow.tiers_chosen(visit.answers),
        signer=visit.answers["who"], signer_name=data["name"], signature=data["drawing"],
        no_methods_research=visit.answers.get("methods") == "no", language=visit.language,
        link=_link(visit),
    )  # fmt: skip
    visit.signed, visit.answers = consent.pk, {}
    visit.save(request)
    return redirect("clinic:intake_done")


def _link(visit: Visit) -> IntakeLink | None:
    return IntakeLink.objects.get(pk=visit.link) if visit.link else None


def _declined(request: HttpRequest, visit: Visit) -> HttpResponse:
    """A no to the first question. With an agreement in force this page is the second step of withdrawing."""
    if request.method == "POST":
        consents.consent_decline(
            user=visit.staff_user(), patient=visit.row(), signer=visit.answers["who"], link=_link(visit)
        )
        visit.ended, visit.answers = True, {}
        visit.save(request)
        return redirect("clinic:intake_end")
    return _show(request, visit, "declined", standing=visit.row().state == "given")


@require_GET
@in_visit
def intake_done(request: HttpRequest, visit: Visit) -> HttpResponse:
    """Signed: the code, the PDF, and what happens next."""
    if not visit.signed:
        return redirect("clinic:intake_now")
    patient = visit.row()
    code, address = ledger.code_of(patient), ledger_address(request)
    side, path = qr_svg_path(f"{address}#{code}")
    page = {"visit": visit, "code": code, "address": address, "qr_side": side, "qr_path": path,
            "choices": choices_now(patient)}  # fmt: skip
    return render(request, "intake/done.html", page)


def ledger_address(request: HttpRequest) -> str:
    """The absolute address of the ledger's entrance, as printed on the form."""
    return request.build_absolute_uri(reverse("clinic:ledger_enter"))


@require_GET
@in_visit
def intake_pdf(request: HttpRequest, visit: Visit) -> HttpResponse:
    """The signed form, right after signing."""
    if not visit.signed:
        raise Http404
    return pdf_answer(request, Consent.objects.get(pk=visit.signed, patient=visit.patient))


def pdf_answer(request: HttpRequest, consent: Consent, user: Any = None) -> HttpResponse:
    """The PDF as a download. The file name has the code and the day, no name."""
    data = consent_pdf(user=user, consent=consent, ledger_url=ledger_address(request))
    answer = HttpResponse(data, content_type="application/pdf")
    name = f"consent-{consent.patient.code}-{consent.signed_at:%Y-%m-%d}.pdf"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


@require_POST
def intake_finish(request: HttpRequest) -> HttpResponse:
    """Leave: the visit is over, its pages close. A tablet stays locked until staff sign in."""
    visit = visit_of(request)
    request.session.pop(KEY, None)
    if visit is not None and visit.mode == "ledger" and request.session.get("ledger"):
        return redirect("clinic:ledger_page")
    return redirect("clinic:intake_end")


@require_GET
def intake_end(request: HttpRequest) -> HttpResponse:
    """Thank you and good-bye; on a tablet with the way back for staff."""
    visit = visit_of(request)
    ended = bool(visit and visit.ended)
    return render(request, "intake/end.html", {"locked": is_locked(request), "ended": ended})


@require_POST
def language(request: HttpRequest) -> HttpResponse:
    """Change the language and stay on the page. Answers stay too."""
    chosen = request.POST.get("language", "")
    target = request.POST.get("next", "/")
    if not url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure()):
        target = "/"
    answer = redirect(target)
    if chosen in dict(settings.LANGUAGES):
        _language_keep(answer, chosen)
        visit = visit_of(request)
        if visit is not None:
            visit.language = chosen
            visit.save(request)
    return answer
