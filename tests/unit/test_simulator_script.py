"""What a simulated client does next: its script, its outages, what was set, a good answer, in this order."""

from __future__ import annotations

import pytest

from resilience.testing import Answer, Hang, Request, Reset, SimulatedClient, Status


def request(at: float = 0.0) -> Request:
    return Request(
        number=1,
        client="Primary",
        at=at,
        path="/primary/v1/chat/completions",
        headers={},
        function=None,
        model="m",
        prompt="p",
        stream=False,
        size=2,
        body={},
    )


@pytest.fixture
def client() -> SimulatedClient:
    return SimulatedClient("Primary", "http://127.0.0.1:1/primary/v1")


def test_by_default_it_gives_good_answers(client: SimulatedClient) -> None:
    """A new client gives a good answer at once."""
    assert client.choose(request()) == Answer()


def test_what_is_set_stays(client: SimulatedClient) -> None:
    """`set` holds until something else is set."""
    client.set(Status(503))

    assert [client.choose(request()) for _ in range(2)] == [Status(503), Status(503)]


def test_answer_is_a_shorthand_of_set(client: SimulatedClient) -> None:
    """`answer` sets an Answer for status 200 and a Status for any other."""
    client.answer({"a": 1}, delay=0.5, headers={"x": "y"})
    good = client.choose(request())
    client.answer("down", status=503, headers={"x": "y"})

    assert good == Answer({"a": 1}, delay=0.5, headers={"x": "y"})
    assert client.choose(request()) == Status(503, body="down", headers={"x": "y"})


def test_a_script_comes_first_and_once(client: SimulatedClient) -> None:
    """Scripted steps outrank outages and settings, each once; a second script follows the first."""
    client.set(Hang())
    client.outage(0, 10, Reset())
    client.script([Status(500)])
    client.script([Status(429), Answer("fine")])

    chosen = [client.choose(request(at=1)) for _ in range(4)]

    assert chosen == [Status(500), Status(429), Answer("fine"), Reset()]


def test_an_outage_holds_from_start_until_end(client: SimulatedClient) -> None:
    """The start belongs to the outage, the end does not; before and after it the set behaviour holds."""
    client.set(Answer("well"))
    client.outage(2, 7, Status(503))

    chosen = [client.choose(request(at)) for at in (1.9, 2.0, 6.9, 7.0)]

    assert chosen == [Answer("well"), Status(503), Status(503), Answer("well")]


def test_the_later_planned_of_two_outages_wins(client: SimulatedClient) -> None:
    """Where two overlap, the one planned last holds; elsewhere the other does."""
    client.outage(0, 10, Status(503))
    client.outage(4, 6, Hang())

    assert [client.choose(request(at)) for at in (3, 5, 7)] == [Status(503), Hang(), Status(503)]


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 3), (3, 2)])
def test_an_outage_needs_time_to_happen(client: SimulatedClient, start: float, end: float) -> None:
    """An outage starts at zero or later and ends after its start."""
    with pytest.raises(ValueError, match=r"outage\.(start|end)="):
        client.outage(start, end, Status(503))


def test_a_callable_chooses_by_the_request(client: SimulatedClient) -> None:
    """A callable that gets the request is accepted wherever a behaviour is."""
    client.set(lambda asked: Status(413) if asked.size > 1 else Answer())

    assert client.choose(request()) == Status(413)


def test_heal_drops_everything(client: SimulatedClient) -> None:
    """After `heal` only good answers are left."""
    client.set(Status(503))
    client.outage(0, 10, Hang())
    client.script([Reset()])

    client.heal()

    assert client.choose(request(at=5)) == Answer()
