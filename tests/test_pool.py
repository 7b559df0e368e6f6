"""Jobs in worker processes: what they make once, and what happens when one of them fails."""

from __future__ import annotations

import os
import time

import pytest

from worldmodel.errors import RunError, UserError
from worldmodel.pool import in_processes, stopping


def number() -> int:
    return 40


def add(made: int, job: int) -> tuple[int, int]:
    return made + job, os.getpid()


def fail_or_wait(made: int, job: str) -> str:
    if job == "fail":
        raise UserError("as asked")
    if job == "die":
        os._exit(1)
    since = time.monotonic()
    while not stopping():
        assert time.monotonic() - since < 60, "nobody said that it is over"
        time.sleep(0.01)
    return "stopped"


def test_jobs_are_drawn_as_processes_are_free_for_them() -> None:
    drawn = []

    def jobs():
        for job in range(5):
            drawn.append(job)
            yield job

    found = in_processes(number, add, jobs(), 2)
    first, _ = next(found)
    assert len(drawn) == 2  # not all at once
    rest = list(found)
    assert sorted([first, *(value for value, _ in rest)]) == [40, 41, 42, 43, 44]
    assert os.getpid() not in {pid for _, pid in rest}


def test_where_one_fails_the_others_are_told_and_its_error_is_raised() -> None:
    with pytest.raises(UserError, match="as asked"):
        list(in_processes(number, fail_or_wait, ["wait", "fail"], 2))
    assert not stopping()  # here


def test_a_process_that_dies_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(RunError, match=r"a worker process died.*workers=1"):
        list(in_processes(number, fail_or_wait, ["die"], 1))
