"""Explaining one batch: targets, gradients, relevance rules and conditional relevance."""
