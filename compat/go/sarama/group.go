package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"wharf/compat/cases"
)

const (
	pollWait = 200 * time.Millisecond
	// more is how long Poll waits for another message when it has one.
	more = 5 * time.Millisecond
)

// member turns sarama's callbacks into polling.
type member struct {
	group    sarama.ConsumerGroup
	messages chan *sarama.ConsumerMessage
	failed   chan error
	cancel   context.CancelFunc
	over     chan struct{}

	lock    sync.Mutex
	session sarama.ConsumerGroupSession
}

func (c *client) Join(_ context.Context, how cases.Membership) (cases.Member, error) {
	return c.join(how)
}

func (c *client) join(how cases.Membership) (*member, error) {
	config := settings()
	config.Consumer.Group.Session.Timeout = 10 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	config.Consumer.Group.Rebalance.Retry.Backoff = 200 * time.Millisecond
	config.Consumer.Group.InstanceId = how.Instance
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Return.Errors = true
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	if how.FromEnd {
		config.Consumer.Offsets.Initial = sarama.OffsetNewest
	}
	if how.ClientID != "" {
		config.ClientID = how.ClientID
	}
	strategy := sarama.NewBalanceStrategyRange()
	if how.Protocol == cases.Incremental {
		strategy = sarama.NewBalanceStrategyCooperativeSticky()
	}
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy}
	group, err := sarama.NewConsumerGroup(c.address, how.Group, config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	joined := &member{
		group: group, cancel: cancel, over: make(chan struct{}),
		messages: make(chan *sarama.ConsumerMessage), failed: make(chan error, 1),
	}
	go joined.run(ctx, how.Topic)
	return joined, nil
}

func (m *member) run(ctx context.Context, topic string) {
	defer close(m.over)
	go func() {
		for err := range m.group.Errors() {
			m.fail(err)
		}
	}()
	for ctx.Err() == nil {
		if err := m.group.Consume(ctx, []string{topic}, m); err != nil {
			m.fail(err)
		}
	}
}

// fail keeps the first error that is more than a rebalance under way.
func (m *member) fail(err error) {
	for _, passing := range []error{sarama.ErrRebalanceInProgress, sarama.ErrIllegalGeneration, context.Canceled} {
		if errors.Is(err, passing) {
			return
		}
	}
	select {
	case m.failed <- err:
	default:
	}
}

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session = session
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			select {
			case m.messages <- message:
			case <-session.Context().Done():
				return nil
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func (m *member) current() sarama.ConsumerGroupSession {
	m.lock.Lock()
	defer m.lock.Unlock()
	return m.session
}

// take answers at most count messages, after a short wait possibly none.
func (m *member) take(ctx context.Context, count int) ([]*sarama.ConsumerMessage, error) {
	var taken []*sarama.ConsumerMessage
	wait := pollWait
	for len(taken) < count {
		select {
		case message := <-m.messages:
			taken, wait = append(taken, message), more
		case err := <-m.failed:
			return nil, err
		case <-time.After(wait):
			return taken, nil
		case <-ctx.Done():
			return taken, nil
		}
	}
	return taken, nil
}

func (m *member) Poll(ctx context.Context) ([]cases.Record, error) {
	messages, err := m.take(ctx, 100)
	records := make([]cases.Record, len(messages))
	for i, message := range messages {
		records[i] = incoming(message)
	}
	return records, err
}

func (m *member) Done(_ context.Context, records []cases.Record) error {
	session := m.current()
	for _, record := range records {
		session.MarkOffset(record.Topic, int32(record.Partition), record.Offset+1, "")
	}
	session.Commit()
	return nil
}

func (m *member) Close() error {
	m.cancel()
	err := m.group.Close()
	<-m.over
	return err
}
