// The registry client of franz-go: every call that it has.
package main

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	. "wharf/compat/registry/cases"
)

var (
	order  = avro("Order", `{"name":"id","type":"string"}`)
	two    = avro("Order", `{"name":"id","type":"string"},{"name":"note","type":"string","default":""}`)
	broken = avro("Order", `{"name":"id","type":"string"},{"name":"currency","type":"string"}`)
)

func avro(name, fields string) sr.Schema {
	return sr.Schema{Schema: `{"type":"record","name":"` + name + `","namespace":"shop","fields":[` + fields + `]}`}
}

func client(t *T, options ...sr.ClientOpt) *sr.Client {
	return Must(sr.NewClient(append(options, sr.URLs(t.URL))...))
}

// refused fails unless the registry answers with this error code.
func refused(code int, err error) {
	var said *sr.ResponseError
	if !errors.As(err, &said) {
		Fail("found %v, wanted the code %d", err, code)
	}
	Equal("the error's code and status", [2]int{said.ErrorCode, said.StatusCode}, [2]int{code, code / 100})
}

func main() {
	Main([]Case{
		{"records with a prefix go through the broker", records},
		{"a schema is registered, found by its id, its GUID and its text", register},
		{"versions count up and are listed", versions},
		{"what is not there is not found", missing},
		{"references are stored and followed", references},
		{"the level of a subject decides", compatibility},
		{"a configuration is kept with its group and its metadata", configuration},
		{"modes are set, kept to and reset", modes},
		{"an import keeps ids and versions", imports},
		{"versions and subjects are deleted softly and for good", deletion},
		{"contexts have subjects and ids of their own", contexts},
		{"metadata and rule sets are served as they were sent", contracts},
	})
}

type value struct {
	ID    string `json:"id"`
	Total int    `json:"total"`
}

func records(t *T) {
	topic := t.Topic()
	schema := sr.Schema{Type: sr.TypeJSON, Schema: `{"type":"object","properties":{"id":{"type":"string"},"total":{"type":"integer"}}}`}
	made := Must(client(t).CreateSchema(t.Ctx, topic+"-value", schema))
	var serde sr.Serde
	serde.Register(made.ID, value{}, sr.EncodeFn(json.Marshal), sr.DecodeFn(json.Unmarshal))
	sent := []value{{"a", 1}, {"b", 2}}
	var out []*kgo.Record
	for _, one := range sent {
		out = append(out, &kgo.Record{Value: Must(serde.Encode(one))})
	}
	var found []value
	for _, record := range t.Through(topic, out...) {
		id, _ := Must2(serde.DecodeID(record.Value))
		text := Must(client(t).SchemaTextByID(t.Ctx, id))
		EqualJSON("the schema of the id", text, schema.Schema)
		var one value
		Check(serde.Decode(record.Value, &one))
		found = append(found, one)
	}
	Equal("values", found, sent)
}

// Must2 is for what answers two values.
func Must2[A, B any](a A, b B, err error) (A, B) {
	Check(err)
	return a, b
}

func register(t *T) {
	registry, subject, other := client(t), Fresh("register"), Fresh("register")
	types := Must(registry.SupportedTypes(t.Ctx))
	slices.Sort(types)
	Equal("types", types, []sr.SchemaType{sr.TypeAvro, sr.TypeProtobuf, sr.TypeJSON})
	made := Must(registry.CreateSchema(t.Ctx, subject, order))
	Equal("subject and version", []any{made.Subject, made.Version}, []any{subject, 1})
	again := Must(registry.CreateSchema(t.Ctx, other, order))
	Equal("the id under another subject", again.ID, made.ID)
	EqualJSON("by id", Must(registry.SchemaByID(t.Ctx, made.ID)).Schema, order.Schema)
	EqualJSON("the text by id", Must(registry.SchemaTextByID(t.Ctx, made.ID)), order.Schema)
	EqualJSON("the text by version", Must(registry.SchemaTextByVersion(t.Ctx, subject, 1)), order.Schema)
	EqualJSON("by GUID", Must(registry.SchemaByGUID(t.Ctx, made.GUID)).Schema.Schema, order.Schema)
	ids := Must(registry.SchemaIDsByGUID(t.Ctx, made.GUID))
	if !slices.ContainsFunc(ids, func(one sr.ContextID) bool { return one.ID == made.ID && one.Context == "." }) {
		Fail("the ids of the GUID: %+v", ids)
	}
	found := Must(registry.LookupSchema(t.Ctx, subject, order))
	Equal("by its text", []any{found.ID, found.Version, found.Subject}, []any{made.ID, 1, subject})
	subjects := Must(registry.SubjectsByID(t.Ctx, made.ID))
	if !slices.Contains(subjects, subject) || !slices.Contains(subjects, other) {
		Fail("the subjects of the id: %v", subjects)
	}
	pairs := Must(registry.SchemaVersionsByID(t.Ctx, made.ID))
	if !slices.Contains(pairs, sr.SubjectVersion{Subject: subject, Version: 1}) {
		Fail("the versions of the id: %v", pairs)
	}
}

