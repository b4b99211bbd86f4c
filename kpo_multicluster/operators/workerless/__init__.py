"""Runs without a worker: Airflow starts the task in the triggerer and ends it there."""
