"""Cases, their work, verdicts and the diagnosis."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from diagnosis import api_selectors, case_selectors, selectors
from diagnosis.api.base import CASE_STATES, JOB_STATES, ApiView, PagedView, door, with_context
from diagnosis.errors import InvalidInput
from diagnosis.models import Answer, Case, Gene, Patient, Syndrome
from diagnosis.permissions import require, visible_to
from diagnosis.services import case as case_service
from diagnosis.services import verdict as verdict_service


def case_of(request: Request, pk: int) -> Case:
    """The case, or 404 for one that this account may not know of."""
    cases = visible_to(request.user, Case.objects.all())
    case: Case = get_object_or_404(cases.select_related("patient", "team"), pk=pk)
    return case


def syndrome_of(identifier: str) -> Syndrome:
    """The catalogue's entry, or InvalidInput."""
    found = Syndrome.objects.filter(identifier=identifier).first()
    if found is None:
        raise InvalidInput("The catalogue has no such syndrome. Look it up under /api/syndromes/.")
    return found


class CaseRow(serializers.Serializer):
    id = serializers.IntegerField()
    patient = serializers.CharField(source="patient.code")
    team = serializers.CharField(source="team.name")
    state = serializers.ChoiceField(choices=CASE_STATES)
    note = serializers.CharField()
    differential_first = serializers.BooleanField()
    opened_at = serializers.DateTimeField()
    changed_at = serializers.DateTimeField()


class CaseQuery(serializers.Serializer):
    state = serializers.ChoiceField(choices=CASE_STATES, required=False, default="")
    search = serializers.CharField(max_length=60, required=False, default="")


class CaseNew(serializers.Serializer):
    patient = serializers.CharField(max_length=20, help_text="the pseudonym, such as A-0147")
    note = serializers.CharField(max_length=200, required=False, default="", allow_blank=True)
    differential_first = serializers.BooleanField(required=False, default=False)


class CaseList(PagedView):
    """Cases of the caller's teams."""

    @door("Cases", CaseRow(many=True), tag="cases", operation_id="case_list", parameters=[CaseQuery])
    def get(self, request: Request) -> Response:
        require(request.user, "case.list")
        query = self.checked(CaseQuery, request.query_params)
        return self.page(request, selectors.case_list(request.user, **query), CaseRow)

    @door("Open a case", with_context(CaseRow), status=201, also=(413, 415), tag="cases",
          operation_id="case_open", request=CaseNew)  # fmt: skip
    def post(self, request: Request) -> Response:
        require(request.user, "case.open")
        sent = self.checked(CaseNew)
        patient = visible_to(request.user, Patient.objects.all()).filter(code=sent.pop("patient")).first()
        if patient is None:
            raise InvalidInput("No patient of your teams has this code. Look it up under /api/patients/.")
        case = case_service.case_open(user=request.user, patient=patient, **sent)
        return Response(CaseRow(case).data, status=201)


class CaseOne(ApiView):
    @door("One case", with_context(CaseRow), also=(404,), tag="cases", operation_id="case")
    def get(self, request: Request, pk: int) -> Response:
        require(request.user, "case.view")
        return Response(CaseRow(case_of(request, pk)).data)


# --- work ------------------------------------------------------------------------------------------


class JobRow(serializers.Serializer):
    kind = serializers.CharField()
    subject = serializers.IntegerField(help_text="the photo analysed, or the case ranked")
    state = serializers.ChoiceField(choices=JOB_STATES)
    step = serializers.CharField()
    progress = serializers.IntegerField(help_text="per cent")
    attempts = serializers.IntegerField()
    error = serializers.CharField()
    changed_at = serializers.DateTimeField()


class CaseJobs(PagedView):
    @door("Progress of the work on a case", JobRow(many=True), also=(404,), tag="cases",
          operation_id="case_jobs")  # fmt: skip
    def get(self, request: Request, pk: int) -> Response:
        require(request.user, "case.view")
        return self.page(request, api_selectors.jobs_of(case_of(request, pk)), JobRow)


