"""The co-scientist's client is generated once and whole, by many processes at a time, or with an error that helps."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from resilience.demo import client
from resilience.errors import ConfigurationError, MissingClientError

SOURCE = Path(client.__file__).parents[2] / "baml_src"

# Runs in processes of their own: each says where its client is and imports it.
PROGRAM = """
import sys
from pathlib import Path
from resilience.demo import client
before = "baml_py" in sys.modules
path = client.generate(into=Path(sys.argv[1]))
generated = "baml_py" in sys.modules
print(path, before, generated, hasattr(client.load(path).b, "GenerateHypothesis"))
"""


def in_process(program: str, *args: object, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, args)],
        env={**os.environ, "BAML_LOG": "off", **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_generates_for_the_installed_version_without_importing_baml(tmp_path: Path) -> None:
    """The client imports and works in its own version, and neither import nor generation loads the BAML runtime."""
    path, before, generated, works = in_process(PROGRAM, tmp_path).split()

    assert (before, generated, works) == ("False", "False", "True")
    assert Path(path).parent == tmp_path
    assert Path(path).name.startswith(f"{importlib.metadata.version('baml-py')}-")


def test_an_existing_client_is_not_generated_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An existing client is used, also where baml-cli cannot be run."""
    first = client.generate(into=tmp_path)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")

    assert client.generate(into=tmp_path) == first
    with pytest.raises(FileNotFoundError):
        client.generate(into=tmp_path / "elsewhere")


def test_other_sources_are_another_client(tmp_path: Path) -> None:
    """The cache is keyed by the sources: changed sources make another client beside the old one."""
    changed = Path(shutil.copytree(SOURCE, tmp_path / "baml_src"))
    (changed / "extra.baml").write_text("class Extra {\n  name string\n}\n")

    first, second = (
        client.generate(into=tmp_path / "cache"),
        client.generate(changed, into=tmp_path / "cache"),
    )

    assert first != second
    assert "class Extra" in (second / "baml_client" / "types.py").read_text()
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted([first.name, second.name])


def test_racing_processes_end_with_one_whole_copy(tmp_path: Path) -> None:
    """Four processes that find an empty cache at once all get the same client, and leave nothing else behind."""
    racers = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    outputs = {racer.communicate(timeout=250)[0].strip() for racer in racers}

    assert [racer.returncode for racer in racers] == [0] * 4
    assert len(outputs) == 1
    assert [f"{path} False False True" for path in tmp_path.iterdir()] == list(outputs)


def test_the_cache_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is in $XDG_CACHE_HOME, or in ~/.cache where it is not set."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    named = client.generate()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    assert named.parent == tmp_path / "xdg" / "resilience" / "baml"
    assert client.generate().parent == tmp_path / "home" / ".cache" / "resilience" / "baml"


def test_an_unwritable_cache_is_replaced_by_a_private_folder(tmp_path: Path) -> None:
    """Without a writable cache the client is generated into a folder that no other user may enter."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")

    path = client.generate(into=blocked / "cache")

    assert (path / "baml_client" / "async_client.py").is_file()
    assert path.parent.name.startswith("resilience-baml-")
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_private_folder_goes_with_its_process(tmp_path: Path) -> None:
    """The folder that replaced an unwritable cache is removed when its process ends."""
    (tmp_path / "file").write_text("not a folder")

    path, *_, works = in_process(PROGRAM, tmp_path / "file" / "cache").split()

    assert works == "True"
    assert not Path(path).exists()


def test_sources_that_do_not_compile_give_the_compilers_error(tmp_path: Path) -> None:
    """The error quotes the compiler's first line, and nothing is left in the cache."""
    broken = Path(shutil.copytree(SOURCE, tmp_path / "baml_src"))
    (broken / "extra.baml").write_text("class Broken {\n  name nonsense\n}\n")

    with pytest.raises(
        ConfigurationError, match=r"Type `nonsense` does not exist.*correct the \.baml sources"
    ):
        client.generate(broken, into=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cli_that_fails_without_output_is_reported_by_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an error line the message has the exit status."""
    silent = tmp_path / "python"
    silent.write_text("#!/bin/sh\nexit 7\n")
    silent.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(silent))

    with pytest.raises(ConfigurationError, match="exit status 7"):
        client.generate(into=tmp_path / "cache")


def test_sources_without_a_python_generator_are_explained(tmp_path: Path) -> None:
    """Sources for another language give an error that names what they need."""
    sources = Path(shutil.copytree(SOURCE, tmp_path / "baml_src"))
    generator = sources / "generators.baml"
    generator.write_text(generator.read_text().replace("python/pydantic", "typescript"))

    with pytest.raises(ConfigurationError, match='output_type "python/pydantic"'):
        client.generate(sources, into=tmp_path / "cache")


def test_a_folder_without_sources_is_refused(tmp_path: Path) -> None:
    """A folder without .baml files is an error that names the path."""
    with pytest.raises(ConfigurationError, match=r"no \.baml files in"):
        client.generate(tmp_path)


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    """A cache entry that lost files is not overwritten, since a process may use it; the error says what to delete."""
    path = client.generate(into=tmp_path)
    (path / "baml_client" / "async_client.py").unlink()

    with pytest.raises(ConfigurationError, match=f"{path} is damaged.*delete that folder"):
        client.generate(into=tmp_path)


def test_without_baml_py_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without baml-py the error says what to install."""

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)

    with pytest.raises(MissingClientError, match="pip install baml-py"):
        client.generate(into=tmp_path)


def test_another_baml_client_in_the_process_is_refused(
    b: Any, baml_client_path: Path, tmp_path: Path
) -> None:
    """One process can hold only one package baml_client: loading a second is an error that names the first."""
    paths = list(sys.path)

    with pytest.raises(ConfigurationError, match=f"already imported from {baml_client_path}"):
        client.load(client.generate(into=tmp_path))

    assert sys.path == paths
    assert client.load(baml_client_path).b is b


def test_load_finds_its_own_client(tmp_path: Path) -> None:
    """Without a path the cached client is generated if it is missing, and loading it twice is harmless."""
    program = "from resilience.demo import client\nprint(client.load() is client.load())"

    assert in_process(program, XDG_CACHE_HOME=str(tmp_path)) == "True"
