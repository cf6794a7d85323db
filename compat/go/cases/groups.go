package cases

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

var groups = []entry{
	{Resume, "a group resumes from its commit and keeps the metadata", resume},
	{Resets, "a group without offsets begins where it is told", resets},
	{Resets, "a group is reset to a time", resetToTime},
	{Rebalance, "members join and leave under load and nothing is passed over", func(r *run) { rebalance(r, Eager) }},
	{Cooperative, "members join and leave cooperatively and nothing is passed over", func(r *run) { rebalance(r, Incremental) }},
	{Consumer, "members of the consumer protocol join and leave under load and nothing is passed over", func(r *run) { rebalance(r, ServerSide) }},
	{Static, "a static member comes back to its partitions", static},
	{Static, "a second member with the same instance id fences the first", staticFenced},
}

// group as the broker describes it; one that is not there yet has no state.
func (r *run) group(name string) GroupState {
	state, err := r.DescribeGroup(r.ctx, name)
	if err != nil && r.Code(err) == groupIDNotFound {
		return GroupState{}
	}
	check(err)
	return state
}

// take polls until count records are there.
func (r *run) take(member Member, count int) []Record {
	var taken []Record
	for len(taken) < count {
		taken = append(taken, must(member.Poll(r.ctx))...)
	}
	return taken
}

func (r *run) join(how Membership) Member {
	return must(r.Join(r.ctx, how))
}

func resume(r *run) {
	topic, group := r.topic(1, nil), fresh("group")
	must(r.Send(r.ctx, Sending{}, numbered(topic, 0, 10, "%d")...))
	first := r.join(Membership{Group: group, Topic: topic})
	taken := r.take(first, 10)
	check(first.Done(r.ctx, taken[:4]))
	check(first.Close())
	equal("the commit", must(r.CommittedAt(r.ctx, group, topic, 0)).Offset, int64(4))
	second := r.join(Membership{Group: group, Topic: topic})
	equal("values", values(r.take(second, 6)), []string{"4", "5", "6", "7", "8", "9"})
	check(second.Close())
	r.until("the group is empty", func() bool { return r.group(group).State == "Empty" })
	place := Committed{7, "seven, please"}
	check(r.CommitAt(r.ctx, group, topic, 0, place))
	equal("the commit", must(r.CommittedAt(r.ctx, group, topic, 0)), place)
	third := r.join(Membership{Group: group, Topic: topic})
	equal("values", values(r.take(third, 3)), []string{"7", "8", "9"})
	check(third.Close())
}

func resets(r *run) {
	topic := r.topic(1, nil)
	must(r.Send(r.ctx, Sending{}, numbered(topic, 0, 5, "before %d")...))
	early := r.join(Membership{Group: fresh("group"), Topic: topic})
	defer early.Close()
	equal("from the beginning", r.take(early, 5)[0].Offset, int64(0))
	late := r.join(Membership{Group: fresh("group"), Topic: topic, FromEnd: true})
	defer late.Close()
	// The end is looked up at some time after joining: send until something arrives.
	var taken []Record
	for sent := 0; len(taken) == 0; sent++ {
		must(r.Send(r.ctx, Sending{}, Record{Topic: topic, Value: fmt.Appendf(nil, "after %d", sent)}))
		taken = must(late.Poll(r.ctx))
	}
	if taken[0].Offset < 5 {
		fail("it began at %d, before the end", taken[0].Offset)
	}
}

func resetToTime(r *run) {
	topic, group := r.topic(1, map[string]string{"retention.ms": "-1"}), fresh("group")
	sent := numbered(topic, 0, 6, "%d")
	for i := range sent {
		sent[i].Time = time.UnixMilli(int64(i+1) * 1000)
	}
	must(r.Send(r.ctx, Sending{}, sent...))
	check(r.CommitAt(r.ctx, group, topic, 0, Committed{Offset: 6}))
	offset := must(r.OffsetAt(r.ctx, topic, 0, 3500))
	equal("the offset at 3500", offset, int64(3))
	check(r.CommitAt(r.ctx, group, topic, 0, Committed{Offset: offset}))
	member := r.join(Membership{Group: group, Topic: topic})
	equal("values", values(r.take(member, 3)), []string{"3", "4", "5"})
	check(member.Close())
}

const rebalanced = 4 // partitions of the topic that groups rebalance over

// progress is what the members of a group have seen, and the producer sent.
type progress struct {
	lock sync.Mutex
	next [rebalanced]int64
	sent [rebalanced]int64
	gap  error
}

func (p *progress) see(records []Record) {
	p.lock.Lock()
	defer p.lock.Unlock()
	for _, record := range records {
		next := &p.next[record.Partition]
		if record.Offset > *next && p.gap == nil {
			p.gap = fmt.Errorf("partition %d: %d came before %d", record.Partition, record.Offset, *next)
		}
		*next = max(*next, record.Offset+1)
	}
}

func (p *progress) caughtUp() bool {
	p.lock.Lock()
	defer p.lock.Unlock()
	return p.next == p.sent
}

// work runs a member until leave is closed.
func work(r *run, how Membership, leave <-chan struct{}, seen *progress) error {
	member, err := r.Join(r.ctx, how)
	if err != nil {
		return err
	}
	for {
		select {
		case <-leave:
			return member.Close()
		case <-r.ctx.Done():
			return member.Close()
		default:
		}
		records, err := member.Poll(r.ctx)
		if err != nil {
			return fmt.Errorf("%s polls: %w", how.ClientID, err)
		}
		seen.see(records)
		if len(records) == 0 {
			continue
		}
		if err := member.Done(r.ctx, records); err != nil && r.ctx.Err() == nil {
			return fmt.Errorf("%s commits: %w", how.ClientID, err)
		}
	}
}

