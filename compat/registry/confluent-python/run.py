"""PyPI's confluent-kafka with its registry client: Avro, JSON Schema and Protobuf as most Python services use them.

    BROKER=127.0.0.1:9092 python3 compat/registry/python/run.py 127.0.0.1:8081
"""

import administration  # noqa: F401 (its cases)
import rules  # noqa: F401 (its cases)
import serialisers  # noqa: F401 (its cases)

from cases import main

main(together=True)
