"""BAMLWrapper and protect(): one line that guards every async function of a generated client."""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import os
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from types import TracebackType
from typing import Any, Never, Self, TypeVar, cast

from resilience import baml as _baml
from resilience.config import settings as _settings
from resilience.config.hints import reject_unknown
from resilience.errors import ConfigurationError, ResilienceWarning
from resilience.execution.async_driver import run_async
from resilience.handler import BAMLErrorHandler

_C = TypeVar("_C")


def protect(b: _C, error_handler: BAMLErrorHandler | None = None, **unknown: Never) -> _C:
    """Guard every async function of the generated client *b*.

    The result has the same functions with the same types. BAML's own choice of the client stands: the guard names a client
    to BAML only for a fallback, for a member of a strategy, and for the option `client`. A `fallback` strategy of the project
    becomes the fallbacks of the functions that use it; the members of a `round-robin` strategy have a circuit each.

    A caller's own collector, tags, env, type builder, `client` and `client_registry` are respected. A call with a registry of
    its own is retried and recorded, but takes part in no shared circuit. `with_options` keeps working and stays guarded.
    `stream`, `request` and `parse` are BAML's own, with the same options.

    Args:
        b: any generated async client, a double or a mock of one.
        error_handler: the handler that calls go through; a new one from the environment when not given.
        **unknown: none; other arguments are refused with a hint.

    Raises:
        ConfigurationError: *b* has no async functions, or a policy names a client or function it does not have.
        TypeError: an unknown argument; the text says what to write instead, where that is known.
    """
    reject_unknown("protect", unknown, ("b", "error_handler"))
    if isinstance(b, _Protected):
        return cast("_C", b.with_handler(error_handler))
    handler = error_handler if error_handler is not None else BAMLErrorHandler()
    functions = _baml.functions_of(b)
    if not functions and not _baml.is_mock(b):
        msg = f"protect({type(b).__name__}): it has no async functions; give the `b` of baml_client.async_client"
        raise ConfigurationError(msg)
    declarations = _baml.declarations_of(b)
    _check(handler, declarations, functions)
    _baml.silence_baml_logging()
    return cast("_C", _Protected(b, b, handler, _baml.Router(declarations), _baml.options_of(b)))


class _Protected:
    """A generated client whose async functions are guarded; everything else is the client's own.

    A guarded function is made at its first use and then kept in the instance, so that further uses find it without
    `__getattr__`.

    Args:
        plain: the client whose functions are called; options are given to each call, as BAML would merge them.
        configured: the same client with the options of `with_options`, for everything that is not guarded.
        handler: the handler that calls go through.
        router: finds the client of each call; shared by all copies, so that each learns what another has learnt.
        options: the options of `with_options`.
    """

    def __init__(
        self,
        plain: Any,
        configured: Any,
        handler: BAMLErrorHandler,
        router: _baml.Router,
        options: Mapping[str, Any],
    ) -> None:
        self._plain = plain
        self._configured = configured
        self._handler = handler
        self._router = router
        self._options = options

    def __getattr__(self, name: str) -> Any:
        if name in {
            "_plain",
            "_configured",
        }:  # copies and pickles ask before these are set; this would recurse
            raise AttributeError(name)
        value = getattr(self._configured, name)
        if not name.startswith("_") and _baml.is_async_function(self._plain, name):
            value = self._guard(name, getattr(self._plain, name))
            self.__dict__[name] = value
        return value

    @property  # type: ignore[misc]  # so that isinstance(protect(b), type(b)) holds, as for mocks with a spec
    def __class__(self) -> type:
        return type(self._plain)

    def __dir__(self) -> list[str]:
        return dir(self._plain)

    def __repr__(self) -> str:
        return f"protect({self._plain!r})"

    def __copy__(self) -> _Protected:
        return _Protected(self._plain, self._configured, self._handler, self._router, self._options)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Protected:
        # The handler holds connections and threads, and the router what was learnt: a copy shares both.
        plain = copy.deepcopy(self._plain, memo)
        configured = copy.deepcopy(self._configured, memo)
        return _Protected(plain, configured, self._handler, self._router, copy.copy(self._options))

    @property
    def resilience_handler(self) -> BAMLErrorHandler:
        """The handler that calls go through."""
        return self._handler

    def with_handler(self, handler: BAMLErrorHandler | None) -> _Protected:
        """Return the same client with another handler. To guard it twice would multiply attempts."""
        if handler is None or handler is self._handler:
            return self
        _check(handler, self._router.declarations, _baml.functions_of(self._plain))
        return _Protected(self._plain, self._configured, handler, self._router, self._options)

    def with_options(self, *args: Any, **options: Any) -> _Protected:
        """Return the same client with call options, still guarded.

        Takes what the client's own `with_options` takes, and `client` also where BAML does not know it yet (before 0.216).

        Raises:
            TypeError: BAML's own, for an unknown option.
        """
        given = dict(options)
        signature = inspect.signature(self._plain.with_options)
        if "client" in options and "client" not in signature.parameters:
            options.update(_baml.registry_for(options.pop("client")))
        configured = self._configured.with_options(*args, **options)
        by_place = dict(zip(signature.parameters, args, strict=False))
        chosen = {name: value for name, value in {**by_place, **given}.items() if value is not None}
        return _Protected(self._plain, configured, self._handler, self._router, {**self._options, **chosen})

    def _guard(self, name: str, function: _baml.AsyncFunction[Any]) -> _baml.AsyncFunction[Any]:
        before_options = _before_options(function)
        build = getattr(getattr(self._plain, "request", None), name, None)

        @functools.wraps(function)
        async def guarded(*args: Any, baml_options: Mapping[str, Any] | None = None, **kwargs: Any) -> Any:
            if len(args) == before_options + 1:
                *args, baml_options = args  # type: ignore[assignment]  # a list serves as well as a tuple
            options = {**self._options, **(baml_options or {})}
            route = self._router.route(name, options, self._handler.is_free)
            # The client of an attempt is named by a registry of ours, over which BAML would set the option `client`. With a
            # registry of the caller's own the option stays, and BAML makes it that registry's primary client.
            if route.has_circuit or route.learns:
                options.pop("client", None)
            # Not call_with_fallback: a BAML function may have an argument with the name of one of its parameters.
            call = self._handler.prepare_call(
                _baml.ClientBinder(function, options, route, self._router, build),
                name,
                route.client,
                members=route.members,
                allow_fallback=route.allows_fallback,
                unguarded=None if route.has_circuit else route.client,
            )
            result, _ = await run_async(call, tuple(args), kwargs)
            return result

        return guarded


