package kennel.runtime;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The start ahead of time: all that a start can do before there is a function, then the wait for one, and the
 * environment and working directory of the function that comes.
 *
 * <p>Java reads its environment once and has no way to change directory: the launcher loads native/ahead.c for both.
 */
final class Ahead {
    /** What bash and the launcher set themselves: a function whose process was started for it has these as well. */
    static final String[] STAY = {"LC_ALL", "PWD", "SHLVL", "_"};

    private Ahead() {
    }

    static native Map<Object, Object> known();

    static native Map<Object, Object> inside(Map<String, String> environment);

    static native boolean export(byte[] block, int count);

    static native boolean enter(byte[] path);

    /** Gets ready, waits until a function wants this process, and makes it the function's own. */
    static void claim(Api api) throws IOException {
        Map<String, String> before = new LinkedHashMap<String, String>(System.getenv());
        replace(before); // fails here, where nobody waits for it, if this JVM is not as expected
        enter(System.getProperty("user.dir"));
        Warm.up(Main.runtimeDir());
        Map<String, String> variables = CallerJson.texts(CallerJson.object(api.claim()), "env");
        if (variables == null) {
            throw new IOException("the answer to the claim has no environment");
        }
        for (String name : STAY) {
            if (before.containsKey(name) && !variables.containsKey(name)) {
                variables.put(name, before.get(name));
            }
        }
        replace(variables);
        String taskRoot = Main.orElse(variables.get("LAMBDA_TASK_ROOT"), "/var/task");
        enter(taskRoot); // by its path: the function's folder has just been mounted over what was there before
    }

    private static void enter(String folder) throws IOException {
        if (!enter((folder + '\0').getBytes(StandardCharsets.UTF_8))) {
            throw new IOException("cannot change to the directory " + folder);
        }
    }

    /** Makes these the whole environment, but for Kennel's own: of System.getenv, of child processes and of C code. */
    private static void replace(Map<String, String> variables) throws IOException {
        Output block = new Output();
        Map<String, String> wanted = new ProcessBuilder().environment(); // puts names and values in the JDK's own form
        wanted.clear();
        for (Map.Entry<String, String> variable : variables.entrySet()) {
            String name = variable.getKey();
            if (!name.startsWith("KENNEL_")) {
                wanted.put(name, variable.getValue());
                block.write((name + '=' + variable.getValue() + '\0').getBytes(StandardCharsets.UTF_8));
            }
        }
        Map<Object, Object> known = known();
        Map<Object, Object> inside = inside(wanted);
        known.clear();
        known.putAll(inside);
        if (!export(block.exact(), wanted.size()) || !System.getenv().equals(wanted)) {
            throw new IOException("this JVM keeps its environment elsewhere");
        }
    }
}
