"""Accounts, roles and teams: made by a site admin, never by signing up, and never silently."""

from __future__ import annotations

import hashlib
import secrets

from allauth.account.forms import default_token_generator
from allauth.account.utils import user_pk_to_url_str
from django.contrib.sessions.models import Session
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone

from diagnosis.errors import Duplicate, InvalidInput
from diagnosis.models import ApiToken, Role, RoleGrant, Team, User
from diagnosis.permissions import require
from diagnosis.services.audit import audit


def user_create(
    *, user: User | None, username: str, full_name: str, roles: set[str], teams: list[Team]
) -> User:
    """Make an account without a password; hand its one-time link (`password_link`) to the person.

    `user` is None only for the site's own set-up. Raises Duplicate for a taken name.
    """
    if user is not None:
        require(user, "users.manage")
    username = username.strip()
    if not username.isascii() or not username.replace(".", "").replace("-", "").isalnum():
        raise InvalidInput("Use letters, digits, dots and hyphens for the user name.")
    try:
        with transaction.atomic():
            created = User(username=username, first_name=full_name.strip()[:150])
            created.set_unusable_password()
            created.save()
            audit(actor=user, action="user.created", subject=f"user:{created.pk}")
            roles_set(user=user, target=created, roles=roles)
            teams_set(user=user, target=created, teams=teams)
    except IntegrityError:
        raise Duplicate("There is an account with this user name already. Choose another one.") from None
    return created


def roles_set(*, user: User | None, target: User, roles: set[str]) -> None:
    """Make `roles` the exact set of the target's roles. The last active site admin cannot be demoted."""
    if user is not None:
        require(user, "users.manage")
    _require_other(user, target)
    unknown = roles - set(Role.values)
    if unknown:
        raise InvalidInput(f"Unknown role: {', '.join(sorted(unknown))}.")
    with transaction.atomic():
        now = set(target.grants.values_list("role", flat=True))
        if Role.SITE_ADMIN in now - roles:
            _require_another_admin(target)
        target.grants.filter(role__in=now - roles).delete()
        RoleGrant.objects.bulk_create(
            RoleGrant(user=target, role=role, granted_by=user) for role in sorted(roles - now)
        )
        if now != roles:
            audit(actor=user, action="user.roles", subject=f"user:{target.pk}",
                  added=sorted(roles - now), removed=sorted(now - roles))  # fmt: skip
    target.forget_roles()


def teams_set(*, user: User | None, target: User, teams: list[Team]) -> None:
    """Make `teams` the exact set of the target's teams."""
    if user is not None:
        require(user, "users.manage")
    _require_other(user, target)
    with transaction.atomic():
        target.teams.set(teams)
        audit(actor=user, action="user.teams", subject=f"user:{target.pk}", teams=[team.pk for team in teams])


def user_deactivate(*, user: User, target: User) -> None:
    """Close an account: no sign-in, sessions and API tokens end now. Its evidence keeps its name."""
    require(user, "users.manage")
    with transaction.atomic():
        if Role.SITE_ADMIN in target.roles:
            _require_another_admin(target)
        User.objects.filter(pk=target.pk).update(is_active=False)
        target.tokens.filter(revoked_at__isnull=True).update(revoked_at=timezone.now())
        _end_sessions(target)
        audit(actor=user, action="user.deactivated", subject=f"user:{target.pk}")
    target.is_active = False


def user_reactivate(*, user: User, target: User) -> None:
    """Open a closed account again; its password must be set anew by a fresh link."""
    require(user, "users.manage")
    with transaction.atomic():
        target.is_active = True
        target.set_unusable_password()
        target.save()
        audit(actor=user, action="user.reactivated", subject=f"user:{target.pk}")


def password_link(*, user: User | None, target: User) -> str:
    """A one-time path on which the person sets a password; it dies with the first use."""
    if user is not None:
        require(user, "users.manage")
    audit(actor=user, action="user.password_link", subject=f"user:{target.pk}")
    key = default_token_generator.make_token(target)
    return reverse(
        "account_reset_password_from_key", kwargs={"uidb36": user_pk_to_url_str(target), "key": key}
    )


def second_factor_reset(*, user: User, target: User) -> None:
    """Remove a lost second factor and end all sessions; actions that need one stay closed until it is new."""
    require(user, "users.manage")
    from allauth.mfa.models import Authenticator

    with transaction.atomic():
        Authenticator.objects.filter(user=target).delete()
        _end_sessions(target)
        audit(actor=user, action="user.second_factor_reset", subject=f"user:{target.pk}")


def team_create(*, user: User | None, name: str) -> Team:
    """Add a team; Duplicate if the name is taken."""
    if user is not None:
        require(user, "users.manage")
    name = name.strip()
    if not name:
        raise InvalidInput("Give the team a name.")
    try:
        with transaction.atomic():
            team = Team.objects.create(name=name)
            audit(actor=user, action="team.created", subject=f"team:{team.pk}")
            return team
    except IntegrityError:
        raise Duplicate("There is a team with this name already.") from None


def token_create(*, user: User | None, target: User, label: str) -> str:
    """A new API token of an API account. The text is returned once; only its hash is kept."""
    if user is not None:
        require(user, "users.manage")
    if Role.API not in target.roles:
        raise InvalidInput("Only an account with the role 'API account' gets tokens.")
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        row = ApiToken.objects.create(user=target, token_hash=token_hash(token), label=label.strip()[:80])
        audit(actor=user, action="token.created", subject=f"token:{row.pk}", account=target.pk)
    return token


def token_revoke(*, user: User, token: ApiToken) -> None:
    """End a token now."""
    require(user, "users.manage")
    with transaction.atomic():
        ApiToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(revoked_at=timezone.now())
        audit(actor=user, action="token.revoked", subject=f"token:{token.pk}", account=token.user_id)


def token_hash(token: str) -> str:
    """Hex sha256 of a 256-bit random token; such a token needs no slow hash."""
    return hashlib.sha256(token.encode()).hexdigest()


def _require_other(user: User | None, target: User) -> None:
    """A site admin sees no faces; so nobody gives themselves a clinical role or a team."""
    if user is not None and user.pk == target.pk:
        raise InvalidInput("Nobody changes their own roles or teams. Ask another site admin.")


def _require_another_admin(target: User) -> None:
    others = User.objects.filter(grants__role=Role.SITE_ADMIN, is_active=True).exclude(pk=target.pk)
    if not others.exists():
        raise InvalidInput("This is the last site admin. Make somebody else a site admin first.")


def _end_sessions(target: User) -> None:
    """Sign the person out everywhere: sessions are few, so reading them all is fine."""
    for session in Session.objects.filter(expire_date__gte=timezone.now()):
        if session.get_decoded().get("_auth_user_id") == str(target.pk):
            session.delete()
