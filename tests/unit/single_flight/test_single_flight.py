from __future__ import annotations

import pytest

from mailmapd.single_flight import SingleFlight


def test_shared() -> None:
    """A flight in the air is found by everybody who asks for its key.

    When it lands, all who joined are told, in their order, and once.
    """
    flights: SingleFlight[int] = SingleFlight()
    flight = flights.start(b"k")
    assert flights.find(b"k") is flight
    assert flights.find(b"other") is None
    told: list[tuple[str, int]] = []
    flight.join(lambda answer: told.append(("first", answer)))
    flight.join(lambda answer: told.append(("second", answer)))
    assert flights.end(b"k", flight)
    assert flights.find(b"k") is None
    flight.land(7)
    flight.land(8)
    assert told == [("first", 7), ("second", 7)]


def test_forgotten() -> None:
    """A flight that was cut loose learns that its answer is not wanted, and does not end its successor."""
    flights: SingleFlight[int] = SingleFlight()
    old = flights.start(b"k")
    flights.forget(b"k")
    new = flights.start(b"k")
    assert not flights.end(b"k", old)
    assert flights.find(b"k") is new
    assert flights.end(b"k", new)
    assert len(flights) == 0


def test_forget_all() -> None:
    """Cutting all flights loose leaves none to join."""
    flights: SingleFlight[int] = SingleFlight()
    flight = flights.start(b"a")
    flights.forget_all()
    assert flights.find(b"a") is None
    assert not flights.end(b"a", flight)


def test_one_that_fails_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever waits is told, even when telling another goes wrong; and that is logged."""
    flights: SingleFlight[int] = SingleFlight()
    flight = flights.start(b"a")
    told: list[int] = []
    flight.join(lambda answer: told.append(answer // 0))
    flight.join(told.append)
    flight.land(7)
    assert told == [7]
    assert "a defect of mailmapd" in caplog.text
