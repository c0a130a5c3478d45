"""Reveal: strategies of a model that are unlike the rest, found in how it explains its decisions."""
