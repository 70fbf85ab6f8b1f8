"""BAMLWrapper and protect(): one line that guards every async function of a generated client."""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

from resilience import baml as _baml
from resilience.config import settings as _settings
from resilience.errors import ConfigurationError, ResilienceWarning
from resilience.handler import BAMLErrorHandler

_C = TypeVar("_C")

OWN_REGISTRY: Final = "client_registry"
"""What records call the client of a call whose registry is the caller's own."""


def protect(b: _C, error_handler: BAMLErrorHandler | None = None) -> _C:
    """Guard every async function of the generated client *b*.

    The result has the same functions with the same types. `with_options` keeps working and stays guarded; a caller's
    own collector, tags, env, type builder and `client` or `client_registry` options are respected: `client` names the
    client that is asked first, and a registry of one's own is retried and recorded but takes part in no shared circuit.
    Streams, `request` and `parse` are left as they are.

    Args:
        b: any generated async client.
        error_handler: the handler calls go through; a new one from the environment when not given.

    Raises:
        ConfigurationError: *b* has no async functions, or a policy names a client or function it does not know.
    """
    if isinstance(b, _Protected):
        return cast("_C", b.through(error_handler))
    handler = error_handler if error_handler is not None else BAMLErrorHandler()
    functions = _baml.functions_of(b)
    if not functions:
        msg = f"protect({type(b).__name__}): it has no async functions; give the `b` of baml_client.async_client"
        raise ConfigurationError(msg)
    source = _baml.source_of(b)
    _check(handler, source, functions)
    _baml.hush()
    return cast("_C", _Protected(b, handler, source, frozenset(functions), _baml.options_of(b)))


class _Protected:
    """A generated client whose async functions go through the corridor."""

    def __init__(
        self,
        baml: Any,
        handler: BAMLErrorHandler,
        source: _baml.Source,
        functions: frozenset[str],
        options: Mapping[str, Any],
    ) -> None:
        self._baml = baml
        self._handler = handler
        self._source = source
        self._functions = functions
        self._options = options

    def __getattr__(self, name: str) -> Any:
        if name == "_baml":  # a copy that is not filled yet
            raise AttributeError(name)
        value = getattr(self._baml, name)
        if name in self._functions:
            value = self._guard(name, value)
            self.__dict__[name] = value
        return value

    def __dir__(self) -> list[str]:
        return dir(self._baml)

    def __repr__(self) -> str:
        return f"protect({self._baml!r})"

    @property
    def resilience_handler(self) -> BAMLErrorHandler:
        """What its calls go through."""
        return self._handler

    def through(self, handler: BAMLErrorHandler | None) -> _Protected:
        """The same client through another handler; guarding it twice would multiply attempts."""
        if handler is None or handler is self._handler:
            return self
        _check(handler, self._source, sorted(self._functions))
        return _Protected(self._baml, handler, self._source, self._functions, self._options)

    def with_options(self, *args: Any, **options: Any) -> _Protected:
        """The same client with call options of its own, still guarded.

        Takes what the client's own `with_options` takes, and `client` also where BAML does not know it yet (before 0.216).
        """
        signature = inspect.signature(self._baml.with_options)
        ours = {
            name: options.pop(name) for name in ("client",) if name in options.keys() - signature.parameters
        }
        bound = signature.bind(*args, **options)
        named = {**dict(zip(signature.parameters, bound.args, strict=False)), **bound.kwargs, **ours}
        chosen = {**self._options, **{name: value for name, value in named.items() if value is not None}}
        return _Protected(self._baml, self._handler, self._source, self._functions, chosen)

    def _guard(self, name: str, function: _baml.AsyncFunction) -> _baml.AsyncFunction:
        default = self._source.functions.get(name) or name
        before_options = _before_options(function)

        @functools.wraps(function)
        async def guarded(*args: Any, baml_options: Mapping[str, Any] | None = None, **kwargs: Any) -> Any:
            if len(args) == before_options + 1:
                *args, baml_options = args  # type: ignore[assignment]  # a list will do
            options = {**self._options, **(baml_options or {})}
            own = options.get("client_registry") is not None
            client = options.get("client") or OWN_REGISTRY if own else options.pop("client", None) or default
            route = _baml.Route(function, options)
            # Not call_with_fallback: a BAML function may have an argument that is called as one of its own.
            call = self._handler.prepare_call(route, name, client, allow_fallback=not own, shared=not own)
            result, _ = await call.run(tuple(args), kwargs)
            return result

        return guarded


def _before_options(function: _baml.AsyncFunction) -> int:
    """How many arguments may be given by place before `baml_options`, which nothing keeps from being given so too."""
    names = list(inspect.signature(function).parameters)
    return names.index("baml_options") if "baml_options" in names else sys.maxsize


