// Package cases holds what every Go client must be able to do with a broker. A client takes part
// through an adapter that implements Client with the client's own public calls, nothing else.
package cases

import (
	"context"
	"time"
)

// The columns of the table in compat/README.md.
const (
	Codecs       = "codecs"
	Headers      = "headers"
	Nulls        = "nulls"
	Large        = "large"
	Keys         = "keys"
	Times        = "times"
	AppendTime   = "append-time"
	Resume       = "resume"
	Resets       = "resets"
	Rebalance    = "rebalance"
	Cooperative  = "cooperative"
	Static       = "static"
	Consumer     = "consumer-protocol"
	Idempotent   = "idempotent"
	Transactions = "transactions"
	Pipeline     = "pipeline"
	Fencing      = "fencing"
	Topics       = "topics"
	Partitions   = "partitions"
	Configs      = "configs"
	Groups       = "groups"
	Deletion     = "deletion"
	Cluster      = "cluster"
)

// Other is the feature of a case that is no row of the table.
const Other = "other"

// DistinctNulls is lacked by a client that reads null as empty.
const DistinctNulls = "distinct-nulls"

// AnyPartition leaves the choice of the partition to the client.
const AnyPartition = -1

// Places that OffsetAt and Read know beside times and offsets.
const (
	Earliest = -2
	Latest   = -1
)

// Header of a record; a nil value is not an empty one.
type Header struct {
	Key   string
	Value []byte
}

// Record as sent or as read.
type Record struct {
	Topic      string
	Partition  int
	Offset     int64
	Key, Value []byte
	Headers    []Header
	Time       time.Time
}

// Sending says how to produce.
type Sending struct {
	Codec      string
	Idempotent bool
	// MaxBytes of one request, where the default of the client is too little.
	MaxBytes int
}

// Protocol by which a group shares its partitions.
type Protocol int

const (
	// Eager gives everything back at each rebalance.
	Eager Protocol = iota
	// Incremental is the classic protocol with the cooperative sticky assignor.
	Incremental
	// ServerSide is the protocol of KIP-848: the broker assigns.
	ServerSide
)

// Membership says how to join a group.
type Membership struct {
	Group, Topic string
	Protocol     Protocol
	// Instance is the id of a static member.
	Instance string
	ClientID string
	// FromEnd starts at the end where the group has no offset; otherwise at the beginning.
	FromEnd bool
}

// Member of a group.
type Member interface {
	// Poll answers what has come, after a short wait possibly nothing.
	Poll(ctx context.Context) ([]Record, error)
	// Done commits that these records, as polled, are done with. Being late for it because the
	// group has begun to rebalance is no error.
	Done(ctx context.Context, records []Record) error
	// Close leaves the group, unless the member is a static one.
	Close() error
}

// Producer in transactions.
type Producer interface {
	Begin() error
	Send(ctx context.Context, records ...Record) error
	Commit(ctx context.Context) error
	Abort(ctx context.Context) error
	Close()
}

// GroupState as the broker describes it.
type GroupState struct {
	State   string
	Members []GroupMember
}

// GroupMember as the broker describes it; Partitions are those of the one topic that it reads.
type GroupMember struct {
	ClientID, Instance string
	Partitions         []int
}

// Committed offset of a group; Offset is -1 where there is none.
type Committed struct {
	Offset   int64
	Metadata string
}

// Client under test.
type Client interface {
	// Lacks names what the client itself cannot do, and why.
	Lacks() map[string]string
	// CodecNames are the codecs that the client has.
	CodecNames() []string
	// Code is Kafka's error code in err, or 0.
	Code(err error) int

	// Send produces with acks=all and answers the records with partition and offset, in order.
	Send(ctx context.Context, how Sending, records ...Record) ([]Record, error)
	// Read answers the first count records of a partition from an offset on, without a group.
	Read(ctx context.Context, topic string, partition int, from int64, count int, committed bool) ([]Record, error)
	Join(ctx context.Context, how Membership) (Member, error)
	// Transactional makes a producer, fencing earlier ones of the same id.
	Transactional(ctx context.Context, id string) (Producer, error)
	// Pipe moves count records from one topic to the other, changed, each poll in a transaction
	// together with the offsets of the group.
	Pipe(ctx context.Context, id, group, from, to string, count int, change func([]byte) []byte) error

	CreateTopic(ctx context.Context, name string, partitions int, config map[string]string) error
	DeleteTopic(ctx context.Context, name string) error
	TopicNames(ctx context.Context) ([]string, error)
	PartitionCount(ctx context.Context, topic string) (int, error)
	AddPartitions(ctx context.Context, topic string, total int) error
	Config(ctx context.Context, topic string) (map[string]string, error)
	// AlterConfig changes single settings; nil removes one.
	AlterConfig(ctx context.Context, topic string, change map[string]*string) error
	// ReplaceConfig sets all settings at once: what is not named goes back to its default.
	ReplaceConfig(ctx context.Context, topic string, config map[string]string) error
	// OffsetAt is the first offset at or after a time in milliseconds, or -1; also Earliest, Latest.
	OffsetAt(ctx context.Context, topic string, partition int, at int64) (int64, error)
	DeleteRecords(ctx context.Context, topic string, partition int, before int64) error
	GroupNames(ctx context.Context) ([]string, error)
	DescribeGroup(ctx context.Context, group string) (GroupState, error)
	DeleteGroup(ctx context.Context, group string) error
	CommittedAt(ctx context.Context, group, topic string, partition int) (Committed, error)
	// CommitAt sets the offset of a group that has no members.
	CommitAt(ctx context.Context, group, topic string, partition int, place Committed) error
	BrokerAddresses(ctx context.Context) ([]string, error)
}
