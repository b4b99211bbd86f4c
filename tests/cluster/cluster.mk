# Real Kubernetes clusters for the tests: docs/testing-on-kubernetes.md
CLUSTERS := $(BIN)/python -m tests.cluster

.PHONY: cluster-up
cluster-up: $(VENV)/.complete ## Start two real one-node Kubernetes clusters (Debian, root)
	@$(CLUSTERS) up

.PHONY: cluster-down
cluster-down: $(VENV)/.complete ## Take them down, with all they made on the machine
	@$(CLUSTERS) down

.PHONY: cluster-status
cluster-status: $(VENV)/.complete ## Say how they are and where their logs lie
	@$(CLUSTERS) status

# Yours are used only when CONTEXTS names them: a KUBECONFIG that happens to be exported leads to who knows what.
.PHONY: test-cluster
test-cluster: $(VENV)/.complete ## Test on real clusters, or on yours: CONTEXTS=a,b KUBECONFIG=...
	@$(CLUSTERS) test $(if $(CONTEXTS),--contexts '$(CONTEXTS)' $(if $(KUBECONFIG),--kubeconfig '$(KUBECONFIG)')) -- $(PYTEST_ARGS)

# Without their files no one would know of the processes any more.
.PHONY: cluster-gone
cluster-gone:
	@[ ! -e .cache/cluster ] || $(CLUSTERS) down

clean: cluster-gone
