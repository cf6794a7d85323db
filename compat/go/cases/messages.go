package cases

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Kafka's error codes that the cases ask for.
const (
	unknownTopic       = 3
	messageTooLarge    = 10
	topicExists        = 36
	invalidPartitions  = 37
	invalidConfig      = 40
	invalidEpoch       = 47
	nonEmptyGroup      = 68
	groupIDNotFound    = 69
	fencedInstance     = 82
	invalidRecord      = 87
	producerFenced     = 90
	recordListTooLarge = 18
)

func all(client Client) []entry {
	entries := []entry{}
	for _, codec := range client.CodecNames() {
		entries = append(entries, entry{Codecs, "produces and consumes with codec " + codec, func(r *run) {
			codecRoundTrip(r, codec)
		}})
	}
	return append(entries, slices.Concat(messages, groups, transactions, administration)...)
}

var messages = []entry{
	{Headers, "headers keep their order, repeated keys, empty and null values", headersRoundTrip},
	{Nulls, "null and empty keys and values differ", nulls},
	{Large, "messages of several megabytes pass where the topic allows them", largeMessages},
	{Large, "a message beyond the topic's limit is refused", tooLarge},
	{Keys, "a key always goes to the same partition, in order", keys},
	{Times, "create times are kept and found", createTimes},
	{AppendTime, "log append time is the broker's clock", appendTime},
	{Idempotent, "an idempotent producer leaves no gaps", idempotent},
	{Other, "compaction keeps the newest value of each key", compaction},
}

func numbered(topic string, partition, count int, form string) []Record {
	records := make([]Record, count)
	for i := range records {
		records[i] = Record{Topic: topic, Partition: partition, Value: fmt.Appendf(nil, form, i)}
	}
	return records
}

func values(records []Record) []string {
	found := make([]string, len(records))
	for i, record := range records {
		found[i] = string(record.Value)
	}
	return found
}

func codecRoundTrip(r *run, codec string) {
	topic := r.topic(2, nil)
	for partition := range 2 {
		sent := numbered(topic, partition, 500, codec+" %d "+string(bytes.Repeat([]byte("x"), 300)))
		must(r.Send(r.ctx, Sending{Codec: codec}, sent...))
		found := must(r.Read(r.ctx, topic, partition, 0, len(sent), false))
		equal("values", values(found), values(sent))
	}
}

func headersRoundTrip(r *run) {
	topic := r.topic(1, nil)
	headers := []Header{{"a", []byte("1")}, {"b", nil}, {"a", []byte("2")}, {"a", []byte{}}, {"ä", []byte{0, 255}}}
	must(r.Send(r.ctx, Sending{}, Record{Topic: topic, Value: []byte("x"), Headers: headers}))
	found := must(r.Read(r.ctx, topic, 0, 0, 1, false))[0].Headers
	equal("how many", len(found), len(headers))
	for i, header := range headers {
		equal("key", found[i].Key, header.Key)
		r.same("value", found[i].Value, header.Value)
	}
}

func nulls(r *run) {
	topic := r.topic(1, nil)
	sent := []Record{
		{Topic: topic, Key: []byte("k"), Value: nil},
		{Topic: topic, Key: nil, Value: []byte("v")},
		{Topic: topic, Key: []byte{}, Value: []byte{}},
	}
	for _, record := range sent {
		must(r.Send(r.ctx, Sending{}, record))
	}
	for i, found := range must(r.Read(r.ctx, topic, 0, 0, len(sent), false)) {
		r.same("key", found.Key, sent[i].Key)
		r.same("value", found.Value, sent[i].Value)
	}
}

// same fails unless both are null or both are the same bytes; a client that cannot tell null from
// empty is let off that.
func (r *run) same(what string, found, wanted []byte) {
	_, lacks := r.Lacks()[DistinctNulls]
	if !bytes.Equal(found, wanted) || !lacks && (found == nil) != (wanted == nil) {
		fail("%s: found %#v, wanted %#v", what, found, wanted)
	}
}

func largeMessages(r *run) {
	topic := r.topic(1, map[string]string{"max.message.bytes": "9000000"})
	sent := make([]Record, 3)
	for i := range sent {
		sent[i] = Record{Topic: topic, Value: bytes.Repeat([]byte{byte(i)}, 4_000_000)}
		must(r.Send(r.ctx, Sending{MaxBytes: 9_500_000}, sent[i]))
	}
	for i, found := range must(r.Read(r.ctx, topic, 0, 0, len(sent), false)) {
		if !bytes.Equal(found.Value, sent[i].Value) {
			fail("message %d: %d other bytes", i, len(found.Value))
		}
	}
}

func tooLarge(r *run) {
	topic := r.topic(1, map[string]string{"max.message.bytes": "20000"})
	must(r.Send(r.ctx, Sending{}, Record{Topic: topic, Value: bytes.Repeat([]byte("x"), 19_000)}))
	_, err := r.Send(r.ctx, Sending{}, Record{Topic: topic, Value: bytes.Repeat([]byte("x"), 21_000)})
	r.code("too large", err, messageTooLarge, recordListTooLarge)
	equal("the end", must(r.OffsetAt(r.ctx, topic, 0, Latest)), int64(1))
}

