"""Where Airflow looks for the tasks."""
