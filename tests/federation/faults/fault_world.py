"""A federation in one process whose sites can die at any point, and whose line, disks and clock can be wrong.

`point` is called before and after everything that lasts: commits, files in the key folder, blobs, and what
crosses the line. It names the point by role, kind, the functions that led there and the sum in hand; a hook
may answer by raising `Crash`. Every site goes on from what it has stored, as after a restart.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from world import COORDINATOR, Line, World

PASSES = 400
PLUMBING = frozenset({"move", "audit", "finish", "_hold", "wrapped", "write", "write_private", "blob_add"})


class Crash(BaseException):
    """The process of `site` is gone. Nothing between here and the loop may catch it."""

    def __init__(self, site: str) -> None:
        super().__init__(site)
        self.site = site


@dataclass
class FaultWorld(World):
    """A stored federation, copied to `folder` beforehand."""

    now_ms: int = 0
    #: called with (label, site) at every point
    hook: Callable[[str, str], None] = lambda label, site: None
    #: called after every pass of every site
    between: Callable[[], None] = lambda: None
    #: whose processes are not there; whose line is dead
    gone: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    idle: set[str] = field(default_factory=set)
    #: called with (site, what, bytes) for everything that a site sends, and for the links it reads
    hear: Callable[[str, str, bytes], None] = lambda site, what, data: None
    #: whether every fsync is a point, too
    disk: bool = False
    seen: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watching = True

    # --- points ---

    def synced(self) -> None:
        """Bytes reach the disk, which may be full."""
        if self.disk:
            self.point("disk", "before")

    def point(self, kind: str, when: str, detail: str = "") -> None:
        """Something lasting is about to happen, or has just happened, at the current site."""
        if not self.watching or not self.current:
            return
        role = COORDINATOR if self.current == COORDINATOR else "site"
        label = f"{role}: {when} {kind} {detail}".strip() + f" in {_where(sys._getframe(1))}"
        self.seen[label] += 1
        self.hook(label, self.current)

    def _connection(self, name: str) -> Any:
        if name in self.connections:
            return self.connections[name]
        made = super()._connection(name)
        commit = made._commit

        def watched() -> None:
            try:
                self.point("commit", "before")
            except BaseException:
                made._rollback()  # else Django, on its way out, would switch autocommit on, which commits
                raise
            commit()
            self.point("commit", "after")

        made._commit = watched
        made.execute_wrappers.append(self._alone)
        return made

    def _alone(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        """A single statement outside of any transaction commits by itself."""
        alone = not context["connection"].in_atomic_block and sql.startswith(("INSERT", "UPDATE", "DELETE"))
        if not alone:
            return execute(sql, params, many, context)
        self.point("commit", "before")
        found = execute(sql, params, many, context)
        self.point("commit", "after")
        return found

    # --- going on ---

    def line(self, name: str) -> Line:
        return FaultLine(self, name)

    def restart(self, name: str) -> None:
        """The process is gone and a new one begins, knowing what was stored."""
        self.crash(name)
        if name != COORDINATOR:
            self._leases_expire(name)

    def _leases_expire(self, name: str) -> bool:
        """A minute has passed: work whose worker could not even note its failure is free again."""
        from diagnosis import jobs

        with self.at(name):
            watching, self.watching = self.watching, False
            freed = jobs.release_dead_leases()
            self.watching = watching
        self.idle.discard(name)
        return bool(freed)

    def go(self, name: str) -> int:
        """One pass of a site, as its loop makes it: whatever fails is noted and tried again."""
        from django.db import DatabaseError

        from diagnosis.errors import ClinicError

        try:
            return self.step(name)
        except Crash as crash:
            self.crashes.append(crash.site)
            self.restart(crash.site)
            return 1
        except (ClinicError, DatabaseError, OSError) as error:
            self.troubles.append(f"{name}: {type(error).__name__}: {error}")
            self.idle.discard(name)
            return 0 if name in self.cut else 1

    def step(self, name: str) -> int:
        from federation import agent
        from federation.services.coordination import tick

        with self.at(name):
            if name == COORDINATOR:
                tick()
                return 0
            line = self.line(name)
            count = agent.pull(line)
            if not count and name in self.idle:
                return 0
            agent.act(line)
            agent.push(line)
            count += jobs_do()
        (self.idle.discard if count else self.idle.add)(name)
        return count

    def run(self, *, patience: int = 12) -> None:
        """Until nothing is new and the round has ended. Where only time can help, time passes.

        AssertionError when neither helps: that would be a federation that hangs.
        """
        quiet = waited = 0
        for _ in range(PASSES):
            moved = sum(self._go_and_look(name) for name in (COORDINATOR, *self.names))
            quiet = 0 if moved else quiet + 1
            if quiet == 1:
                self.idle.clear()  # everybody looks once more
            if quiet < 2:
                continue
            if any(self._leases_expire(name) for name in self.names if name not in self.gone):
                continue
            if self.ended():
                return
            assert waited < patience, f"hangs: {[self.report(n) for n in (COORDINATOR, *self.names)]}"
            self.now_ms, quiet, waited = self.now_ms + 61_000, 0, waited + 1
        raise AssertionError(f"the federation did not come to rest: {self.report(COORDINATOR)}")

    def _go_and_look(self, name: str) -> int:
        moved = 0 if name in self.gone else self.go(name)
        self.between()
        return moved

    def ended(self) -> bool:
        """Whether the round is over and everybody who is there knows."""
        there = [name for name in (COORDINATOR, *self.names) if name not in self.gone | self.cut]
        reports = [self.report(name) for name in there]
        alarmed = [bool(found["alarm"]) for found in reports]
        states = {found["state"] for found, alarm in zip(reports, alarmed, strict=True) if not alarm}
        return states <= {"published", "aborted"}


class FaultLine(Line):
    """A line on which either side may die."""

    world: FaultWorld

    def _call(self, what: str, work: Callable[[], Any]) -> Any:
        from django.db import DatabaseError

        from federation.errors import Unreachable

        def guarded() -> Any:
            try:
                return work()
            except (DatabaseError, OSError) as error:  # a server answers 500, which a line takes as "later"
                raise Unreachable(f"the coordinator failed: {error}") from None

        self.world.point("line", "before", what)
        try:
            answer = super()._call(what, guarded)
        except Crash as crash:
            if crash.site != COORDINATOR:
                raise
            self.world.crashes.append(COORDINATOR)
            self.world.restart(COORDINATOR)
            raise Unreachable("the coordinator's process ended") from None
        self.world.point("line", "after", what)
        return answer

    def post_entry(self, data: bytes, invitation: str = "") -> dict[str, Any]:
        self.world.hear(self.name, "entry", data)
        return super().post_entry(data, invitation)

    def links(self, after: int, wait: float = 0) -> dict[str, Any]:
        found = super().links(after, wait)
        self.world.hear(self.name, "links", json.dumps(found).encode())
        return found

    def blob_put(self, path: Path, sha256: str) -> None:
        self.world.hear(self.name, "blob", path.read_bytes())
        super().blob_put(path, sha256)


def jobs_do() -> int:
    """Do all jobs of this site as its worker does; the waits between attempts are over."""
    from diagnosis import jobs
    from diagnosis.models import Job

    done = 0
    Job.objects.filter(state="queued", not_before__isnull=False).update(not_before=None)
    for job in list(jobs.due().order_by("pk")):
        lease = jobs.claim(job.pk)
        assert lease is not None
        _job_do(lease)
        done += 1
    return done


def _job_do(lease: Any) -> None:
    """One attempt, ended as `diagnosis.tasks.perform` ends it (which would load the networks)."""
    import light

    from diagnosis import jobs
    from federation.tasks import _prepare_failed

    def failed() -> None:
        if lease.kind == "federation_prepare":
            _prepare_failed(lease.subject, "the work failed")

    try:
        light.WORK[lease.kind](lease)
    except Exception as error:
        jobs.give_up(lease, error=type(error).__name__, retry=True, failed=failed)


def _where(frame: Any) -> str:
    """The innermost functions of the project, and the sum or entry in hand."""
    names, subject = [], ""
    while frame is not None and len(names) < 2:
        path = Path(frame.f_code.co_filename)
        if {"federation", "diagnosis"} & set(path.parts) and "tests" not in path.parts:
            if frame.f_code.co_name not in PLUMBING:
                names.append(frame.f_code.co_name)
            subject = subject or _subject(frame.f_locals)
        frame = frame.f_back
    while frame is not None and not subject:
        if "federation" in Path(frame.f_code.co_filename).parts:
            subject = _subject(frame.f_locals)
        frame = frame.f_back
    return " < ".join(names) + (f" ({subject})" if subject else "")


def _subject(found: dict[str, Any]) -> str:
    """The kind of entry, or the purpose of the sum, that these local variables are about."""
    link = found.get("link")
    entry = found.get("entry") or getattr(link, "entry", None) or found.get("said")
    if getattr(entry, "kind", ""):
        return str(entry.kind)
    for name in ("total", "own", "sum"):
        row = found.get(name)
        row = getattr(row, "_state", None) and row._state.fields_cache.get("sum", row)
        if getattr(row, "purpose", ""):
            return str(row.purpose)
    name = found.get("name")
    return name.split(".")[1] if isinstance(name, str) and name.count(".") > 1 else ""
