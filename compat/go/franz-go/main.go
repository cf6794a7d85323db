// Test-only: franz-go against a broker that is already there.
package main

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"wharf/compat/cases"
)

const pollWait = 200 * time.Millisecond

func main() {
	cases.Main("franz-go", func(address string) (cases.Client, error) {
		admin, err := kadm.NewOptClient(kgo.SeedBrokers(address))
		return &client{address, admin}, err
	})
}

type client struct {
	address string
	admin   *kadm.Client
}

func (c *client) Lacks() map[string]string { return nil }

func (c *client) CodecNames() []string { return []string{"none", "gzip", "snappy", "lz4", "zstd"} }

func (c *client) Code(err error) int {
	var code *kerr.Error
	if errors.As(err, &code) {
		return int(code.Code)
	}
	return 0
}

func (c *client) connect(options ...kgo.Opt) (*kgo.Client, error) {
	// What is just made may not be known to everybody yet; the default waits seconds before it asks again.
	fixed := []kgo.Opt{kgo.SeedBrokers(c.address), kgo.MetadataMinAge(100 * time.Millisecond)}
	return kgo.NewClient(append(fixed, options...)...)
}

var codecs = map[string]kgo.CompressionCodec{
	"":       kgo.NoCompression(),
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

// partitioner takes the partition that the record names, or else the one of its key.
func partitioner() kgo.Partitioner {
	byKey := kgo.StickyKeyPartitioner(nil)
	return kgo.BasicConsistentPartitioner(func(topic string) func(*kgo.Record, int) int {
		keyed := byKey.ForTopic(topic)
		return func(record *kgo.Record, partitions int) int {
			if record.Partition != cases.AnyPartition {
				return int(record.Partition)
			}
			return keyed.Partition(record, partitions)
		}
	})
}

func outgoing(record cases.Record) *kgo.Record {
	out := &kgo.Record{
		Topic: record.Topic, Partition: int32(record.Partition), Key: record.Key, Value: record.Value, Timestamp: record.Time,
	}
	for _, header := range record.Headers {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: header.Key, Value: header.Value})
	}
	return out
}

func incoming(record *kgo.Record) cases.Record {
	in := cases.Record{
		Topic: record.Topic, Partition: int(record.Partition), Offset: record.Offset,
		Key: record.Key, Value: record.Value, Time: record.Timestamp,
	}
	for _, header := range record.Headers {
		in.Headers = append(in.Headers, cases.Header{Key: header.Key, Value: header.Value})
	}
	return in
}

func (c *client) Send(ctx context.Context, how cases.Sending, records ...cases.Record) ([]cases.Record, error) {
	options := []kgo.Opt{
		kgo.ProducerBatchCompression(codecs[how.Codec]), kgo.RecordPartitioner(partitioner()),
		kgo.ProducerLinger(5 * time.Millisecond),
	}
	if !how.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	if how.MaxBytes > 0 {
		options = append(options, kgo.ProducerBatchMaxBytes(int32(how.MaxBytes)))
	}
	producer, err := c.connect(options...)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	out := make([]*kgo.Record, len(records))
	for i, record := range records {
		out[i] = outgoing(record)
	}
	if err := producer.ProduceSync(ctx, out...).FirstErr(); err != nil {
		return nil, err
	}
	sent := make([]cases.Record, len(records))
	for i, record := range out {
		sent[i] = incoming(record)
	}
	return sent, nil
}

func (c *client) Read(ctx context.Context, topic string, partition int, from int64, count int, committed bool) ([]cases.Record, error) {
	options := []kgo.Opt{
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {int32(partition): kgo.NewOffset().At(from)}}),
		kgo.FetchMaxWait(pollWait),
	}
	if committed {
		options = append(options, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	consumer, err := c.connect(options...)
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	var found []cases.Record
	for len(found) < count {
		fetches := consumer.PollRecords(ctx, count-len(found))
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(record *kgo.Record) { found = append(found, incoming(record)) })
	}
	return found, nil
}

type member struct {
	*kgo.Client
}

