// Package cases runs named cases of a registry client against a registry that is already there, and
// carries records through a broker, which the environment variable BROKER names.
//
// It prints one line per case and closes with `N passed, N failed`; the exit code is 1 when a case
// failed. Subjects and topics have names that nobody else uses.
package cases

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const within = 60 * time.Second

// Case of a client. Its helpers panic with a failure, which ends the case.
type Case struct {
	Name string
	Run  func(t *T)
}

// T is one run of a case.
type T struct {
	Ctx context.Context
	// URL of the registry.
	URL string
}

type failure struct{ error }

// Fail ends the case.
func Fail(format string, arguments ...any) {
	panic(failure{fmt.Errorf(format, arguments...)})
}

// Check ends the case where there is an error.
func Check(err error) {
	if err != nil {
		panic(failure{err})
	}
}

// Must is the value, or the end of the case.
func Must[V any](value V, err error) V {
	Check(err)
	return value
}

// Equal ends the case unless both are the same.
func Equal(what string, found, wanted any) {
	if !reflect.DeepEqual(found, wanted) {
		Fail("%s: found %.400s, wanted %.400s", what, fmt.Sprintf("%+v", found), fmt.Sprintf("%+v", wanted))
	}
}

// EqualJSON ends the case unless both texts are the same JSON.
func EqualJSON(what, found, wanted string) {
	var one, other any
	Check(json.Unmarshal([]byte(found), &one))
	Check(json.Unmarshal([]byte(wanted), &other))
	Equal(what, one, other)
}

// Fresh is a name that nobody else uses.
func Fresh(what string) string {
	return fmt.Sprintf("compat-%s-%s", what, strings.ToLower(rand.Text()[:12]))
}

func (t *T) broker(options ...kgo.Opt) *kgo.Client {
	address := os.Getenv("BROKER")
	if address == "" {
		Fail("BROKER must be the address of a broker")
	}
	return Must(kgo.NewClient(append(options, kgo.SeedBrokers(address))...))
}

// Topic makes one that nobody else uses.
func (t *T) Topic() string {
	client := t.broker()
	defer client.Close()
	name := Fresh("registry")
	answer := Must(kadm.NewClient(client).CreateTopic(t.Ctx, 1, -1, nil, name))
	Check(answer.Err)
	return name
}

// Through produces records and answers what comes back from the topic.
func (t *T) Through(topic string, records ...*kgo.Record) []*kgo.Record {
	client := t.broker(kgo.DefaultProduceTopic(topic), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer client.Close()
	Check(client.ProduceSync(t.Ctx, records...).FirstErr())
	var found []*kgo.Record
	for len(found) < len(records) {
		fetched := client.PollFetches(t.Ctx)
		Check(fetched.Err())
		found = append(found, fetched.Records()...)
	}
	return found
}

func one(url string, chosen Case) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	defer func() {
		// A client that panics has failed its case.
		if raised := recover(); raised != nil {
			err = fmt.Errorf("%v", raised)
		}
	}()
	chosen.Run(&T{ctx, url})
	return nil
}

// Main runs the cases that the command line chooses, and ends the program.
func Main(cases []Case) {
	if len(os.Args) < 2 {
		fmt.Println("usage: BROKER=ADDRESS PROGRAM REGISTRY [words of the cases' names]")
		os.Exit(2)
	}
	url, words := os.Args[1], os.Args[2:]
	if !strings.Contains(url, "://") {
		url = "http://" + url
	}
	passed, failed := 0, 0
	for _, next := range cases {
		named := func(word string) bool { return strings.Contains(next.Name, word) }
		if len(words) > 0 && !slices.ContainsFunc(words, named) {
			continue
		}
		began := time.Now()
		if err := one(url, next); err != nil {
			failed++
			fmt.Printf("FAIL %s: %v\n", next.Name, err)
			continue
		}
		passed++
		fmt.Printf("ok   %s (%.1f s)\n", next.Name, time.Since(began).Seconds())
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 || passed == 0 {
		os.Exit(1)
	}
}
