"""Imports without work that serves nobody here."""

import gc
from unittest.mock import patch

import gradio as gr
import pytest

from rtdetr_demo.imports import quick_imports


def test_gradio_writes_no_stubs():
    with patch("gradio.component_meta.create_pyi", side_effect=AssertionError), quick_imports():

        class Component(gr.HTML):
            pass

    assert issubclass(Component, gr.HTML)


def test_garbage_is_collected_again_whatever_happens():
    with pytest.raises(ModuleNotFoundError), quick_imports():
        import no_such_package  # noqa: F401
    assert gc.isenabled()