func versions(t *T) {
	registry, subject := client(t), Fresh("versions")
	Must(registry.CreateSchema(t.Ctx, subject, order))
	made := Must(registry.CreateSchema(t.Ctx, subject, two))
	Equal("the list", Must(registry.SubjectVersions(t.Ctx, subject)), []int{1, 2})
	latest := Must(registry.SchemaByVersion(t.Ctx, subject, -1))
	Equal("the latest", []any{latest.ID, latest.Version}, []any{made.ID, 2})
	Equal("all of the subject", len(Must(registry.Schemas(t.Ctx, subject))), 2)
	listed := Must(registry.AllSchemas(sr.WithParams(t.Ctx, sr.SubjectPrefix(subject), sr.LatestOnly)))
	Equal("the latest, listed", []any{len(listed), listed[0].Version}, []any{1, 2})
	found := Must(registry.Subjects(sr.WithParams(t.Ctx, sr.SubjectPrefix(subject))))
	Equal("subjects by prefix", found, []string{subject})
	normal := sr.Schema{Schema: `{"name":"shop.Order","fields":[{"type":{"type":"string"},"name":"id"}],"type":"record"}`}
	same := Must(registry.LookupSchema(sr.WithParams(t.Ctx, sr.Normalize), subject, normal))
	Equal("another writing, normalised", same.Version, 1)
}

func missing(t *T) {
	registry, subject := client(t), Fresh("missing")
	_, err := registry.SchemaByID(t.Ctx, 2_000_000_000)
	refused(40403, err)
	_, err = registry.SubjectVersions(t.Ctx, subject)
	refused(40401, err)
	Must(registry.CreateSchema(t.Ctx, subject, order))
	_, err = registry.SchemaByVersion(t.Ctx, subject, 7)
	refused(40402, err)
	_, err = registry.LookupSchema(t.Ctx, subject, two)
	refused(40403, err)
	_, err = registry.CreateSchema(t.Ctx, subject, sr.Schema{Schema: `{"type":"recor"}`})
	refused(42201, err)
}

func references(t *T) {
	registry, money, subject := client(t), Fresh("money"), Fresh("order")
	Must(registry.CreateSchema(t.Ctx, money, avro("Money", `{"name":"cents","type":"long"}`)))
	referring := avro("Order", `{"name":"total","type":"shop.Money"}`)
	referring.References = []sr.SchemaReference{{Name: "shop.Money", Subject: money, Version: 1}}
	made := Must(registry.CreateSchema(t.Ctx, subject, referring))
	Equal("references", Must(registry.SchemaByID(t.Ctx, made.ID)).References, referring.References)
	who := Must(registry.SchemaReferences(t.Ctx, money, 1))
	Equal("who refers to it", []any{len(who), who[0].Subject, who[0].ID}, []any{1, subject, made.ID})
	_, err := registry.DeleteSubject(t.Ctx, money, sr.SoftDelete)
	refused(42206, err)
	usages := Must(registry.SchemaUsagesByID(t.Ctx, made.ID))
	Equal("who uses the id", []any{len(usages), usages[0].Subject}, []any{1, subject})
}

