"""Patients under their pseudonyms. Names and birth dates go in, sealed, and never come out here.

A name over the API would lie in another system's logs and caches, where no withdrawal reaches it; whoever
needs to know who a pseudonym is opens the patient's page.
"""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from diagnosis import api_selectors, patient_selectors
from diagnosis.api.base import CONSENT_STATES, ApiView, PagedView, door, with_context
from diagnosis.errors import InvalidInput
from diagnosis.models import Patient, Sex, Team, Tier
from diagnosis.permissions import require
from diagnosis.services import people as people_service


class Tiers(serializers.Serializer):
    """The five opt-ins as they stand now."""

    analysis = serializers.BooleanField()
    gallery = serializers.BooleanField()
    training = serializers.BooleanField()
    comparison = serializers.BooleanField()
    matching = serializers.BooleanField()


class PatientRow(serializers.Serializer):
    id = serializers.IntegerField()
    code = serializers.CharField()
    team = serializers.CharField(source="team.name")
    sex = serializers.ChoiceField(choices=Sex.choices)
    ancestry = serializers.CharField()
    affected = serializers.BooleanField()
    synthetic = serializers.BooleanField()
    consent = serializers.ChoiceField(choices=CONSENT_STATES, source="state")
    tiers = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    def get_tiers(self, patient: Patient) -> Tiers:
        given = patient.state == "given"
        return {tier.value: given and bool(getattr(patient, f"tier_{tier.value}")) for tier in Tier}  # type: ignore[return-value]


class PatientQuery(serializers.Serializer):
    search = serializers.CharField(max_length=20, required=False, default="", help_text="part of the code")


class PatientNew(serializers.Serializer):
    given_name = serializers.CharField(max_length=80, write_only=True)
    family_name = serializers.CharField(max_length=80, write_only=True)
    date_of_birth = serializers.DateField(write_only=True)
    sex = serializers.ChoiceField(choices=Sex.choices)
    ancestry = serializers.CharField(max_length=60, required=False, default="", allow_blank=True)
    affected = serializers.BooleanField(required=False, default=True)
    team = serializers.CharField(
        max_length=80, required=False, default="", help_text="needed by members of several teams"
    )


class PatientList(PagedView):
    @door("Patients of the caller's teams, under pseudonyms", PatientRow(many=True), tag="patients",
          operation_id="patient_list", parameters=[PatientQuery])  # fmt: skip
    def get(self, request: Request) -> Response:
        require(request.user, "patient.list")
        query = self.checked(PatientQuery, request.query_params)
        patients = api_selectors.with_tiers(patient_selectors.patient_list(request.user, **query))
        return self.page(request, patients, PatientRow)

    @door("Register a patient; the answer names the pseudonym only", with_context(PatientRow), status=201,
          also=(409, 413, 415), tag="patients", operation_id="patient_register",
          request=PatientNew)  # fmt: skip
    def post(self, request: Request) -> Response:
        require(request.user, "patient.register")
        sent = self.checked(PatientNew)
        team = _team(request.user, sent.pop("team"))
        patient = people_service.patient_register(user=request.user, team=team, **sent)
        return Response(_answer(request.user, patient.pk), status=201)


def _answer(user: Any, pk: int) -> dict[str, Any]:
    patients = api_selectors.with_tiers(patient_selectors.patients_for(user))
    return dict(PatientRow(get_object_or_404(patients, pk=pk)).data)


def _team(user: Any, name: str) -> Team:
    teams = patient_selectors.teams_of(user)
    found = list(teams.filter(name=name) if name else teams)
    if len(found) != 1:
        raise InvalidInput("Name the team, one that you belong to.")
    return found[0]


class PatientOne(ApiView):
    @door("One patient, under the pseudonym", with_context(PatientRow), also=(404,), tag="patients",
          operation_id="patient")  # fmt: skip
    def get(self, request: Request, pk: int) -> Response:
        require(request.user, "patient.view")
        return Response(_answer(request.user, pk))
