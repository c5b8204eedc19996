"""URLs of the API and of GestaltMatcher-Arc's doors; diagnosis.urls takes them in."""

from django.urls import URLPattern, path, re_path

from diagnosis.api import arc, cases, patients, photos, rankings, schema, site

urlpatterns: list[URLPattern] = [
    path("api/", site.Root.as_view(), name="api_root"),
    path("api/schema/", schema.Schema.as_view(), name="api_schema"),
    path("api/docs/", schema.docs, name="api_docs"),
    path("api/cases/", cases.CaseList.as_view(), name="api_case_list"),
    path("api/cases/<int:pk>/", cases.CaseOne.as_view(), name="api_case"),
    path("api/cases/<int:pk>/jobs/", cases.CaseJobs.as_view(), name="api_case_jobs"),
    path("api/cases/<int:pk>/photos/", photos.CasePhotos.as_view(), name="api_photo_list"),
    path("api/cases/<int:pk>/ranking/", rankings.RankingNewest.as_view(), name="api_ranking_newest"),
    path("api/cases/<int:pk>/rankings/", rankings.RankingList.as_view(), name="api_ranking_list"),
    path("api/cases/<int:pk>/rankings/<int:ranking>/", rankings.RankingOne.as_view(), name="api_ranking"),
    path("api/cases/<int:pk>/verdicts/", cases.Verdicts.as_view(), name="api_verdicts"),
    path("api/cases/<int:pk>/diagnosis/", cases.DiagnosisOne.as_view(), name="api_diagnosis"),
    path("api/photos/<int:pk>/", photos.PhotoOne.as_view(), name="api_photo"),
    path("api/photos/<int:pk>/correct/", photos.PhotoCorrect.as_view(), name="api_photo_correct"),
    path("api/photos/<int:pk>/picture/<slug:kind>/", photos.PhotoPicture.as_view(), name="api_photo_picture"),
    path("api/patients/", patients.PatientList.as_view(), name="api_patient_list"),
    path("api/patients/<int:pk>/", patients.PatientOne.as_view(), name="api_patient"),
    path("api/syndromes/", site.SyndromeList.as_view(), name="api_syndrome_list"),
    path("api/syndromes/<str:identifier>/", site.SyndromeOne.as_view(), name="api_syndrome"),
    path("api/genes/", site.GeneList.as_view(), name="api_gene_list"),
    path("api/models/", site.ModelList.as_view(), name="api_model_list"),
    path("api/audit/", site.AuditList.as_view(), name="api_audit_list"),
    re_path(r"^api/.+/$", site.Nowhere.as_view(), name="api_nowhere"),
    path("predict", arc.Predict.as_view(), name="arc_predict"),
    path("encode", arc.Encode.as_view(), name="arc_encode"),
    path("crop", arc.CropFace.as_view(), name="arc_crop"),
    path("status", arc.ServiceStatus.as_view(), name="arc_status"),
]
