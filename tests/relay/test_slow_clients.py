"""Clients that dawdle: none of them may keep a good one waiting, nor flood the log."""

from __future__ import annotations

import logging
import socket
import time

import pytest

from tests.relay.conftest import Relay, StartRelay, read_all, wait_for
from tests.world import World

HALF_HEADERS = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "
HALF_BODY = b"POST /smi/v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"


def closed(connection: socket.socket) -> bool:
    """Whether the other side has hung up."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        pass
    return True


@pytest.fixture
def hasty(world: World, start_relay: StartRelay) -> Relay:
    """A relay that gives a second for headers, and a little more for a body."""
    world.set(body_seconds=1.0)
    return start_relay(world, header_seconds=1.0)


def test_silent_half_and_dripped_headers_are_closed(hasty: Relay) -> None:
    silent, half, dripping = hasty.connect(), hasty.connect(), hasty.connect()
    half.sendall(HALF_HEADERS)
    dripping.sendall(HALF_HEADERS)
    started = time.monotonic()

    def drip_until_closed() -> bool:
        try:
            dripping.sendall(b"a")
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return True
        return closed(dripping)

    wait_for(drip_until_closed, 5)
    wait_for(lambda: closed(silent) and closed(half), 5)
    assert time.monotonic() - started < 4


def test_a_body_that_drips_is_told_408_and_closed(hasty: Relay) -> None:
    connection = hasty.connect()
    connection.sendall(HALF_BODY)
    started = time.monotonic()
    answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"too_slow"' in answer
    assert b"nosniff" in answer
    assert time.monotonic() - started < 4
    assert closed(connection)


def test_two_hundred_half_open_connections_delay_nobody(
    hasty: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        slow = [hasty.connect() for _ in range(200)]
        for number, connection in enumerate(slow):
            connection.sendall((b"", HALF_HEADERS, HALF_BODY)[number % 3])
        session_id = hasty.world.pay(hasty.world.start_checkout().order_id)
        times = []
        for _ in range(10):
            started = time.monotonic()
            event = hasty.world.event("checkout.session.completed", session_id)
            assert hasty.stripe(*event).status_code == 200
            times.append(time.monotonic() - started)
        assert max(times) < 1.0
        wait_for(lambda: all(closed(connection) for connection in slow), 8)
        assert hasty.get("/healthz").status_code == 200
    ours = [record for record in caplog.records if record.name.startswith("webhook_relay")]
    assert not [record for record in ours if record.exc_info]
    assert len(ours) < 150, "at most a line for each that sent a whole head"


def test_clients_that_leave_amid_a_body_leave_no_trace_in_the_log(
    hasty: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(30):
            connection = hasty.connect()
            connection.sendall(HALF_BODY)
            connection.close()
        assert hasty.get("/healthz").status_code == 200
    assert not [record for record in caplog.records if record.exc_info]
    assert "Traceback" not in caplog.text


def test_an_idle_connection_is_closed_and_a_busy_one_kept(hasty: Relay) -> None:
    connection = hasty.connect()
    for _ in range(3):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    wait_for(lambda: closed(connection), 5)