func (c *client) Join(_ context.Context, how cases.Membership) (cases.Member, error) {
	balancer, reset := kgo.RangeBalancer(), kgo.NewOffset().AtStart()
	if how.Protocol != cases.Eager {
		balancer = kgo.CooperativeStickyBalancer()
	}
	if how.FromEnd {
		reset = kgo.NewOffset().AtEnd()
	}
	options := []kgo.Opt{
		kgo.ConsumerGroup(how.Group), kgo.ConsumeTopics(how.Topic), kgo.Balancers(balancer),
		kgo.ConsumeResetOffset(reset), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(10 * time.Second), kgo.HeartbeatInterval(300 * time.Millisecond),
		kgo.FetchMaxWait(pollWait),
	}
	if how.Protocol == cases.ServerSide {
		options = append(options, kgo.ServerSideBalancer())
	}
	if how.Instance != "" {
		options = append(options, kgo.InstanceID(how.Instance))
	}
	if how.ClientID != "" {
		options = append(options, kgo.ClientID(how.ClientID))
	}
	connected, err := c.connect(options...)
	return member{Client: connected}, err
}

func (m member) Poll(ctx context.Context) ([]cases.Record, error) {
	m.AllowRebalance()
	ctx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	fetches := m.PollRecords(ctx, 100)
	for _, broken := range fetches.Errors() {
		if !errors.Is(broken.Err, context.DeadlineExceeded) && !errors.Is(broken.Err, context.Canceled) {
			return nil, broken.Err
		}
	}
	var found []cases.Record
	fetches.EachRecord(func(record *kgo.Record) { found = append(found, incoming(record)) })
	return found, nil
}

func (m member) Done(ctx context.Context, records []cases.Record) error {
	done := make([]*kgo.Record, len(records))
	for i, record := range records {
		done[i] = &kgo.Record{Topic: record.Topic, Partition: int32(record.Partition), Offset: record.Offset, LeaderEpoch: -1}
	}
	return m.CommitRecords(ctx, done...)
}

func (m member) Close() error {
	m.CloseAllowingRebalance()
	return nil
}

type producer struct{ *kgo.Client }

func (c *client) Transactional(ctx context.Context, id string) (cases.Producer, error) {
	connected, err := c.connect(
		kgo.TransactionalID(id), kgo.RecordPartitioner(partitioner()), kgo.TransactionTimeout(time.Minute),
	)
	if err != nil {
		return nil, err
	}
	// The id is taken at once, not with the first record.
	_, _, err = connected.ProducerID(ctx)
	return producer{connected}, err
}

func (p producer) Begin() error { return p.BeginTransaction() }

func (p producer) Send(ctx context.Context, records ...cases.Record) error {
	out := make([]*kgo.Record, len(records))
	for i, record := range records {
		out[i] = outgoing(record)
	}
	return p.ProduceSync(ctx, out...).FirstErr()
}

func (p producer) Commit(ctx context.Context) error { return p.EndTransaction(ctx, kgo.TryCommit) }

func (p producer) Abort(ctx context.Context) error { return p.EndTransaction(ctx, kgo.TryAbort) }

func (c *client) Pipe(ctx context.Context, id, group, from, to string, count int, change func([]byte) []byte) error {
	session, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(c.address), kgo.TransactionalID(id), kgo.ConsumerGroup(group), kgo.ConsumeTopics(from),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(pollWait), kgo.DefaultProduceTopic(to), kgo.TransactionTimeout(time.Minute),
	)
	if err != nil {
		return err
	}
	defer session.Close()
	for moved := 0; moved < count; {
		fetches := session.PollRecords(ctx, min(count-moved, 40))
		if err := fetches.Err(); err != nil {
			return err
		}
		if err := session.Begin(); err != nil {
			return err
		}
		var out []*kgo.Record
		fetches.EachRecord(func(record *kgo.Record) { out = append(out, kgo.SliceRecord(change(record.Value))) })
		if err := session.ProduceSync(ctx, out...).FirstErr(); err != nil {
			return err
		}
		committed, err := session.End(ctx, kgo.TryCommit)
		if err != nil {
			return err
		}
		if committed {
			moved += len(out)
		}
	}
	return nil
}
