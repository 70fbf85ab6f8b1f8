"""protect() and BAMLWrapper over the real BAML runtime and a provider on loopback."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resilience import (
    AllClientsFailedError,
    BAMLErrorHandler,
    BAMLWrapper,
    ErrorCategory,
    FallbackPolicy,
    RetryPolicy,
    Settings,
    protect,
)
from resilience.errors import (
    ConfigurationError,
    MissingClientError,
    ResilienceWarning,
)
from resilience.testing import (
    Answer,
    Empty,
    ErrorInBody,
    Finish,
    Hang,
    Malformed,
    ProviderSimulator,
    Reset,
    ScriptedBAML,
    Status,
    Truncate,
    WrongSchema,
)

pytestmark = pytest.mark.baml

GOAL = "Find out why some gut bacteria survive antibiotics"
FAST = RetryPolicy(initial_delay=0.01, max_delay=0.02, attempt_timeout=5.0)


@pytest.fixture
def baml_py() -> ModuleType:
    import baml_py  # noqa: PLC0415 - only tests that run BAML may load it

    return baml_py


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., BAMLErrorHandler]]:
    handlers: list[BAMLErrorHandler] = []

    def build(*backups: str, **policies: Any) -> BAMLErrorHandler:
        settings = Settings(
            store_url=f"sqlite:///{tmp_path}/circuits.db", database_url=f"sqlite:///{tmp_path}/history.db"
        )
        policies.setdefault("retry", FAST)
        policies.setdefault("fallback", FallbackPolicy(clients=backups))
        handlers.append(BAMLErrorHandler(settings=settings, **policies))
        return handlers[-1]

    yield build
    for handler in handlers:
        await handler.aclose()


# --- the happy path ---------------------------------------------------------------------------------------------


async def test_the_eight_functions_answer_with_their_types(
    simulator: ProviderSimulator, b: Any, make: Any
) -> None:
    """Every coroutine of BAMLWrapper calls its BAML function and returns the generated type."""
    async with BAMLWrapper(b, error_handler=make()) as wrapper:
        first = await wrapper.generate_hypothesis(
            goal=GOAL, constraints=["in vitro"], existing_hypotheses=["old"]
        )
        second = await wrapper.generate_hypothesis(GOAL, existing_hypotheses=[first], focus_area="persisters")
        review = await wrapper.evaluate_hypothesis(first, "full", ["novelty"], context="none")
        answers = [
            first,
            review,
            await wrapper.perform_safety_check("hypothesis", first.statement, "standard", ["biosafety"]),
            await wrapper.compare_hypotheses(first, second, ["novelty"], debate_context="round 1"),
            await wrapper.enhance_hypothesis(
                first, "simplify", feedback="shorter", complementary_hypothesis=second
            ),
            await wrapper.calculate_similarity(first, second, ["mechanism"]),
            await wrapper.extract_research_patterns([first, second], [review], "gaps"),
            await wrapper.parse_research_goal(GOAL, domain_context="biology"),
        ]

    assert [
        "Hypothesis",
        "Review",
        "SafetyCheck",
        "ComparisonResult",
        "Hypothesis",
        "SimilarityScore",
        "ResearchPatterns",
        "ParsedResearchGoal",
    ] == [type(answer).__name__ for answer in answers]
    assert len(simulator.requests) == 9


async def test_the_documented_example_works_verbatim(
    simulator: ProviderSimulator, b: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`BAMLWrapper()` finds the project's client; when all clients failed, one synchronous call returns the history."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESILIENCE_RETRY__INITIAL_DELAY", "0.01")
    simulator.client("Primary").set(Status(503))

    wrapper = BAMLWrapper()
    with pytest.raises(Exception, match="503"):
        await wrapper.generate_hypothesis(goal=GOAL, constraints=["in vitro"])
    history = wrapper.error_handler.get_error_history()
    await wrapper.aclose()

    assert [4, 3, 2, 1] == [record.attempt for record in history]
    assert {"GenerateHypothesis"} == {record.function for record in history}
    assert (tmp_path / ".resilience" / "resilience.db").exists()


def test_a_project_without_a_client_gets_the_remedy() -> None:
    """Without a generated client BAMLWrapper() fails at the first call, naming `baml-cli generate`."""
    code = (
        "import asyncio, resilience\n"
        "wrapper = resilience.BAMLWrapper()\n"
        "asyncio.run(wrapper.parse_research_goal('x'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")

    assert MissingClientError.__name__ in done.stderr
    assert "baml-cli generate" in done.stderr


# --- faults -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "category", "status"),
    [
        (Status(400), ErrorCategory.INVALID_REQUEST, 400),
        (Status(401), ErrorCategory.AUTHENTICATION, 401),
        (Status(402), ErrorCategory.QUOTA_EXHAUSTED, 402),
        (Status(403, body={"error": {"message": "no access to this model"}}), ErrorCategory.PERMISSION, 403),
        (Status(404), ErrorCategory.NOT_FOUND, 404),
        (Status(408), ErrorCategory.TIMEOUT, 408),
        (Status(409), ErrorCategory.RATE_LIMIT, 409),
        (Status(422), ErrorCategory.INVALID_REQUEST, 422),
        (Status(429), ErrorCategory.RATE_LIMIT, 429),
        (Status(500), ErrorCategory.SERVER_ERROR, 500),
        (Status(502), ErrorCategory.SERVER_ERROR, 502),
        (
            Status(502, body="<html><h1>502 Bad Gateway</h1><hr>nginx</html>"),
            ErrorCategory.SERVICE_UNAVAILABLE,
            502,
        ),
        (Status(503, body="upstream connect error"), ErrorCategory.SERVICE_UNAVAILABLE, 503),
        (Status(504), ErrorCategory.SERVICE_UNAVAILABLE, 504),
        (Status(529), ErrorCategory.OVERLOADED, 529),
        (Reset(), ErrorCategory.NETWORK, None),
        (Reset(orderly=True), ErrorCategory.NETWORK, None),
        (Truncate(), ErrorCategory.NETWORK, None),
        (Malformed(), ErrorCategory.NETWORK, 200),
        (WrongSchema(), ErrorCategory.OUTPUT_INVALID, 200),
        (Empty(), ErrorCategory.OUTPUT_INVALID, 200),
        (Finish("length"), ErrorCategory.OUTPUT_TRUNCATED, 200),
        (Finish("content_filter"), ErrorCategory.CONTENT_POLICY, 200),
        (ErrorInBody(), ErrorCategory.RATE_LIMIT, 200),
    ],
    ids=str,
)
async def test_faults_on_the_wire_have_their_category(
    simulator: ProviderSimulator,
    b: Any,
    make: Any,
    behaviour: Any,
    category: ErrorCategory,
    status: int | None,
) -> None:
    """Each fault has its category and the status that a server really sent, whatever BAML reports."""
    simulator.client("Primary").set(behaviour)
    handler = make(retry=RetryPolicy(max_retries=0, max_output_retries=0))

    with pytest.raises(Exception):  # noqa: B017, PT011 - which one is the point of other tests
        await protect(b, handler).ParseResearchGoal(GOAL)

    (record,) = handler.get_error_history()
    assert (category, status) == (record.category, record.status)
    assert GOAL not in record.message
    assert "sk-simulated" not in record.message


async def test_a_refused_connection_is_a_network_failure(
    simulator: ProviderSimulator, b: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused connection, for which BAML invents a 503, is a network failure without a status."""
    monkeypatch.setenv("PRIMARY_BASE_URL", simulator.refused_url())
    handler = make(retry=RetryPolicy(max_retries=0))

    with pytest.raises(Exception):  # noqa: B017, PT011 - which one is the point of other tests
        await protect(b, handler).ParseResearchGoal(GOAL)

    (record,) = handler.get_error_history()
    assert (ErrorCategory.NETWORK, None) == (record.category, record.status)


