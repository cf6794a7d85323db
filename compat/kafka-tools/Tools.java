// Runs the main classes of Apache Kafka's command-line tools in one virtual machine, one after
// another: starting one for each call would take most of the time.
//
// A call is one line of JSON on stdin: {"main": CLASS, "args": [...], "stdin": TEXT}. The answer is
// one line of JSON on stdout: {"exit": N, "out": TEXT, "err": TEXT}. The tools are not changed:
// what they print is caught, and their exit ends the call instead of the process.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.utils.Exit;

public final class Tools {
    /** What a tool's call to exit becomes. */
    private static final class Exited extends Error {
        Exited() {
            super(null, null, false, false);
        }
    }

    /** What a tool printed until it exited: some print more when the exit does not end them. */
    private record Answer(int exit, String out, String err) {}

    private static final Caught OUT = new Caught();
    private static final Caught ERR = new Caught();
    /** What tools want done at their exit. */
    private static final List<Runnable> HOOKS = new ArrayList<>();
    private static volatile Answer answer;

    private static void exit(int code) {
        if (answer == null) {
            answer = new Answer(code, OUT.take(), ERR.take());
        }
        throw new Exited();
    }

    /** An output that tools may keep for good, although every call has a buffer of its own. */
    private static final class Caught extends OutputStream {
        private ByteArrayOutputStream buffer = new ByteArrayOutputStream();

        @Override
        public synchronized void write(int one) {
            buffer.write(one);
        }

        @Override
        public synchronized void write(byte[] bytes, int from, int count) {
            buffer.write(bytes, from, count);
        }

        synchronized String take() {
            String text = buffer.toString(StandardCharsets.UTF_8);
            buffer = new ByteArrayOutputStream();
            return text;
        }
    }

    public static void main(String[] ignored) throws Exception {
        BufferedReader calls =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream answers = System.out;
        InputStream nothing = System.in;
        System.setOut(new PrintStream(OUT, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(ERR, true, StandardCharsets.UTF_8));
        Exit.setExitProcedure((code, message) -> exit(code));
        Exit.setHaltProcedure((code, message) -> exit(code));
        Exit.setShutdownHookAdder((name, hook) -> HOOKS.add(hook));
        ObjectMapper json = new ObjectMapper();
        for (String line = calls.readLine(); line != null; line = calls.readLine()) {
            JsonNode call = json.readTree(line);
            List<String> arguments = new ArrayList<>();
            call.get("args").forEach(argument -> arguments.add(argument.asText()));
            byte[] given = call.path("stdin").asText("").getBytes(StandardCharsets.UTF_8);
            System.setIn(new ByteArrayInputStream(given));
            Answer said = run(call.get("main").asText(), arguments.toArray(new String[0]));
            System.setIn(nothing);
            answers.println(json.writeValueAsString(
                    Map.of("exit", said.exit, "out", said.out, "err", said.err)));
            answers.flush();
        }
        // Threads that a tool left behind must not keep the machine alive.
        Runtime.getRuntime().halt(0);
    }

    private static Answer run(String main, String[] arguments) throws Exception {
        OUT.take();
        ERR.take();
        answer = null;
        int code = 0;
        try {
            Class.forName(main).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException thrown) {
            if (!(thrown.getCause() instanceof Exited)) {
                thrown.getCause().printStackTrace();
                code = 1;
            }
        }
        for (Runnable hook : List.copyOf(HOOKS)) {
            hook.run();
        }
        HOOKS.clear();
        return answer != null ? answer : new Answer(code, OUT.take(), ERR.take());
    }
}
