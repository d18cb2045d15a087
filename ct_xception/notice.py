"""The one sentence that stands beside every answer."""

from __future__ import annotations

RESEARCH_USE = "For research use only. Not a medical device: no answer here is a diagnosis."
