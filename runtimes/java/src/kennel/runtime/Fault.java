package kennel.runtime;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.Set;

/**
 * An error in the form it is reported in. Thrown as itself it is the runtime's own finding (a handler that cannot
 * be found or made); made from another throwable it is the function's error.
 */
final class Fault extends RuntimeException {
    private static final long serialVersionUID = 1;
    private static final String OWN_FRAMES = "kennel.runtime.";

    final String message;
    final String type; // null: the runtime's own message, reported without a type
    final boolean fatal; // no more code of the function may run in this process
    private final String trace; // for the log
    private StackTraceElement[] frames; // for the answer; null leaves `stackTrace` out
    String headerType = "Runtime.BadFunctionCode";
    boolean deferred; // fatal, but no init error: it waits for the first invocation

    Fault(String message, String type, String trace, boolean fatal) {
        super(message, null, false, false);
        this.message = message;
        this.type = type;
        this.trace = trace;
        this.fatal = fatal;
    }

    Fault(String message) {
        this(message, null, null, false);
    }

    /** What to report for something thrown by the function while it ran. */
    static Fault of(Throwable thrown) {
        if (thrown instanceof Fault) {
            return (Fault) thrown;
        }
        Fault fault = wrap(thrown, false);
        fault.frames = thrown.getStackTrace();
        fault.headerType = "Runtime.UserException";
        return fault;
    }

    /** The same for something thrown while its handler was made: without a `stackTrace`. */
    static Fault wrap(Throwable thrown, boolean fatal) {
        String text = thrown.getLocalizedMessage();
        String name = thrown.getClass().getName();
        return new Fault(text == null ? name : text, name, trace(thrown), fatal);
    }

    static Fault loading(Throwable thrown, String className) {
        String text = thrown.getMessage();
        return new Fault("Error loading class " + className + (text == null ? "" : ": " + text),
                thrown.getClass().getName(), trace(thrown), true);
    }

    static Fault classNotFound(Throwable thrown, String className) {
        return new Fault("Class not found: " + className, thrown.getClass().getName(), trace(thrown), false);
    }

    /** The stack trace as text, without the bootstrap's frames. */
    static String trace(Throwable thrown) {
        try {
            trim(thrown, Collections.newSetFromMap(new IdentityHashMap<Throwable, Boolean>()));
            StringWriter text = new StringWriter();
            thrown.printStackTrace(new PrintWriter(text));
            return text.toString();
        } catch (StackOverflowError | RuntimeException e) { // a throwable with methods of its own
            return thrown.getClass().getName() + "\n";
        }
    }

    private static void trim(Throwable thrown, Set<Throwable> seen) {
        if (thrown == null || !seen.add(thrown)) {
            return;
        }
        StackTraceElement[] all = thrown.getStackTrace();
        int end = 0;
        while (end < all.length && !all[end].getClassName().startsWith(OWN_FRAMES)) {
            end++;
        }
        if (end < all.length) {
            while (end > 0 && isReflection(all[end - 1].getClassName())) {
                end--; // how we called the handler is no part of its trace
            }
            StackTraceElement[] kept = new StackTraceElement[end];
            System.arraycopy(all, 0, kept, 0, end);
            thrown.setStackTrace(kept);
        }
        trim(thrown.getCause(), seen);
        for (Throwable suppressed : thrown.getSuppressed()) {
            trim(suppressed, seen);
        }
    }

    private static boolean isReflection(String name) {
        return name.startsWith("java.lang.reflect.") || name.startsWith("jdk.internal.reflect.")
                || name.startsWith("sun.reflect.") || name.startsWith("java.lang.invoke.");
    }

    String errorTypeHeader() {
        return headerType;
    }

    /** The body of an error answer. */
    byte[] json() {
        JsonWriter json = new JsonWriter();
        json.out.write('{');
        json.out.ascii("\"errorMessage\":");
        json.string(message);
        if (type != null) {
            json.out.ascii(",\"errorType\":");
            json.string(type);
        }
        if (frames != null) {
            json.out.ascii(",\"stackTrace\":[");
            for (int i = 0; i < frames.length; i++) {
                if (i > 0) {
                    json.out.write(',');
                }
                json.string(frames[i].toString());
            }
            json.out.write(']');
        }
        json.out.write('}');
        return json.out.exact();
    }

    /** What the log shows. */
    String report() {
        if (type == null && trace == null) {
            return message + "\n";
        }
        return message + ": " + (type == null ? "" : type) + "\n" + (trace == null ? "" : trace) + "\n";
    }
}
