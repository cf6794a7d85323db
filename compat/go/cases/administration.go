package cases

import (
	"fmt"
	"slices"
)

var administration = []entry{
	{Topics, "topics are created, listed and deleted", topics},
	{Partitions, "partitions are added, never taken away", partitions},
	{Configs, "settings are created, altered one by one and replaced", configs},
	{Groups, "groups are listed, described and deleted", groupAdministration},
	{Deletion, "records are deleted up to an offset", deletion},
	{Cluster, "the broker names the address that it was reached at", cluster},
}

func topics(r *run) {
	name := fresh("topic")
	check(r.CreateTopic(r.ctx, name, 3, nil))
	r.code("creating it twice", r.CreateTopic(r.ctx, name, 3, nil), topicExists)
	bad := map[string]string{"retention.ms": "soon"}
	r.code("a bad setting", r.CreateTopic(r.ctx, fresh("topic"), 1, bad), invalidConfig)
	r.until("it is listed", func() bool { return slices.Contains(must(r.TopicNames(r.ctx)), name) })
	equal("partitions", must(r.PartitionCount(r.ctx, name)), 3)
	check(r.DeleteTopic(r.ctx, name))
	r.until("it is gone", func() bool { return !slices.Contains(must(r.TopicNames(r.ctx)), name) })
	r.code("deleting it twice", r.DeleteTopic(r.ctx, name), unknownTopic)
}

func partitions(r *run) {
	topic := r.topic(1, nil)
	must(r.Send(r.ctx, Sending{}, numbered(topic, 0, 1, "old %d")...))
	check(r.AddPartitions(r.ctx, topic, 3))
	r.until("three partitions", func() bool { return must(r.PartitionCount(r.ctx, topic)) == 3 })
	r.code("fewer", r.AddPartitions(r.ctx, topic, 2), invalidPartitions)
	must(r.Send(r.ctx, Sending{}, numbered(topic, 2, 1, "new %d")...))
	equal("new", values(must(r.Read(r.ctx, topic, 2, 0, 1, false))), []string{"new 0"})
	equal("old", values(must(r.Read(r.ctx, topic, 0, 0, 1, false))), []string{"old 0"})
}

func configs(r *run) {
	topic := r.topic(1, map[string]string{"retention.ms": "3600000"})
	expect := func(what string, wanted map[string]string) {
		r.until(fmt.Sprint(what, ": ", wanted), func() bool {
			found := must(r.Config(r.ctx, topic))
			for name, value := range wanted {
				if found[name] != value {
					return false
				}
			}
			return true
		})
	}
	const retention = "604800000"
	expect("as created", map[string]string{"retention.ms": "3600000", "cleanup.policy": "delete"})
	megabytes := "2000000"
	check(r.AlterConfig(r.ctx, topic, map[string]*string{"max.message.bytes": &megabytes}))
	expect("one changed", map[string]string{"retention.ms": "3600000", "max.message.bytes": megabytes})
	check(r.AlterConfig(r.ctx, topic, map[string]*string{"retention.ms": nil}))
	expect("one removed", map[string]string{"retention.ms": retention, "max.message.bytes": megabytes})
	check(r.ReplaceConfig(r.ctx, topic, map[string]string{"retention.bytes": "1000000"}))
	expect("replaced", map[string]string{"retention.bytes": "1000000", "max.message.bytes": "1048588"})
	bad := "soon"
	r.code("a bad value", r.AlterConfig(r.ctx, topic, map[string]*string{"retention.ms": &bad}), invalidConfig)
	expect("after a bad one", map[string]string{"retention.bytes": "1000000", "retention.ms": retention})
}

func groupAdministration(r *run) {
	topic, group := r.topic(2, nil), fresh("group")
	must(r.Send(r.ctx, Sending{}, numbered(topic, 0, 10, "%d")...))
	member := r.join(Membership{Group: group, Topic: topic, ClientID: "till"})
	check(member.Done(r.ctx, r.take(member, 10)))
	stop, _ := pump(r, member)
	if !slices.Contains(must(r.GroupNames(r.ctx)), group) {
		fail("the group is not listed")
	}
	found := r.group(group)
	equal("state", found.State, "Stable")
	equal("members", len(found.Members), 1)
	equal("client id", found.Members[0].ClientID, "till")
	equal("its partitions", found.Members[0].Partitions, []int{0, 1})
	r.code("deleting it", r.DeleteGroup(r.ctx, group), nonEmptyGroup)
	stop()
	check(member.Close())
	r.until("the group is empty", func() bool { return r.group(group).State == "Empty" })
	equal("committed", must(r.CommittedAt(r.ctx, group, topic, 0)).Offset, int64(10))
	equal("not committed", must(r.CommittedAt(r.ctx, group, topic, 1)).Offset, int64(-1))
	check(r.DeleteGroup(r.ctx, group))
	if slices.Contains(must(r.GroupNames(r.ctx)), group) {
		fail("the deleted group is listed")
	}
	r.code("deleting it twice", r.DeleteGroup(r.ctx, group), groupIDNotFound)
}

func deletion(r *run) {
	topic := r.topic(1, nil)
	must(r.Send(r.ctx, Sending{}, numbered(topic, 0, 10, "%d")...))
	check(r.DeleteRecords(r.ctx, topic, 0, 4))
	equal("the beginning", must(r.OffsetAt(r.ctx, topic, 0, Earliest)), int64(4))
	equal("values", values(must(r.Read(r.ctx, topic, 0, 4, 6, false))), []string{"4", "5", "6", "7", "8", "9"})
}

func cluster(r *run) {
	equal("addresses", must(r.BrokerAddresses(r.ctx)), []string{r.address})
}
