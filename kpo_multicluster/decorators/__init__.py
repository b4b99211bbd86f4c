"""Task decorators: `@task.pod` runs a Python function in a pod, `@task.pod_cmd` the command that a function returns."""