func compatibility(t *T) {
	registry, subject := client(t), Fresh("level")
	Equal("the level of all", registry.Compatibility(t.Ctx)[0].Level, sr.CompatBackward)
	refused(40408, registry.Compatibility(t.Ctx, subject)[0].Err)
	global := registry.Compatibility(sr.WithParams(t.Ctx, sr.DefaultToGlobal), subject)[0]
	Equal("the level of all, for the subject", []any{global.Level, global.Err}, []any{sr.CompatBackward, error(nil)})
	Must(registry.CreateSchema(t.Ctx, subject, order))
	good := Must(registry.CheckCompatibility(t.Ctx, subject, -1, two))
	Equal("a field with a default", good.Is, true)
	bad := Must(registry.CheckCompatibility(sr.WithParams(t.Ctx, sr.Verbose), subject, -1, broken))
	Equal("a field without", []any{bad.Is, len(bad.Messages) > 0}, []any{false, true})
	_, err := registry.CreateSchema(t.Ctx, subject, broken)
	refused(40901, err)
	set := registry.SetCompatibility(t.Ctx, sr.SetCompatibility{Level: sr.CompatFullTransitive}, subject)[0]
	Equal("the answer", []any{set.Level, set.Err}, []any{sr.CompatFullTransitive, error(nil)})
	Equal("the level", registry.Compatibility(t.Ctx, subject)[0].Level, sr.CompatFullTransitive)
	Check(registry.ResetCompatibility(t.Ctx, subject)[0].Err)
	refused(40408, registry.Compatibility(t.Ctx, subject)[0].Err)
}

func configuration(t *T) {
	registry, subject := client(t), Fresh("config")
	owner := &sr.SchemaMetadata{Properties: map[string]string{"owner": "shop"}}
	wanted := sr.SetCompatibility{Level: sr.CompatForward, Normalize: true, Group: "major", DefaultMetadata: owner}
	Check(registry.SetCompatibility(t.Ctx, wanted, subject)[0].Err)
	found := registry.Compatibility(t.Ctx, subject)[0]
	Equal("the configuration", []any{found.Level, found.Normalize, found.Group, found.DefaultMetadata.Properties},
		[]any{sr.CompatForward, true, "major", owner.Properties})
	made := Must(registry.CreateSchema(t.Ctx, subject, order))
	Equal("the metadata of a schema", Must(registry.SchemaByVersion(t.Ctx, made.Subject, 1)).SchemaMetadata.Properties, owner.Properties)
}

func modes(t *T) {
	registry, subject := client(t), Fresh("mode")
	Equal("the mode of all", registry.Mode(t.Ctx)[0].Mode, sr.ModeReadWrite)
	refused(40409, registry.Mode(t.Ctx, subject)[0].Err)
	Must(registry.CreateSchema(t.Ctx, subject, order))
	set := registry.SetMode(t.Ctx, sr.ModeReadOnly, subject)[0]
	Equal("the answer", []any{set.Mode, set.Err}, []any{sr.ModeReadOnly, error(nil)})
	_, err := registry.CreateSchema(t.Ctx, subject, two)
	refused(42205, err)
	refused(42205, registry.SetMode(t.Ctx, sr.ModeImport, subject)[0].Err)
	Check(registry.ResetMode(t.Ctx, subject)[0].Err)
	Must(registry.CreateSchema(t.Ctx, subject, two))
}

func imports(t *T) {
	registry, subject := client(t), Fresh("import")
	text := avro(Fresh("Imported")[7:15], `{"name":"id","type":"string"}`)
	_, err := registry.CreateSchemaWithIDAndVersion(t.Ctx, subject, text, 1_000_007, 5)
	refused(42205, err)
	Check(registry.SetMode(t.Ctx, sr.ModeImport, subject)[0].Err)
	made := Must(registry.CreateSchemaWithIDAndVersion(t.Ctx, subject, text, importID(t), 5))
	Equal("the version", made.Version, 5)
	Equal("versions", Must(registry.SubjectVersions(t.Ctx, subject)), []int{5})
	Check(registry.ResetMode(t.Ctx, subject)[0].Err)
}