async def test_a_hanging_client_is_abandoned_and_the_backup_answers(
    simulator: ProviderSimulator, b: Any, make: Any
) -> None:
    """BoundaryML/baml#2039: attempt_timeout ends a hang, closes its connection, and the next client answers."""
    simulator.client("Primary").set(Hang())
    handler = make("Secondary", retry=RetryPolicy(attempt_timeout=1.0))

    await protect(b, handler).ParseResearchGoal(GOAL)

    assert [("Primary", "hang"), ("Secondary", "200")] == [
        (line.client, line.sent) for line in simulator.requests
    ]
    assert ErrorCategory.TIMEOUT is handler.get_error_history()[0].category
    async with asyncio.timeout(240):
        while simulator.in_flight:  # noqa: ASYNC110 - another thread's counter
            await asyncio.sleep(0.01)


async def test_retry_after_reaches_us_through_baml(simulator: ProviderSimulator, b: Any, make: Any) -> None:
    """The header, which BAML's exception does not carry, is recorded and starts a cool-down for the whole fleet."""
    simulator.client("Primary").script([Status(429, retry_after=30)])
    handler = make("Secondary")
    for _ in range(4):
        await protect(b, handler).ParseResearchGoal(GOAL)

    (record,) = handler.get_error_history()
    assert record.retry_after == 30.0
    assert simulator.client("Primary").asked == 1


