"""The tools that ask about the cluster, of which one node has little to tell."""

import json
import re

from cases import case, equal, fresh, says
from java import file_with, normal, tool
from show import produce, refused, shows, topic


@case
def the_versions_of_every_request_are_kafkas(address):
    # What Wharf does not answer it does not advertise; what it does is as in Kafka.
    lines = normal(tool("BrokerApiVersionsCommand", "--bootstrap-server", address))
    ranges = dict(re.findall(r"(\w+)\(\d+\): ([^\[,]+) \[usable", "\n".join(lines)))
    wanted = ["Produce", "Fetch", "ListOffsets", "Metadata", "OffsetCommit", "OffsetFetch",
              "FindCoordinator", "JoinGroup", "SyncGroup", "InitProducerId", "AddPartitionsToTxn",
              "AddOffsetsToTxn", "EndTxn", "TxnOffsetCommit", "ConsumerGroupHeartbeat",
              "ConsumerGroupDescribe", "ElectLeaders", "DescribeQuorum", "DescribeClientQuotas",
              "AlterClientQuotas", "DescribeTransactions", "ListTransactions", "DescribeProducers",
              "AlterPartitionReassignments", "ListPartitionReassignments"]
    says("ranges", {name: ranges.get(name) for name in wanted})


@case
def the_cluster_has_an_id_and_one_endpoint(address):
    identity = tool("ClusterTool", "cluster-id", "--bootstrap-server", address)
    equal(identity.startswith("Cluster ID: "), True, identity)
    lines = tool("ClusterTool", "list-endpoints", "--bootstrap-server", address)
    shows("endpoints", lines.replace(address.rsplit(":", 1)[1], "<port>"))


@case
def features_that_clients_choose_by_are_final(address):
    lines = normal(tool("FeatureCommand", "--bootstrap-server", address, "describe"))
    named = [line.split(" Epoch")[0] for line in lines
             if line.startswith(("Feature: group.version", "Feature: transaction.version"))]
    says("features", named)


@case
def the_quorum_is_the_node_itself(address):
    status = tool("MetadataQuorumCommand", "--bootstrap-server", address, "describe", "--status")
    values = dict(line.split(":", 1) for line in status.splitlines())
    says("leader and lag", {key: values[key].strip() for key in ["LeaderId", "MaxFollowerLag"]})
    says("voters", [voter["id"] for voter in json.loads(values["CurrentVoters"])])
    says("observers", values["CurrentObservers"].strip())
    lines = tool("MetadataQuorumCommand", "--bootstrap-server", address, "describe",
                 "--replication").splitlines()
    says("replication", [lines[1].split()[0], lines[1].split()[-1], len(lines)])


@case
def the_leader_is_elected_already(address):
    name = topic(address, 2)
    elect = ("LeaderElectionCommand", "--bootstrap-server", address, "--election-type")
    for how in ["preferred", "unclean"]:
        shows(how, tool(*elect, how, "--topic", name, "--partition", 0))
    plan = file_with(json.dumps({"partitions": [
        {"topic": name, "partition": 0}, {"topic": name, "partition": 1}]}))
    both = tool(*elect, "preferred", "--path-to-json-file", plan)
    says("from a file", sorted(word.strip(",").replace(name, "topic") for word in both.split()))
    shows("everywhere", tool(*elect, "preferred", "--all-topic-partitions"))
    refused("unknown", *elect, "preferred", "--topic", name, "--partition", 77)
    refused("unknown topic", *elect, "preferred", "--topic", fresh("none"), "--partition", 0)


@case
def partitions_are_reassigned_to_where_they_are(address):
    name = topic(address, 2)
    reassign = ("reassign.ReassignPartitionsCommand", "--bootstrap-server", address)
    topics = file_with(json.dumps({"version": 1, "topics": [{"topic": name}]}))
    shows("plan", tool(*reassign, "--generate", "--topics-to-move-json-file", topics,
                       "--broker-list", 1))
    plan = {"version": 1, "partitions": [
        {"topic": name, "partition": number, "replicas": [1]} for number in range(2)]}
    where = ("--reassignment-json-file", file_with(json.dumps(plan)))
    shows("executed", tool(*reassign, "--execute", *where))
    shows("verified", tool(*reassign, "--verify", *where), ordered=False)
    shows("listed", tool(*reassign, "--list"))
    shows("cancelled", tool(*reassign, "--cancel", *where), ordered=False)
    plan["partitions"][0]["replicas"] = [7]
    refused("unknown broker", *reassign, "--execute", "--reassignment-json-file",
            file_with(json.dumps(plan)))


@case
def the_log_directory_shows_every_partition(address):
    name = topic(address, 2)
    produce(address, name, ["a"])
    out = tool("LogDirsCommand", "--bootstrap-server", address, "--describe", "--topic-list", name)
    broker = json.loads(out.splitlines()[-1])["brokers"][0]
    [folder] = broker["logDirs"]
    says("directory", [broker["broker"], folder["error"]])
    partitions = sorted(folder["partitions"], key=lambda one: one["partition"])
    for one in partitions:
        one["partition"] = one["partition"].replace(name, "topic")
    equal([one.pop("size") > 0 for one in partitions].count(True), 1, "partitions with bytes")
    says("partitions", partitions)
    refused("unknown broker", "LogDirsCommand", "--bootstrap-server", address, "--describe",
            "--broker-list", 9)


@case
def access_rules_need_an_authorizer(address):
    shows("list", tool("AclCommand", "--bootstrap-server", address, "--list", fails=True),
          drop="Exception")
    refused("add", "AclCommand", "--bootstrap-server", address, "--add", "--allow-principal",
            "User:a", "--operation", "read", "--topic", "x")