def _before_options(function: _baml.AsyncFunction[Any]) -> int:
    """Return how many arguments may be given by position before `baml_options`, which may be given by position too."""
    names = list(inspect.signature(function).parameters)
    return names.index("baml_options") if "baml_options" in names else sys.maxsize


def _check(handler: BAMLErrorHandler, declarations: _baml.Declarations, functions: Sequence[str]) -> None:
    """Compare the names in the policies with what the client was generated from."""
    for function in handler.named_functions():
        if function not in functions:
            raise ConfigurationError(_unknown("per_function", "function", function, functions))
    clients = declarations.clients
    if not clients:  # a double, or a client without its source: client names cannot be checked
        return
    for place, names in handler.named_clients().items():
        for name in names:
            if name not in clients and "/" not in name:  # "openai/gpt-4o" is declared by its use
                raise ConfigurationError(_unknown(place, "client", name, tuple(clients)))
    first = {
        *declarations.functions.values(),
        *itertools.chain.from_iterable(handler.named_clients().values()),
    }
    used = {leaf for client in first for leaf in declarations.leaves(client)}
    _warn_of_inner_retries(declarations, used)
    _warn_of_the_aws_sdk(declarations, used)
    _warn_of_unset(declarations, used)


def _warn_of_inner_retries(declarations: _baml.Declarations, used: Collection[str]) -> None:
    retrying = [
        client.name
        for client in declarations.clients.values()
        if client.name in used and client.max_retries and not _baml.can_switch_off(client)
    ]
    if retrying:
        warnings.warn(
            f"attempts multiply: the retry_policy of {', '.join(retrying)} cannot be switched off for guarded calls, and BAML "
            "retries what no retry can mend; take retry_policy off these clients",
            ResilienceWarning,
            stacklevel=4,
        )


def _warn_of_the_aws_sdk(declarations: _baml.Declarations, used: Collection[str]) -> None:
    """Warn of retries of the AWS SDK: up to three requests per attempt, which no option of a call switches off."""
    clients = [client.name for client in declarations.clients.values() if client.provider == "aws-bedrock"]
    asked = [name for name in clients if name in used]
    if asked and os.environ.get("AWS_MAX_ATTEMPTS") != "1":
        warnings.warn(
            f"attempts multiply: the AWS SDK retries by itself below {', '.join(asked)}, up to three requests per attempt; set "
            "the environment variable AWS_MAX_ATTEMPTS=1",
            ResilienceWarning,
            stacklevel=4,
        )


def _warn_of_unset(declarations: _baml.Declarations, used: Collection[str]) -> None:
    unset = {
        client.name: missing
        for client in declarations.clients.values()
        if client.name in used and (missing := _settings.missing_variables(client.variables))
    }
    if unset:
        missing_by_client = "; ".join(f"{client} needs {', '.join(names)}" for client, names in unset.items())
        warnings.warn(
            f"environment variables are not set: {missing_by_client}; export them, or give them in baml_options['env']",
            ResilienceWarning,
            stacklevel=4,
        )


