// Test-only: sarama against a broker that is already there.
package main

import (
	"context"
	"errors"
	"time"

	"github.com/IBM/sarama"

	"wharf/compat/cases"
)

func main() {
	cases.Main("sarama", func(address string) (cases.Client, error) {
		return &client{address: []string{address}}, nil
	})
}

type client struct {
	address []string
}

func (c *client) Lacks() map[string]string {
	return map[string]string{cases.Consumer: "it does not speak the consumer protocol"}
}

func (c *client) CodecNames() []string { return []string{"none", "gzip", "snappy", "lz4", "zstd"} }

func (c *client) Code(err error) int {
	var several sarama.ProducerErrors
	if errors.As(err, &several) && len(several) > 0 {
		err = several[0].Err
	}
	var code sarama.KError
	if errors.As(err, &code) {
		return int(code)
	}
	return 0
}

var codecs = map[string]sarama.CompressionCodec{
	"gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
	"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

func settings() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Metadata.Retry.Backoff = 100 * time.Millisecond
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Partitioner = newPartitioner
	config.Consumer.MaxWaitTime = 200 * time.Millisecond
	return config
}

func exactlyOnce(config *sarama.Config) {
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
}

// partitioner takes the partition that the message names, or else the one of its key.
type partitioner struct{ byKey sarama.Partitioner }

func newPartitioner(topic string) sarama.Partitioner {
	return partitioner{sarama.NewHashPartitioner(topic)}
}

func (p partitioner) Partition(message *sarama.ProducerMessage, partitions int32) (int32, error) {
	if message.Partition != cases.AnyPartition {
		return message.Partition, nil
	}
	return p.byKey.Partition(message, partitions)
}

func (p partitioner) RequiresConsistency() bool { return true }

func encoder(bytes []byte) sarama.Encoder {
	if bytes == nil {
		return nil
	}
	return sarama.ByteEncoder(bytes)
}

func outgoing(records []cases.Record) []*sarama.ProducerMessage {
	messages := make([]*sarama.ProducerMessage, len(records))
	for i, record := range records {
		message := &sarama.ProducerMessage{
			Topic: record.Topic, Partition: int32(record.Partition), Timestamp: record.Time,
			Key: encoder(record.Key), Value: encoder(record.Value),
		}
		for _, header := range record.Headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(header.Key), Value: header.Value})
		}
		messages[i] = message
	}
	return messages
}

func incoming(message *sarama.ConsumerMessage) cases.Record {
	record := cases.Record{
		Topic: message.Topic, Partition: int(message.Partition), Offset: message.Offset,
		Key: message.Key, Value: message.Value, Time: message.Timestamp,
	}
	for _, header := range message.Headers {
		record.Headers = append(record.Headers, cases.Header{Key: string(header.Key), Value: header.Value})
	}
	return record
}

func (c *client) Send(_ context.Context, how cases.Sending, records ...cases.Record) ([]cases.Record, error) {
	config := settings()
	config.Producer.Compression = codecs[how.Codec]
	if how.Idempotent {
		exactlyOnce(config)
	}
	if how.MaxBytes > 0 {
		config.Producer.MaxMessageBytes = how.MaxBytes
	}
	producer, err := sarama.NewSyncProducer(c.address, config)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	messages := outgoing(records)
	if err := producer.SendMessages(messages); err != nil {
		return nil, err
	}
	sent := make([]cases.Record, len(records))
	for i, message := range messages {
		sent[i] = cases.Record{Topic: message.Topic, Partition: int(message.Partition), Offset: message.Offset}
	}
	return sent, nil
}

func (c *client) Read(ctx context.Context, topic string, partition int, from int64, count int, committed bool) ([]cases.Record, error) {
	config := settings()
	if committed {
		config.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	consumer, err := sarama.NewConsumer(c.address, config)
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	messages, err := consumer.ConsumePartition(topic, int32(partition), from)
	if err != nil {
		return nil, err
	}
	defer messages.Close()
	var found []cases.Record
	for len(found) < count {
		select {
		case message := <-messages.Messages():
			found = append(found, incoming(message))
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return found, nil
}

type producer struct{ sarama.SyncProducer }

func (c *client) Transactional(_ context.Context, id string) (cases.Producer, error) {
	connected, err := c.transactional(id)
	return producer{connected}, err
}

func (c *client) transactional(id string) (sarama.SyncProducer, error) {
	config := settings()
	exactlyOnce(config)
	config.Producer.Transaction.ID = id
	return sarama.NewSyncProducer(c.address, config)
}

func (p producer) Begin() error { return p.BeginTxn() }

func (p producer) Send(_ context.Context, records ...cases.Record) error {
	return p.SendMessages(outgoing(records))
}

func (p producer) Commit(context.Context) error { return p.CommitTxn() }

func (p producer) Abort(context.Context) error { return p.AbortTxn() }

func (p producer) Close() { _ = p.SyncProducer.Close() }

func (c *client) Pipe(ctx context.Context, id, group, from, to string, count int, change func([]byte) []byte) error {
	producer, err := c.transactional(id)
	if err != nil {
		return err
	}
	defer producer.Close()
	consumer, err := c.join(cases.Membership{Group: group, Topic: from})
	if err != nil {
		return err
	}
	defer consumer.Close()
	for moved := 0; moved < count; {
		messages, err := consumer.take(ctx, min(count-moved, 40))
		if err != nil {
			return err
		}
		if len(messages) == 0 {
			continue
		}
		if err := producer.BeginTxn(); err != nil {
			return err
		}
		place := sarama.NewConsumerGroupMetadataFromSession(consumer.current(), group, nil)
		for _, message := range messages {
			out := outgoing([]cases.Record{{Topic: to, Value: change(message.Value)}})
			if err := producer.SendMessages(out); err != nil {
				return err
			}
			if err := producer.AddMessageToTxnWithGroupMetadata(message, place, nil); err != nil {
				return err
			}
		}
		if err := producer.CommitTxn(); err != nil {
			return err
		}
		moved += len(messages)
	}
	return nil
}
