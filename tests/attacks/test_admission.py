"""Clients that take more than their share, and handlers that do not come back: others have room, all get an answer."""

import functools

import pytest

from tests.attacks.crowd import assault, crowd
from tests.attacks.siege import MIB, Siege, needs_linux
from tests.server.waiting import eventually

HOLD = b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"
MISSING = b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n"
MISSED = (404, b"404 Not Found\n")
LIMIT_S = 1.0
SLACK_S = 15.0
WORKERS = 4


pytestmark = [pytest.mark.attack, pytest.mark.time_limit(240), needs_linux]


def test_address_that_connects_without_end_leaves_room_for_others(effort: int):
    most, room = 20, 30
    with Siege(memory=24 * MIB, max_connections=room, max_per_client=most, source="127.0.0.2") as siege:
        for _ in range(5 * effort):
            with crowd(siege.port, 10 * most) as hostiles:
                # Those beyond are told so; many at once are closed unanswered.
                assault(hostiles, seconds=20, until=lambda: sum(one.lasted is None for one in hostiles) <= most)
                refused = {hostile.status for hostile in hostiles if hostile.lasted is not None}
                assert 429 in refused
                assert refused <= {0, 429}
            eventually(lambda: siege.target.stats()["connections_open"] <= 1)


def test_requests_behind_stuck_workers_are_503_in_time(effort: int):
    """The healthy client asks for what needs no worker: none is to be had."""
    with Siege(
        memory=24 * MIB, workers=WORKERS, queue_timeout=LIMIT_S, max_queue=10_000, ask=MISSING, expect=MISSED
    ) as siege:
        before = siege.target.stats()["requests_dispatched"]
        with crowd(siege.port, WORKERS, HOLD) as held:
            eventually(lambda: siege.target.stats()["requests_dispatched"] == before + WORKERS)
            eventually(lambda: siege.target.stats()["queue_waiting"] == 0)
            with crowd(siege.port, 50 * effort, HOLD) as waiting:
                assault(waiting, seconds=LIMIT_S + SLACK_S, until=lambda: all(one.got for one in waiting))
                assert {hostile.status for hostile in waiting} == {503}
            siege.target.let_go()
            assault(held, seconds=SLACK_S, until=lambda: all(one.got for one in held))
            assert {hostile.status for hostile in held} == {200}


def test_requests_whose_handlers_do_not_come_back_are_504_in_time(effort: int):
    """Those that run and those that wait; what their handlers return later is discarded."""
    with Siege(
        memory=24 * MIB, workers=WORKERS, deadline=LIMIT_S, max_queue=10_000, ask=MISSING, expect=MISSED
    ) as siege:
        with crowd(siege.port, WORKERS + 50 * effort, HOLD) as hostiles:
            assault(hostiles, seconds=LIMIT_S + SLACK_S, until=lambda: all(one.got for one in hostiles))
            assert {hostile.status for hostile in hostiles} == {504}
            siege.target.let_go()
        eventually(lambda: siege.target.stats()["queue_waiting"] == 0)


@pytest.mark.parametrize("body", [0, 256 * 1024])
def test_clients_that_ask_and_leave_fill_neither_queue_nor_memory(effort: int, body: int):
    """The workers are stuck all the while, so nobody comes by for what was given up."""
    at_once, room = 20, 40
    rounds = (20 if body else 100) * effort
    ask = b"POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % body + b"x" * body
    with Siege(memory=40 * MIB, workers=WORKERS, max_queue=room, ask=MISSING, expect=MISSED) as siege:
        before = siege.target.stats()["requests_dispatched"]
        with crowd(siege.port, WORKERS, HOLD) as held:
            eventually(lambda: siege.target.stats()["requests_dispatched"] == before + WORKERS)
            descriptors = siege.target.descriptors()

            def are_in(count: int) -> bool:
                return bool(siege.target.stats()["requests_dispatched"] == before + WORKERS + count)

            for number in range(rounds):
                with crowd(siege.port, at_once, ask):
                    eventually(functools.partial(are_in, at_once * (number + 1)))
                eventually(lambda: siege.target.stats()["queue_waiting"] == 0)
            stats = siege.target.stats()
            assert stats["requests_abandoned"] >= at_once * rounds
            assert stats["refusals"]["queue_full"] == 0
            # The healthy client has one.
            eventually(lambda: siege.target.descriptors() <= descriptors + 1)
            siege.target.let_go()
            assault(held, seconds=SLACK_S, until=lambda: all(one.got for one in held))
            assert {hostile.status for hostile in held} == {200}
