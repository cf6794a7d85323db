"""What the tools' cases share: calls to one broker, and what is compared of their answers."""

import re

from cases import fresh, says
from java import normal, tool

# Kafka sets this for the whole cluster when replicas can be told apart from leaders-to-be; it is
# the default's own value.
_SET_BY_KAFKA = re.compile(
    r"min\.insync\.replicas=1,?(?= |$|\w)|DYNAMIC_DEFAULT_BROKER_CONFIG:min\.insync\.replicas=1, ")
_KIND = re.compile(r"org\.apache\.kafka\.common\.errors\.(\w+)")


def shows(what, text, drop=None, ordered=True):
    """Says what a tool printed, to be compared; returns its lines."""
    lines = [_SET_BY_KAFKA.sub("", line).rstrip() for line in normal(text, drop)]
    says(what, lines if ordered else sorted(lines))
    return lines


def refused(what, main, *arguments, given=""):
    """A call that must fail; says the kinds of errors it names, or else all that it prints."""
    text = tool(main, *arguments, given=given, fails=True)
    kinds = sorted(set(_KIND.findall(text)))
    says(what, kinds or normal(text))
    return kinds


def topic(address, partitions=1, *settings):
    """A new topic."""
    name = fresh("topic")
    more = [word for setting in settings for word in ("--config", setting)]
    tool("TopicCommand", "--bootstrap-server", address, "--create", "--topic", name,
         "--partitions", partitions, *more)
    return name


def produce(address, name, lines, *arguments):
    """The console producer with these lines."""
    tool("ConsoleProducer", "--bootstrap-server", address, "--topic", name, *arguments,
         given="".join(f"{line}\n" for line in lines))


def consume(address, name, count, *arguments):
    """The first `count` lines that the console consumer prints."""
    out = tool("consumer.ConsoleConsumer", "--bootstrap-server", address, "--topic", name,
               "--max-messages", count, "--timeout-ms", 30000, "--from-beginning", *arguments)
    return out.splitlines()
