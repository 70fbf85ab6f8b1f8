"""What a generated client was made from, read off its BAML source."""

from __future__ import annotations

from pathlib import Path

from resilience import baml

SOURCE = """
// client<llm> Ghost { provider openai }
client<llm> Leaf {
  provider openai-generic
  options { base_url env.LEAF_URL  api_key env.LEAF_KEY  headers { "x" "}" } }
}
client<llm> Eager {
  provider "openai"
  retry_policy Thrice
  options { api_key env.EAGER_KEY }
}
client<llm> Chain { provider fallback
  options { strategy [Leaf, Eager] } }
client<llm> Ring {
  provider baml-round-robin
  options { strategy [Leaf, Eager] }
}
retry_policy Thrice { max_retries 3 }
function Ask(question: string) -> string {
  client Leaf
  prompt #"
    client Eager }
    {{ question }}
  "#
}
function Short(question: string) -> string {
  client "openai/gpt-4o"
  prompt #"{{ question }}"#
}
"""


def test_clients_and_functions_are_found() -> None:
    """Every declared client and each function's default client; comments and prompts do not count."""
    source = baml.parse_source(SOURCE)

    assert ("Leaf", "Eager", "Chain", "Ring") == source.clients
    assert {"Ask": "Leaf", "Short": "openai/gpt-4o"} == source.functions


def test_clients_that_multiply_attempts_are_found() -> None:
    """A retry_policy, a fallback or a round-robin inside BAML is noticed; a leaf is not."""
    assert ("Eager", "Chain", "Ring") == baml.parse_source(SOURCE).multiplying


def test_the_variables_of_each_client_are_found() -> None:
    """env.X references are listed by client."""
    assert {"Leaf": ("LEAF_URL", "LEAF_KEY"), "Eager": ("EAGER_KEY",), "Chain": (), "Ring": ()} == dict(
        baml.parse_source(SOURCE).variables
    )


def test_our_own_source_is_understood() -> None:
    """The co-scientist's eight functions and three leaf clients are all found."""
    folder = Path(__file__).parents[2] / "baml_src"
    source = baml.parse_source("\n".join(file.read_text() for file in sorted(folder.glob("*.baml"))))

    assert ("Primary", "Secondary", "Tertiary") == source.clients
    assert {"Primary"} == set(source.functions.values())
    assert len(source.functions) == 8
    assert () == source.multiplying


def test_a_broken_source_is_read_as_far_as_it_goes() -> None:
    """Unclosed blocks and raw strings do not loop or raise."""
    assert ("Open",) == baml.parse_source('client<llm> Open { provider openai #" never closed').clients


def test_objects_without_a_source_have_an_empty_one() -> None:
    """A double of a client, or any other object, has no source to check names against."""
    assert baml.Source() == baml.source_of(object())
