package kennel.runtime;

import java.io.File;
import java.io.IOError;
import java.io.IOException;

/**
 * The Java bootstrap: loads the handler, then takes one invocation after the other from the Runtime API.
 *
 * <p>Everything on this path is plain Java 8 without lambdas, regular expressions, string switches on the hot
 * path or {@code String.format}: each of them loads dozens of classes, and class loading is the cold start.
 */
public final class Main {
    static final String TRACE_PROPERTY = "com.amazonaws.xray.traceHeader"; // what the X-Ray SDK reads

    private Main() {
    }

    public static void main(String[] args) throws IOException {
        Api api = Api.connect();
        if (System.clearProperty("kennel.ahead") != null) {
            try {
                Ahead.claim(api);
            } catch (Throwable t) { // whoever wanted it starts another
                System.err.println("kennel: no start ahead of time: " + t);
                System.exit(1);
            }
        }
        Log log = Log.fromEnvironment();
        String name = System.getenv("_HANDLER");
        String taskRoot = orElse(System.getenv("LAMBDA_TASK_ROOT"), System.getProperty("user.dir"));
        HandlerLoader loader = HandlerLoader.create(taskRoot, "/opt/java", runtimeDir(), log);
        Thread.currentThread().setContextClassLoader(loader);

        Handler handler;
        try {
            handler = HandlerFinder.find(name == null ? "" : name, loader);
        } catch (Throwable t) {
            Fault fault = Fault.of(t);
            log.error(fault.report());
            flush();
            api.post("init/error", fault.json(), fault.errorTypeHeader());
            System.exit(1);
            return;
        }
        try {
            serve(api, log, loader, handler);
        } catch (Api.Broken e) { // nobody is left to report to
            System.err.println("kennel: " + e.getMessage() + ": " + e.getCause());
            System.exit(1);
        }
    }

    static void serve(Api api, Log log, HandlerLoader loader, Handler handler) throws IOException {
        boolean healthy = true;
        while (healthy) {
            Invocation invocation = api.next();
            log.invocation(invocation);
            if (invocation.traceId != null) {
                System.setProperty(TRACE_PROPERTY, invocation.traceId);
            } else {
                System.clearProperty(TRACE_PROPERTY);
            }
            try {
                loader.beforeInvocation(invocation);
                Output output = handler.invoke(invocation);
                flush();
                int status = api.respond(invocation.requestId, output);
                if (status == 413) {
                    Fault fault = new Fault("Response payload size exceeded maximum allowed payload size "
                            + "(6291556 bytes).", "Function.ResponseSizeTooLarge", null, false);
                    fault.headerType = "Function.ResponseSizeTooLarge";
                    log.error(fault.report());
                    flush();
                    api.post(invocation.errorPath(), fault.json(), fault.errorTypeHeader());
                }
                Thread.interrupted(); // a handler's leftover interrupt must not reach the next one
            } catch (Throwable t) {
                if (t instanceof Api.Broken) {
                    throw (Api.Broken) t; // our own connection, not the function
                }
                Fault fault = Fault.of(t);
                // As on AWS, a virtual machine in doubt answers this invocation and then makes room for a fresh one.
                healthy = !(t instanceof VirtualMachineError || t instanceof IOError || fault.fatal);
                log.error(fault.report());
                flush();
                api.post(invocation.errorPath(), fault.json(), fault.errorTypeHeader());
            }
            log.invocation(null);
        }
        System.exit(1);
    }

    /** What the handler printed has to be in the log before its answer is. */
    private static void flush() {
        System.out.flush();
        System.err.flush();
    }

    /** The folder that holds this program, for the few class files that the handler's loader defines itself. */
    static File runtimeDir() {
        File jar = new File(System.getProperty("java.class.path"));
        return jar.getParentFile();
    }

    static String orElse(String value, String otherwise) {
        return value == null ? otherwise : value;
    }
}
