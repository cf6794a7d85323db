package cases

import (
	"fmt"
	"strings"
)

var transactions = []entry{
	{Transactions, "what is committed is seen and what is aborted is not", commitAndAbort},
	{Transactions, "an open transaction holds back those who read committed only", open},
	{Pipeline, "records are consumed, changed and produced once, with their offsets", pipeline},
	{Fencing, "a second producer with the same id fences the first", fencing},
}

func commitAndAbort(r *run) {
	left, right := r.topic(1, nil), r.topic(1, nil)
	producer := must(r.Transactional(r.ctx, fresh("txn")))
	defer producer.Close()
	var kept, sent []string
	for round := range 6 {
		value := fmt.Sprintf("round %d", round)
		check(producer.Begin())
		for _, topic := range []string{left, right} {
			check(producer.Send(r.ctx, Record{Topic: topic, Value: []byte(value)}))
		}
		sent = append(sent, value)
		if round%2 == 0 {
			check(producer.Abort(r.ctx))
			continue
		}
		check(producer.Commit(r.ctx))
		kept = append(kept, value)
	}
	for _, topic := range []string{left, right} {
		equal("read committed", values(must(r.Read(r.ctx, topic, 0, 0, len(kept), true))), kept)
		equal("read uncommitted", values(must(r.Read(r.ctx, topic, 0, 0, len(sent), false))), sent)
	}
}

func open(r *run) {
	topic := r.topic(1, nil)
	must(r.Send(r.ctx, Sending{}, numbered(topic, 0, 3, "before %d")...))
	producer := must(r.Transactional(r.ctx, fresh("txn")))
	defer producer.Close()
	check(producer.Begin())
	check(producer.Send(r.ctx, numbered(topic, 0, 3, "inside %d")...))
	must(r.Send(r.ctx, Sending{}, numbered(topic, 0, 3, "behind %d")...))
	equal("uncommitted", len(must(r.Read(r.ctx, topic, 0, 0, 9, false))), 9)
	held := make(chan []string, 1)
	broken := make(chan error, 1)
	go func() {
		found, err := r.Read(r.ctx, topic, 0, 0, 9, true)
		if err != nil {
			broken <- err
			return
		}
		held <- values(found)
	}()
	equal("committed so far", len(must(r.Read(r.ctx, topic, 0, 0, 3, true))), 3)
	select {
	case found := <-held:
		fail("read before the end of the transaction: %v", found)
	default:
	}
	check(producer.Commit(r.ctx))
	select {
	case err := <-broken:
		check(err)
	case found := <-held:
		equal("the last", found[8], "behind 2")
	}
}

func pipeline(r *run) {
	from, to, group := r.topic(1, nil), r.topic(1, nil), fresh("group")
	const count = 200
	sent := numbered(from, 0, count, "order %d")
	must(r.Send(r.ctx, Sending{}, sent...))
	upper := func(value []byte) []byte { return []byte(strings.ToUpper(string(value))) }
	id := fresh("txn")
	// Twice, so that the second run has to go on where the first one has committed.
	check(r.Pipe(r.ctx, id, group, from, to, count/2, upper))
	first := must(r.CommittedAt(r.ctx, group, from, 0)).Offset
	if first < count/2 {
		fail("the group has committed %d after %d records", first, count/2)
	}
	if rest := count - int(first); rest > 0 {
		check(r.Pipe(r.ctx, id, group, from, to, rest, upper))
	}
	equal("the commit", must(r.CommittedAt(r.ctx, group, from, 0)).Offset, int64(count))
	var wanted []string
	for _, value := range values(sent) {
		wanted = append(wanted, strings.ToUpper(value))
	}
	equal("values", values(must(r.Read(r.ctx, to, 0, 0, count, true))), wanted)
}

func fencing(r *run) {
	topic, id := r.topic(1, nil), fresh("txn")
	first := must(r.Transactional(r.ctx, id))
	defer first.Close()
	check(first.Begin())
	check(first.Send(r.ctx, Record{Topic: topic, Value: []byte("fenced")}))
	second := must(r.Transactional(r.ctx, id))
	defer second.Close()
	check(second.Begin())
	check(second.Send(r.ctx, Record{Topic: topic, Value: []byte("kept")}))
	check(second.Commit(r.ctx))
	err := first.Send(r.ctx, Record{Topic: topic, Value: []byte("too late")})
	if err == nil {
		err = first.Commit(r.ctx)
	}
	r.code("the fenced producer", err, invalidEpoch, producerFenced)
	equal("read committed", values(must(r.Read(r.ctx, topic, 0, 0, 1, true))), []string{"kept"})
}
