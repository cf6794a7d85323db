package cases

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	within   = 75 * time.Second
	together = 6
)

type entry struct {
	feature, name string
	run           func(*run)
}

// run of one case. Its helpers panic with a failure, which ends the case.
type run struct {
	Client
	ctx           context.Context
	address, name string
}

type failure struct{ error }

func fail(format string, arguments ...any) {
	panic(failure{fmt.Errorf(format, arguments...)})
}

func check(err error) {
	if err != nil {
		panic(failure{err})
	}
}

func must[V any](value V, err error) V {
	check(err)
	return value
}

func equal(what string, found, wanted any) {
	if !reflect.DeepEqual(found, wanted) {
		fail("%s: found %.400s, wanted %.400s", what, fmt.Sprintf("%+v", found), fmt.Sprintf("%+v", wanted))
	}
}

// code fails unless err carries one of these error codes of Kafka's; which one is printed, so that
// the test run compares it with another broker's.
func (r *run) code(what string, err error, wanted ...int) {
	if err == nil || !slices.Contains(wanted, r.Code(err)) {
		fail("%s: found %v, wanted a code of %v", what, err, wanted)
	}
	fmt.Printf("says %s: %s: %d\n", r.name, what, r.Code(err))
}

// until waits for a condition.
func (r *run) until(what string, condition func() bool) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-r.ctx.Done():
			fail("waiting for: %s: %v", what, r.ctx.Err())
		}
	}
}

func fresh(what string) string {
	return fmt.Sprintf("compat-%s-%s", what, strings.ToLower(rand.Text()[:12]))
}

func (r *run) topic(partitions int, config map[string]string) string {
	name := fresh("topic")
	check(r.CreateTopic(r.ctx, name, partitions, config))
	return name
}

func one(client Client, address string, chosen entry) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	defer func() {
		if raised := recover(); raised != nil {
			if failed, ours := raised.(failure); ours {
				err = failed.error
				return
			}
			panic(raised)
		}
	}()
	chosen.run(&run{client, ctx, address, chosen.name})
	return nil
}

// Main runs the cases that the command line chooses against a broker that is already there, and
// ends the program.
func Main(name string, connect func(address string) (Client, error)) {
	arguments := os.Args[1:]
	if len(arguments) == 0 {
		fmt.Printf("usage: %s ADDRESS [words of the cases' names]\n       %s --list\n", name, name)
		os.Exit(2)
	}
	client, err := connect(arguments[0])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	lacks := client.Lacks()
	var chosen []entry
	skipped := map[string]bool{}
	for _, candidate := range all(client) {
		words := func(word string) bool { return strings.Contains(candidate.name, word) }
		reason, lacking := lacks[candidate.feature]
		switch {
		case len(arguments) > 1 && !slices.ContainsFunc(arguments[1:], words):
		case lacking && !skipped[candidate.feature]:
			skipped[candidate.feature] = true
			fmt.Printf("SKIP %s: %s\n", candidate.feature, reason)
		case lacking:
		case arguments[0] == "--list":
			fmt.Printf("CASE %s: %s\n", candidate.feature, candidate.name)
		default:
			chosen = append(chosen, candidate)
		}
	}
	if arguments[0] == "--list" {
		return
	}
	failed := runAll(client, arguments[0], chosen)
	fmt.Printf("%d passed, %d failed\n", len(chosen)-failed, failed)
	if failed > 0 || len(chosen) == 0 {
		os.Exit(1)
	}
}

func runAll(client Client, address string, chosen []entry) (failed int) {
	var lock sync.Mutex
	var running sync.WaitGroup
	places := make(chan struct{}, together)
	for _, next := range chosen {
		places <- struct{}{}
		running.Go(func() {
			began := time.Now()
			err := one(client, address, next)
			lock.Lock()
			defer lock.Unlock()
			if err != nil {
				failed++
				fmt.Printf("FAIL %s: %v\n", next.name, err)
			} else {
				fmt.Printf("ok   %s (%.1f s)\n", next.name, time.Since(began).Seconds())
			}
			<-places
		})
	}
	running.Wait()
	return failed
}
