// Watermill with its Kafka pub/sub, as the library's benchmark drives its peer: it publishes as many
// messages as it is told, or handles what a topic holds, and prints what it measured as one line of
// JSON. Both with Watermill's own settings.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
)

type measured struct {
	Messages int64   `json:"messages"`
	Seconds  float64 `json:"seconds"`
}

var (
	address = flag.String("address", "", "the broker, host:port")
	topic   = flag.String("topic", "", "the topic, which is there already")
	mode    = flag.String("mode", "", "publish or handle")
	count   = flag.Int64("messages", 0, "how many messages")
	warm    = flag.Int64("warm", 0, "how many of them are handled before the clock starts")
	bytes   = flag.Int("bytes", 1024, "the size of a payload")
	workers = flag.Int("publishers", 1, "how many publish at once; the publisher waits for each message")
	within  = flag.Duration("within", time.Minute, "the longest it may take")
)

func main() {
	flag.Parse()
	work := map[string]func() (measured, error){"publish": publish, "handle": handle}[*mode]
	if work == nil {
		fail(fmt.Errorf("--mode is %q; it is publish or handle", *mode))
	}
	result, err := work()
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// byKey sends messages of a key to one partition, as the others of the benchmark do.
func byKey() kafka.MarshalerUnmarshaler {
	return kafka.NewWithPartitioningMarshaler(func(_ string, msg *message.Message) (string, error) {
		return msg.Metadata.Get("key"), nil
	})
}

// publish publishes from several goroutines through one publisher: each of its calls waits for the
// broker's acknowledgement, and what is under way at once shares requests.
func publish() (measured, error) {
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{
		Brokers:   []string{*address},
		Marshaler: byKey(),
	}, watermill.NopLogger{})
	if err != nil {
		return measured{}, err
	}
	payload := make([]byte, *bytes)
	var next atomic.Int64
	var group sync.WaitGroup
	errs := make(chan error, *workers)
	began := time.Now()
	for range *workers {
		group.Go(func() {
			for {
				number := next.Add(1)
				if number > *count {
					return
				}
				msg := message.NewMessage(watermill.NewUUID(), payload)
				msg.Metadata.Set("key", strconv.FormatInt(number, 10))
				if err := publisher.Publish(*topic, msg); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	group.Wait()
	took := time.Since(began)
	select {
	case err := <-errs:
		return measured{}, err
	default:
	}
	return measured{*count, took.Seconds()}, publisher.Close()
}

// handle runs a router with one handler that does nothing, until it has had all messages. The clock
// starts when the warm-up is over, so that joining the group is not measured.
func handle() (measured, error) {
	settings := kafka.DefaultSaramaSubscriberConfig()
	settings.Consumer.Offsets.Initial = sarama.OffsetOldest
	subscriber, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers:               []string{*address},
		Unmarshaler:           byKey(),
		ConsumerGroup:         "watermill-" + watermill.NewShortUUID(),
		OverwriteSaramaConfig: settings,
	}, watermill.NopLogger{})
	if err != nil {
		return measured{}, err
	}
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		return measured{}, err
	}
	var handled, began, ended atomic.Int64
	done := make(chan struct{})
	clock := time.Now()
	router.AddConsumerHandler("count", *topic, subscriber, func(*message.Message) error {
		switch handled.Add(1) {
		case *warm:
			began.Store(int64(time.Since(clock)))
		case *count:
			ended.Store(int64(time.Since(clock)))
			close(done)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), *within)
	defer cancel()
	running := make(chan error, 1)
	go func() { running <- router.Run(ctx) }()
	select {
	case <-done:
	case <-ctx.Done():
		return measured{}, fmt.Errorf("%d of %d messages within %v", handled.Load(), *count, *within)
	case err := <-running:
		return measured{}, fmt.Errorf("the router ended: %w", err)
	}
	took := time.Duration(ended.Load() - began.Load())
	return measured{*count - *warm, took.Seconds()}, router.Close()
}
