// Confluent's own client for Go, with its serialisers.
package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/confluentinc/confluent-kafka-go/v2/schemaregistry"
	"github.com/confluentinc/confluent-kafka-go/v2/schemaregistry/rest"
	"github.com/confluentinc/confluent-kafka-go/v2/schemaregistry/serde"
	"github.com/confluentinc/confluent-kafka-go/v2/schemaregistry/serde/avrov2"
	"github.com/confluentinc/confluent-kafka-go/v2/schemaregistry/serde/jsonschema"
	"github.com/confluentinc/confluent-kafka-go/v2/schemaregistry/serde/protobuf"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/sourcecontextpb"

	. "wharf/compat/registry/cases"
)

// Order is what goes through the serialisers.
type Order struct {
	ID    string `avro:"id" json:"id"`
	Total int    `avro:"total" json:"total"`
}

var (
	orders = []Order{{"a", 1}, {"b", 2}, {"c", 3}}
	order  = avro(`{"name":"id","type":"string"},{"name":"total","type":"long"}`)
	two    = avro(`{"name":"id","type":"string"},{"name":"total","type":"long"},{"name":"note","type":"string","default":""}`)
	broken = avro(`{"name":"id","type":"string"},{"name":"currency","type":"string"}`)
)

func avro(fields string) schemaregistry.SchemaInfo {
	return schemaregistry.SchemaInfo{
		SchemaType: "AVRO",
		Schema:     `{"type":"record","name":"Order","namespace":"shop","fields":[` + fields + `]}`,
	}
}

func client(t *T) schemaregistry.Client {
	config := schemaregistry.NewConfig(t.URL)
	config.MaxRetries = 0
	return Must(schemaregistry.NewClient(config))
}

func refused(code int, err error) {
	var said *rest.Error
	if !errors.As(err, &said) {
		Fail("found %v, wanted the code %d", err, code)
	}
	Equal("the error's code", said.Code, code)
}

func main() {
	Main([]Case{
		{"Avro records register their schema and are read back", avroRecords},
		{"the header carries the GUID of Avro", avroHeader},
		{"an unregistered schema is refused where registering is off", lookupOnly},
		{"the latest version serialises where it is asked for", latest},
		{"JSON records are read back and what is invalid is not sent", jsonRecords},
		{"Protobuf records register their schema and are read back", protobufRecords},
		{"versions count up and a schema has one id everywhere", versions},
		{"another writing is the same schema where it is normalised", normalised},
		{"the level of a subject decides", compatibility},
		{"a configuration is kept with its group and its metadata", configuration},
		{"versions and subjects are deleted softly and for good", deletion},
		{"references are stored", references},
		{"metadata and rule sets are served as they were sent", contracts},
	})
}

type serialiser interface {
	SerializeWithHeaders(topic string, message any) ([]kafka.Header, []byte, error)
}

// through serialises, produces and consumes.
func through[V any](t *T, topic string, with serialiser, values []V) []*kgo.Record {
	var out []*kgo.Record
	for i := range values {
		headers, payload, err := with.SerializeWithHeaders(topic, &values[i])
		Check(err)
		record := &kgo.Record{Value: payload}
		for _, header := range headers {
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: header.Key, Value: header.Value})
		}
		out = append(out, record)
	}
	return t.Through(topic, out...)
}

func headers(record *kgo.Record) []kafka.Header {
	var all []kafka.Header
	for _, header := range record.Headers {
		all = append(all, kafka.Header{Key: header.Key, Value: header.Value})
	}
	return all
}

func readAvro(t *T, topic string, records []*kgo.Record) (found []Order) {
	reader := Must(avrov2.NewDeserializer(client(t), serde.ValueSerde, avrov2.NewDeserializerConfig()))
	for _, record := range records {
		var one Order
		Check(reader.DeserializeWithHeadersInto(topic, headers(record), record.Value, &one))
		found = append(found, one)
	}
	return found
}