async def test_the_callers_own_exception_comes_back(
    simulator: ProviderSimulator, b: Any, make: Any, baml_py: ModuleType
) -> None:
    """With one client, `except BamlValidationError` in existing code keeps working."""
    simulator.client("Primary").set(WrongSchema())

    with pytest.raises(importlib.import_module("baml_py.errors").BamlValidationError):
        await protect(b, make()).ParseResearchGoal(GOAL)

    assert simulator.client("Primary").asked == 2  # max_output_retries


async def test_when_all_clients_fail_each_is_reported(
    simulator: ProviderSimulator, b: Any, make: Any
) -> None:
    """AllClientsFailedError holds BAML's own exceptions by client, and its text quotes none of theirs."""
    simulator.client("Primary").set(Status(503))
    simulator.client("Secondary").set(WrongSchema())

    with pytest.raises(AllClientsFailedError) as caught:
        await protect(b, make("Secondary")).ParseResearchGoal(GOAL)

    assert ["Primary", "Secondary"] == list(caught.value.by_client)
    assert GOAL not in str(caught.value)


# --- options ----------------------------------------------------------------------------------------------------


async def test_a_callers_options_are_respected(
    simulator: ProviderSimulator, b: Any, make: Any, baml_py: ModuleType
) -> None:
    """Collector, tags and env of the caller work per call and through with_options, alone or as a list."""
    one, two = baml_py.Collector("one"), baml_py.Collector("two")
    guarded = protect(b.with_options(collector=one), make()).with_options(tags={"tenant": "a"})

    await guarded.ParseResearchGoal(GOAL)
    await guarded.ParseResearchGoal(
        GOAL, baml_options={"collector": [two], "env": {"PRIMARY_MODEL": "other"}}
    )

    assert [1, 1] == [len(one.logs), len(two.logs)]
    assert one.last.tags["tenant"] == "a"
    assert ["simulated-primary", "other"] == [line.model for line in simulator.requests]


async def test_the_client_option_names_the_first_client(
    simulator: ProviderSimulator, b: Any, make: Any
) -> None:
    """`client` in baml_options (or with_options) is the preferred client, on every baml-py, and backups still work."""
    guarded = protect(b, make("Primary", "Tertiary"))
    simulator.client("Secondary").script([Answer(), Status(503)])

    await guarded.ParseResearchGoal(GOAL, baml_options={"client": "Secondary"})
    await guarded.with_options(client="Secondary").ParseResearchGoal(GOAL)

    assert ["Secondary", "Secondary", "Primary"] == [line.client for line in simulator.requests]


async def test_a_callers_registry_is_used_and_left_alone(
    simulator: ProviderSimulator, b: Any, make: Any, baml_py: ModuleType
) -> None:
    """A caller's client_registry decides the client; it is retried and recorded, and no shared circuit is touched."""
    registry = baml_py.ClientRegistry()
    options = {"base_url": simulator.url("Tertiary"), "api_key": "k", "model": "mine"}
    registry.add_llm_client("Mine", "openai-generic", options)
    registry.set_primary("Mine")
    simulator.client("Tertiary").script([Status(503)])
    handler = make("Secondary")

    await protect(b, handler).ParseResearchGoal(GOAL, baml_options={"client_registry": registry})

    assert ["mine", "mine"] == [line.model for line in simulator.requests]
    assert {} == dict(handler.circuits)


async def test_an_abort_ends_the_wait_before_a_retry(
    simulator: ProviderSimulator, b: Any, make: Any, baml_py: ModuleType
) -> None:
    """An abort during a backoff of ten minutes raises BAML's error, and the client is not asked again."""
    simulator.client("Primary").set(Status(503))
    controller = baml_py.AbortController()
    handler = make(retry=RetryPolicy(initial_delay=600.0, max_delay=600.0, jitter=False))
    call = asyncio.create_task(
        protect(b, handler).ParseResearchGoal(GOAL, baml_options={"abort_controller": controller})
    )
    async with asyncio.timeout(240):
        while not handler.get_error_history():  # noqa: ASYNC110 - the handler's own list
            await asyncio.sleep(0.01)
        controller.abort()
        with pytest.raises(Exception, match=r"(?i)abort"):
            await call

    assert 1 == simulator.client("Primary").asked


