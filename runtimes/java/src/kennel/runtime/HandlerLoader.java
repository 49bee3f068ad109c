package kennel.runtime;

import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Loads the function's classes: the task root, then its {@code lib/*.jar}, then {@code /opt/java/lib/*.jar}, jars
 * in the order of their names.
 *
 * <p>Two kinds of classes come from the bootstrap's own folder but belong here, because they refer to interfaces
 * that only this loader knows: the adapters between both worlds, and declarations of the handler API for functions
 * that rely on the platform to bring it. The function's own aws-lambda-java-core always wins.
 */
public final class HandlerLoader extends URLClassLoader {
    static final String API = "com.amazonaws.services.lambda.runtime.";
    private static final String ADAPTERS = "kennel.runtime.adapter.";

    private static final ClassLoader SYSTEM = ClassLoader.getSystemClassLoader();

    private final File classes; // the bootstrap's folder of single class files
    final Log log;
    private volatile Class<?> internals; // LambdaRuntimeInternal, once the function's log4j2 appender has asked for it
    private Method putRequestId;
    private boolean putRequestIdSought;
    private Bridge bridge;

    private HandlerLoader(URL[] urls, File classes, Log log) {
        super(urls, SYSTEM.getParent());
        this.classes = classes;
        this.log = log;
    }

    static HandlerLoader create(String taskRoot, String layerRoot, File runtimeDir, Log log) throws IOException {
        List<URL> urls = new ArrayList<URL>();
        urls.add(new URL("file", null, -1, taskRoot + "/"));
        addJars(taskRoot + "/lib", urls);
        addJars(layerRoot + "/lib", urls);
        return new HandlerLoader(urls.toArray(new URL[0]), new File(runtimeDir, "classes"), log);
    }

    private static void addJars(String dir, List<URL> urls) throws MalformedURLException {
        String[] names = new File(dir).list();
        if (names == null) {
            return;
        }
        Arrays.sort(names);
        for (String name : names) {
            if (name.length() > 4 && name.endsWith(".jar")) {
                urls.add(new URL("file", null, -1, dir + "/" + name));
            }
        }
    }

    /** The adapters to the handler API, made at the first handler that needs them. */
    Bridge bridge() {
        if (bridge == null) {
            try {
                bridge = (Bridge) Class.forName(ADAPTERS + "ApiBridge", true, this).getConstructor().newInstance();
            } catch (ReflectiveOperationException e) {
                throw new IllegalStateException("the bootstrap's own classes are not complete", e);
            }
        }
        return bridge;
    }

    /**
     * The JDK first, then the function. The bootstrap's own loader comes last, not first as a parent would: each look
     * into it opens its jar, which takes 3 ms when the classes that matter are in the archive. What remains to be
     * found there are the classes of agents in {@code JAVA_TOOL_OPTIONS}.
     */
    @Override
    protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
        if (name.startsWith("kennel.runtime.") && !name.startsWith(ADAPTERS)) {
            return SYSTEM.loadClass(name);
        }
        try {
            return super.loadClass(name, resolve);
        } catch (ClassNotFoundException e) {
            return SYSTEM.loadClass(name);
        }
    }

    @Override
    protected Class<?> findClass(String name) throws ClassNotFoundException {
        if (name.startsWith(ADAPTERS)) {
            return own(name);
        }
        if (!name.startsWith(API)) {
            return super.findClass(name);
        }
        Class<?> found;
        try {
            found = super.findClass(name);
        } catch (ClassNotFoundException e) {
            found = own(name);
        }
        if (name.endsWith(".LambdaRuntime")) {
            setLogger(found);
        } else if (name.endsWith(".LambdaRuntimeInternal")) {
            internals = found;
        }
        return found;
    }

    private Class<?> own(String name) throws ClassNotFoundException {
        File file = new File(classes, name.replace('.', '/') + ".class");
        try (InputStream in = new FileInputStream(file)) {
            byte[] bytes = new byte[(int) file.length()];
            int done = 0;
            for (int read; done < bytes.length && (read = in.read(bytes, done, bytes.length - done)) > 0;) {
                done += read;
            }
            return defineClass(name, bytes, 0, done);
        } catch (IOException e) {
            throw new ClassNotFoundException(name); // same words as for any other class
        }
    }

    /** {@code LambdaRuntime.getLogger()} is what logging libraries write to. */
    private void setLogger(Class<?> lambdaRuntime) {
        try {
            Field logger = lambdaRuntime.getDeclaredField("logger");
            logger.setAccessible(true);
            logger.set(null, bridge().logger(log));
        } catch (ReflectiveOperationException e) {
            return; // a library that keeps its logger elsewhere goes on printing to standard output itself
        }
    }

    /** Gives log4j the request id, as {@code %X{AWSRequestId}}, if the function uses AWS's appender. */
    void beforeInvocation(Invocation invocation) {
        if (internals == null) {
            return;
        }
        try {
            if (!putRequestIdSought
                    && Boolean.TRUE.equals(internals.getMethod("getUseLog4jAppender").invoke(null))) {
                putRequestIdSought = true;
                putRequestId = Class.forName("org.apache.logging.log4j.ThreadContext", true, this)
                        .getMethod("put", String.class, String.class);
            }
            if (putRequestId != null) {
                putRequestId.invoke(null, "AWSRequestId", invocation.requestId);
            }
        } catch (ReflectiveOperationException e) {
            putRequestIdSought = true; // log4j 2 is not there after all
        }
    }
}
