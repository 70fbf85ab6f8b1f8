"""protect() over projects as people write them: every spelling of a client, strategies, options, copies and mocks."""

from __future__ import annotations

import copy
import importlib
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from support import baml_projects
from support.baml_projects import function, strategy

from resilience import (
    AllClientsFailedError,
    BAMLErrorHandler,
    ErrorCategory,
    FallbackPolicy,
    RetryPolicy,
    Settings,
    protect,
)
from resilience.errors import AttemptTimeoutError, MissingClientError
from resilience.testing import Answer, Hang, ProviderSimulator, Status, WrongSchema

pytestmark = pytest.mark.baml
unset_variables = pytest.mark.skipif(
    not baml_projects.UNSET_VARIABLES_ARE_ERRORS, reason="this BAML sends requests with unset variables"
)

SPELLINGS = {
    "Plain": "client Primary",
    "Quoted": 'client "Primary"',
    "Commented": "client Primary // the fast one",
    "QuotedAndCommented": 'client "Primary" // Set PRIMARY_API_KEY to use this client.',
    "BlockComment": "{//\n  client Secondary\n  //}\n  client Primary",
    "LineComment": "// client Secondary {\n  client Primary",
}

PROJECT = (
    "".join(function(name, client) for name, client in SPELLINGS.items())
    + function("LiteralBrace", "client Primary", 'it: string | "{"')
    + 'function PromptFirst(it: string) -> string {\n  prompt ##"\n    say "#\n    client Secondary\n    {{ it }}\n  "##\n'
    "  client Primary\n}\n"
    + strategy("Chain", "fallback", "Primary", "Secondary")
    + strategy("Ring", "round-robin", "Primary", "Secondary", options="    start 0\n")
    + strategy("Outer", "fallback", "Chain", "Tertiary")
    + "client<llm> NoKey {\n  provider openai-generic\n  options {\n    base_url env.NO_SUCH_URL\n    api_key env.NO_SUCH_KEY\n"
    '    model "x"\n  }\n}\n'
    + function("Chained", "client Chain")
    + "class Typed {\n  size int\n}\n"
    + function("ChainedTyped", "client Chain", result="Typed")
    + function("Nested", "client Outer")
    + function("Rounds", "client Ring")
    + function("Keyless", "client NoKey")
    + "retry_policy Thrice {\n  max_retries 2\n  strategy {\n    type constant_delay\n    delay_ms 10\n  }\n}\n"
    + "client<llm> Eager {\n  provider openai-generic\n  retry_policy Thrice\n  options {\n    base_url env.PRIMARY_BASE_URL\n"
    '    api_key env.PRIMARY_API_KEY\n    model "m"\n    temperature 0.5\n    headers { "x-team" "a" }\n  }\n}\n'
    + function("Eagerly", "client Eager")
    + "class Loose {\n  title string\n  @@dynamic\n}\n"
    + function("Grow", "client Primary", result="Loose")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("projects")
    sys.path.insert(0, str(made))
    yield made
    sys.path.remove(str(made))


@pytest.fixture(scope="module")
def project(folder: Path) -> Any:
    return baml_projects.generate(folder, "unix_project", PROJECT).b


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., BAMLErrorHandler]]:
    handlers: list[BAMLErrorHandler] = []

    def build(*backups: str, **policies: Any) -> BAMLErrorHandler:
        policies.setdefault("retry", RetryPolicy(initial_delay=0.0, max_delay=0.0, attempt_timeout=20.0))
        policies.setdefault("fallback", FallbackPolicy(clients=backups))
        settings = Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/history.db")
        handlers.append(BAMLErrorHandler(settings=settings, **policies))
        return handlers[-1]

    yield build
    for handler in handlers:
        await handler.aclose()


def guarded(project: Any, handler: BAMLErrorHandler) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NoKey's variables are not set, which is the point of some tests
        return protect(project, handler)


def asked(simulator: ProviderSimulator) -> list[str]:
    return [line.client for line in simulator.requests]


# --- which client is asked --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SPELLINGS, "LiteralBrace", "PromptFirst"])
async def test_the_guard_asks_the_client_that_baml_asks(
    name: str, project: Any, make: Any, simulator: ProviderSimulator
) -> None:
    """However the client is spelled in the source, a guarded call asks it and its circuit has its name."""
    handler = make()

    await getattr(guarded(project, handler), name)("x")

    assert ["Primary"] == asked(simulator)
    assert ["Primary"] == list(handler.circuits)


