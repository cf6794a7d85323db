package main

import (
	"context"
	"slices"

	"github.com/IBM/sarama"

	"wharf/compat/cases"
)

// with runs one administrative call on a connection of its own.
func with[V any](c *client, call func(sarama.ClusterAdmin) (V, error)) (V, error) {
	admin, err := sarama.NewClusterAdmin(c.address, settings())
	if err != nil {
		var none V
		return none, err
	}
	defer admin.Close()
	return call(admin)
}

func do(c *client, call func(sarama.ClusterAdmin) error) error {
	_, err := with(c, func(admin sarama.ClusterAdmin) (struct{}, error) { return struct{}{}, call(admin) })
	return err
}

func pointers(config map[string]string) map[string]*string {
	entries := map[string]*string{}
	for key, value := range config {
		entries[key] = &value
	}
	return entries
}

func (c *client) CreateTopic(_ context.Context, name string, partitions int, config map[string]string) error {
	detail := &sarama.TopicDetail{NumPartitions: int32(partitions), ReplicationFactor: 1, ConfigEntries: pointers(config)}
	return do(c, func(admin sarama.ClusterAdmin) error { return admin.CreateTopic(name, detail, false) })
}

func (c *client) DeleteTopic(_ context.Context, name string) error {
	return do(c, func(admin sarama.ClusterAdmin) error { return admin.DeleteTopic(name) })
}

func (c *client) TopicNames(context.Context) ([]string, error) {
	return with(c, func(admin sarama.ClusterAdmin) ([]string, error) {
		found, err := admin.ListTopics()
		return keys(found), err
	})
}

func keys[V any](found map[string]V) []string {
	var names []string
	for name := range found {
		names = append(names, name)
	}
	return names
}

func (c *client) PartitionCount(_ context.Context, topic string) (int, error) {
	return with(c, func(admin sarama.ClusterAdmin) (int, error) {
		found, err := admin.DescribeTopics([]string{topic})
		if err != nil {
			return 0, err
		}
		return len(found[0].Partitions), nil
	})
}

func (c *client) AddPartitions(_ context.Context, topic string, total int) error {
	return do(c, func(admin sarama.ClusterAdmin) error {
		return admin.CreatePartitions(topic, int32(total), nil, false)
	})
}

func (c *client) Config(_ context.Context, topic string) (map[string]string, error) {
	return with(c, func(admin sarama.ClusterAdmin) (map[string]string, error) {
		resource := &sarama.ConfigResource{Type: sarama.TopicResource, Name: topic}
		found, err := admin.DescribeConfigs([]*sarama.ConfigResource{resource}, sarama.DescribeConfigsOptions{})
		if err != nil {
			return nil, err
		}
		settings := map[string]string{}
		for _, entry := range found[0].Configs {
			settings[entry.Name] = entry.Value
		}
		return settings, nil
	})
}

func (c *client) AlterConfig(_ context.Context, topic string, change map[string]*string) error {
	entries := map[string]sarama.IncrementalAlterConfigsEntry{}
	for key, value := range change {
		operation := sarama.IncrementalAlterConfigsOperationSet
		if value == nil {
			operation = sarama.IncrementalAlterConfigsOperationDelete
		}
		entries[key] = sarama.IncrementalAlterConfigsEntry{Operation: operation, Value: value}
	}
	return do(c, func(admin sarama.ClusterAdmin) error {
		return admin.IncrementalAlterConfig(sarama.TopicResource, topic, entries, false)
	})
}

func (c *client) ReplaceConfig(_ context.Context, topic string, config map[string]string) error {
	return do(c, func(admin sarama.ClusterAdmin) error {
		return admin.AlterConfig(sarama.TopicResource, topic, pointers(config), false)
	})
}

func (c *client) OffsetAt(_ context.Context, topic string, partition int, at int64) (int64, error) {
	return with(c, func(admin sarama.ClusterAdmin) (int64, error) {
		asked := map[string]map[int32]int64{topic: {int32(partition): at}}
		found, err := admin.ListOffsets(asked, &sarama.ListOffsetsOptions{})
		if err != nil {
			return 0, err
		}
		answer := found[topic][int32(partition)]
		if answer.Err != nil && answer.Err != sarama.ErrNoError {
			return 0, answer.Err
		}
		return answer.Offset, nil
	})
}

func (c *client) DeleteRecords(_ context.Context, topic string, partition int, before int64) error {
	return do(c, func(admin sarama.ClusterAdmin) error {
		return admin.DeleteRecords(topic, map[int32]int64{int32(partition): before})
	})
}

func (c *client) GroupNames(context.Context) ([]string, error) {
	return with(c, func(admin sarama.ClusterAdmin) ([]string, error) {
		found, err := admin.ListConsumerGroups()
		return keys(found), err
	})
}

func (c *client) DescribeGroup(_ context.Context, group string) (cases.GroupState, error) {
	return with(c, func(admin sarama.ClusterAdmin) (cases.GroupState, error) {
		answers, err := admin.DescribeConsumerGroups([]string{group})
		if err != nil {
			return cases.GroupState{}, err
		}
		answer := answers[0]
		if answer.Err != sarama.ErrNoError {
			return cases.GroupState{}, answer.Err
		}
		state := cases.GroupState{State: answer.State}
		for _, described := range answer.Members {
			one := cases.GroupMember{ClientID: described.ClientId}
			if described.GroupInstanceId != nil {
				one.Instance = *described.GroupInstanceId
			}
			// A member without an assignment has none to decode.
			if assigned, err := described.GetMemberAssignment(); err == nil && assigned != nil {
				for _, partitions := range assigned.Topics {
					for _, partition := range partitions {
						one.Partitions = append(one.Partitions, int(partition))
					}
				}
			}
			slices.Sort(one.Partitions)
			state.Members = append(state.Members, one)
		}
		return state, nil
	})
}

func (c *client) DeleteGroup(_ context.Context, group string) error {
	return do(c, func(admin sarama.ClusterAdmin) error { return admin.DeleteConsumerGroup(group) })
}

func (c *client) CommittedAt(_ context.Context, group, topic string, partition int) (cases.Committed, error) {
	return with(c, func(admin sarama.ClusterAdmin) (cases.Committed, error) {
		answer, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {int32(partition)}})
		if err != nil {
			return cases.Committed{}, err
		}
		block := answer.GetBlock(topic, int32(partition))
		if block.Err != sarama.ErrNoError {
			return cases.Committed{}, block.Err
		}
		return cases.Committed{Offset: block.Offset, Metadata: block.Metadata}, nil
	})
}

func (c *client) CommitAt(_ context.Context, group, topic string, partition int, place cases.Committed) error {
	return do(c, func(admin sarama.ClusterAdmin) error {
		offsets := map[string]map[int32]sarama.OffsetAndMetadata{
			topic: {int32(partition): {Offset: place.Offset, Metadata: place.Metadata, LeaderEpoch: -1}},
		}
		answer, err := admin.AlterConsumerGroupOffsets(group, offsets, nil)
		if err != nil {
			return err
		}
		if code := answer.Errors[topic][int32(partition)]; code != sarama.ErrNoError {
			return code
		}
		return nil
	})
}

func (c *client) BrokerAddresses(context.Context) ([]string, error) {
	return with(c, func(admin sarama.ClusterAdmin) ([]string, error) {
		brokers, _, err := admin.DescribeCluster()
		var found []string
		for _, broker := range brokers {
			found = append(found, broker.Addr())
		}
		return found, err
	})
}
