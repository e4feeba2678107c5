"""What the package says of itself, checked against what it holds."""

from __future__ import annotations

import importlib
import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest

import rage_retrievers

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
REQUIREMENTS = sorted({*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra)})
FOR_CONTRIBUTORS = {"all", "dev", "docs"}


def test_the_version_is_one_number() -> None:
    """The package says it in one place, and the changelog begins with it."""
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert PROJECT["dynamic"] == ["version"]
    assert rage_retrievers.__version__ == newest[1]


def test_every_extra_is_in_all_and_in_the_readme() -> None:
    """What can be installed alone comes with `all` too, and a reader is told of it."""
    together = re.search(r"\[(.*)\]", EXTRAS["all"][0])
    assert together is not None
    assert set(together[1].split(",")) == set(EXTRAS) - FOR_CONTRIBUTORS
    told = set(re.findall(r"`([a-z-]+)`", (ROOT / "README.md").read_text().rpartition("| extra | brings |")[2]))
    assert set(EXTRAS) - FOR_CONTRIBUTORS | {"all"} <= told


def test_every_extra_has_a_smoke_test() -> None:
    """`make package` tries each extra alone."""
    smoke = runpy.run_path(str(ROOT / "scripts" / "check_package.py"))["SMOKE"]
    assert set(smoke) == set(EXTRAS) - {"dev", "docs"} | {"core"}


@pytest.mark.parametrize(
    "requirement", sorted({*PROJECT["dependencies"], *(r for one in EXTRAS.values() for r in one)})
)
def test_every_dependency_has_a_lower_bound(requirement: str) -> None:
    """No version is accepted that nobody can have tried."""
    assert requirement.startswith("rage-retrievers[") or re.search(r">=|==", requirement)


def test_the_licence_and_the_type_marker_are_there() -> None:
    """The licence named is the licence shipped, and type checkers are told to look."""
    assert PROJECT["license-files"] == ["LICENSE"]
    assert f"{PROJECT['license']} License" in (ROOT / "LICENSE").read_text()
    assert (ROOT / "rage_retrievers" / "py.typed").exists()


def test_no_address_is_invented() -> None:
    """Only places that exist are named; a placeholder would be somebody else's some day."""
    assert set(PROJECT["urls"].values()) <= {"https://vectorize.io"}


def test_llamahub_finds_the_class_where_it_is_said_to_be() -> None:
    """The import path is the face's, and each class named is exported there."""
    hub = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["llamahub"]
    assert set(hub["class_authors"]) <= set(importlib.import_module(hub["import_path"]).__all__)
