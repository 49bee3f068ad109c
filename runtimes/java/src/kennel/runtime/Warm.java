package kennel.runtime;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Run by {@code build} alone, when it makes a class-data archive: takes the ways that most functions take, so that
 * their classes are in it.
 */
public final class Warm {
    private Warm() {
    }

    /** What handlers typically take and give. */
    public static final class Sample {
        public List<String> names;
        private int count;

        public int getCount() {
            return count;
        }

        public void setCount(int count) {
            this.count = count;
        }
    }

    abstract static class Base<T> implements Comparator<Map<String, List<? extends T>>> {
    }

    abstract static class Typed extends Base<Sample> {
    }

    public static Sample bean(Sample sample) {
        return sample;
    }

    public static Map<String, Object> map(Map<String, Object> event) {
        System.out.println("warm");
        Map<String, Object> result = new LinkedHashMap<String, Object>(event);
        result.put("text", "\u00fc");
        return result;
    }

    public static void main(String[] args) throws IOException {
        Log log = Log.fromEnvironment();
        Api.connect("3"); // no such descriptor, but its classes
        // A package with classes in its folder and in a jar; here they are the API's, half and half.
        HandlerLoader loader = HandlerLoader.create(args[0], "/opt/java", Main.runtimeDir(), log);
        Types.bindings(Typed.class);
        loader.beforeInvocation(new Invocation());
        try {
            loader.bridge().context(new Invocation(), log);
        } catch (IllegalStateException e) {
            System.err.println(e); // not at its place: the archive is a little smaller
        }
        for (String handler : new String[] {"bean", "map", "missing"}) {
            String event = "{\"names\": [\"a\", \"\\u00e4\"], \"count\": 1, \"x\": {\"y\": [1.5, true, null]}}";
            String answers = "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: 1\r\nLambda-Runtime-Deadline-Ms: 1\r\n"
                    + "Lambda-Runtime-Trace-Id: Root=1\r\nContent-Length: " + event.length() + "\r\n\r\n" + event
                    + "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
            Api api = new Api(new ByteArrayInputStream(answers.getBytes(StandardCharsets.UTF_8)), new Output());
            try {
                Main.serve(api, log, loader, HandlerFinder.find(Warm.class.getName() + "::" + handler, loader));
            } catch (Api.Broken end) {
                continue; // the script is over
            }
        }
        HandlerFinder.find("missing", loader);
    }
}
