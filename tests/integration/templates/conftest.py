"""The renderer with the shipped templates."""

from __future__ import annotations

import pytest

from smi_desktop.adapters.template_renderer import JinjaRenderer


@pytest.fixture(scope="session")
def renderer() -> JinjaRenderer:
    """Return the renderer with the shipped templates."""
    return JinjaRenderer()
