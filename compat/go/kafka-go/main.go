// Test-only: segmentio's kafka-go against a broker that is already there.
package main

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go"

	"wharf/compat/cases"
)

const pollWait = 200 * time.Millisecond

func main() {
	cases.Main("kafka-go", func(address string) (cases.Client, error) {
		// What is just made or deleted has to be seen at once; the default is six seconds.
		transport := &kafka.Transport{MetadataTTL: 50 * time.Millisecond}
		return &client{address, &kafka.Client{Addr: kafka.TCP(address), Transport: transport}}, nil
	})
}

type client struct {
	address string
	admin   *kafka.Client
}

func (c *client) Lacks() map[string]string {
	return map[string]string{
		cases.DistinctNulls: "a reader shows null as empty or empty as null",
		cases.AppendTime:    "a reader shows the producer's time",
		cases.Consumer:      "it does not speak the consumer protocol",
		cases.Cooperative:   "no cooperative assignor",
		cases.Static:        "a reader has no instance id",
		cases.Idempotent:    "no idempotent writer",
		cases.Transactions:  "no transactional writer",
		cases.Pipeline:      "no transactional writer",
		cases.Fencing:       "no transactional writer",
		cases.Deletion:      "no DeleteRecords",
	}
}

func (c *client) CodecNames() []string { return []string{"none", "gzip", "snappy", "lz4", "zstd"} }

func (c *client) Code(err error) int {
	var several kafka.WriteErrors
	if errors.As(err, &several) {
		for _, one := range several {
			if one != nil {
				err = one
			}
		}
	}
	var code kafka.Error
	if errors.As(err, &code) {
		return int(code)
	}
	return 0
}

var codecs = map[string]kafka.Compression{
	"gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd,
}

// errand travels with a message through the writer.
type errand struct{ index, partition int }

// balance takes the partition that the message names, or else the one of its key.
func balance() kafka.Balancer {
	var byKey kafka.Hash
	return kafka.BalancerFunc(func(message kafka.Message, partitions ...int) int {
		if wanted := message.WriterData.(errand).partition; wanted != cases.AnyPartition {
			return wanted
		}
		return byKey.Balance(message, partitions...)
	})
}

func incoming(message kafka.Message) cases.Record {
	record := cases.Record{
		Topic: message.Topic, Partition: message.Partition, Offset: message.Offset,
		Key: message.Key, Value: message.Value, Time: message.Time,
	}
	for _, header := range message.Headers {
		record.Headers = append(record.Headers, cases.Header{Key: header.Key, Value: header.Value})
	}
	return record
}

func (c *client) Send(ctx context.Context, how cases.Sending, records ...cases.Record) ([]cases.Record, error) {
	sent := make([]cases.Record, len(records))
	writer := &kafka.Writer{
		Addr: kafka.TCP(c.address), Balancer: balance(), RequiredAcks: kafka.RequireAll, MaxAttempts: 5,
		BatchSize: 1000, BatchTimeout: 5 * time.Millisecond, BatchBytes: int64(how.MaxBytes),
		Compression: codecs[how.Codec], Transport: c.admin.Transport,
		Completion: func(messages []kafka.Message, err error) {
			for _, message := range messages {
				sent[message.WriterData.(errand).index] = incoming(message)
			}
		},
	}
	defer writer.Close()
	messages := make([]kafka.Message, len(records))
	for i, record := range records {
		messages[i] = kafka.Message{
			Topic: record.Topic, Key: record.Key, Value: record.Value, Time: record.Time,
			WriterData: errand{i, record.Partition},
		}
		for _, header := range record.Headers {
			messages[i].Headers = append(messages[i].Headers, kafka.Header{Key: header.Key, Value: header.Value})
		}
	}
	if err := writer.WriteMessages(ctx, messages...); err != nil {
		return nil, err
	}
	return sent, nil
}

func (c *client) Read(ctx context.Context, topic string, partition int, from int64, count int, committed bool) ([]cases.Record, error) {
	config := kafka.ReaderConfig{
		Brokers: []string{c.address}, Topic: topic, Partition: partition,
		MinBytes: 1, MaxBytes: 20_000_000, MaxWait: pollWait,
	}
	if committed {
		config.IsolationLevel = kafka.ReadCommitted
	}
	reader := kafka.NewReader(config)
	defer reader.Close()
	if err := reader.SetOffset(from); err != nil {
		return nil, err
	}
	var found []cases.Record
	for len(found) < count {
		message, err := reader.ReadMessage(ctx)
		if err != nil {
			return nil, err
		}
		found = append(found, incoming(message))
	}
	return found, nil
}

type member struct{ *kafka.Reader }

func (c *client) Join(_ context.Context, how cases.Membership) (cases.Member, error) {
	config := kafka.ReaderConfig{
		Brokers: []string{c.address}, GroupID: how.Group, Topic: how.Topic,
		MinBytes: 1, MaxBytes: 1_000_000, MaxWait: pollWait,
		StartOffset: kafka.FirstOffset, JoinGroupBackoff: 200 * time.Millisecond,
		SessionTimeout: 10 * time.Second, HeartbeatInterval: 300 * time.Millisecond, RebalanceTimeout: 10 * time.Second,
		Dialer: &kafka.Dialer{ClientID: how.ClientID, Timeout: 10 * time.Second},
	}
	if how.FromEnd {
		config.StartOffset = kafka.LastOffset
	}
	return member{kafka.NewReader(config)}, nil
}

func (m member) Poll(ctx context.Context) ([]cases.Record, error) {
	var found []cases.Record
	wait := pollWait
	for len(found) < 100 {
		patience, cancel := context.WithTimeout(ctx, wait)
		message, err := m.FetchMessage(patience)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			return nil, err
		}
		found, wait = append(found, incoming(message)), 5*time.Millisecond
	}
	return found, nil
}

func (m member) Done(ctx context.Context, records []cases.Record) error {
	done := make([]kafka.Message, len(records))
	for i, record := range records {
		done[i] = kafka.Message{Topic: record.Topic, Partition: record.Partition, Offset: record.Offset}
	}
	err := m.CommitMessages(ctx, done...)
	for _, late := range []kafka.Error{kafka.IllegalGeneration, kafka.RebalanceInProgress, kafka.UnknownMemberId} {
		if errors.Is(err, late) {
			return nil
		}
	}
	return err
}

var errLacking = errors.New("the client has no such thing")

func (c *client) Transactional(context.Context, string) (cases.Producer, error) {
	return nil, errLacking
}

func (c *client) Pipe(context.Context, string, string, string, string, int, func([]byte) []byte) error {
	return errLacking
}

func (c *client) DeleteRecords(context.Context, string, int, int64) error { return errLacking }