// feed sends a few records to every partition again and again until stop is closed.
func feed(r *run, topic string, stop <-chan struct{}, seen *progress) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-r.ctx.Done():
			return nil
		case <-tick.C:
		}
		var records []Record
		for partition := range rebalanced {
			records = append(records, numbered(topic, partition, 5, "%d")...)
		}
		sent, err := r.Send(r.ctx, Sending{}, records...)
		if err != nil && r.ctx.Err() == nil {
			return err
		}
		seen.lock.Lock()
		for _, record := range sent {
			seen.sent[record.Partition] = max(seen.sent[record.Partition], record.Offset+1)
		}
		seen.lock.Unlock()
	}
}

func rebalance(r *run, protocol Protocol) {
	topic, group := r.topic(rebalanced, nil), fresh("group")
	seen := &progress{}
	ended := make(chan error, 8)
	var running sync.WaitGroup
	begin := func(job func() error) {
		running.Go(func() {
			if err := job(); err != nil {
				ended <- err
			}
		})
	}
	ctx, cancel := context.WithCancel(r.ctx)
	background := &run{r.Client, ctx, r.address, r.name}
	defer func() {
		cancel()
		running.Wait()
	}()
	stop := make(chan struct{})
	members := map[string]chan struct{}{}
	join := func(name string) {
		leave := make(chan struct{})
		members[name] = leave
		how := Membership{Group: group, Topic: topic, Protocol: protocol, ClientID: name}
		begin(func() error { return work(background, how, leave, seen) })
	}
	shared := func(names ...string) {
		r.until(fmt.Sprintf("%v share the partitions", names), func() bool {
			select {
			case err := <-ended:
				check(err)
			default:
			}
			return isShared(r.group(group), names)
		})
	}
	begin(func() error { return feed(background, topic, stop, seen) })
	join("one")
	shared("one")
	join("two")
	join("three")
	shared("one", "two", "three")
	close(members["two"])
	delete(members, "two")
	shared("one", "three")
	// Members of the consumer protocol learn of a change only every five seconds.
	if protocol != ServerSide {
		join("four")
		shared("one", "three", "four")
	}
	close(stop)
	r.until("everything is read", seen.caughtUp)
	check(seen.gap)
	for partition := range rebalanced {
		r.until("everything is committed", func() bool {
			return must(r.CommittedAt(r.ctx, group, topic, partition)).Offset == seen.sent[partition]
		})
	}
}

// isShared says whether exactly these members have all partitions between them, none without.
func isShared(group GroupState, names []string) bool {
	var found []string
	var partitions []int
	for _, member := range group.Members {
		found = append(found, member.ClientID)
		partitions = append(partitions, member.Partitions...)
		if len(member.Partitions) == 0 {
			return false
		}
	}
	slices.Sort(found)
	slices.Sort(partitions)
	wanted := slices.Sorted(slices.Values(names))
	return group.State == "Stable" && slices.Equal(found, wanted) && slices.Equal(partitions, []int{0, 1, 2, 3})
}

// pump polls a member in the background, as a client needs for taking part, until it is stopped;
// the error that ended the polling is in the channel then.
func pump(r *run, member Member) (stop func(), ended <-chan error) {
	ctx, cancel := context.WithCancel(r.ctx)
	result, over := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(over)
		for ctx.Err() == nil {
			if _, err := member.Poll(ctx); err != nil && ctx.Err() == nil {
				result <- err
				return
			}
		}
	}()
	return func() { cancel(); <-over }, result
}

func static(r *run) {
	topic, group := r.topic(4, nil), fresh("group")
	join := func(instance string) (Member, func()) {
		member := r.join(Membership{Group: group, Topic: topic, Instance: instance})
		stop, _ := pump(r, member)
		return member, stop
	}
	shares := func() map[string][]int {
		found := map[string][]int{}
		state := r.group(group)
		if state.State != "Stable" {
			return nil
		}
		for _, member := range state.Members {
			found[member.Instance] = member.Partitions
		}
		return found
	}
	first, stopFirst := join("till-1")
	second, stopSecond := join("till-2")
	var before map[string][]int
	r.until("two members", func() bool {
		before = shares()
		return len(before["till-1"]) == 2 && len(before["till-2"]) == 2
	})
	stopFirst()
	check(first.Close())
	equal("the members after one is gone", shares(), before)
	first, stopFirst = join("till-1")
	defer first.Close()
	defer second.Close()
	must(r.Send(r.ctx, Sending{}, numbered(topic, before["till-1"][0], 1, "%d")...))
	equal("the members after it is back", shares(), before)
	stopFirst()
	stopSecond()
}

func staticFenced(r *run) {
	topic, group := r.topic(1, nil), fresh("group")
	how := Membership{Group: group, Topic: topic, Instance: "till"}
	must(r.Send(r.ctx, Sending{}, numbered(topic, 0, 1, "%d")...))
	first := r.join(how)
	r.take(first, 1)
	stop, ended := pump(r, first)
	second := r.join(how)
	r.take(second, 1)
	select {
	case err := <-ended:
		r.code("the first member", err, fencedInstance)
	case <-r.ctx.Done():
		fail("the first member goes on")
	}
	stop()
	_ = first.Close()
	check(second.Close())
}
