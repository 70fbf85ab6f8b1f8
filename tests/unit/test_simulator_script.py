"""What a simulated client does next: script, timetable, what was set, a good answer, in this order."""

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


def test_untold_it_gives_good_answers(client: SimulatedClient) -> None:
    """Nothing set means a good answer at once."""
    assert client.choose(request()) == Answer()


def test_what_is_set_stays(client: SimulatedClient) -> None:
    """`set` holds until something else is set."""
    client.set(Status(503))

    assert [client.choose(request()) for _ in range(2)] == [Status(503), Status(503)]


def test_answer_sets_in_one_breath(client: SimulatedClient) -> None:
    """`answer` makes an Answer of status 200 and a Status of others."""
    client.answer({"a": 1}, delay=0.5, headers={"x": "y"})
    good = client.choose(request())
    client.answer("down", status=503, headers={"x": "y"})

    assert good == Answer({"a": 1}, delay=0.5, headers={"x": "y"})
    assert client.choose(request()) == Status(503, body="down", headers={"x": "y"})


def test_a_script_comes_first_and_once(client: SimulatedClient) -> None:
    """Scripted steps go before timetable and setting, each once; a second script queues behind the first."""
    client.set(Hang())
    client.outage(0, 10, Reset())
    client.script([Status(500)])
    client.script([Status(429), Answer("fine")])

    chosen = [client.choose(request(at=1)) for _ in range(4)]

    assert chosen == [Status(500), Status(429), Answer("fine"), Reset()]


def test_an_outage_holds_from_start_until_end(client: SimulatedClient) -> None:
    """The start belongs to it, the end does not; around it what was set holds."""
    client.set(Answer("well"))
    client.outage(2, 7, Status(503))

    chosen = [client.choose(request(at)) for at in (1.9, 2.0, 6.9, 7.0)]

    assert chosen == [Answer("well"), Status(503), Status(503), Answer("well")]


def test_the_later_said_of_two_outages_wins(client: SimulatedClient) -> None:
    """Where two overlap, the one added last holds, and the other where it is alone."""
    client.outage(0, 10, Status(503))
    client.outage(4, 6, Hang())

    assert [client.choose(request(at)) for at in (3, 5, 7)] == [Status(503), Hang(), Status(503)]


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 3), (3, 2)])
def test_an_outage_needs_time_to_happen(client: SimulatedClient, start: float, end: float) -> None:
    """It starts at zero or later and ends after its start."""
    with pytest.raises(ValueError, match=r"outage\.(start|end)="):
        client.outage(start, end, Status(503))


def test_a_callable_chooses_by_the_request(client: SimulatedClient) -> None:
    """Wherever a behaviour is accepted, a function of the request is."""
    client.set(lambda asked: Status(413) if asked.size > 1 else Answer())

    assert client.choose(request()) == Status(413)


def test_heal_forgets_everything(client: SimulatedClient) -> None:
    """After `heal` only good answers are left."""
    client.set(Status(503))
    client.outage(0, 10, Hang())
    client.script([Reset()])

    client.heal()

    assert client.choose(request(at=5)) == Answer()
