// Confluent's own Java client and Avro serialiser, with Kafka's clients.
//
//     BROKER=127.0.0.1:9092 java -cp 'CLASSES/*' compat/registry/confluent-java/Cases.java 127.0.0.1:8081
//
// Confluent publishes nothing on Maven Central; Apache Pinot ships its client there, unchanged, in a jar of
// its own (xtask/services/registry.xml). One line per case, closing with `N passed, N failed`.

import io.confluent.kafka.schemaregistry.ParsedSchema;
import io.confluent.kafka.schemaregistry.avro.AvroSchema;
import io.confluent.kafka.schemaregistry.avro.AvroSchemaProvider;
import io.confluent.kafka.schemaregistry.client.CachedSchemaRegistryClient;
import io.confluent.kafka.schemaregistry.client.SchemaRegistryClient;
import io.confluent.kafka.schemaregistry.client.rest.RestService;
import io.confluent.kafka.schemaregistry.client.rest.entities.Config;
import io.confluent.kafka.schemaregistry.client.rest.entities.Metadata;
import io.confluent.kafka.schemaregistry.client.rest.entities.Rule;
import io.confluent.kafka.schemaregistry.client.rest.entities.RuleKind;
import io.confluent.kafka.schemaregistry.client.rest.entities.RuleMode;
import io.confluent.kafka.schemaregistry.client.rest.entities.RuleSet;
import io.confluent.kafka.schemaregistry.client.rest.entities.SchemaReference;
import io.confluent.kafka.schemaregistry.client.rest.exceptions.RestClientException;
import io.confluent.kafka.serializers.KafkaAvroDeserializer;
import io.confluent.kafka.serializers.KafkaAvroSerializer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeSet;
import java.util.UUID;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Cases {
    interface Case {
        void run() throws Exception;
    }

    static String url;
    static String broker;
    static final Map<String, Case> CASES = new LinkedHashMap<>();

    static final AvroSchema ORDER = avro("Order", "{'name':'id','type':'string'},{'name':'total','type':'long'}");
    static final AvroSchema TWO = avro("Order",
        "{'name':'id','type':'string'},{'name':'total','type':'long'},{'name':'note','type':'string','default':''}");
    static final AvroSchema BROKEN = avro("Order", "{'name':'id','type':'string'},{'name':'currency','type':'string'}");

    static {
        CASES.put("records register their schema and are read back", Cases::records);
        CASES.put("an unregistered schema is refused where registering is off", Cases::lookupOnly);
        CASES.put("the latest version serialises where it is asked for", Cases::latest);
        CASES.put("versions count up and a schema has one id everywhere", Cases::versions);
        CASES.put("what is not there is not found", Cases::missing);
        CASES.put("another writing is the same schema where it is normalised", Cases::normalised);
        CASES.put("the level of a subject decides and the reasons are told", Cases::compatibility);
        CASES.put("a configuration is kept with its group and its metadata", Cases::configuration);
        CASES.put("modes are set, kept to and reset", Cases::modes);
        CASES.put("versions and subjects are deleted softly and for good", Cases::deletion);
        CASES.put("references are stored and kept from deletion", Cases::references);
        CASES.put("metadata and rule sets are served as they were sent", Cases::contracts);
        CASES.put("contexts have subjects and ids of their own", Cases::contexts);
    }

    static AvroSchema avro(String name, String fields) {
        return new AvroSchema(text(name, fields));
    }

    static String text(String name, String fields) {
        return ("{'type':'record','name':'" + name + "','namespace':'shop','fields':[" + fields + "]}").replace('\'', '"');
    }

    static String fresh(String what) {
        return "compat-" + what + "-" + UUID.randomUUID().toString().substring(0, 13);
    }

    /** A client that has seen nothing yet. */
    static SchemaRegistryClient client() {
        return new CachedSchemaRegistryClient(List.of(url), 100, List.of(new AvroSchemaProvider()), Map.of(), Map.of());
    }

    static void equal(String what, Object found, Object wanted) {
        if (!Objects.equals(found, wanted)) {
            throw new AssertionError(what + ": found " + found + ", wanted " + wanted);
        }
    }

    static void refused(int code, Case call) throws Exception {
        try {
            call.run();
        } catch (Exception error) {
            for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                if (cause instanceof RestClientException said) {
                    equal("the error's code and status", List.of(said.getErrorCode(), said.getStatus()), List.of(code, code / 100));
                    return;
                }
            }
            throw error;
        }
        throw new AssertionError("it was not refused with " + code);
    }

    static Map<String, Object> settings(Object... more) {
        Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", broker, "schema.registry.url", url));
        for (int i = 0; i < more.length; i += 2) {
            all.put((String) more[i], more[i + 1]);
        }
        return all;
    }

    static GenericRecord order(AvroSchema schema, String id, long total) {
        GenericRecord made = new GenericData.Record(schema.rawSchema());
        made.put("id", id);
        made.put("total", total);
        return made;
    }

    /** Produces with the serialiser. */
    static void send(String topic, Map<String, Object> settings, List<GenericRecord> values) throws Exception {
        settings.put("key.serializer", StringSerializer.class);
        settings.put("value.serializer", KafkaAvroSerializer.class);
        try (KafkaProducer<String, Object> producer = new KafkaProducer<>(settings)) {
            for (GenericRecord value : values) {
                producer.send(new ProducerRecord<>(topic, value)).get();
            }
        }
    }

    /** So many records from the topic's beginning. */
    static <V> List<V> take(String topic, Class<?> deserialiser, int count) {
        Map<String, Object> settings = settings(
            "key.deserializer", StringDeserializer.class, "value.deserializer", deserialiser, "enable.auto.commit", false);
        try (KafkaConsumer<String, V> consumer = new KafkaConsumer<>(settings)) {
            TopicPartition partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            List<V> found = new ArrayList<>();
            long deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
            while (found.size() < count) {
                if (System.nanoTime() > deadline) {
                    throw new AssertionError(found.size() + " of " + count + " records came");
                }
                for (ConsumerRecord<String, V> one : consumer.poll(Duration.ofSeconds(1))) {
                    found.add(one.value());
                }
            }
            return found;
        }
    }

    static void records() throws Exception {
        String topic = fresh("registry");
        send(topic, settings(), List.of(order(ORDER, "a", 1), order(ORDER, "b", 2)));
        List<GenericRecord> found = take(topic, KafkaAvroDeserializer.class, 2);
        equal("values", found.toString(), List.of(order(ORDER, "a", 1), order(ORDER, "b", 2)).toString());
        int id = client().getLatestSchemaMetadata(topic + "-value").getId();
        byte[] raw = Cases.<byte[]>take(topic, ByteArrayDeserializer.class, 1).get(0);
        equal("the prefix", List.of((int) raw[0], java.nio.ByteBuffer.wrap(raw, 1, 4).getInt()), List.of(0, id));
    }

    static void lookupOnly() throws Exception {
        String topic = fresh("registry");
        refused(40401, () -> send(topic, settings("auto.register.schemas", false), List.of(order(ORDER, "a", 1))));
        client().register(topic + "-value", BROKEN);
        refused(40403, () -> send(topic, settings("auto.register.schemas", false), List.of(order(ORDER, "a", 1))));
        equal("versions", client().getAllVersions(topic + "-value"), List.of(1));
    }

    static void latest() throws Exception {
        String topic = fresh("registry");
        client().register(topic + "-value", ORDER);
        int wanted = client().register(topic + "-value", TWO);
        Map<String, Object> settings = settings("auto.register.schemas", false, "use.latest.version", true);
        GenericRecord value = order(TWO, "a", 1);
        value.put("note", "n");
        send(topic, settings, List.of(value));
        byte[] raw = Cases.<byte[]>take(topic, ByteArrayDeserializer.class, 1).get(0);
        equal("the id", java.nio.ByteBuffer.wrap(raw, 1, 4).getInt(), wanted);
    }

    static void versions() throws Exception {
        String subject = fresh("versions");
        String other = fresh("versions");
        int first = client().register(subject, ORDER);
        var second = client().registerWithResponse(subject, TWO, false);
        equal("the second version", second.getVersion(), 2);
        equal("under another subject", client().register(other, ORDER), first);
        equal("the list", client().getAllVersions(subject), List.of(1, 2));
        equal("by its text", client().getVersion(subject, TWO), 2);
        equal("the id by its text", client().getId(subject, ORDER), first);
        equal("by id", client().getSchemaById(first).canonicalString(), ORDER.canonicalString());
        equal("by subject and id", client().getSchemaBySubjectAndId(subject, first).canonicalString(), ORDER.canonicalString());
        equal("the latest", client().getLatestSchemaMetadata(subject).getVersion(), 2);
        equal("the first", client().getSchemaMetadata(subject, 1).getId(), first);
        equal("subjects of the id", client().getAllSubjectsById(first).containsAll(List.of(subject, other)), true);
        equal("versions of the id", client().getAllVersionsById(first).stream()
            .anyMatch(one -> one.getSubject().equals(other) && one.getVersion() == 1), true);
        equal("subjects by prefix", new TreeSet<>(client().getAllSubjectsByPrefix(subject)), Set.of(subject));
        List<ParsedSchema> schemas = client().getSchemas(subject, false, true);
        equal("the latest, listed", schemas.stream().map(ParsedSchema::canonicalString).toList(), List.of(TWO.canonicalString()));
    }

    static void missing() throws Exception {
        String subject = fresh("missing");
        refused(40403, () -> client().getSchemaById(2_000_000_000));
        refused(40401, () -> client().getAllVersions(subject));
        refused(40401, () -> client().deleteSubject(subject));
        client().register(subject, ORDER);
        refused(40402, () -> client().getSchemaMetadata(subject, 7));
        refused(40403, () -> client().getVersion(subject, TWO));
        refused(42201, () -> new RestService(url).registerSchema("{\"type\":\"recor\"}", subject));
    }

    static void normalised() throws Exception {
        String subject = fresh("normal");
        int wanted = client().register(subject, ORDER, true);
        AvroSchema other = new AvroSchema(("{'name':'shop.Order','type':'record','fields':["
            + "{'type':{'type':'string'},'name':'id'},{'type':'long','name':'total'}]}").replace('\'', '"'));
        equal("the id", client().getId(subject, other, true), wanted);
        equal("the id, registered", client().register(subject, other, true), wanted);
    }

    static void compatibility() throws Exception {
        String subject = fresh("level");
        refused(40408, () -> client().getCompatibility(subject));
        equal("the level of all", client().getCompatibility(null), "BACKWARD");
        client().register(subject, ORDER);
        equal("a field with a default", client().testCompatibility(subject, TWO), true);
        equal("a field without", client().testCompatibility(subject, BROKEN), false);
        List<String> reasons = client().testCompatibilityVerbose(subject, BROKEN);
        equal("a reason: " + reasons, reasons.stream()
            .anyMatch(reason -> reason.contains("READER_FIELD_MISSING_DEFAULT_VALUE") && reason.contains("currency")), true);
        refused(40901, () -> client().register(subject, BROKEN));
        equal("the answer", client().updateCompatibility(subject, "NONE"), "NONE");
        equal("the level", client().getCompatibility(subject), "NONE");
        equal("the version", client().registerWithResponse(subject, BROKEN, false).getVersion(), 2);
        client().deleteCompatibility(subject);
        refused(40408, () -> client().getCompatibility(subject));
        // The client adds a slash to this path.
        equal("of all versions", new RestService(url).testCompatibility(ORDER.canonicalString(), subject, true).isEmpty(), false);
    }

    static void configuration() throws Exception {
        String subject = fresh("config");
        Config wanted = new Config("FULL");
        wanted.setCompatibilityGroup("major");
        wanted.setNormalize(true);
        wanted.setDefaultMetadata(new Metadata(Map.of(), Map.of("owner", "shop"), Set.of()));
        client().updateConfig(subject, wanted);
        Config found = client().getConfig(subject);
        equal("the configuration", List.of(found.getCompatibilityLevel(), found.getCompatibilityGroup(), found.isNormalize()),
            List.of("FULL", "major", true));
        equal("the metadata", found.getDefaultMetadata().getProperties(), Map.of("owner", "shop"));
        client().register(subject, ORDER);
        equal("a schema's metadata", client().getLatestSchemaMetadata(subject).getMetadata().getProperties(), Map.of("owner", "shop"));
        client().deleteConfig(subject);
        refused(40408, () -> client().getConfig(subject));
    }

    static void modes() throws Exception {
        String subject = fresh("mode");
        equal("the mode of all", client().getMode(), "READWRITE");
        refused(40409, () -> client().getMode(subject));
        client().register(subject, ORDER);
        equal("the answer", client().setMode("READONLY", subject), "READONLY");
        refused(42205, () -> client().register(subject, TWO));
        refused(42205, () -> client().setMode("IMPORT", subject));
        client().deleteMode(subject);
        client().register(subject, TWO);
        String imported = fresh("import");
        equal("an empty subject", client().setMode("IMPORT", imported), "IMPORT");
        AvroSchema schema = avro("Imported" + UUID.randomUUID().toString().replace("-", ""), "{'name':'id','type':'string'}");
        int id = 1_500_000_000 + (int) (System.nanoTime() % 100_000_000);
        equal("the id", client().register(imported, schema, 5, id), id);
        equal("the version", client().getAllVersions(imported), List.of(5));
    }

    static void deletion() throws Exception {
        String subject = fresh("gone");
        client().register(subject, ORDER);
        client().register(subject, TWO);
        refused(40407, () -> client().deleteSchemaVersion(subject, "2", true));
        equal("the version", client().deleteSchemaVersion(subject, "2"), 2);
        equal("versions", client().getAllVersions(subject), List.of(1));
        equal("with the deleted", client().getAllVersions(subject, true), List.of(1, 2));
        refused(40402, () -> client().getSchemaMetadata(subject, 2));
        equal("the deleted one, asked for", client().getSchemaMetadata(subject, 2, true).getVersion(), 2);
        equal("for good", client().deleteSchemaVersion(subject, "2", true), 2);
        refused(40405, () -> client().deleteSubject(subject, true));
        equal("the subject's", client().deleteSubject(subject), List.of(1));
        equal("with the deleted", client().getAllSubjects(true).contains(subject), true);
        equal("the subject's, for good", client().deleteSubject(subject, true), List.of(1));
        equal("no more", client().getAllSubjects(true).contains(subject), false);
    }

    static void references() throws Exception {
        String money = fresh("money");
        String subject = fresh("order");
        AvroSchema part = avro("Money", "{'name':'cents','type':'long'}");
        client().register(money, part);
        AvroSchema whole = new AvroSchema(text("Order", "{'name':'total','type':'shop.Money'}"),
            List.of(new SchemaReference("shop.Money", money, 1)), Map.of("shop.Money", part.canonicalString()), null);
        int id = client().register(subject, whole);
        equal("references", client().getSchemaBySubjectAndId(subject, id).references(), whole.references());
        equal("who refers to it", new RestService(url).getReferencedBy(money, 1), List.of(id));
        refused(42206, () -> client().deleteSubject(money));
    }

    static void contracts() throws Exception {
        String subject = fresh("contract");
        Metadata metadata = new Metadata(
            Map.of("shop.Order.id", Set.of("PII")), Map.of("major", "1"), Set.of("major"));
        RuleSet rules = new RuleSet(
            List.of(new Rule("up", null, RuleKind.TRANSFORM, RuleMode.UPGRADE, "JSONATA", Set.of(), Map.of(), "$", null, null, false)),
            List.of(new Rule("named", "why", RuleKind.CONDITION, RuleMode.WRITE, "CEL", Set.of("PII"), Map.of("a", "b"),
                "size(message.id) > 0", null, "ERROR", false)));
        ParsedSchema sent = ORDER.copy(metadata, rules);
        client().register(subject, sent);
        ParsedSchema found = client().getSchemaBySubjectAndId(subject, client().getId(subject, sent));
        equal("metadata", found.metadata(), metadata);
        equal("rules", found.ruleSet(), rules);
        equal("by its metadata", client().getLatestWithMetadata(subject, Map.of("major", "1"), false).getVersion(), 1);
    }

    static void contexts() throws Exception {
        String context = "." + fresh("context").replace("-", "");
        String subject = ":" + context + ":orders";
        equal("the first id", client().register(subject, ORDER), 1);
        equal("contexts", client().getAllContexts().containsAll(List.of(".", context)), true);
        equal("by its whole name", client().getSchemaBySubjectAndId(subject, 1).canonicalString(), ORDER.canonicalString());
        SchemaRegistryClient inside = new CachedSchemaRegistryClient(
            List.of(url + "/contexts/" + context), 100, List.of(new AvroSchemaProvider()), Map.of(), Map.of());
        equal("in the context's path", inside.getLatestSchemaMetadata("orders").getId(), 1);
    }

    public static void main(String[] arguments) {
        url = arguments[0].contains("://") ? arguments[0] : "http://" + arguments[0];
        broker = System.getenv("BROKER");
        int passed = 0;
        int failed = 0;
        for (var entry : CASES.entrySet()) {
            boolean chosen = arguments.length == 1;
            for (int i = 1; i < arguments.length; i++) {
                chosen |= entry.getKey().contains(arguments[i]);
            }
            if (!chosen) {
                continue;
            }
            long began = System.nanoTime();
            try {
                entry.getValue().run();
                passed++;
                System.out.printf("ok   %s (%.1f s)%n", entry.getKey(), (System.nanoTime() - began) / 1e9);
            } catch (Exception | AssertionError error) {
                failed++;
                System.out.printf("FAIL %s: %s%n", entry.getKey(), error);
            }
        }
        System.out.printf("%d passed, %d failed%n", passed, failed);
        System.exit(failed > 0 || passed == 0 ? 1 : 0);
    }
}