async def test_an_abort_of_the_caller_ends_the_call(
    simulator: ProviderSimulator, b: Any, make: Any, baml_py: ModuleType
) -> None:
    """An abort through the caller's own controller raises BAML's error at once, asks no other client and counts for nothing."""
    simulator.client("Primary").set(Hang())
    controller = baml_py.AbortController()
    handler = make("Secondary")
    call = asyncio.create_task(
        protect(b, handler).ParseResearchGoal(GOAL, baml_options={"abort_controller": controller})
    )
    async with asyncio.timeout(240):
        while not simulator.requests:  # noqa: ASYNC110 - the simulator's own list
            await asyncio.sleep(0.01)
    controller.abort()

    with pytest.raises(Exception, match=r"(?i)abort"):
        await call

    (record,) = handler.get_error_history()
    assert ErrorCategory.CANCELLED is record.category
    assert simulator.client("Secondary").asked == 0


async def test_a_cancelled_call_closes_its_connection(
    simulator: ProviderSimulator, b: Any, make: Any
) -> None:
    """Cancelling the task ends the HTTP request at the provider."""
    simulator.client("Primary").set(Hang())
    call = asyncio.create_task(protect(b, make()).ParseResearchGoal(GOAL))
    async with asyncio.timeout(240):
        while not simulator.in_flight:  # noqa: ASYNC110 - another thread's counter
            await asyncio.sleep(0.01)
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    async with asyncio.timeout(240):
        while simulator.in_flight:  # noqa: ASYNC110 - another thread's counter
            await asyncio.sleep(0.01)


async def test_what_is_not_an_async_function_is_left_alone(
    simulator: ProviderSimulator, b: Any, make: Any
) -> None:
    """What is not guarded is the client's own, stream passes for it; dir and repr are the client's; unknown names fail as before."""
    guarded = protect(b, make())

    assert guarded.request is b.request
    assert isinstance(guarded.stream, type(b.stream))
    assert set(dir(b.stream)) == set(dir(guarded.stream))
    assert guarded.parse is b.parse
    assert set(dir(b)) == set(dir(guarded))
    assert "protect(" in repr(guarded)
    assert guarded.ParseResearchGoal.__name__ == "ParseResearchGoal"
    with pytest.raises(AttributeError):
        guarded.NoSuchFunction  # noqa: B018 - the access is the test


async def test_protecting_twice_guards_once(simulator: ProviderSimulator, b: Any, make: Any) -> None:
    """protect(protect(b)) does not multiply attempts, and takes the newer handler."""
    simulator.client("Primary").set(Status(503))
    first, second = make(), make(retry=RetryPolicy(max_retries=1, initial_delay=0.01))
    guarded = protect(b, first)

    assert protect(guarded) is guarded
    assert protect(guarded, first) is guarded
    with pytest.raises(Exception, match="503"):
        await protect(guarded, second).ParseResearchGoal(GOAL)
    assert simulator.client("Primary").asked == 2
    assert [] == first.get_error_history()


# --- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        (
            {"fallback": FallbackPolicy(clients=("Secondry",))},
            r"fallback names the client 'Secondry'.*Primary, Secondary, Tertiary; did you mean 'Secondary'",
        ),
        ({"fallback": FallbackPolicy(context_clients=("Huge",))}, "'Huge'"),
        (
            {"per_function": {"ParseGoal": {}}},
            r"per_function names the function 'ParseGoal'.*ParseResearchGoal",
        ),
        (
            {"per_function": {"ParseResearchGoal": {"fallback": FallbackPolicy(clients=("X",))}}},
            "per_function.*'X'",
        ),
    ],
)
def test_unknown_names_are_found_at_start(
    simulator: ProviderSimulator, b: Any, policies: dict[str, Any], message: str
) -> None:
    """A policy naming a client or function the generated client does not have is an error that lists the known ones."""
    handler = BAMLErrorHandler(settings=Settings(store_url="memory://"), **policies)

    with pytest.raises(ConfigurationError, match=message):
        protect(b, handler)


