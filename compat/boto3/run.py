"""PyPI's boto3 and the AWS command line against the Step Functions API.

    python3 compat/boto3/run.py 127.0.0.1:8080

The node must have the users and resources of `compat/boto3/wharf.toml`.
"""

import deploying  # noqa: F401 (its cases)
import running  # noqa: F401 (its cases)
import terminal  # noqa: F401 (its cases)

from cases import main

main(together=True)
