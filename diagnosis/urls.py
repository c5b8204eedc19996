"""URLs of the clinic. tests/clinic/test_permission_table.py has one row per name."""

from django.urls import URLPattern, URLResolver, path

from diagnosis.views import administration

app_name = "clinic"
urlpatterns: list[URLPattern | URLResolver] = [
    # --- administration ---
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
    path("model/", administration.model_page, name="model_page"),
    path("model/<int:pk>/adopt/", administration.model_adopt, name="model_adopt"),
    path("model/roll-back/", administration.model_roll_back, name="model_roll_back"),
]
