package main

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"

	"github.com/segmentio/kafka-go"

	"wharf/compat/cases"
)

func (c *client) CreateTopic(ctx context.Context, name string, partitions int, config map[string]string) error {
	topic := kafka.TopicConfig{Topic: name, NumPartitions: partitions, ReplicationFactor: 1}
	for key, value := range config {
		topic.ConfigEntries = append(topic.ConfigEntries, kafka.ConfigEntry{ConfigName: key, ConfigValue: value})
	}
	answer, err := c.admin.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{topic}})
	if err != nil {
		return err
	}
	return answer.Errors[name]
}

func (c *client) DeleteTopic(ctx context.Context, name string) error {
	answer, err := c.admin.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{name}})
	if err != nil {
		return err
	}
	return answer.Errors[name]
}

func (c *client) TopicNames(ctx context.Context) ([]string, error) {
	answer, err := c.admin.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, topic := range answer.Topics {
		names = append(names, topic.Name)
	}
	return names, nil
}

func (c *client) PartitionCount(ctx context.Context, topic string) (int, error) {
	answer, err := c.admin.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return 0, err
	}
	return len(answer.Topics[0].Partitions), answer.Topics[0].Error
}

func (c *client) AddPartitions(ctx context.Context, topic string, total int) error {
	answer, err := c.admin.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{
		Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: int32(total)}},
	})
	if err != nil {
		return err
	}
	return answer.Errors[topic]
}

func (c *client) Config(ctx context.Context, topic string) (map[string]string, error) {
	answer, err := c.admin.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic}},
	})
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	for _, entry := range answer.Resources[0].ConfigEntries {
		settings[entry.ConfigName] = entry.ConfigValue
	}
	return settings, answer.Resources[0].Error
}

func (c *client) AlterConfig(ctx context.Context, topic string, change map[string]*string) error {
	resource := kafka.IncrementalAlterConfigsRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic}
	for key, value := range change {
		config := kafka.IncrementalAlterConfigsRequestConfig{Name: key, ConfigOperation: kafka.ConfigOperationDelete}
		if value != nil {
			config.Value, config.ConfigOperation = *value, kafka.ConfigOperationSet
		}
		resource.Configs = append(resource.Configs, config)
	}
	answer, err := c.admin.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{resource},
	})
	if err != nil {
		return err
	}
	return answer.Resources[0].Error
}

func (c *client) ReplaceConfig(ctx context.Context, topic string, config map[string]string) error {
	resource := kafka.AlterConfigRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic}
	for key, value := range config {
		resource.Configs = append(resource.Configs, kafka.AlterConfigRequestConfig{Name: key, Value: value})
	}
	answer, err := c.admin.AlterConfigs(ctx, &kafka.AlterConfigsRequest{
		Resources: []kafka.AlterConfigRequestResource{resource},
	})
	if err != nil {
		return err
	}
	for _, refused := range answer.Errors {
		err = errors.Join(err, refused)
	}
	return err
}

func (c *client) OffsetAt(ctx context.Context, topic string, partition int, at int64) (int64, error) {
	answer, err := c.admin.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{topic: {{Partition: partition, Timestamp: at}}},
	})
	if err != nil {
		return 0, err
	}
	found := answer.Topics[topic][0]
	switch {
	case at == cases.Earliest:
		return found.FirstOffset, found.Error
	case at == cases.Latest:
		return found.LastOffset, found.Error
	}
	for offset := range found.Offsets {
		return offset, found.Error
	}
	return -1, found.Error
}

func (c *client) GroupNames(ctx context.Context) ([]string, error) {
	answer, err := c.admin.ListGroups(ctx, &kafka.ListGroupsRequest{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, group := range answer.Groups {
		names = append(names, group.GroupID)
	}
	return names, answer.Error
}

func (c *client) DescribeGroup(ctx context.Context, group string) (cases.GroupState, error) {
	answers, err := c.admin.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		return cases.GroupState{}, err
	}
	answer := answers.Groups[0]
	state := cases.GroupState{State: answer.GroupState}
	for _, described := range answer.Members {
		one := cases.GroupMember{ClientID: described.ClientID}
		for _, topic := range described.MemberAssignments.Topics {
			one.Partitions = append(one.Partitions, topic.Partitions...)
		}
		slices.Sort(one.Partitions)
		state.Members = append(state.Members, one)
	}
	return state, answer.Error
}

func (c *client) DeleteGroup(ctx context.Context, group string) error {
	answer, err := c.admin.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		return err
	}
	return answer.Errors[group]
}

func (c *client) CommittedAt(ctx context.Context, group, topic string, partition int) (cases.Committed, error) {
	answer, err := c.admin.OffsetFetch(ctx, &kafka.OffsetFetchRequest{
		GroupID: group, Topics: map[string][]int{topic: {partition}},
	})
	if err != nil {
		return cases.Committed{}, err
	}
	found := answer.Topics[topic][0]
	return cases.Committed{Offset: found.CommittedOffset, Metadata: found.Metadata}, errors.Join(answer.Error, found.Error)
}

func (c *client) CommitAt(ctx context.Context, group, topic string, partition int, place cases.Committed) error {
	answer, err := c.admin.OffsetCommit(ctx, &kafka.OffsetCommitRequest{
		GroupID: group, GenerationID: -1,
		Topics: map[string][]kafka.OffsetCommit{
			topic: {{Partition: partition, Offset: place.Offset, Metadata: place.Metadata}},
		},
	})
	if err != nil {
		return err
	}
	return answer.Topics[topic][0].Error
}

func (c *client) BrokerAddresses(ctx context.Context) ([]string, error) {
	answer, err := c.admin.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return nil, err
	}
	var found []string
	for _, broker := range answer.Brokers {
		found = append(found, net.JoinHostPort(broker.Host, strconv.Itoa(broker.Port)))
	}
	return found, nil
}