async def test_files_with_windows_line_ends_work(
    folder: Path, make: Any, simulator: ProviderSimulator
) -> None:
    """A project checked out with CRLF line ends is read like any other."""
    project = baml_projects.generate(folder, "windows_project", PROJECT, windows=True).b
    handler = make()

    await guarded(project, handler).Commented("x")
    await guarded(project, handler).Chained("x")

    assert ["Primary", "Primary"] == asked(simulator)
    assert ["Primary"] == list(handler.circuits)


async def test_a_leaf_client_is_not_named_to_baml(
    project: Any, make: Any, simulator: ProviderSimulator
) -> None:
    """The function's own client is BAML's choice: a wrong reading of the source could not change which model is asked."""
    client = guarded(project, make("Tertiary"))
    router = client._router
    router.declarations = replace(router.declarations, functions={"Plain": "Secondary"})
    simulator.client("Primary").script([Status(400)])

    with pytest.raises(Exception):  # noqa: B017, PT011 - BAML's own
        await client.Plain("x")
    simulator.client("Primary").script([Status(503)])
    await client.Plain("x")

    assert ["Primary", "Primary", "Tertiary"] == asked(simulator)


async def test_an_unknown_client_is_learnt_from_the_first_call(
    project: Any, make: Any, simulator: ProviderSimulator
) -> None:
    """Where the source does not tell the client, BAML chooses it, and from the second call on its circuit takes part."""
    handler = make()
    client = guarded(project, handler)
    router = client._router
    router.declarations = replace(router.declarations, functions={"Chained": "Chain"})

    await client.Plain("x")
    assert [] == list(handler.circuits)
    await client.with_options(client="Secondary").Plain("x")
    await client.Plain("x")

    assert ["Primary", "Secondary", "Primary"] == asked(simulator)
    assert {"Primary", "Secondary"} == set(handler.circuits)


async def test_the_option_client_names_the_client(
    project: Any, make: Any, simulator: ProviderSimulator
) -> None:
    """`client` of a call or of with_options is asked first, on every version of BAML; a strategy counts as its members."""
    client = guarded(project, make())

    await client.Plain("x", baml_options={"client": "Secondary"})
    await client.with_options(client="Tertiary").Plain("x")
    simulator.client("Primary").script([Status(503)])
    await client.with_options(client="Chain").Plain("x")

    assert ["Secondary", "Tertiary", "Primary", "Secondary"] == asked(simulator)


# --- strategies of BAML -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
async def test_a_fallback_strategy_goes_on_wherever_baml_would(
    status: int, project: Any, make: Any, simulator: ProviderSimulator
) -> None:
    """Every HTTP error of a member leads to the next one, each with a circuit of its own, without any FallbackPolicy."""
    simulator.client("Primary").set(Status(status))
    handler = make()

    await guarded(project, handler).Chained("x")

    assert "Secondary" == asked(simulator)[-1]
    assert {"Primary", "Secondary"} == set(handler.circuits)


async def test_a_strategy_stops_where_baml_would(
    project: Any, make: Any, simulator: ProviderSimulator
) -> None:
    """An answer that does not parse is asked for once more and then raised; with a policy of the user the members help."""
    simulator.client("Primary").set(WrongSchema())
    simulator.client("Secondary").set(Answer('{"size": 1}'))
    error = importlib.import_module("baml_py.errors").BamlValidationError

    with pytest.raises(error):
        await guarded(project, make()).ChainedTyped("x")
    await guarded(project, make("Tertiary")).ChainedTyped("x")

    assert ["Primary"] * 4 + ["Secondary"] == asked(simulator)


async def test_members_of_a_strategy_come_before_the_policys_clients(
    project: Any, make: Any, simulator: ProviderSimulator
) -> None:
    """A nested strategy is flattened in order, and a FallbackPolicy of the user follows it."""
    for name in ("Primary", "Secondary"):
        simulator.client(name).set(Status(503))
    handler = make("Tertiary")

    await guarded(project, handler).Chained("x")
    await guarded(project, handler).Nested("x")

    assert ["Primary", "Secondary", "Tertiary"] * 2 == asked(simulator)


