"""What `make demo` runs: DAGs by `airflow dags test`, and a table of what became of each task."""