func avroRecords(t *T) {
	topic := t.Topic()
	writer := Must(avrov2.NewSerializer(client(t), serde.ValueSerde, avrov2.NewSerializerConfig()))
	records := through(t, topic, writer, orders)
	Equal("values", readAvro(t, topic, records), orders)
	made := Must(client(t).GetLatestSchemaMetadata(topic + "-value"))
	Equal("the prefix", records[0].Value[:5], []byte{0, byte(made.ID >> 24), byte(made.ID >> 16), byte(made.ID >> 8), byte(made.ID)})
}

func avroHeader(t *T) {
	topic := t.Topic()
	writer := Must(avrov2.NewSerializer(client(t), serde.ValueSerde, avrov2.NewSerializerConfig()))
	writer.SchemaIDSerializer = serde.HeaderSchemaIDSerializer
	records := through(t, topic, writer, orders)
	Equal("values", readAvro(t, topic, records), orders)
	Equal("the header", []any{records[0].Headers[0].Key, len(records[0].Headers[0].Value)}, []any{"__value_schema_id", 17})
	made := Must(client(t).GetLatestSchemaMetadata(topic + "-value"))
	EqualJSON("by its GUID", Must(client(t).GetByGUID(made.GUID)).Schema, made.Schema)
}

func lookupOnly(t *T) {
	topic := t.Topic()
	config := avrov2.NewSerializerConfig()
	config.AutoRegisterSchemas = false
	writer := Must(avrov2.NewSerializer(client(t), serde.ValueSerde, config))
	_, err := writer.Serialize(topic, &orders[0])
	refused(40401, err)
	Must(client(t).Register(topic+"-value", broken, false))
	_, err = client(t).GetID(topic+"-value", order, false)
	refused(40403, err)
}

func latest(t *T) {
	topic := t.Topic()
	Must(client(t).Register(topic+"-value", order, false))
	id := Must(client(t).Register(topic+"-value", two, false))
	config := avrov2.NewSerializerConfig()
	config.AutoRegisterSchemas, config.UseLatestVersion = false, true
	writer := Must(avrov2.NewSerializer(client(t), serde.ValueSerde, config))
	type noted struct {
		ID    string `avro:"id"`
		Total int    `avro:"total"`
		Note  string `avro:"note"`
	}
	records := through(t, topic, writer, []noted{{"a", 1, "n"}})
	Equal("the id", int(records[0].Value[4])|int(records[0].Value[3])<<8, id&0xffff)
	Equal("values", readAvro(t, topic, records), orders[:1])
}

func jsonRecords(t *T) {
	topic := t.Topic()
	schema := schemaregistry.SchemaInfo{SchemaType: "JSON", Schema: `{"type":"object","additionalProperties":false,
		"properties":{"id":{"type":"string"},"total":{"type":"integer","minimum":0}},"required":["id","total"]}`}
	Must(client(t).Register(topic+"-value", schema, false))
	config := jsonschema.NewSerializerConfig()
	config.AutoRegisterSchemas, config.UseLatestVersion, config.EnableValidation = false, true, true
	writer := Must(jsonschema.NewSerializer(client(t), serde.ValueSerde, config))
	reader := Must(jsonschema.NewDeserializer(client(t), serde.ValueSerde, jsonschema.NewDeserializerConfig()))
	var found []Order
	for _, record := range through(t, topic, writer, orders) {
		var one Order
		Check(reader.DeserializeWithHeadersInto(topic, headers(record), record.Value, &one))
		found = append(found, one)
	}
	Equal("values", found, orders)
	if _, err := writer.Serialize(topic, &Order{"x", -1}); err == nil {
		Fail("a negative total was sent")
	}
}

