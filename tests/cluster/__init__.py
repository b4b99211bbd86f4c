"""Two real one-node Kubernetes clusters, `alpha` and `beta`, on one Debian machine without Docker.

layout          where everything lies and which addresses it has
machine         what the machine must offer, and the packages that are installed
build, images   the Kubernetes programs and the container images, kept between runs
pki, processes, network, cgroups, api    the parts
control_plane   etcd, API server, controller manager, scheduler
node            the namespaces of a node, its containerd and its kubelet
bed             all of it, up and down
kubeconfig      files for people, and service accounts with few rights
audit           who asked what of an API server
plugin          the pytest fixtures; `conftest.py` files import them
"""
