// Records what Apache Avro for Java says of pairs of schemas, for the test
// `java_says_the_same_of_every_recorded_pair`.
//
// In:  lines of {"reader": schema, "writer": schema} and maybe "payload", a record of the writer in
//      hexadecimal digits; further members are ignored.
// Out: the same lines with what Java says: canonical text, parsing form and fingerprint of the
//      reader, every incompatibility as [type, location, message], and what the reader makes of the
//      payload; "refused" if one of them is no schema.
//
// mvn dependency:get -Dartifact=org.apache.avro:avro:1.12.1, then with that jar, Jackson and slf4j-api
// on the class path: java RecordAvro.java < avro-java.jsonl > new.jsonl

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import org.apache.avro.NameValidator;
import org.apache.avro.Schema;
import org.apache.avro.SchemaCompatibility;
import org.apache.avro.SchemaNormalization;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;

public class RecordAvro {
  static final ObjectMapper JSON = new ObjectMapper();

  static Schema parse(String text) {
    return new Schema.Parser(NameValidator.STRICT_VALIDATOR).parse(text);
  }

  static ObjectNode about(ObjectNode in) throws Exception {
    ObjectNode out = JSON.createObjectNode();
    out.set("reader", in.get("reader"));
    out.set("writer", in.get("writer"));
    Schema reader;
    Schema writer;
    try {
      reader = parse(in.get("reader").asText());
      writer = parse(in.get("writer").asText());
    } catch (Exception | StackOverflowError refused) {
      return out.put("refused", true);
    }
    out.put("canonical", reader.toString());
    out.put("form", SchemaNormalization.toParsingForm(reader));
    out.put("rabin", Long.toString(SchemaNormalization.parsingFingerprint64(reader)));
    ArrayNode found = out.putArray("found");
    var result = SchemaCompatibility.checkReaderWriterCompatibility(reader, writer).getResult();
    for (var it : result.getIncompatibilities()) {
      found.addArray().add(it.getType().toString()).add(it.getLocation()).add(it.getMessage());
    }
    if (in.has("payload")) {
      out.set("payload", in.get("payload"));
      out.put("read", read(reader, writer, in.get("payload").asText()));
    }
    return out;
  }

  /** What the reader makes of a payload, written with the reader's schema. */
  static String read(Schema reader, Schema writer, String hex) throws Exception {
    byte[] payload = HexFormat.of().parseHex(hex);
    var decoder = DecoderFactory.get().binaryDecoder(payload, null);
    var datum = new GenericDatumReader<>(writer, reader).read(null, decoder);
    var bytes = new ByteArrayOutputStream();
    var encoder = EncoderFactory.get().binaryEncoder(bytes, null);
    new GenericDatumWriter<>(reader).write(datum, encoder);
    encoder.flush();
    return HexFormat.of().formatHex(bytes.toByteArray());
  }

  public static void main(String[] args) throws Exception {
    var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    var out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    for (String line; (line = in.readLine()) != null; ) {
      out.println(JSON.writeValueAsString(about((ObjectNode) JSON.readTree(line))));
    }
    out.flush();
  }
}
