"""Evaluation: what a change of a model did, measured."""
