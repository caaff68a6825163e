"""Threads follow what a container may use."""

import os

import pytest

from rtdetr_demo.cpus import cpu_quota


@pytest.mark.parametrize(
    ("content", "expected"),
    [("50000 100000", 1), ("150000 100000", 2), ("max 100000", 64), ("6400000 100000", 64)],
)
def test_a_quota_of_a_container_counts_where_it_is_lower(tmp_path, monkeypatch, content, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    (tmp_path / "cpu.max").write_text(content)
    assert cpu_quota(tmp_path) == expected


def test_the_older_kind_of_control_group_is_read_too(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("200000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota(tmp_path) == 2