func protobufRecords(t *T) {
	topic := t.Topic()
	writer := Must(protobuf.NewSerializer(client(t), serde.ValueSerde, protobuf.NewSerializerConfig()))
	reader := Must(protobuf.NewDeserializer(client(t), serde.ValueSerde, protobuf.NewDeserializerConfig()))
	// A message of a file that every program with this library has.
	sent := &sourcecontextpb.SourceContext{FileName: "shop.proto"}
	payload := Must(writer.Serialize(topic, sent))
	record := t.Through(topic, &kgo.Record{Value: payload})[0]
	var found sourcecontextpb.SourceContext
	Check(reader.DeserializeInto(topic, record.Value, &found))
	Equal("the value", found.FileName, "shop.proto")
	made := Must(client(t).GetLatestSchemaMetadata(topic + "-value"))
	if made.SchemaType != "PROTOBUF" || !strings.Contains(made.Schema, "message SourceContext {") {
		Fail("the schema: %+v", made)
	}
	name := protoreflect.FullName("google.protobuf.SourceContext")
	Must(protoregistry.GlobalTypes.FindMessageByName(name))
	Equal("the index", record.Value[5], byte(0))
}

func versions(t *T) {
	subject, other := Fresh("versions"), Fresh("versions")
	first := Must(client(t).RegisterFullResponse(subject, order, false))
	second := Must(client(t).RegisterFullResponse(subject, two, false))
	Equal("versions", []int{first.Version, second.Version}, []int{1, 2})
	Equal("under another subject", Must(client(t).Register(other, order, false)), first.ID)
	Equal("the list", Must(client(t).GetAllVersions(subject)), []int{1, 2})
	Equal("by its text", Must(client(t).GetVersion(subject, two, false)), 2)
	EqualJSON("by subject and id", Must(client(t).GetBySubjectAndID(subject, first.ID)).Schema, order.Schema)
	pairs := Must(client(t).GetSubjectsAndVersionsByID(first.ID))
	if !slices.Contains(pairs, schemaregistry.SubjectAndVersion{Subject: subject, Version: 1}) {
		Fail("the versions of the id: %v", pairs)
	}
	if all := Must(client(t).GetAllSubjects()); !slices.Contains(all, subject) {
		Fail("subjects: %v", all)
	}
	if all := Must(client(t).GetAllContexts()); !slices.Contains(all, ".") {
		Fail("contexts: %v", all)
	}
}

func normalised(t *T) {
	subject := Fresh("normal")
	id := Must(client(t).Register(subject, order, true))
	other := schemaregistry.SchemaInfo{SchemaType: "AVRO", Schema: `{"name":"shop.Order","type":"record",
		"fields":[{"type":{"type":"string"},"name":"id"},{"type":"long","name":"total"}]}`}
	Equal("the id", Must(client(t).GetID(subject, other, true)), id)
	Equal("the id, registered", Must(client(t).Register(subject, other, true)), id)
}

func compatibility(t *T) {
	registry, subject := client(t), Fresh("level")
	_, err := registry.GetCompatibility(subject)
	refused(40408, err)
	Equal("the level of all", Must(registry.GetDefaultCompatibility()), schemaregistry.Compatibility(schemaregistry.Backward))
	Must(registry.Register(subject, order, false))
	Equal("a field with a default", Must(registry.TestSubjectCompatibility(subject, two)), true)
	Equal("a field without", Must(registry.TestSubjectCompatibility(subject, broken)), false)
	Equal("of version 1", Must(registry.TestCompatibility(subject, 1, broken)), false)
	_, err = registry.Register(subject, broken, false)
	refused(40901, err)
	Equal("the answer", Must(registry.UpdateCompatibility(subject, schemaregistry.None)), schemaregistry.Compatibility(schemaregistry.None))
	Equal("the level", Must(registry.GetCompatibility(subject)), schemaregistry.Compatibility(schemaregistry.None))
	Equal("the version", Must(client(t).RegisterFullResponse(subject, broken, false)).Version, 2)
}

