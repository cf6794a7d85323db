"""kafka-transactions, and what the console consumer sees of transactions."""

import re

from cases import case, equal, fresh, says, until
from java import TOOLS, Program, tool
from show import consume, refused, shows, topic


def command(address, *arguments):
    return tool("TransactionsCommand", "--bootstrap-server", address, *arguments)


def rows(text):
    """The table's lines as maps; empty cells would shift them, so there must be none."""
    head, *lines = [line.split("\t") for line in text.splitlines() if line.strip()]
    return [dict(zip([cell.strip() for cell in head], [cell.strip() for cell in line]))
            for line in lines]


class Open:
    """A producer whose transaction stays open: its records are there, its end is not."""

    def __init__(self, address, name, identity):
        self.program = Program(
            TOOLS + "ProducerPerformance", "--bootstrap-server", address, "--topic", name,
            "--num-records", 100000, "--record-size", 10, "--throughput", 5,
            "--transactional-id", identity, "--transaction-duration-ms", 600000,
            "--command-property", "transaction.timeout.ms=600000", "linger.ms=0")
        self.address, self.name, self.identity = address, name, identity

    def __enter__(self):
        until(lambda: self.producers() and self.state() == "Ongoing", "the transaction is open")
        return self

    def __exit__(self, *_):
        self.program.kill()

    def producers(self):
        found = rows(command(self.address, "describe-producers", "--topic", self.name,
                             "--partition", 0))
        return [one for one in found if one["CurrentTransactionStartOffset"] != "None"]

    def state(self):
        for one in rows(command(self.address, "list")):
            if one["TransactionalId"] == self.identity:
                return one["TransactionState"]
        return None


@case
def committed_transactions_are_read_and_their_state_is_told(address):
    name, identity = topic(address), fresh("txn")
    out = tool("ProducerPerformance", "--bootstrap-server", address, "--topic", name,
               "--num-records", 1000, "--record-size", 10, "--throughput", -1,
               "--transactional-id", identity, "--transaction-duration-ms", 10)
    equal(out.splitlines()[-1].startswith("1000 records sent"), True, out)
    found = consume(address, name, 1000, "--isolation-level", "read_committed")
    equal(len(found), 1000, "records")
    [told] = rows(command(address, "describe", "--transactional-id", identity))
    says("described", [told[key] for key in [
        "TransactionState", "TransactionTimeoutMs", "TopicPartitions"]])
    listed = [one for one in rows(command(address, "list")) if one["TransactionalId"] == identity]
    says("listed", [one["TransactionState"] for one in listed])


@case
def an_open_transaction_is_described_and_aborted(address):
    name, identity = topic(address), fresh("txn")
    with Open(address, name, identity) as producer:
        [told] = rows(command(address, "describe", "--transactional-id", identity))
        says("described", [told["TransactionState"], told["TransactionTimeoutMs"],
                           told["TopicPartitions"].replace(name, "topic")])
        [mine] = producer.producers()
        says("producer", [mine["CurrentTransactionStartOffset"], mine["LatestCoordinatorEpoch"]])
        equal(mine["ProducerId"], told["ProducerId"], "producer id")
        hidden = tool("consumer.ConsoleConsumer", "--bootstrap-server", address, "--topic", name,
                      "--from-beginning", "--timeout-ms", 1500, "--isolation-level",
                      "read_committed")
        equal(hidden, "", "read before the end")
        shows("hanging", command(address, "find-hanging", "--topic", name))
        shows("aborted", command(address, "abort", "--topic", name, "--partition", 0,
                                 "--start-offset", mine["CurrentTransactionStartOffset"]))
        until(lambda: not producer.producers() or
              producer.producers()[0]["CurrentTransactionStartOffset"] != "0", "aborted")


@case
def an_open_transaction_is_ended_by_force(address):
    name, identity = topic(address), fresh("txn")
    with Open(address, name, identity) as producer:
        shows("ended", command(address, "forceTerminateTransaction", "--transactionalId", identity))
        until(lambda: producer.state() == "Empty", "the transaction is aborted")
        fenced = re.compile("ProducerFenced|InvalidProducerEpoch")
        until(lambda: fenced.search(producer.program.complaints()), "the producer is fenced")
    found = tool("consumer.ConsoleConsumer", "--bootstrap-server", address, "--topic", name,
                 "--from-beginning", "--timeout-ms", 1500, "--isolation-level", "read_committed")
    equal(found, "", "aborted records")


@case
def what_is_not_there_is_refused(address):
    unknown = fresh("txn")
    shows("unknown", tool("TransactionsCommand", "--bootstrap-server", address, "describe",
                          "--transactional-id", unknown, fails=True))
    head = command(address, "list", "--duration-filter", "100000000").splitlines()[0]
    says("columns", head.split())
    refused("no transaction", "TransactionsCommand", "--bootstrap-server", address, "abort",
            "--topic", topic(address), "--partition", 0, "--start-offset", 5)