async def test_when_all_members_fail_each_error_is_there(
    project: Any, make: Any, simulator: ProviderSimulator
) -> None:
    """Several clients were asked, so the error is a group with the exception of each."""
    for name in ("Primary", "Secondary"):
        simulator.client(name).set(Status(404))

    with pytest.raises(AllClientsFailedError) as failed:
        await guarded(project, make()).Chained("x")

    assert ["Primary", "Secondary"] == list(failed.value.by_client)


async def test_a_round_robin_strategy_keeps_its_rotation(
    project: Any, make: Any, simulator: ProviderSimulator
) -> None:
    """The members take turns, from `start` on, and a copy with other options goes on with the same rotation."""
    client = guarded(project, make())

    for _ in range(2):
        await client.Rounds("x")
        await client.with_options(tags={"a": "b"}).Rounds("x")

    assert ["Primary", "Secondary", "Primary", "Secondary"] == asked(simulator)


async def test_a_member_whose_circuit_is_open_is_skipped(
    project: Any, make: Any, simulator: ProviderSimulator
) -> None:
    """A round-robin strategy asks no member that the fleet knows to be down."""
    simulator.client("Primary").set(Status(503))
    handler = make(retry=RetryPolicy(max_retries=9, initial_delay=0.0, max_delay=0.0))
    client = guarded(project, handler)
    with pytest.raises(Exception):  # noqa: B017, PT011 - what the provider said
        await client.Plain("x")
    before = len(simulator.requests)

    for _ in range(4):
        await client.Rounds("x")

    assert ["Secondary"] * 4 == asked(simulator)[before:]


# --- retry policies of BAML -------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"client": "Eager"}], ids=["own", "named"])
async def test_a_retry_policy_is_switched_off_below_guarded_attempts(
    options: dict[str, str], project: Any, make: Any, simulator: ProviderSimulator
) -> None:
    """A 401 is one request, not three, and the request is the one that BAML builds by itself."""
    simulator.client("Primary").set(Status(401))
    with pytest.raises(Exception):  # noqa: B017, PT011 - what the provider said
        await project.Eagerly("x")
    bare = simulator.requests

    with pytest.raises(Exception):  # noqa: B017, PT011 - as above
        await guarded(project, make()).Eagerly("x", baml_options=options)

    assert (3, 4) == (len(bare), len(simulator.requests))
    ours = simulator.requests[-1]
    assert bare[-1].size == ours.size
    assert {**bare[-1].headers, "content-length": ""} == {**ours.headers, "content-length": ""}


async def test_a_tenants_environment_is_used_without_the_policy_too(
    project: Any, make: Any, simulator: ProviderSimulator
) -> None:
    """`env` of a call decides the address and the key, also where the policy is switched off."""
    simulator.client("Secondary").set(Status(401))
    options = {"env": {"PRIMARY_BASE_URL": simulator.client("Secondary").url}}

    with pytest.raises(Exception):  # noqa: B017, PT011 - as above
        await guarded(project, make()).Eagerly("x", baml_options=options)

    assert ["Secondary"] == asked(simulator)