// importID is one that no other run has taken: far beyond those that are given in turn.
func importID(t *T) int {
	registry := client(t)
	for id := 1_000_000; ; id++ {
		if _, err := registry.SchemaByID(t.Ctx, id); err != nil {
			refused(40403, err)
			return id
		}
	}
}

func deletion(t *T) {
	registry, subject := client(t), Fresh("gone")
	Must(registry.CreateSchema(t.Ctx, subject, order))
	Must(registry.CreateSchema(t.Ctx, subject, two))
	refused(40407, registry.DeleteSchema(t.Ctx, subject, 2, sr.HardDelete))
	Check(registry.DeleteSchema(t.Ctx, subject, 2, sr.SoftDelete))
	Equal("versions", Must(registry.SubjectVersions(t.Ctx, subject)), []int{1})
	Equal("with the deleted", Must(registry.SubjectVersions(sr.WithParams(t.Ctx, sr.ShowDeleted), subject)), []int{1, 2})
	Equal("only the deleted", Must(registry.SubjectVersions(sr.WithParams(t.Ctx, sr.DeletedOnly), subject)), []int{2})
	Check(registry.DeleteSchema(t.Ctx, subject, 2, sr.HardDelete))
	Equal("the subject's", Must(registry.DeleteSubject(t.Ctx, subject, sr.SoftDelete)), []int{1})
	_, err := registry.DeleteSubject(t.Ctx, subject, sr.SoftDelete)
	refused(40404, err)
	listed := Must(registry.Subjects(sr.WithParams(t.Ctx, sr.SubjectPrefix(subject), sr.DeletedOnly)))
	Equal("subjects that are deleted", listed, []string{subject})
	Equal("for good", Must(registry.DeleteSubject(t.Ctx, subject, sr.HardDelete)), []int{1})
	_, err = registry.SubjectVersions(sr.WithParams(t.Ctx, sr.ShowDeleted), subject)
	refused(40401, err)
}

func contexts(t *T) {
	name := "." + Fresh("context")[15:]
	inside := client(t, sr.DefaultSchemaContext(name))
	made := Must(inside.CreateSchema(t.Ctx, "orders", order))
	Equal("the first id", made.ID, 1)
	qualified := Must(client(t).SchemaByVersion(t.Ctx, ":"+name+":orders", 1))
	Equal("by its whole name", qualified.ID, 1)
	if all := Must(client(t).Contexts(t.Ctx)); !slices.Contains(all, name) || !slices.Contains(all, ".") {
		Fail("contexts: %v", all)
	}
	refused(42211, client(t).DeleteContext(t.Ctx, name))
	Must(inside.DeleteSubject(t.Ctx, "orders", sr.SoftDelete))
	Must(inside.DeleteSubject(t.Ctx, "orders", sr.HardDelete))
	Check(client(t).DeleteContext(t.Ctx, name))
	if all := Must(client(t).Contexts(t.Ctx)); slices.Contains(all, name) {
		Fail("contexts: %v", all)
	}
}

func contracts(t *T) {
	registry, subject := client(t), Fresh("contract")
	sent := order
	sent.SchemaMetadata = &sr.SchemaMetadata{
		Tags: map[string][]string{"shop.Order.id": {"PII"}}, Properties: map[string]string{"owner": "shop"},
		Sensitive: []string{"owner"},
	}
	sent.SchemaRuleSet = &sr.SchemaRuleSet{DomainRules: []sr.SchemaRule{{
		Name: "named", Kind: sr.SchemaRuleKindCondition, Mode: sr.SchemaRuleModeWrite, Type: "CEL",
		Tags: []string{"PII"}, Params: map[string]string{"a": "b"}, Expr: "size(message.id) > 0", OnFailure: "ERROR",
	}}}
	made := Must(registry.CreateSchema(t.Ctx, subject, sent))
	found := Must(registry.SchemaByVersion(t.Ctx, subject, made.Version))
	Equal("metadata", found.SchemaMetadata, sent.SchemaMetadata)
	Equal("rules", found.SchemaRuleSet, sent.SchemaRuleSet)
}
