"""The API server of the embedded cluster: what a request becomes, without the processes of a node."""
