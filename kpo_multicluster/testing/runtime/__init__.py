"""A container runtime without an image store: containers are local processes in Linux namespaces."""
