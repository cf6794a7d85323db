"""kafka-topics, kafka-configs."""

from cases import case, equal, fresh, says
from java import normal, tool
from show import refused, shows, topic

CONFIG = "kafka.admin.ConfigCommand"


def topics(address, *arguments):
    return tool("TopicCommand", "--bootstrap-server", address, *arguments)


def quotas(address, *arguments):
    """What is said of quotas, the settings in the order of their names."""
    line = configs(address, "--describe", *arguments)
    head, found, values = line.strip().partition(" are ")
    return head + found + ", ".join(sorted(values.split(", ")))


def configs(address, *arguments):
    return tool(CONFIG, "--bootstrap-server", address, *arguments)


@case
def a_topic_is_created_described_altered_listed_and_deleted(address):
    name = topic(address, 3, "retention.ms=100000", "cleanup.policy=compact")
    shows("described", topics(address, "--describe", "--topic", name))
    shows("altered", topics(address, "--alter", "--topic", name, "--partitions", 5))
    shows("grown", topics(address, "--describe", "--topic", name))
    equal(name in topics(address, "--list").splitlines(), True, "listed")
    equal(topics(address, "--list", "--topic", name + ".*").split(), [name], "by its pattern")
    topics(address, "--delete", "--topic", name)
    equal(name in topics(address, "--list").splitlines(), False, "listed after it was deleted")


@case
def a_topic_is_found_by_its_id(address):
    name = topic(address)
    words = topics(address, "--describe", "--topic", name).split()
    identity = words[words.index("TopicId:") + 1]
    shows("by id", topics(address, "--describe", "--topic-id", identity))
    refused("another", "TopicCommand", "--bootstrap-server", address, "--describe",
            "--topic-id", "AAAAAAAAAAAAAAAAAAAAQQ")


@case
def what_may_be_wrong_with_replicas_is_shown(address):
    name = topic(address, 2, "segment.bytes=1048576")
    for flag in ["under-replicated-partitions", "unavailable-partitions",
                 "under-min-isr-partitions", "at-min-isr-partitions", "topics-with-overrides"]:
        shows(flag, topics(address, "--describe", "--topic", name, f"--{flag}"))


@case
def a_topic_that_cannot_be_made_is_refused(address):
    name, other = topic(address), fresh("never")
    create = ("TopicCommand", "--bootstrap-server", address, "--create", "--topic")
    refused("twice", *create, name)
    shows("twice, if not exists", tool(*create, name, "--if-not-exists"))
    refused("replicas", *create, other, "--replication-factor", 2)
    refused("name", *create, "bad/name")
    refused("setting", *create, other, "--config", "nonsense=1")
    refused("value", *create, other, "--config", "retention.ms=abc")
    refused("unknown broker", *create, other, "--replica-assignment", "7")
    shows("by hand", tool(*create, fresh("assigned"), "--replica-assignment", "1,1,1"))
    equal(other in topics(address, "--list").splitlines(), False, "made all the same")


@case
def partitions_are_never_taken_away(address):
    name = topic(address, 5)
    alter = ("TopicCommand", "--bootstrap-server", address, "--alter", "--topic", name)
    refused("fewer", *alter, "--partitions", 2)
    refused("as many", *alter, "--partitions", 5)
    refused("unknown", "TopicCommand", "--bootstrap-server", address, "--alter", "--topic",
            fresh("unknown"), "--partitions", 5)


@case
def a_topics_settings_are_set_and_taken_back(address):
    name = topic(address, 1, "segment.ms=60000")
    shows("altered", configs(
        address, "--alter", "--topic", name, "--add-config",
        "retention.bytes=5000,cleanup.policy=[compact,delete]", "--delete-config", "segment.ms"))
    shows("described", configs(address, "--describe", "--topic", name))
    shows("reset", configs(
        address, "--alter", "--topic", name, "--delete-config", "retention.bytes,cleanup.policy"))
    shows("empty", configs(address, "--describe", "--topic", name))
    change = (CONFIG, "--bootstrap-server", address, "--alter", "--topic", name)
    refused("unknown setting", *change, "--add-config", "nonsense=1")
    refused("bad value", *change, "--add-config", "retention.ms=abc")
    shows("not set", tool(*change, "--delete-config", "retention.ms"))
    refused("unknown topic", CONFIG, "--bootstrap-server", address, "--alter", "--topic",
            fresh("unknown"), "--add-config", "retention.ms=1")


@case
def the_defaults_of_a_topic_are_kafkas(address):
    # Tiered storage is not there; some settings are Wharf's own or of Confluent's server.
    lines = normal(configs(address, "--describe", "--all", "--topic", topic(address)))
    own = ("remote.", "local.retention.", "wharf.", "confluent.", "min.insync.replicas")
    says("defaults", sorted(line.split(" ")[0] for line in lines[1:] if not line.startswith(own)))


@case
def every_setting_of_a_topic_names_where_its_default_comes_from(address):
    lines = normal(configs(address, "--describe", "--all", "--topic", topic(address)))
    own = ("remote.", "local.retention.", "wharf.", "confluent.", "min.insync.replicas")
    says("synonyms", sorted(line for line in lines[1:] if not line.startswith(own)))


@case
def the_settings_of_a_broker_are_described(address):
    lines = configs(address, "--describe", "--all", "--entity-type", "brokers",
                    "--entity-name", 1).splitlines()
    values = dict(line.split()[0].split("=", 1) for line in lines[1:] if "=" in line.split()[0])
    for key in ["message.max.bytes", "auto.create.topics.enable", "num.partitions",
                "log.retention.ms", "log.segment.bytes", "offsets.retention.minutes"]:
        equal(key in values, True, key)


@case
def quotas_of_clients_and_users_are_set_and_taken_back(address):
    who = fresh("client")
    for entity in [("clients",), ("users",)]:
        whole = ("--entity-type", *entity, "--entity-name", who)
        shows("none", quotas(address, *whole))
        shows("set", configs(address, "--alter", *whole, "--add-config",
                             "producer_byte_rate=1024,consumer_byte_rate=2048,request_percentage=50"))
        shows("described", quotas(address, *whole))
        shows("one taken back", configs(
            address, "--alter", *whole, "--delete-config", "consumer_byte_rate"))
        shows("the rest", quotas(address, *whole))
        configs(address, "--alter", *whole, "--delete-config",
                "producer_byte_rate,request_percentage")
    change = (CONFIG, "--bootstrap-server", address, "--alter", "--entity-type", "clients",
              "--entity-name", who, "--add-config")
    refused("unknown", *change, "nonsense=1")
    refused("negative", *change, "producer_byte_rate=-1")


@case
def settings_of_groups_are_set_and_taken_back(address):
    who = ("--entity-type", "groups", "--entity-name", fresh("group"))
    shows("none", configs(address, "--describe", *who))
    shows("set", configs(
        address, "--alter", *who, "--add-config", "consumer.session.timeout.ms=50000"))
    shows("described", configs(address, "--describe", *who))
    refused("too long", CONFIG, "--bootstrap-server", address, "--alter", *who, "--add-config",
            "consumer.session.timeout.ms=50000000")
    shows("taken back", configs(
        address, "--alter", *who, "--delete-config", "consumer.session.timeout.ms"))
