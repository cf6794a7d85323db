package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"wharf/compat/cases"
)

func (c *client) CreateTopic(ctx context.Context, name string, partitions int, config map[string]string) error {
	settings := map[string]*string{}
	for key, value := range config {
		settings[key] = &value
	}
	_, err := c.admin.CreateTopic(ctx, int32(partitions), 1, settings, name)
	return err
}

func (c *client) DeleteTopic(ctx context.Context, name string) error {
	_, err := c.admin.DeleteTopic(ctx, name)
	return err
}

func (c *client) TopicNames(ctx context.Context) ([]string, error) {
	found, err := c.admin.ListTopics(ctx)
	return found.Names(), err
}

func (c *client) PartitionCount(ctx context.Context, topic string) (int, error) {
	found, err := c.admin.ListTopics(ctx, topic)
	return len(found[topic].Partitions), err
}

func (c *client) AddPartitions(ctx context.Context, topic string, total int) error {
	answers, err := c.admin.UpdatePartitions(ctx, total, topic)
	if err != nil {
		return err
	}
	return answers.Error()
}

func (c *client) Config(ctx context.Context, topic string) (map[string]string, error) {
	answers, err := c.admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, err
	}
	answer, err := answers.On(topic, nil)
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	for _, config := range answer.Configs {
		settings[config.Key] = config.MaybeValue()
	}
	return settings, answer.Err
}

func altered(answers kadm.AlterConfigsResponses, topic string, err error) error {
	if err != nil {
		return err
	}
	answer, err := answers.On(topic, nil)
	if err != nil {
		return err
	}
	return answer.Err
}

func (c *client) AlterConfig(ctx context.Context, topic string, change map[string]*string) error {
	var changes []kadm.AlterConfig
	for key, value := range change {
		op := kadm.SetConfig
		if value == nil {
			op = kadm.DeleteConfig
		}
		changes = append(changes, kadm.AlterConfig{Op: op, Name: key, Value: value})
	}
	answers, err := c.admin.AlterTopicConfigs(ctx, changes, topic)
	return altered(answers, topic, err)
}

func (c *client) ReplaceConfig(ctx context.Context, topic string, config map[string]string) error {
	var all []kadm.AlterConfig
	for key, value := range config {
		all = append(all, kadm.AlterConfig{Name: key, Value: &value})
	}
	answers, err := c.admin.AlterTopicConfigsState(ctx, all, topic)
	return altered(answers, topic, err)
}

func (c *client) OffsetAt(ctx context.Context, topic string, partition int, at int64) (int64, error) {
	var listed kadm.ListedOffsets
	var err error
	switch at {
	case cases.Earliest:
		listed, err = c.admin.ListStartOffsets(ctx, topic)
	case cases.Latest:
		listed, err = c.admin.ListEndOffsets(ctx, topic)
	default:
		listed, err = c.admin.ListOffsetsAfterMilli(ctx, at, topic)
	}
	if err != nil {
		return 0, err
	}
	found, known := listed.Lookup(topic, int32(partition))
	if !known {
		return 0, fmt.Errorf("no answer for partition %d", partition)
	}
	// kadm answers with the end where there is no record so young, and marks it with no time.
	if at >= 0 && found.Timestamp == -1 {
		return -1, found.Err
	}
	return found.Offset, found.Err
}

func (c *client) DeleteRecords(ctx context.Context, topic string, partition int, before int64) error {
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, int32(partition), before, -1)
	answers, err := c.admin.DeleteRecords(ctx, offsets)
	if err != nil {
		return err
	}
	return answers.Error()
}

func (c *client) GroupNames(ctx context.Context) ([]string, error) {
	found, err := c.admin.ListGroups(ctx)
	return found.Groups(), err
}

func (c *client) DescribeGroup(ctx context.Context, group string) (cases.GroupState, error) {
	answers, err := c.admin.DescribeGroups(ctx, group)
	if err != nil {
		return cases.GroupState{}, err
	}
	answer := answers[group]
	// A group of the consumer protocol is not known to the older request.
	if errors.Is(answer.Err, kerr.GroupIDNotFound) {
		return c.describeConsumerGroup(ctx, group)
	}
	state := cases.GroupState{State: answer.State}
	for _, described := range answer.Members {
		one := cases.GroupMember{ClientID: described.ClientID}
		if described.InstanceID != nil {
			one.Instance = *described.InstanceID
		}
		if assigned, consumer := described.Assigned.AsConsumer(); consumer {
			for _, topic := range assigned.Topics {
				for _, partition := range topic.Partitions {
					one.Partitions = append(one.Partitions, int(partition))
				}
			}
		}
		slices.Sort(one.Partitions)
		state.Members = append(state.Members, one)
	}
	return state, answer.Err
}

func (c *client) describeConsumerGroup(ctx context.Context, group string) (cases.GroupState, error) {
	answers, err := c.admin.DescribeConsumerGroups(ctx, group)
	if err != nil {
		return cases.GroupState{}, err
	}
	answer := answers[group]
	state := cases.GroupState{State: answer.State}
	for _, described := range answer.Members {
		one := cases.GroupMember{ClientID: described.ClientID}
		for _, partitions := range described.Assignment {
			for partition := range partitions {
				one.Partitions = append(one.Partitions, int(partition))
			}
		}
		slices.Sort(one.Partitions)
		state.Members = append(state.Members, one)
	}
	return state, answer.Err
}

func (c *client) DeleteGroup(ctx context.Context, group string) error {
	answer, err := c.admin.DeleteGroup(ctx, group)
	if err != nil {
		return err
	}
	return answer.Err
}

func (c *client) CommittedAt(ctx context.Context, group, topic string, partition int) (cases.Committed, error) {
	answers, err := c.admin.FetchOffsetsForTopics(ctx, group, topic)
	if err != nil {
		return cases.Committed{}, err
	}
	found, _ := answers.Lookup(topic, int32(partition))
	return cases.Committed{Offset: found.At, Metadata: found.Metadata}, found.Err
}

func (c *client) CommitAt(ctx context.Context, group, topic string, partition int, place cases.Committed) error {
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{
		Topic: topic, Partition: int32(partition), At: place.Offset, LeaderEpoch: -1, Metadata: place.Metadata,
	})
	return c.admin.CommitAllOffsets(ctx, group, offsets)
}

func (c *client) BrokerAddresses(ctx context.Context) ([]string, error) {
	brokers, err := c.admin.ListBrokers(ctx)
	var found []string
	for _, broker := range brokers {
		found = append(found, net.JoinHostPort(broker.Host, strconv.Itoa(int(broker.Port))))
	}
	return found, err
}
