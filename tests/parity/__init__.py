"""Comparisons with the installed upstream operator; `make test-upstream` runs them."""
