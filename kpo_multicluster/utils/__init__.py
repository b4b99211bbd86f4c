"""Upstream's package of this name: what DAGs import from it."""
