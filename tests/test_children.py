"""Children are started in the way that their operating system supports."""

import sys

import pytest

from rtdetr_demo import children


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_children_are_spawned_where_forking_is_not_safe(monkeypatch: pytest.MonkeyPatch, system):
    monkeypatch.setattr(sys, "platform", system)
    assert children.child_context().get_start_method() == "spawn"


def test_children_do_not_inherit_threads_on_linux():
    assert children.child_context().get_start_method() in ("forkserver", "spawn")
