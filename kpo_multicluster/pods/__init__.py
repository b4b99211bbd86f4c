"""What a run is: manifest, status, logs, XCom, run. Knows no Airflow."""
