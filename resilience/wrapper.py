"""BAMLWrapper and protect(): one line that guards every function of a generated client."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Never, Self, TypeVar, cast

from resilience import baml as _baml
from resilience import telemetry
from resilience.client_checks import check_names
from resilience.config.hints import parameter_of, reject_unknown
from resilience.errors import ConfigurationError
from resilience.handler import BAMLErrorHandler
from resilience.protected import Protected

_C = TypeVar("_C")


def protect(b: _C, error_handler: BAMLErrorHandler | None = None, **unknown: Never) -> _C:
    """Guard every function of the generated client *b*, which may be BAML's async or its sync client.

    The result has the same functions with the same types. BAML's own choice of the client stands: the guard names a client
    to BAML only for a fallback, for a member of a strategy, and for the option `client`. A `fallback` strategy of the project
    becomes the fallbacks of the functions that use it; the members of a `round-robin` strategy have a circuit each.

    A caller's own collector, tags, env, type builder, `client` and `client_registry` are respected. A call with a registry of
    its own is retried and recorded, but takes part in no shared circuit. `with_options` keeps working and stays guarded.
    `stream` gives guarded streams; see `resilience.guarded_stream.GuardedStream`. `request` and `parse` are BAML's own, with the
    same options.

    Args:
        b: any generated client, async or sync, a double or a mock of one.
        error_handler: the handler that calls go through; a new one from the environment when not given.
        **unknown: none; other arguments are refused with a hint.

    Raises:
        ConfigurationError: *b* has no functions, or a policy names a client or function it does not have.
        TypeError: an unknown argument, or an *error_handler* that is none; the text says what to write instead, where that
            is known.
    """
    reject_unknown("protect", unknown, ("b", "error_handler"))
    _require_handler("protect", error_handler)
    # To guard twice would multiply attempts, so a guarded client only changes its handler.
    if isinstance(b, Protected):
        return cast("_C", b.with_handler(error_handler))
    handler = error_handler if error_handler is not None else BAMLErrorHandler()
    functions = _baml.functions_of(b)
    # A mock has no functions to list: it makes them when they are asked for.
    if not functions and not _baml.is_mock(b):
        msg = (
            f"protect({type(b).__name__}): it has no BAML functions; give the `b` of baml_client.async_client or of "
            "baml_client.sync_client"
        )
        raise ConfigurationError(msg)
    # Names are checked now: a misspelt backup would otherwise show up in the first outage.
    declarations = _baml.declarations_of(b)
    check_names(handler, declarations, functions)
    telemetry.declare(declarations, itertools.chain.from_iterable(handler.named_clients().values()))
    _baml.silence_baml_logging()
    # Options that `b` carries already are given to each call again: those of a call replace them in BAML instead of merging.
    return cast("_C", Protected(b, b, handler, _baml.Router(declarations), _baml.options_of(b)))


def _require_handler(function: str, given: object) -> None:
    # A policy given here would otherwise be an AttributeError in the middle of this package.
    if given is None or isinstance(given, BAMLErrorHandler):
        return
    kind = type(given).__name__
    parameter = parameter_of(given)
    remedy = f"BAMLErrorHandler({parameter}={kind}(...))" if parameter else "a BAMLErrorHandler"
    msg = f"{function}(error_handler={kind}): give {remedy}"
    raise TypeError(msg)


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
        _require_handler("BAMLWrapper", error_handler)
        # The policies that were chosen for a guarded client stay in force.
        if error_handler is None and isinstance(baml, Protected):
            error_handler = baml.resilience_handler
        self.error_handler = error_handler if error_handler is not None else BAMLErrorHandler()
        self._given = baml

    @functools.cached_property
    def baml(self) -> Any:
        """The generated client, guarded by `protect`.

        Raises:
            MissingClientError: no client was given and none can be imported.
        """
        # Not at construction: the import of a generated client starts BAML's runtime, which no child of a fork can use.
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
