"""Emulated clouds on loopback: what their official client libraries talk to, unmodified, and what issues tokens."""
