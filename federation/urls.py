"""URLs of the federation's console. What belongs to the other kind of site is refused."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from federation.views import answers, coordinator, members, overview, proposing, rounds, rules

app_name = "federation"
urlpatterns: list[URLPattern | URLResolver] = [
    path("", overview.home, name="home"),
    path("transcript/", overview.transcript, name="transcript"),
    # --- this hospital's membership ---
    path("join/", members.join, name="join"),
    path("leave/", members.leave, name="leave"),
    path("key/", members.key, name="key"),
    path("follow/", members.follow, name="follow"),
    path("sites/<int:pk>/", members.site_page, name="site_page"),
    path("sites/<int:pk>/confirm/", members.site_confirm, name="site_confirm"),
    path("sites/<int:pk>/unconfirm/", members.site_unconfirm, name="site_unconfirm"),
    # --- rounds ---
    path("propose/", proposing.propose, name="propose"),
    path("rounds/", rounds.round_list, name="round_list"),
    path("rounds/<int:number>/", rounds.round_page, name="round_page"),
    path("rounds/<int:number>/live/", rounds.round_live, name="round_live"),
    path("rounds/<int:number>/answer/", answers.round_answer, name="round_answer"),
    path("rounds/<int:number>/approve/", answers.round_approve, name="round_approve"),
    path("rounds/<int:number>/decline/", answers.round_decline, name="round_decline"),
    path("rounds/<int:number>/withdraw/", answers.round_withdraw, name="round_withdraw"),
    path("rounds/<int:number>/stop/", answers.round_stop, name="round_stop"),
    path("rounds/<int:number>/receipt.pdf", rounds.receipt, name="receipt"),
    path("rules/", rules.rule_list, name="rule_list"),
    path("rules/<int:pk>/end/", rules.rule_end, name="rule_end"),
    # --- the coordinator's own ---
    path("found/", coordinator.found, name="found"),
    path("invitations/", coordinator.invitations, name="invitations"),
    path("sites/<int:pk>/remove/", coordinator.site_remove, name="site_remove"),
]
