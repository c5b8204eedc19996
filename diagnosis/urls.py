"""URLs of the clinic. tests/clinic/test_permission_table.py has one row per name."""

from django.urls import URLPattern, URLResolver, path

from diagnosis.api import urls as api
from diagnosis.views import administration, cases, decisions, intake, ledger, patients, photos, pictures

app_name = "clinic"
Patterns = list[URLPattern | URLResolver]

case_patterns: Patterns = [
    path("", cases.home, name="home"),
    path("cases/", cases.case_list, name="case_list"),
    path("cases/new/", cases.case_new, name="case_new"),
    path("cases/<int:pk>/", cases.case_page, name="case_page"),
    path("cases/<int:pk>/progress/", cases.case_progress, name="case_progress"),
    path("cases/<int:pk>/note/", cases.case_note, name="case_note"),
    path("cases/<int:pk>/ranking.csv", cases.ranking_csv, name="ranking_csv"),
    path("cases/<int:pk>/print/", cases.case_print, name="case_print"),
    path("cases/<int:pk>/photos/", photos.photo_new, name="photo_new"),
    path("cases/<int:pk>/verdicts/", decisions.verdict_new, name="verdict_new"),
    path("cases/<int:pk>/differential/", decisions.differential, name="differential"),
    path("cases/<int:pk>/diagnosis/", decisions.diagnosis_new, name="diagnosis_new"),
    path("cases/<int:pk>/unsolved/", decisions.case_unsolved, name="case_unsolved"),
    path("cases/<int:pk>/reopen/", decisions.case_reopen, name="case_reopen"),
    path("photos/<int:pk>/correct/", photos.photo_correct, name="photo_correct"),
    path("photos/<int:pk>/remove/", photos.photo_remove, name="photo_remove"),
    path("photos/<int:pk>/<slug:kind>/", pictures.photo_picture, name="photo_picture"),
    path("gallery/<int:pk>/", pictures.gallery_picture, name="gallery_picture"),
    path("composites/<int:pk>/", pictures.composite_picture, name="composite_picture"),
    path("model/", administration.model_page, name="model_page"),
    path("model/<int:pk>/adopt/", administration.model_adopt, name="model_adopt"),
    path("model/roll-back/", administration.model_roll_back, name="model_roll_back"),
]

# All that a site without patients (a federation's coordinator) takes from here.
administration_patterns: Patterns = [
    path("users/", administration.user_list, name="user_list"),
    path("users/<int:pk>/", administration.user_page, name="user_page"),
    path("users/<int:pk>/link/", administration.user_link, name="user_link"),
    path("users/<int:pk>/active/", administration.user_active, name="user_active"),
    path("users/<int:pk>/second-factor/", administration.user_second_factor_reset, name="user_second_factor"),
    path("users/<int:pk>/tokens/", administration.token_new, name="token_new"),
    path("tokens/<int:pk>/end/", administration.token_end, name="token_end"),
    path("teams/", administration.team_new, name="team_new"),
    path("audit/", administration.audit_list, name="audit_list"),
    path("audit.csv", administration.audit_csv, name="audit_csv"),
]

# Patients, consent, intake, ledger.
patient_patterns: Patterns = [
    path("patients/", patients.patients, name="patient_list"),
    path("patients/new/", patients.patient_new, name="patient_new"),
    path("patients/<int:pk>/", patients.patient_page, name="patient_page"),
    path("patients/<int:pk>/correct/", patients.patient_correct, name="patient_correct"),
    path("patients/<int:pk>/link/", patients.patient_link, name="patient_link"),
    path("patients/<int:pk>/tablet/", patients.patient_tablet, name="patient_tablet"),
    path("patients/<int:pk>/code/", patients.patient_code, name="patient_code"),
    path("patients/<int:pk>/withdraw/", patients.patient_withdraw, name="patient_withdraw"),
    path("patients/<int:pk>/remove/", patients.patient_remove, name="patient_remove"),
    path("patients/<int:pk>/form/<int:consent_pk>.pdf", patients.consent_document, name="consent_document"),
    path("i/<str:token>/", intake.intake_open, name="intake_open"),
    path("intake/", intake.intake_now, name="intake_now"),
    path("intake/done/", intake.intake_done, name="intake_done"),
    path("intake/done/form.pdf", intake.intake_pdf, name="intake_pdf"),
    path("intake/finish/", intake.intake_finish, name="intake_finish"),
    path("intake/end/", intake.intake_end, name="intake_end"),
    path("intake/<slug:page>/", intake.intake_page, name="intake_page"),
    path("language/", intake.language, name="language"),
    path("ledger/", ledger.ledger_enter, name="ledger_enter"),
    path("ledger/photo/", ledger.ledger_page, name="ledger_page"),
    path("ledger/form.pdf", ledger.ledger_pdf, name="ledger_pdf"),
    path("ledger/change/", ledger.ledger_change, name="ledger_change"),
    path("ledger/stop/<slug:tier>/", ledger.ledger_stop, name="ledger_stop"),
    path("ledger/withdraw/", ledger.ledger_withdraw, name="ledger_withdraw"),
    path("ledger/leave/", ledger.ledger_leave, name="ledger_leave"),
]

urlpatterns: Patterns = [*case_patterns, *administration_patterns, *patient_patterns, *api.urlpatterns]