def test_an_object_that_is_no_client_is_refused() -> None:
    """protect() of an object without async functions says what to pass."""
    with pytest.raises(ConfigurationError, match="async_client"):
        protect(object())


def test_unset_variables_are_reported_once_at_start(
    simulator: ProviderSimulator, b: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client in use whose variables are not set gives one warning that names them; clients not in use give none."""
    monkeypatch.delenv("SECONDARY_API_KEY")
    monkeypatch.delenv("TERTIARY_API_KEY")

    with pytest.warns(ResilienceWarning, match="SECONDARY_API_KEY") as warned:
        protect(b, make("Secondary"))

    assert len(warned) == 1
    assert "TERTIARY" not in str(warned[0].message)


def test_clients_that_retry_inside_baml_cause_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry_policy inside BAML gives one warning that attempts multiply."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    package = tmp_path / "multiplying_client"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "inlinedbaml.py").write_text(
        "def get_baml_files():\n"
        "    return {'a.baml': 'client<llm> Eager {\\n provider aws-bedrock\\n retry_policy Twice\\n}\\nretry_policy Twice {\\n max_retries 2\\n}\\nfunction Summarise(q: string) -> string {\\n client Eager\\n}'}\n"
    )
    (package / "async_client.py").write_text(
        "class BamlAsyncClient:\n    async def Summarise(self, q, baml_options={}):\n        return q\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        module = importlib.import_module("multiplying_client.async_client")
        with pytest.warns(ResilienceWarning, match="attempts multiply: the retry_policy of Eager") as warned:
            protect(module.BamlAsyncClient(), BAMLErrorHandler(settings=Settings(store_url="memory://")))
    finally:
        sys.path.remove(str(tmp_path))
    assert len(warned) == 1


def test_the_retries_of_the_aws_sdk_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Bedrock client gives one warning unless AWS_MAX_ATTEMPTS is 1."""
    package = tmp_path / "bedrock_client"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "inlinedbaml.py").write_text(
        "def get_baml_files():\n"
        "    return {'a.baml': 'client<llm> Nova {\\n provider aws-bedrock\\n}\\nfunction Summarise(q: string) -> string {\\n client Nova\\n}'}\n"
    )
    (package / "async_client.py").write_text(
        "class BamlAsyncClient:\n    async def Summarise(self, q, baml_options={}):\n        return q\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    client = importlib.import_module("bedrock_client.async_client").BamlAsyncClient()
    with pytest.warns(ResilienceWarning, match="AWS_MAX_ATTEMPTS=1"):
        protect(client, BAMLErrorHandler(settings=Settings(store_url="memory://")))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    protect(client, BAMLErrorHandler(settings=Settings(store_url="memory://")))


async def test_a_double_can_be_protected_too(make: Any) -> None:
    """ScriptedBAML goes through the same execution without any network."""
    double = ScriptedBAML(Summarise=[TimeoutError(), "42"])
    handler = make(retry=RetryPolicy(initial_delay=0.001))

    assert await protect(double, handler).Summarise("q") == "42"
    assert ErrorCategory.TIMEOUT is handler.get_error_history()[0].category


# --- BAML's logging -------------------------------------------------------------------------------------------------


def test_bamls_own_logging_is_turned_off(b: Any) -> None:
    """BAML prints prompts to stdout at its default level; after protect() it does not, unless the user set BAML_LOG."""
    code = (
        "import asyncio, os, sys\n"
        "from baml_client.async_client import b\n"
        "from resilience import BAMLErrorHandler, Settings, protect\n"
        "guarded = protect(b, BAMLErrorHandler(settings=Settings(store_url='memory://', privacy='off')))\n"
        "asyncio.run(guarded.ParseResearchGoal('the secret goal'))\n"
    )
    with ProviderSimulator.in_thread() as simulator:
        environment = {**os.environ, **simulator.environment(), "PYTHONPATH": os.pathsep.join(sys.path)}
        environment.pop("BAML_LOG", None)
        quiet = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        loud = subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, "BAML_LOG": "info"},
            capture_output=True,
            text=True,
            check=True,
        )

    assert "the secret goal" not in quiet.stdout + quiet.stderr
    assert "the secret goal" in loud.stdout + loud.stderr


def test_warnings_are_errors_here() -> None:
    """The suite fails at a warning that no test expects."""
    with pytest.raises(ResilienceWarning):
        warnings.warn("x", ResilienceWarning, stacklevel=1)