def _check(handler: BAMLErrorHandler, source: _baml.Source, functions: Sequence[str]) -> None:
    """Hold the names in the policies against what *b* was generated from."""
    for function in handler.named_functions():
        if function not in functions:
            raise ConfigurationError(_unknown("per_function", "function", function, functions))
    if not source.clients:  # a double, or a client without its source beside it
        return
    for place, clients in handler.named_clients().items():
        for client in clients:
            if client not in source.clients and "/" not in client:
                raise ConfigurationError(_unknown(place, "client", client, source.clients))
    used = {*source.functions.values(), *itertools.chain.from_iterable(handler.named_clients().values())}
    _warn_of_multiplying(source)
    _warn_of_unset(source, used)


def _warn_of_multiplying(source: _baml.Source) -> None:
    if source.multiplying:
        warnings.warn(
            f"attempts multiply: {', '.join(source.multiplying)} retry or fall over inside BAML as well; take "
            "retry_policy off these clients and name leaf clients in FallbackPolicy.clients",
            ResilienceWarning,
            stacklevel=4,
        )


def _warn_of_unset(source: _baml.Source, used: Collection[str]) -> None:
    unset = {
        client: missing
        for client, variables in source.variables.items()
        if client in used and (missing := _settings.unset(variables))
    }
    if unset:
        told = "; ".join(f"{client} needs {', '.join(missing)}" for client, missing in unset.items())
        warnings.warn(
            f"environment variables are not set: {told}; export them, or give them in baml_options['env']",
            ResilienceWarning,
            stacklevel=4,
        )


def _unknown(place: str, kind: str, name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{place} names the {kind} {name!r}, which the BAML client does not have; it has {', '.join(known)}{hint}"


class BAMLWrapper:
    """The AI co-scientist's eight functions, resilient.

    Works as `async with BAMLWrapper() as wrapper`, or bare: it opens at the first call, and `await
    wrapper.aclose()` closes it.

    Args:
        baml: a generated client; the project's own `baml_client.b` when not given, imported at the first call.
        error_handler: the handler calls go through; when not given, that of a *baml* that is guarded already, else a new
            one from the environment.
    """

    def __init__(self, baml: Any = None, *, error_handler: BAMLErrorHandler | None = None) -> None:
        if error_handler is None and isinstance(baml, _Protected):
            error_handler = baml.resilience_handler
        self.error_handler = error_handler if error_handler is not None else BAMLErrorHandler()
        self._given = baml

    @functools.cached_property
    def baml(self) -> Any:
        """The generated client, guarded: `protect(b)`.

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
        """Propose a testable hypothesis for *goal* (BAML `GenerateHypothesis`, gives a Hypothesis)."""
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
        """Review a hypothesis by the given criteria (BAML `EvaluateHypothesis`, gives a Review)."""
        return await self.baml.EvaluateHypothesis(
            hypothesis=hypothesis,
            review_type=review_type,
            evaluation_criteria=list(evaluation_criteria),
            context=context,
        )

    async def perform_safety_check(
        self, target_type: str, target_content: str, trust_level: str, safety_criteria: Sequence[str]
    ) -> Any:
        """Look for risks in a text (BAML `PerformSafetyCheck`, gives a SafetyCheck)."""
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
        """Decide which of two hypotheses deserves work first (BAML `CompareHypotheses`, gives a ComparisonResult)."""
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
        """Improve a hypothesis (BAML `EnhanceHypothesis`, gives a Hypothesis)."""
        return await self.baml.EnhanceHypothesis(
            original_hypothesis=original_hypothesis,
            enhancement_strategy=enhancement_strategy,
            feedback=feedback,
            complementary_hypothesis=complementary_hypothesis,
        )

    async def calculate_similarity(
        self, hypothesis1: Any, hypothesis2: Any, similarity_aspects: Sequence[str]
    ) -> Any:
        """Measure how much two hypotheses say the same (BAML `CalculateSimilarity`, gives a SimilarityScore)."""
        return await self.baml.CalculateSimilarity(
            hypothesis1=hypothesis1, hypothesis2=hypothesis2, similarity_aspects=list(similarity_aspects)
        )

    async def extract_research_patterns(
        self, hypotheses: Sequence[Any], reviews: Sequence[Any], focus: str
    ) -> Any:
        """Find what hypotheses and reviews have in common (BAML `ExtractResearchPatterns`, gives ResearchPatterns)."""
        return await self.baml.ExtractResearchPatterns(
            hypotheses=list(hypotheses), reviews=list(reviews), focus=focus
        )

    async def parse_research_goal(self, natural_language_goal: str, domain_context: str | None = None) -> Any:
        """Turn a goal in plain words into a plan (BAML `ParseResearchGoal`, gives a ParsedResearchGoal)."""
        return await self.baml.ParseResearchGoal(
            natural_language_goal=natural_language_goal, domain_context=domain_context
        )

    async def aclose(self) -> None:
        """Write what is queued and close the handler."""
        await self.error_handler.aclose()

    async def __aenter__(self) -> Self:
        await self.error_handler.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