func keys(r *run) {
	topic := r.topic(4, nil)
	sent := numbered(topic, AnyPartition, 400, "%d")
	for i := range sent {
		sent[i].Key = fmt.Appendf(nil, "key %d", i%20)
	}
	must(r.Send(r.ctx, Sending{}, sent...))
	home, used := map[string]int{}, map[int]bool{}
	found := map[string][]string{}
	for partition := range 4 {
		end := must(r.OffsetAt(r.ctx, topic, partition, Latest))
		for _, record := range must(r.Read(r.ctx, topic, partition, 0, int(end), false)) {
			key := string(record.Key)
			if other, known := home[key]; known && other != partition {
				fail("%s is in partitions %d and %d", key, other, partition)
			}
			home[key], used[partition] = partition, true
			found[key] = append(found[key], string(record.Value))
		}
	}
	wanted := map[string][]string{}
	for _, record := range sent {
		wanted[string(record.Key)] = append(wanted[string(record.Key)], string(record.Value))
	}
	equal("values by key", found, wanted)
	if len(used) < 2 {
		fail("all keys went to %v", slices.Collect(maps.Keys(used)))
	}
}

func createTimes(r *run) {
	// Records this old would be deleted at any time.
	topic := r.topic(1, map[string]string{"retention.ms": "-1"})
	var sent []Record
	for _, millis := range []int64{1000, 2000, 3000, 1_600_000_000_123} {
		sent = append(sent, Record{Topic: topic, Value: []byte("x"), Time: time.UnixMilli(millis)})
	}
	must(r.Send(r.ctx, Sending{}, sent...))
	for i, found := range must(r.Read(r.ctx, topic, 0, 0, len(sent), false)) {
		equal("time", found.Time.UnixMilli(), sent[i].Time.UnixMilli())
	}
	for at, wanted := range map[int64]int64{1: 0, 2000: 1, 2001: 2, 1_700_000_000_000: -1, Earliest: 0, Latest: 4} {
		equal(fmt.Sprintf("the offset at %d", at), must(r.OffsetAt(r.ctx, topic, 0, at)), wanted)
	}
}

func appendTime(r *run) {
	topic := r.topic(1, map[string]string{"message.timestamp.type": "LogAppendTime"})
	must(r.Send(r.ctx, Sending{}, Record{Topic: topic, Value: []byte("x"), Time: time.UnixMilli(1000)}))
	found := must(r.Read(r.ctx, topic, 0, 0, 1, false))[0]
	if away := time.Since(found.Time).Abs(); away > time.Minute {
		fail("the time is %v away", away)
	}
}

func idempotent(r *run) {
	topic := r.topic(2, nil)
	for partition := range 2 {
		sent := numbered(topic, partition, 3000, "%d")
		for i, said := range must(r.Send(r.ctx, Sending{Idempotent: true}, sent...)) {
			equal("offset", said.Offset, int64(i))
		}
		found := must(r.Read(r.ctx, topic, partition, 0, len(sent), false))
		equal("values", values(found), values(sent))
	}
}

func compaction(r *run) {
	topic := r.topic(1, map[string]string{
		"cleanup.policy": "compact", "segment.bytes": "1048576", "segment.ms": "100", "max.compaction.lag.ms": "100",
		"min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "0",
	})
	keyed := func(key string, value []byte) Record {
		return Record{Topic: topic, Key: []byte(key), Value: value}
	}
	var sent []Record
	for turn := range 10 {
		for _, key := range []string{"a", "b", "c", "d"} {
			sent = append(sent, keyed(key, fmt.Append(nil, turn)))
		}
	}
	must(r.Send(r.ctx, Sending{}, sent...))
	must(r.Send(r.ctx, Sending{}, keyed("c", nil), keyed("d", nil)))
	form := func(record Record) string {
		return fmt.Sprintf("%d: %s=%s", record.Offset, record.Key, record.Value)
	}
	r.until("old values and keys with tombstones are gone", func() bool {
		// The newest record begins a segment, so that those before it may be compacted.
		must(r.Send(r.ctx, Sending{}, keyed("newest", []byte("x"))))
		first := must(r.Read(r.ctx, topic, 0, 0, 3, false))
		return form(first[0]) == "36: a=9" && form(first[1]) == "37: b=9" && string(first[2].Key) == "newest"
	})
	end := must(r.OffsetAt(r.ctx, topic, 0, Latest))
	_, err := r.Send(r.ctx, Sending{}, Record{Topic: topic, Value: []byte("x")})
	r.code("without a key", err, invalidRecord)
	equal("the end", must(r.OffsetAt(r.ctx, topic, 0, Latest)), end)
}
