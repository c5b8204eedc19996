"""Accounts and roles: what an admin can do, what they cannot, and that refusals change nothing."""

from __future__ import annotations

import pytest
from django.urls import reverse

from diagnosis.errors import Duplicate, InvalidInput, NotAllowed
from diagnosis.models import AuditEvent, Role, User
from diagnosis.services import users


@pytest.fixture
def admin(make_user):
    return make_user(roles={"site_admin"}, second_factor=True)


def test_a_new_account_has_no_password_until_its_link_is_used_once(admin, client) -> None:
    created = users.user_create(user=admin, username="mara", full_name="", roles={Role.GENETICIST}, teams=[])
    assert not created.has_usable_password()
    link = users.password_link(user=admin, target=created)
    page = client.get(link, follow=True)
    assert page.status_code == 200
    word = "a quiet river bends 7 times"
    page = client.post(page.request["PATH_INFO"], {"password1": word, "password2": word}, follow=True)
    created.refresh_from_db()
    assert created.check_password(word)
    again = client.get(link, follow=True)
    assert b"password1" not in again.content


def test_without_second_factor_an_admin_manages_nobody(make_user) -> None:
    bare = make_user(roles={"site_admin"})
    with pytest.raises(NotAllowed, match="second factor"):
        users.user_create(user=bare, username="x", full_name="", roles=set(), teams=[])
    assert not User.objects.filter(username="x").exists()


def test_the_last_admin_stays(admin) -> None:
    with pytest.raises(InvalidInput, match="last site admin"):
        users.roles_set(user=None, target=admin, roles={Role.AUDITOR})
    with pytest.raises(InvalidInput, match="last site admin"):
        users.user_deactivate(user=admin, target=admin)
    admin.forget_roles()
    assert admin.roles == {"site_admin"} and User.objects.get(pk=admin.pk).is_active


def test_nobody_gives_themselves_a_role_or_a_team(admin, team) -> None:
    for change in (
        lambda: users.roles_set(user=admin, target=admin, roles={"site_admin", "geneticist"}),
        lambda: users.teams_set(user=admin, target=admin, teams=[team]),
    ):
        with pytest.raises(InvalidInput, match="another site admin"):
            change()
    admin.forget_roles()
    assert admin.roles == {"site_admin"} and admin.teams.count() == 0


def test_a_session_without_the_second_factor_never_gains_its_rights(admin, client) -> None:
    client.force_login(admin)  # password only; a second factor is set up, but not proved here
    assert client.get(reverse("clinic:user_list")).status_code == 403


def test_names_are_unique_and_plain(admin) -> None:
    users.user_create(user=admin, username="mara", full_name="", roles=set(), teams=[])
    with pytest.raises(Duplicate):
        users.user_create(user=admin, username="mara", full_name="", roles=set(), teams=[])
    with pytest.raises(InvalidInput):
        users.user_create(user=admin, username="<script>", full_name="", roles=set(), teams=[])


def test_closing_an_account_ends_its_sessions_and_tokens(admin, make_user, client) -> None:
    clerk = make_user(roles={"intake", "api"})
    token = users.token_create(user=admin, target=clerk, label="batch")
    client.login(username=clerk.username, password="correct horse battery")
    assert client.get("/account/password/change/").status_code == 200
    users.user_deactivate(user=admin, target=clerk)
    assert client.get("/account/password/change/").status_code == 302
    assert not clerk.tokens.filter(revoked_at__isnull=True).exists()
    assert token not in str(list(AuditEvent.objects.values()))


def test_tokens_are_for_api_accounts_and_only_hashes_are_kept(admin, make_user) -> None:
    with pytest.raises(InvalidInput):
        users.token_create(user=admin, target=make_user(roles={"intake"}), label="x")
    robot = make_user(roles={"api"})
    token = users.token_create(user=admin, target=robot, label="x")
    row = robot.tokens.get()
    assert row.token_hash == users.token_hash(token) and token not in str(row.__dict__)


def test_pages_of_the_administration_work(admin, client, make_user, team, sign_in) -> None:
    sign_in(client, admin)
    other = make_user(roles={"intake", "api"}, team=team)
    for name, args in (
        ("user_list", []), ("user_page", [other.pk]), ("audit_list", []), ("audit_csv", []), ("model_page", []),
    ):  # fmt: skip
        assert client.get(reverse(f"clinic:{name}", args=args)).status_code == 200, name
    answer = client.post(
        reverse("clinic:user_list"), {"username": "nils", "roles": ["geneticist"], "teams": [team.pk]}
    )
    assert "/account/password/reset/key/" in answer.content.decode()
    assert User.objects.get(username="nils").roles == {"geneticist"}
    answer = client.post(reverse("clinic:token_new", args=[other.pk]), {"label": "lab"})
    assert other.tokens.count() == 1 and b"shown now" in answer.content
    client.post(reverse("clinic:user_page", args=[other.pk]), {"roles": ["auditor"], "teams": []})
    other.forget_roles()
    assert other.roles == {"auditor"} and other.teams.count() == 0
    assert b"The chain is whole" in client.get(reverse("clinic:audit_list") + "?check").content
