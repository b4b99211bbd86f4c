"""The connection form in a real browser: `make test-browser`."""