async def test_a_policy_that_cannot_be_switched_off_stays_on(
    project: Any, make: Any, simulator: ProviderSimulator, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    """Where the request is not proven to be the same, BAML's policy stays on, and one warning says so."""
    monkeypatch.setattr("resilience.baml.inner_retries.PROVIDERS", frozenset())
    client = guarded(project, make())
    simulator.client("Primary").script([Status(503), Answer(), Answer()])

    for _ in range(2):
        await client.Eagerly("x")

    assert ["Primary"] * 3 == asked(simulator)
    assert 1 == len([line for line in caplog.messages if "Eager keeps its retry_policy" in line])


async def test_an_answer_that_was_given_outranks_our_time_limit(
    project: Any, make: Any, simulator: ProviderSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a retry_policy stays on and our limit cuts it off, the last finished request says what is wrong."""
    monkeypatch.setattr("resilience.baml.inner_retries.PROVIDERS", frozenset())
    simulator.client("Primary").script([Status(429, retry_after=7), Hang()])
    handler = make(retry=RetryPolicy(max_retries=0, attempt_timeout=1.0))

    with pytest.raises(AttemptTimeoutError):
        await guarded(project, handler).Eagerly("x")

    (record,) = handler.get_error_history()
    assert (ErrorCategory.RATE_LIMIT, 429, 7.0) == (record.category, record.status, record.retry_after)
    assert "did not answer within 1 s" in record.message


# --- clients that cannot be built -------------------------------------------------------------------------------


@unset_variables
async def test_a_backup_that_cannot_be_built_is_skipped(
    project: Any, make: Any, simulator: ProviderSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """BoundaryML/baml#2055: a backup without its key costs one warning, not the answer."""
    simulator.client("Primary").set(Status(503))
    client = guarded(project, make("NoKey", "Secondary"))

    for _ in range(2):
        await client.Plain("x")

    assert {"Primary", "Secondary"} == set(asked(simulator))
    assert "Secondary" == asked(simulator)[-1]
    assert 1 == len([line for line in caplog.messages if "NoKey is skipped" in line])


@unset_variables
async def test_a_primary_that_cannot_be_built_falls_back(
    project: Any, make: Any, simulator: ProviderSimulator
) -> None:
    """BoundaryML/baml#1784: a client without its key is not the request's fault, so a backup answers."""
    await guarded(project, make("Secondary")).Keyless("x")

    assert ["Secondary"] == asked(simulator)


@unset_variables
async def test_alone_it_raises_bamls_own_error(project: Any, make: Any, simulator: ProviderSimulator) -> None:
    """Without a backup the caller gets what BAML says is missing."""
    with pytest.raises(Exception, match="NO_SUCH"):
        await guarded(project, make()).Keyless("x")

    assert [] == asked(simulator)


# --- every entrance ---------------------------------------------------------------------------------------------


async def test_options_reach_what_is_not_guarded(
    project: Any, make: Any, simulator: ProviderSimulator
) -> None:
    """`.request` and `.parse` of a guarded client with options are BAML's own, with these options; `.stream` has them too."""
    type_builder = __import__("unix_project.baml_client.type_builder", fromlist=["TypeBuilder"]).TypeBuilder()
    type_builder.Loose.add_property("extra", type_builder.string())
    client = guarded(project, make())

    request = await client.with_options(client="Secondary").request.Plain("x")
    parsed = client.with_options(tb=type_builder).parse.Grow('{"title": "a", "extra": "e"}')
    stream = client.with_options(client="Tertiary").stream.Plain("x")
    answer = await stream.get_final_response()

    assert simulator.client("Secondary").url in request.url
    assert "e" == parsed.extra
    assert answer
    assert ["Tertiary"] == asked(simulator)


async def test_an_unknown_option_raises_bamls_own_error(project: Any, make: Any) -> None:
    """The TypeError is the one of the generated client, with its text."""
    with pytest.raises(TypeError) as bare:
        project.with_options(colour="red")
    with pytest.raises(TypeError) as ours:
        guarded(project, make()).with_options(colour="red")

    assert str(bare.value) == str(ours.value)


async def test_copies_are_guarded_and_of_the_clients_class(
    project: Any, make: Any, simulator: ProviderSimulator
) -> None:
    """isinstance, copy and deepcopy work as on the client itself, and copies share the handler."""
    handler = make()
    client = guarded(project, handler)
    simulator.client("Primary").script([Status(503), Answer(), Status(503)])

    assert isinstance(client, type(project))
    for copied in (copy.copy(client), copy.deepcopy(client)):
        assert isinstance(copied, type(project))
        assert copied.resilience_handler is handler
        await copied.Plain("x")

    assert 2 == len(handler.get_error_history())


async def test_mocks_of_a_client_are_called_as_tests_expect(project: Any, make: Any) -> None:
    """Async members of a MagicMock are guarded and get the caller's arguments alone; others are left as they are."""
    free, shaped = MagicMock(), MagicMock(spec=type(project))
    free.Plain = AsyncMock(side_effect=[ConnectionError(), "free"])
    shaped.Plain.return_value = "shaped"
    handler = make()

    assert "free" == await protect(free, handler).Plain("x", y=1)
    assert "shaped" == await protect(shaped, handler).Plain("x")
    free.Plain.assert_awaited_with("x", y=1)
    shaped.Plain.assert_awaited_once_with("x")
    assert 1 == len(handler.get_error_history())


def test_a_client_in_another_package_is_named_in_the_error() -> None:
    """Without `baml_client` on the path, the error says how to pass a client that lives elsewhere."""
    from resilience import baml  # noqa: PLC0415 - the package is wanted here alone

    assert "baml_client" not in sys.modules or baml.installed_client() is not None
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == "baml_client"]:
            patch.delitem(sys.modules, name)
        patch.setattr(sys, "path", [])
        with pytest.raises(MissingClientError, match=r"BAMLWrapper\(b\)"):
            baml.installed_client()
