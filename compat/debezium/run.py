"""The outbox relay beside a Debezium that runs for real in Kafka Connect, record by record.

    WHARF=target/debug/wharf KAFKA_CLASSES='target/xtask/services/kafka/libs/*' \\
        DEBEZIUM_PLUGINS=target/xtask/services/debezium \\
        python3 compat/debezium/run.py postgres://user@127.0.0.1:5432/postgres [words of the cases' names]

Both read the same tables of a Postgres with `wal_level = logical` in which there is nothing yet. Each
scenario is a case: topics, partitions, keys, values, headers, and their order have to be the same.
docs/operating/outbox.md says what is the same and what is not.
"""

import collections
import functools
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))
import cases  # noqa: E402
from cases import equal, main  # noqa: E402
from scenarios import SCENARIOS  # noqa: E402
from world import World  # noqa: E402

# What newer Debeziums add to every record unless `extended.headers.enabled` is off.
CONTEXT = "__debezium.context."


@functools.cache
def world(address):
    """Everything, run once; or why it did not run."""
    words = sys.argv[2:]
    chosen = [scenario for scenario in SCENARIOS
              if not words or any(word in scenario.name for word in words)]
    try:
        return World(address, chosen)
    except Exception as error:  # noqa: BLE001 (the first case tells)
        print(f"nothing can be compared: {error}", flush=True)
        return None


def sequences(records, timestamps):
    """The records of each partition in their order; of those without a key only how many there are, as
    any partition does."""
    found = collections.defaultdict(list)
    for record in records:
        what = (record.key, record.value, record.headers, record.timestamp if timestamps else None)
        place = (record.topic, "any" if record.key is None else record.partition)
        found[place].append(what)
    for (_, partition), whats in found.items():
        if partition == "any":
            whats.sort(key=repr)
    return dict(found)


def without_context(records):
    """The records without Debezium's notes about itself, which all have."""
    for record in records:
        names = [name for name, _ in record.headers]
        assert any(name.startswith(CONTEXT) for name in names), f"no context: {names}"
        headers = tuple(header for header in record.headers if not header[0].startswith(CONTEXT))
        yield record._replace(headers=headers)


def compare(ours, theirs):
    """Fails at the first difference of each partition, and shows it."""
    differences = []
    for place in sorted(ours.keys() | theirs.keys(), key=str):
        mine, other = ours.get(place, []), theirs.get(place, [])
        for number in range(max(len(mine), len(other))):
            pair = [list_[number] if number < len(list_) else "nothing" for list_ in (mine, other)]
            if pair[0] != pair[1]:
                differences.append(f"{place} record {number} of {len(mine)} and {len(other)}:\n"
                                   f"    relay    {pair[0]!r:.600}\n    Debezium {pair[1]!r:.600}")
                if len(mine) != len(other):
                    break
    if differences:
        raise AssertionError(f"{len(differences)} differences:\n" + "\n".join(differences[:40]))


def comparison(scenario):
    """The case of a scenario."""
    def run(address):
        both = world(address)
        assert both, "nothing can be compared"
        ours, theirs = (reader.of(scenario.name) for reader in both.readers)
        if scenario.context:
            theirs = list(without_context(theirs))
        compare(sequences(ours, scenario.timestamps), sequences(theirs, scenario.timestamps))
        equal(len(ours), both.written(scenario), "how many records there are for the committed rows")
    run.__name__ = scenario.name
    cases.case("debezium")(run)


for one in SCENARIOS:
    comparison(one)
cases.CASE_SECONDS = 400
main()
