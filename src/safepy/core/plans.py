"""The ordered steps that make a new state true, as data (design-examples 7)."""

from __future__ import annotations

Step = object
