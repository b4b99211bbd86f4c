"""Multiplies $DATA_POINT by 23 and leaves the product where the task's XCom is read from."""

import json
import os
from pathlib import Path

RESULT = Path("/airflow/xcom/return.json")

data_point = int(os.environ["DATA_POINT"])
product = 23 * data_point
print(f"23 * {data_point} = {product}")

# The operator mounts this directory into the container when do_xcom_push=True is set.
RESULT.write_text(json.dumps({"product": product}))
