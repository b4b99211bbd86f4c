"""What a cluster does for pods: cases written once, run on the embedded cluster and on real Kubernetes.

In `make test` they judge the embedded cluster. In `make test-cluster` the same cases judge themselves: what they demand
is what a real cluster does. Where the two may differ is listed in docs/embedded-cluster.md, and nowhere else.
"""