# --- decisions -------------------------------------------------------------------------------------


class VerdictRow(serializers.Serializer):
    id = serializers.IntegerField()
    syndrome = serializers.CharField(source="syndrome.identifier")
    answer = serializers.ChoiceField(choices=Answer.choices)
    ranking = serializers.IntegerField(source="ranking_id")
    user = serializers.CharField(source="user.username")
    at = serializers.DateTimeField()


class VerdictNew(serializers.Serializer):
    syndrome = serializers.CharField(max_length=30, help_text="identifier, such as OMIM:122470")
    answer = serializers.ChoiceField(choices=Answer.choices)


class Verdicts(PagedView):
    @door("Verdicts on a case's list, newest first", VerdictRow(many=True), also=(404, 409), tag="decisions",
          operation_id="verdict_list")  # fmt: skip
    def get(self, request: Request, pk: int) -> Response:
        require(request.user, "ranking.view")
        return self.page(
            request, api_selectors.verdicts_shown(case_of(request, pk), request.user), VerdictRow
        )

    @door("Say what you think of one row", with_context(VerdictRow), status=201, also=(404, 409, 413, 415),
          tag="decisions", operation_id="verdict_record", request=VerdictNew)  # fmt: skip
    def post(self, request: Request, pk: int) -> Response:
        require(request.user, "case.decide")
        case, sent = case_of(request, pk), self.checked(VerdictNew)
        row = verdict_service.verdict_record(
            user=request.user, case=case, syndrome=syndrome_of(sent["syndrome"]), answer=sent["answer"]
        )
        return Response(VerdictRow(row).data, status=201)


class DiagnosisFacts(serializers.Serializer):
    syndrome = serializers.CharField(source="syndrome.identifier")
    name = serializers.CharField(source="syndrome.name")
    gene = serializers.CharField(source="gene.symbol", default=None, allow_null=True)
    confirmed_by = serializers.CharField(source="confirmed_by.username", default=None, allow_null=True)
    confirmed_at = serializers.DateTimeField()


class DiagnosisRow(serializers.Serializer):
    """The patient's standing diagnosis, null while there is none."""

    diagnosis = DiagnosisFacts(allow_null=True)


class DiagnosisNew(serializers.Serializer):
    syndrome = serializers.CharField(max_length=30, help_text="identifier, such as OMIM:122470")
    gene = serializers.CharField(max_length=30, required=False, default=None, allow_null=True)


class DiagnosisOne(ApiView):
    @door("The standing diagnosis", with_context(DiagnosisRow), also=(404,), tag="decisions",
          operation_id="diagnosis")  # fmt: skip
    def get(self, request: Request, pk: int) -> Response:
        require(request.user, "case.view")
        return self._answer(case_selectors.diagnosis_standing(case_of(request, pk).patient))

    @door("Confirm a diagnosis, which closes the case", with_context(DiagnosisRow), status=201,
          also=(404, 409, 413, 415), tag="decisions", operation_id="diagnosis_confirm",
          request=DiagnosisNew)  # fmt: skip
    def post(self, request: Request, pk: int) -> Response:
        require(request.user, "case.decide")
        case, sent = case_of(request, pk), self.checked(DiagnosisNew)
        syndrome, gene = syndrome_of(sent["syndrome"]), None
        if sent["gene"] is not None:
            gene = Gene.objects.filter(symbol=sent["gene"]).first()
            if gene is None:
                raise InvalidInput("The catalogue has no such gene. Leave the gene out if it is not known.")
        row = verdict_service.diagnosis_confirm(user=request.user, case=case, syndrome=syndrome, gene=gene)
        return self._answer(row, status=201)

    def _answer(self, row: Any, status: int = 200) -> Response:
        return Response({"diagnosis": DiagnosisFacts(row).data if row else None}, status=status)
