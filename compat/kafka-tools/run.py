"""Apache Kafka's own command-line tools, from Maven Central.

    KAFKA_CLASSES='target/xtask/services/kafka/libs/*' python3 compat/kafka-tools/run.py 127.0.0.1:9092

Most cases compare what a tool prints: `shows` hands it over without what differs from run to run.
The sentences of an error are the server's own; of a failing tool only the kind of error is shown.
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import cluster  # noqa: E402, F401
import groups  # noqa: E402, F401
import records  # noqa: E402, F401
import topics  # noqa: E402, F401
import transactions  # noqa: E402, F401
from cases import main  # noqa: E402

main()