def _unknown(place: str, kind: str, name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{place} names the {kind} {name!r}, which the BAML client does not have; it has {', '.join(known)}{hint}"


class BAMLWrapper:
    """The AI co-scientist's eight functions, guarded.

    Use it as `async with BAMLWrapper() as wrapper`, or without `async with`: it opens at the first call, and
    `await wrapper.aclose()` closes it. Each function raises what `BAMLErrorHandler.call_with_fallback` raises.

    Args:
        baml: a generated client; when not given, the project's own `baml_client.b`, imported at the first call.
        error_handler: the handler of its calls; when not given, that of a guarded *baml*, else a new one from the
            environment.

    Attributes:
        error_handler: the handler of its calls.
    """

    def __init__(self, baml: Any = None, *, error_handler: BAMLErrorHandler | None = None) -> None:
        if error_handler is None and isinstance(baml, _Protected):
            error_handler = baml.resilience_handler
        self.error_handler = error_handler if error_handler is not None else BAMLErrorHandler()
        self._given = baml

    @functools.cached_property
    def baml(self) -> Any:
        """The generated client, guarded by `protect`.

        Raises:
            MissingClientError: no client was given and none can be imported.
        """
        return protect(
            self._given if self._given is not None else _baml.installed_client(), self.error_handler
        )

    async def generate_hypothesis(
        self,
        goal: str,
        constraints: Sequence[str] = (),
        existing_hypotheses: Sequence[Any] = (),
        focus_area: str | None = None,
        generation_method: str = "literature_based",
    ) -> Any:
        """Propose a testable hypothesis for *goal* (BAML `GenerateHypothesis`, returns `Hypothesis`)."""
        return await self.baml.GenerateHypothesis(
            goal=goal,
            constraints=list(constraints),
            existing_hypotheses=list(existing_hypotheses),
            focus_area=focus_area,
            generation_method=generation_method,
        )

    async def evaluate_hypothesis(
        self,
        hypothesis: Any,
        review_type: str,
        evaluation_criteria: Sequence[str],
        context: str | None = None,
    ) -> Any:
        """Review a hypothesis by the given criteria (BAML `EvaluateHypothesis`, returns `Review`)."""
        return await self.baml.EvaluateHypothesis(
            hypothesis=hypothesis,
            review_type=review_type,
            evaluation_criteria=list(evaluation_criteria),
            context=context,
        )

    async def perform_safety_check(
        self, target_type: str, target_content: str, trust_level: str, safety_criteria: Sequence[str]
    ) -> Any:
        """Look for risks in a text (BAML `PerformSafetyCheck`, returns `SafetyCheck`)."""
        return await self.baml.PerformSafetyCheck(
            target_type=target_type,
            target_content=target_content,
            trust_level=trust_level,
            safety_criteria=list(safety_criteria),
        )

    async def compare_hypotheses(
        self,
        hypothesis1: Any,
        hypothesis2: Any,
        comparison_criteria: Sequence[str],
        debate_context: str | None = None,
    ) -> Any:
        """Decide which of two hypotheses deserves work first (BAML `CompareHypotheses`, returns `ComparisonResult`)."""
        return await self.baml.CompareHypotheses(
            hypothesis1=hypothesis1,
            hypothesis2=hypothesis2,
            comparison_criteria=list(comparison_criteria),
            debate_context=debate_context,
        )

    async def enhance_hypothesis(
        self,
        original_hypothesis: Any,
        enhancement_strategy: str,
        feedback: str | None = None,
        complementary_hypothesis: Any = None,
    ) -> Any:
        """Improve a hypothesis (BAML `EnhanceHypothesis`, returns `Hypothesis`)."""
        return await self.baml.EnhanceHypothesis(
            original_hypothesis=original_hypothesis,
            enhancement_strategy=enhancement_strategy,
            feedback=feedback,
            complementary_hypothesis=complementary_hypothesis,
        )

    async def calculate_similarity(
        self, hypothesis1: Any, hypothesis2: Any, similarity_aspects: Sequence[str]
    ) -> Any:
        """Measure how similar two hypotheses are (BAML `CalculateSimilarity`, returns `SimilarityScore`)."""
        return await self.baml.CalculateSimilarity(
            hypothesis1=hypothesis1, hypothesis2=hypothesis2, similarity_aspects=list(similarity_aspects)
        )

    async def extract_research_patterns(
        self, hypotheses: Sequence[Any], reviews: Sequence[Any], focus: str
    ) -> Any:
        """Find what hypotheses and reviews have in common (BAML `ExtractResearchPatterns`, returns `ResearchPatterns`)."""
        return await self.baml.ExtractResearchPatterns(
            hypotheses=list(hypotheses), reviews=list(reviews), focus=focus
        )

    async def parse_research_goal(self, natural_language_goal: str, domain_context: str | None = None) -> Any:
        """Turn a goal in plain words into a plan (BAML `ParseResearchGoal`, returns `ParsedResearchGoal`)."""
        return await self.baml.ParseResearchGoal(
            natural_language_goal=natural_language_goal, domain_context=domain_context
        )

    async def aclose(self) -> None:
        """Write all queued records and close the handler."""
        await self.error_handler.aclose()

    async def __aenter__(self) -> Self:
        await self.error_handler.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
