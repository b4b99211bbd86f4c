"""The `kpo-multicluster` command."""
