"""Airflow connections to clusters."""