func configuration(t *T) {
	registry, subject := client(t), Fresh("config")
	owner := map[string]string{"owner": "shop"}
	Must(registry.UpdateConfig(subject, schemaregistry.ServerConfig{
		CompatibilityUpdate: schemaregistry.Full, CompatibilityGroup: "major", Normalize: true,
		DefaultMetadata: &schemaregistry.Metadata{Properties: owner},
	}))
	found := Must(registry.GetConfig(subject, false))
	Equal("the configuration", []any{found.CompatibilityLevel, found.CompatibilityGroup, found.Normalize, found.DefaultMetadata.Properties},
		[]any{schemaregistry.Compatibility(schemaregistry.Full), "major", true, owner})
	global := Must(registry.GetConfig(Fresh("nobody"), true))
	Equal("that of all", global.CompatibilityLevel, schemaregistry.Compatibility(schemaregistry.Backward))
	_, err := registry.GetConfig(Fresh("nobody"), false)
	refused(40408, err)
}

func deletion(t *T) {
	registry, subject := client(t), Fresh("gone")
	Must(registry.Register(subject, order, false))
	Must(registry.Register(subject, two, false))
	_, err := registry.DeleteSubjectVersion(subject, 2, true)
	refused(40407, err)
	Equal("the version", Must(registry.DeleteSubjectVersion(subject, 2, false)), 2)
	_, err = client(t).GetSchemaMetadata(subject, 2)
	refused(40402, err)
	Equal("the deleted one, asked for", Must(client(t).GetSchemaMetadataIncludeDeleted(subject, 2, true)).Version, 2)
	Equal("for good", Must(registry.DeleteSubjectVersion(subject, 2, true)), 2)
	Equal("the subject's", Must(registry.DeleteSubject(subject, false)), []int{1})
	Equal("the subject's, for good", Must(registry.DeleteSubject(subject, true)), []int{1})
	_, err = registry.GetAllVersions(subject)
	refused(40401, err)
}

func references(t *T) {
	registry, money, subject := client(t), Fresh("money"), Fresh("order")
	Must(registry.Register(money, schemaregistry.SchemaInfo{
		SchemaType: "PROTOBUF", Schema: "syntax = \"proto3\";\npackage shop;\nmessage Money {\n  int64 cents = 1;\n}\n"}, false))
	referring := schemaregistry.SchemaInfo{
		SchemaType: "PROTOBUF",
		Schema:     "syntax = \"proto3\";\npackage shop;\nimport \"money.proto\";\nmessage Order {\n  Money total = 1;\n}\n",
		References: []schemaregistry.Reference{{Name: "money.proto", Subject: money, Version: 1}},
	}
	Must(registry.Register(subject, referring, false))
	Equal("references", Must(client(t).GetLatestSchemaMetadata(subject)).References, referring.References)
	_, err := registry.DeleteSubject(money, false)
	refused(42206, err)
}

func contracts(t *T) {
	subject, sent := Fresh("contract"), order
	sent.Metadata = &schemaregistry.Metadata{
		Tags: map[string][]string{"shop.Order.id": {"PII"}}, Properties: map[string]string{"major": "1"},
		Sensitive: []string{"major"},
	}
	sent.RuleSet = &schemaregistry.RuleSet{
		MigrationRules: []schemaregistry.Rule{{Name: "up", Kind: "TRANSFORM", Mode: "UPGRADE", Type: "JSONATA", Expr: "$"}},
		DomainRules: []schemaregistry.Rule{{Name: "named", Doc: "why", Kind: "CONDITION", Mode: "WRITE", Type: "CEL",
			Params: map[string]string{"a": "b"}, Expr: "size(message.id) > 0", OnFailure: "ERROR"}},
	}
	Must(client(t).Register(subject, sent, false))
	found := Must(client(t).GetLatestSchemaMetadata(subject))
	Equal("metadata", found.Metadata, sent.Metadata)
	Equal("rules", found.RuleSet, sent.RuleSet)
	by := Must(client(t).GetLatestWithMetadata(subject, map[string]string{"major": "1"}, false))
	Equal("by its metadata", by.Version, 1)
}
