"""What a generated client was made from, read off its BAML source."""

from __future__ import annotations

from pathlib import Path

from resilience import baml

SOURCE = """
// client<llm> Ghost { provider openai }
client<llm> Leaf {
  provider openai-generic
  options {
    base_url env.LEAF_URL
    api_key env.LEAF_KEY
    headers { "x" "}" }
  }
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
    """Every declared client and each function's own client are read; comments and prompts do not count."""
    declared = baml.read_declarations([SOURCE])

    assert ["Leaf", "Eager", "Chain", "Ring"] == list(declared.clients)
    assert {"Ask": "Leaf", "Short": "openai/gpt-4o"} == declared.functions


def test_clients_that_multiply_attempts_are_found() -> None:
    """A retry_policy, a fallback or a round-robin inside BAML is noticed; a leaf is not."""
    clients = baml.read_declarations([SOURCE]).clients.values()

    assert ["Eager", "Chain", "Ring"] == [client.name for client in clients if client.multiplies]


def test_the_variables_of_each_client_are_found() -> None:
    """env.X references are listed by client."""
    clients = baml.read_declarations([SOURCE]).clients

    assert {"Leaf": ("LEAF_URL", "LEAF_KEY"), "Eager": ("EAGER_KEY",), "Chain": (), "Ring": ()} == {
        name: client.variables for name, client in clients.items()
    }


def test_our_own_source_is_understood() -> None:
    """The co-scientist's eight functions and three leaf clients are all found."""
    folder = Path(__file__).parents[2] / "baml_src"
    declared = baml.read_declarations(file.read_text() for file in sorted(folder.glob("*.baml")))

    assert ["Primary", "Secondary", "Tertiary"] == list(declared.clients)
    assert {"Primary"} == set(declared.functions.values())
    assert len(declared.functions) == 8
    assert not any(client.multiplies for client in declared.clients.values())


def test_a_broken_source_is_read_as_far_as_it_goes() -> None:
    """Unclosed blocks and raw strings do not loop or raise."""
    text = 'client<llm> Open { provider openai #" never closed'

    assert ["Open"] == list(baml.read_declarations([text]).clients)


def test_objects_without_a_source_declare_nothing() -> None:
    """A double of a client, or any other object, has no source to check names against."""
    assert baml.Declarations() == baml.declarations_of(object())
