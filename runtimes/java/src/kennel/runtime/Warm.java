package kennel.runtime;

import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Comparator;
import java.util.List;
import java.util.Map;

/**
 * Takes the ways that most functions take, with the package of warm/ in place of the function's: before a function is
 * there, so that its start finds all of that done, and when {@code build} makes a class-data archive, so that the
 * classes are in it.
 */
public final class Warm {
    private static final String[] HANDLERS = {"sample.Handler", "sample.Orders", "sample.Orders::text",
        "sample.Stream", "sample.Modern", "sample.Missing"};

    private Warm() {
    }

    abstract static class Base<T> implements Comparator<Map<String, List<? extends T>>> {
    }

    abstract static class Typed extends Base<Map<String, Object>> {
    }

    /** Run by {@code build} alone. */
    public static void main(String[] args) throws IOException {
        Api.connect("3"); // no such descriptor, but its classes
        Types.bindings(Typed.class);
        up(Main.runtimeDir());
        Ahead.STAY.clone();
        CallerJson.texts(CallerJson.object("{\"env\": {\"a\": \"b\"}}"), "env");
    }

    /** Runs the handlers of the package; nothing of it reaches the log. */
    static void up(File runtimeDir) throws IOException {
        PrintStream out = System.out;
        PrintStream err = System.err;
        System.setOut(new PrintStream(new Output(), true));
        System.setErr(System.out);
        try {
            String folder = new File(runtimeDir, "warm").getPath();
            Log log = Log.fromEnvironment();
            try (HandlerLoader loader = HandlerLoader.create(folder, folder + "/none", runtimeDir, log)) {
                for (String handler : HANDLERS) {
                    invoke(handler, loader, log);
                }
            }
        } finally {
            System.setOut(out);
            System.setErr(err);
        }
        System.clearProperty(Main.TRACE_PROPERTY);
        out.print("");
        out.flush();
        err.flush();
    }

    private static void invoke(String handler, HandlerLoader loader, Log log) throws IOException {
        String event = handler.endsWith("text") ? "\"text\""
                : "{\"names\": [\"a\", \"\\u00e4\"], \"count\": 1, \"x\": {\"y\": [1.5, true, null]}}";
        String answers = "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: 1\r\nLambda-Runtime-Deadline-Ms: 1\r\n"
                + "Lambda-Runtime-Trace-Id: Root=1\r\nContent-Length: " + event.length() + "\r\n\r\n" + event
                + "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
        Api api = new Api(new ByteArrayInputStream(answers.getBytes(StandardCharsets.UTF_8)), new Output());
        try {
            Main.serve(api, log, loader, HandlerFinder.find(handler, loader));
        } catch (Api.Broken end) {
            return; // the script is over
        } catch (Fault unknown) {
            return; // class files that are newer than this JVM
        }
    }
}
