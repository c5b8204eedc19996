"""One row per URL name: who may do what. See test_permission_table.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from django.urls import reverse

WHO = (
    "anonymous", "geneticist", "geneticist_elsewhere", "intake", "intake_elsewhere", "admin",
    "admin_without_second_factor", "auditor", "api", "superuser_without_roles",
)  # fmt: skip
NOBODY: frozenset[str] = frozenset()
EVERYBODY = frozenset(WHO)
SIGNED_IN = EVERYBODY - {"anonymous"}
ADMIN = frozenset({"admin"})
AUDIT = frozenset({"admin", "admin_without_second_factor", "auditor"})
MODEL_READERS = frozenset({"geneticist", "geneticist_elsewhere", "auditor"}) | AUDIT
OWN_GENETICIST = frozenset({"geneticist"})
GENETICISTS = frozenset({"geneticist", "geneticist_elsewhere"})
OWN_STAFF = frozenset({"geneticist", "intake"})
STAFF = frozenset({"geneticist", "geneticist_elsewhere", "intake", "intake_elsewhere"})
API = frozenset({"api"})


@dataclass(frozen=True)
class Row:
    """name, who may GET and POST (and PUT, PATCH, DELETE), URL arguments and POST data from the world."""

    name: str
    get: frozenset[str] = NOBODY
    post: frozenset[str] = NOBODY
    put: frozenset[str] = NOBODY
    patch: frozenset[str] = NOBODY
    delete: frozenset[str] = NOBODY
    args: Callable[[Any], list[Any]] = lambda world: []
    data: Callable[[Any], dict[str, Any]] = lambda world: {}
    content_type: str = ""
    ok: frozenset[int] = frozenset({200, 201, 204, 302, 400, 409, 415, 422})
    address_of: Callable[[Any], str] | None = None
    methods: frozenset[str] = field(default=frozenset({"get", "post", "put", "patch", "delete"}))

    @property
    def anyone(self) -> frozenset[str]:
        return self.get | self.post | self.put | self.patch | self.delete

    def address(self, world: Any) -> str:
        return self.address_of(world) if self.address_of else reverse(self.name, args=self.args(world))

    def data_for(self, method: str, world: Any) -> dict[str, Any]:
        if method == "get" or not self.data(world):
            return {}
        kind = {"content_type": self.content_type} if self.content_type else {}
        return {"data": self.data(world), **kind}

    def success(self, method: str) -> frozenset[int]:
        return frozenset({200}) if method == "get" and 302 not in self.ok else self.ok


def _pk(name: str) -> Callable[[Any], list[Any]]:
    return lambda world: [getattr(world, name).pk]


ANYBODY = EVERYBODY
FAMILY_VISIT = frozenset({200, 302, 400, 403, 404, 409, 410})

ROWS = [
    Row("health", get=ANYBODY, post=ANYBODY, put=ANYBODY, patch=ANYBODY, delete=ANYBODY),
    # --- cases: geneticists of the case's own team; others do not learn that the case exists ---
    Row("clinic:home", get=SIGNED_IN, ok=frozenset({200, 302})),
    Row("clinic:case_list", get=GENETICISTS),
    Row("clinic:case_new", get=GENETICISTS, post=GENETICISTS, data=lambda w: {"patient": w.patient.pk}),
    Row("clinic:case_page", get=OWN_GENETICIST, args=_pk("case")),
    Row("clinic:case_progress", get=OWN_GENETICIST, args=_pk("case")),
    Row("clinic:case_note", post=OWN_GENETICIST, args=_pk("case"), data=lambda w: {"note": "x"}),
    Row("clinic:ranking_csv", get=OWN_GENETICIST, args=_pk("ranked_case")),
    Row("clinic:case_print", get=OWN_GENETICIST, args=_pk("ranked_case")),
    Row("clinic:photo_new", post=OWN_GENETICIST, args=_pk("case"), data=lambda w: {"age_years": "1"}),
    Row(
        "clinic:verdict_new",
        post=OWN_GENETICIST,
        args=_pk("ranked_case"),
        data=lambda w: {"syndrome": w.syndrome.identifier, "answer": "agree"},
    ),
    Row(
        "clinic:differential",
        get=OWN_GENETICIST,
        post=OWN_GENETICIST,
        args=_pk("case"),
        ok=frozenset({200, 302, 400, 409}),
        data=lambda w: {"text": "x"},
    ),
    Row(
        "clinic:diagnosis_new",
        get=OWN_GENETICIST,
        post=OWN_GENETICIST,
        args=_pk("case"),
        data=lambda w: {"syndrome": w.syndrome.identifier},
    ),
    Row("clinic:case_unsolved", post=OWN_GENETICIST, args=_pk("case")),
    Row("clinic:case_reopen", post=OWN_GENETICIST, args=_pk("case")),
    Row("clinic:photo_correct", post=OWN_GENETICIST, args=_pk("photo"), data=lambda w: {"face_choice": "0"}),
    Row("clinic:photo_remove", post=OWN_GENETICIST, args=_pk("photo")),
    Row("clinic:photo_picture", get=OWN_GENETICIST, args=lambda w: [w.photo.pk, "crop"]),
    # Look-alikes are the whole hospital's: a gallery picture under its pseudonym is for every geneticist.
    Row("clinic:gallery_picture", get=GENETICISTS, args=_pk("gallery_photo")),
    Row(
        "clinic:composite_picture", get=GENETICISTS, args=_pk("syndrome"), ok=frozenset({200, 302, 400})
    ),  # 400: too few patients for a composite
    # --- administration ---
    Row("clinic:user_list", get=ADMIN, post=ADMIN, data=lambda w: {"username": "newcomer"}),
    Row(
        "clinic:user_page",
        get=ADMIN,
        post=ADMIN,
        args=lambda w: [w.users["intake"].pk],
        data=lambda w: {"roles": ["auditor"]},
    ),
    Row("clinic:user_link", post=ADMIN, args=lambda w: [w.users["intake"].pk]),
    Row("clinic:user_active", post=ADMIN, args=lambda w: [w.users["intake"].pk]),
    Row("clinic:user_second_factor", post=ADMIN, args=lambda w: [w.users["intake"].pk]),
    Row("clinic:token_new", post=ADMIN, args=lambda w: [w.users["api"].pk], data=lambda w: {"label": "x"}),
    Row("clinic:token_end", post=ADMIN, args=_pk("token")),
    Row("clinic:team_new", post=ADMIN, data=lambda w: {"name": "New team"}),
    Row("clinic:audit_list", get=AUDIT),
    Row("clinic:audit_csv", get=AUDIT),
    Row("clinic:model_page", get=MODEL_READERS),
    Row("clinic:model_adopt", post=ADMIN, args=_pk("extractor")),
    Row("clinic:model_roll_back", post=ADMIN),
    # --- patients: intake staff and geneticists of the patient's team ---
    Row("clinic:patient_list", get=STAFF),
    Row("clinic:patient_new", get=STAFF, post=STAFF, data=lambda w: {"given_name": "A"}),
    Row("clinic:patient_page", get=OWN_STAFF, args=_pk("patient")),
    Row("clinic:patient_link", post=OWN_STAFF, args=_pk("patient"), data=lambda w: {"language": "en"}),
    Row("clinic:patient_tablet", post=OWN_STAFF, args=_pk("patient"), data=lambda w: {"language": "en"}),
    Row("clinic:patient_correct", get=OWN_STAFF, post=OWN_STAFF, args=_pk("patient")),
    Row("clinic:patient_code", post=OWN_STAFF, args=_pk("patient")),
    Row("clinic:patient_withdraw", get=OWN_STAFF, post=OWN_STAFF, args=_pk("patient")),
    Row("clinic:patient_remove", post=OWN_STAFF, args=_pk("patient")),
    Row(
        "clinic:consent_document",
        get=OWN_STAFF,
        args=lambda w: [w.patient.pk, w.consent.pk],
        ok=frozenset({200, 302, 410}),
    ),  # 410: this consent row was written without a sealed signature
    # --- the family's pages: no account; without a valid link, visit or code they show nothing ---
    Row("clinic:intake_open", get=ANYBODY, post=ANYBODY, args=lambda w: ["no-such-token"], ok=FAMILY_VISIT),
    Row("clinic:language", post=ANYBODY, data=lambda w: {"language": "de"}),
    Row("clinic:ledger_enter", get=ANYBODY, post=ANYBODY, data=lambda w: {"code": "wrong"}),
]
for _name in ("intake_now", "intake_done", "intake_pdf", "intake_end", "ledger_page", "ledger_pdf"):
    ROWS.append(Row(f"clinic:{_name}", get=ANYBODY, ok=FAMILY_VISIT))
for _name in ("intake_finish", "ledger_leave"):
    ROWS.append(Row(f"clinic:{_name}", post=ANYBODY, ok=FAMILY_VISIT))
for _name in ("ledger_change",):
    ROWS.append(Row(f"clinic:{_name}", post=ANYBODY, ok=FAMILY_VISIT))
for _name, _args in (("intake_page", ["who"]), ("ledger_stop", ["gallery"]), ("ledger_withdraw", [])):
    ROWS.append(Row(f"clinic:{_name}", get=ANYBODY, post=ANYBODY, ok=FAMILY_VISIT, args=lambda w, a=_args: a))

# allauth's own pages. Anybody may meet the sign-in and a one-time link; the rest is one's own account.
_OPEN = frozenset({200, 302, 400, 403, 404, 409, 429})  # 429: its rate limits
for _name in (
    "account_login", "account_logout", "account_inactive", "account_signup", "account_reset_password",
    "account_reset_password_done", "account_reset_password_from_key_done", "account_confirm_login_code",
    "account_email_verification_sent", "mfa_authenticate",
):  # fmt: skip
    ROWS.append(Row(_name, get=ANYBODY, post=ANYBODY, put=ANYBODY, patch=ANYBODY, delete=ANYBODY,
                    ok=_OPEN | {405}))  # fmt: skip
for _name, _args in (
    ("account_confirm_email", ["no-such-key"]), ("account_reset_password_from_key", ["1", "no-such-key"]),
):  # fmt: skip
    ROWS.append(Row(_name, get=ANYBODY, post=ANYBODY, put=ANYBODY, patch=ANYBODY, delete=ANYBODY,
                    ok=_OPEN | {405}, args=lambda w, a=_args: a))  # fmt: skip
for _name in (
    "account_reauthenticate", "account_email", "account_change_password", "account_set_password", "mfa_index",
    "mfa_reauthenticate", "mfa_activate_totp", "mfa_deactivate_totp", "mfa_view_recovery_codes",
    "mfa_generate_recovery_codes", "mfa_download_recovery_codes",
):  # fmt: skip
    ROWS.append(Row(_name, get=SIGNED_IN, post=SIGNED_IN, put=SIGNED_IN, patch=SIGNED_IN, delete=SIGNED_IN,
                    ok=_OPEN | {405}))  # fmt: skip

# --- REST API: the same people as on the pages; anonymous callers get 401, foreign teams 404, wrong roles 403 ---
_JSON = {"content_type": "application/json"}
_CATALOGUE = STAFF | AUDIT
ROWS += [
    *(Row(f"clinic:{name}", get=SIGNED_IN) for name in ("api_root", "api_schema", "api_docs")),
    Row(
        "clinic:api_case_list",
        get=GENETICISTS,
        post=GENETICISTS,
        data=lambda w: {"patient": w.patient.pk},
        **_JSON,
    ),
    Row("clinic:api_case", get=OWN_GENETICIST, args=_pk("case")),
    Row("clinic:api_case_jobs", get=OWN_GENETICIST, args=_pk("case")),
    Row(
        "clinic:api_photo_list",
        get=OWN_GENETICIST,
        post=OWN_GENETICIST,
        args=_pk("case"),
        data=lambda w: {"x": "1"},
    ),
    Row("clinic:api_ranking_newest", get=OWN_GENETICIST, args=_pk("ranked_case")),
    Row("clinic:api_ranking_list", get=OWN_GENETICIST, args=_pk("ranked_case")),
    Row(
        "clinic:api_ranking",
        get=OWN_GENETICIST,
        args=lambda w: [w.ranked_case.pk, w.ranked_case.rankings.get().pk],
    ),
    Row(
        "clinic:api_verdicts",
        get=OWN_GENETICIST,
        post=OWN_GENETICIST,
        args=_pk("ranked_case"),
        data=lambda w: {"syndrome": w.syndrome.identifier, "answer": "agree"},
        **_JSON,
    ),
    Row(
        "clinic:api_diagnosis",
        get=OWN_GENETICIST,
        post=OWN_GENETICIST,
        args=_pk("ranked_case"),
        data=lambda w: {"syndrome": w.syndrome.identifier},
        ok=frozenset({200, 201, 302, 404, 409}),
        **_JSON,
    ),
    Row("clinic:api_photo", get=OWN_GENETICIST, delete=OWN_GENETICIST, args=_pk("photo")),
    Row(
        "clinic:api_photo_correct",
        post=OWN_GENETICIST,
        args=_pk("photo"),
        data=lambda w: {"face_choice": 0},
        **_JSON,
    ),
    Row("clinic:api_photo_picture", get=OWN_GENETICIST, args=lambda w: [w.photo.pk, "crop"]),
    Row("clinic:api_patient_list", get=STAFF, post=STAFF, data=lambda w: {"given_name": "A"}, **_JSON),
    Row("clinic:api_patient", get=OWN_STAFF, args=_pk("patient")),
    Row("clinic:api_syndrome_list", get=_CATALOGUE),
    Row("clinic:api_syndrome", get=_CATALOGUE, args=lambda w: [w.syndrome.identifier]),
    Row("clinic:api_gene_list", get=_CATALOGUE),
    Row("clinic:api_model_list", get=MODEL_READERS),
    Row("clinic:api_audit_list", get=AUDIT),
    Row("clinic:api_nowhere", address_of=lambda w: "/api/x/"),
    # --- GestaltMatcher-Arc's doors: API accounts only, with their legal basis; /encode is off by default ---
    Row("clinic:arc_predict", post=API, data=lambda w: {"img": "AAAA"}, **_JSON),
    Row("clinic:arc_crop", post=API, data=lambda w: {"img": "AAAA"}, **_JSON),
    Row("clinic:arc_encode", data=lambda w: {"img": "AAAA"}, **_JSON),
    Row("clinic:arc_status", get=EVERYBODY),
]

# --- the federation's console: site admins and auditors look, site admins with a second factor act ---
_ELSE = frozenset(
    {"get", "put", "patch", "delete"}
)  # POST is refused to those who may only look, not unknown
_REASON = {"reason": "x", "decline-reason": "x", "stop-reason": "x", "withdraw-reason": "x", "code": "000000"}
ROWS += [
    *(Row(f"federation:{name}", get=AUDIT) for name in ("home", "transcript", "round_list")),
    Row("federation:join", post=ADMIN, data=lambda w: {"code": "x", "title": "x", "name": "x"}),
    *(
        Row(f"federation:{name}", get=ADMIN, post=ADMIN, data=lambda w: _REASON)
        for name in ("leave", "key", "follow")
    ),
    Row("federation:site_page", get=AUDIT, args=_pk("peer")),
    Row("federation:site_confirm", post=ADMIN, args=_pk("peer"), data=lambda w: _REASON),
    Row("federation:site_unconfirm", post=ADMIN, args=_pk("peer"), data=lambda w: _REASON),
    Row("federation:propose", get=ADMIN, post=ADMIN, data=lambda w: {"strategy": "fedavg"}),
    *(
        Row(f"federation:{name}", get=AUDIT, args=lambda w: [w.round_asked.number])
        for name in ("round_page", "round_live", "round_answer")
    ),
    *(
        Row(f"federation:{name}", post=ADMIN, args=lambda w: [w.round_asked.number], data=lambda w: _REASON)
        for name in ("round_approve", "round_decline", "round_withdraw", "round_stop")
    ),
    Row("federation:receipt", get=AUDIT, args=lambda w: [w.round_answered.number]),
    Row("federation:rule_list", get=AUDIT, post=ADMIN, data=lambda w: _REASON, methods=_ELSE),
    Row("federation:rule_end", post=ADMIN, args=_pk("rule")),
    # What only a coordinator does is refused on a hospital's site; tests/federation/pages asks a coordinator's.
    *(Row(f"federation:{name}", data=lambda w: _REASON) for name in ("found", "invitations")),
    Row("federation:site_remove", args=_pk("peer"), data=lambda w: _REASON),
]


def build_world(make_user: Any, make_patient: Any, make_case: Any) -> SimpleNamespace:
    """Two teams, one person per role and relation, and one of everything a URL may name."""
    from diagnosis.models import ApiToken, Extractor, Syndrome, Team

    here, elsewhere = Team.objects.create(name="Here"), Team.objects.create(name="Elsewhere")
    users = _people(make_user, here, elsewhere)
    patient = make_patient(team=here, tiers={"analysis", "gallery"})
    case = make_case(patient)
    extractor = Extractor.objects.create(name="one", sha256="1" * 64, origin="test", licence="none")
    world = SimpleNamespace(
        users=users, here=here, elsewhere=elsewhere, patient=patient, case=case, extractor=extractor,
        consent=patient.consents.get(), photo=_photo(case),
        syndrome=Syndrome.objects.create(identifier="SYN:9999", name="Synthetic syndrome", synthetic=True),
        token=ApiToken.objects.create(user=users["api"], token_hash="2" * 64, label="x"),
    )  # fmt: skip
    _gallery(world, make_patient, make_case)
    _federation(world)
    return world


def _federation(world: SimpleNamespace) -> None:
    """A federation in which this hospital has answered one round and is asked for another."""
    import datetime as dt
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parents[1] / "federation" / "pages"))
    import pages_world

    from federation.models import Peer, Round, StandingRule

    made = pages_world.published()
    made.open_round()
    world.round_answered, world.round_asked = Round.objects.order_by("number")
    world.peer = Peer.objects.get(name="hospital-b")
    world.rule = StandingRule.objects.create(
        strategies=["fedavg"], sites=["hospital-a", "hospital-b", "hospital-c"], maximum_epochs=5,
        minimum_participants=3, expires_at=dt.datetime.now(dt.UTC) + dt.timedelta(days=9),
        created_by=world.users["admin"],
    )  # fmt: skip


def _people(make_user: Any, here: Any, elsewhere: Any) -> dict[str, Any]:
    users = {
        "geneticist": make_user(roles={"geneticist"}, team=here),
        "geneticist_elsewhere": make_user(roles={"geneticist"}, team=elsewhere),
        "intake": make_user(roles={"intake"}, team=here),
        "intake_elsewhere": make_user(roles={"intake"}, team=elsewhere),
        "admin": make_user(roles={"site_admin"}, second_factor=True, team=here),
        "admin_without_second_factor": make_user(roles={"site_admin"}, team=here),
        "auditor": make_user(roles={"auditor"}, team=here),
        "api": make_user(roles={"api"}, team=here),
        "superuser_without_roles": make_user(roles=set(), team=here),
    }
    bare = users["superuser_without_roles"]
    type(bare).objects.filter(pk=bare.pk).update(is_superuser=True, is_staff=True)
    return users


def _photo(case: Any) -> Any:
    import io
    import uuid

    from PIL import Image

    from diagnosis import vault
    from diagnosis.models import Photo

    key, stream = uuid.uuid4(), io.BytesIO()
    Image.new("RGB", (112, 112), "grey").save(stream, "PNG")
    vault.create_key(key)
    picture = stream.getvalue()
    return Photo.objects.create(
        case=case, patient=case.patient, key=key, state="ready", width=112, height=112,
        original=vault.blob_write(key, picture, purpose="original"),
        crop=vault.blob_write(key, picture, purpose="crop"),
    )  # fmt: skip


def _gallery(world: SimpleNamespace, make_patient: Any, make_case: Any) -> None:
    """A solved patient of the same team, and a second case of the first patient with a ranking."""
    from diagnosis.models import Diagnosis, GalleryVersion, RankingRecord

    known = make_patient(team=world.here, tiers={"analysis", "gallery"})
    world.gallery_photo = _photo(make_case(known))
    Diagnosis.objects.create(patient=known, syndrome=world.syndrome)
    version = GalleryVersion.objects.create(
        number=1, extractor=world.extractor, sha256="3" * 64, photos=1, patients=1, syndromes=1
    )
    row = {"rank": 1, "id": world.syndrome.identifier, "name": world.syndrome.name, "distance": 0.5,
           "band": "Low", "photos": [world.gallery_photo.pk], "patients": 1, "genes": []}  # fmt: skip
    world.ranked_case = make_case(world.patient, state="ranked")
    RankingRecord.objects.create(
        case=world.ranked_case, photos=[], extractor=world.extractor, gallery=version, match="none",
        consent=world.consent, result={"syndromes": [row], "genes": [], "patients": []},
    )  # fmt: skip
