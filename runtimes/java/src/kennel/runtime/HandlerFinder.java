package kennel.runtime;

import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.Constructor;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;

/**
 * From the handler's name to something that can be invoked, with AWS's rules and words.
 *
 * <p>A fatal fault (a class or constructor that throws) is an init error. Any other one, such as a method that does
 * not exist, becomes the answer to every invocation.
 */
final class HandlerFinder {
    private static final byte[] NULL = {'n', 'u', 'l', 'l'};

    private HandlerFinder() {
    }

    static Handler find(String handler, HandlerLoader loader) {
        int colons = handler.lastIndexOf("::");
        String className = colons < 0 ? handler : handler.substring(0, colons);
        String methodName = colons < 0 ? null : handler.substring(colons + 2);
        try {
            if (className.isEmpty() || methodName != null && methodName.isEmpty()) {
                throw new Fault("Invalid handler: `" + handler + "'");
            }
            Class<?> type = load(className, loader);
            return methodName == null ? byInterface(type, loader) : byMethod(type, methodName, loader);
        } catch (Fault fault) {
            if (fault.fatal && !fault.deferred) {
                throw fault;
            }
            return new Deferred(fault);
        } catch (Throwable e) { // a class that its signature names is not there
            return new Deferred(Fault.wrap(e, false));
        }
    }

    private static Class<?> load(String name, HandlerLoader loader) {
        try {
            return Class.forName(name, true, loader);
        } catch (ClassNotFoundException e) {
            throw Fault.classNotFound(e, name);
        } catch (NoClassDefFoundError e) {
            Fault fault = Fault.loading(e, name);
            fault.deferred = true; // told at the first invocation, as on AWS; the process ends then
            throw fault;
        } catch (Throwable e) {
            throw Fault.loading(e, name);
        }
    }

    /** Answers every invocation with one fault. */
    private static final class Deferred extends Handler {
        private final Fault fault;

        Deferred(Fault fault) {
            this.fault = fault;
        }

        @Override
        Output invoke(Invocation invocation) {
            throw fault;
        }
    }

    // Class: an implementation of RequestStreamHandler or RequestHandler.

    private static Handler byInterface(Class<?> type, HandlerLoader loader) {
        Bridge bridge = loader.bridge();
        if (bridge.streamHandler().isAssignableFrom(type)) {
            return new ByStreamInterface(create(type), loader);
        }
        if (!bridge.requestHandler().isAssignableFrom(type)) {
            throw new Fault("Class does not implement an appropriate handler interface: " + type.getName());
        }
        TypeVariable<?>[] parameters = bridge.requestHandler().getTypeParameters();
        java.util.Map<TypeVariable<?>, Type> bound = Types.bindings(type);
        Type[] types = new Type[2];
        for (int i = 0; i < 2; i++) {
            types[i] = bound.get(parameters[i]);
            if (types[i] == null) {
                throw new Fault("Class " + type.getName()
                        + " does not implement RequestHandler with concrete type parameters");
            }
            if (types[i] instanceof TypeVariable && Types.raw(types[i]) == Object.class) {
                throw new Fault("Class " + type.getName() + " does not implement RequestHandler with concrete type"
                        + " parameters: parameter " + types[i] + " has no upper bound.");
            }
        }
        return new ByInterface(create(type), new Payload(types[0], types[1], loader), loader);
    }

    private static final class ByStreamInterface extends Handler {
        private final Object instance;
        private final Bridge bridge;
        private final Log log;

        ByStreamInterface(Object instance, HandlerLoader loader) {
            this.instance = instance;
            bridge = loader.bridge();
            log = loader.log;
        }

        @Override
        Output invoke(Invocation invocation) throws Throwable {
            Output output = new Output();
            bridge.stream(instance, new ByteArrayInputStream(invocation.event), output,
                    bridge.context(invocation, log));
            return output;
        }
    }

    private static final class ByInterface extends Handler {
        private final Object instance;
        private final Payload payload;
        private final Bridge bridge;
        private final Log log;

        ByInterface(Object instance, Payload payload, HandlerLoader loader) {
            this.instance = instance;
            this.payload = payload;
            bridge = loader.bridge();
            log = loader.log;
        }

        @Override
        Output invoke(Invocation invocation) throws Throwable {
            Object context = bridge.context(invocation, log);
            return payload.write(bridge.call(instance, payload.read(invocation.event), context));
        }
    }

    // Class::method: by its parameters.

    private static Handler byMethod(Class<?> type, String name, HandlerLoader loader) {
        Method[] methods;
        try {
            methods = type.getMethods();
        } catch (NoClassDefFoundError e) {
            throw new Fault("Error loading method " + name + " on class " + type.getName(), e.getClass().getName(),
                    Fault.trace(e), false);
        }
        Method best = null;
        int bestRank = -1;
        for (Method method : methods) {
            if (method.getName().equals(name)) {
                int rank = rank(method);
                if (rank > bestRank) {
                    best = method;
                    bestRank = rank;
                }
            }
        }
        if (best == null) {
            throw new Fault("No public method named " + name + " with appropriate method signature found on class "
                    + type.getName());
        }
        Object instance = Modifier.isStatic(best.getModifiers()) ? null : create(type);
        return new ByMethod(instance, type, best, loader);
    }

    /**
     * How much AWS prefers an overload: real methods before bridges, more parameters before fewer, and a last
     * parameter of type Context counts twice. Below zero: not a handler's signature.
     */
    private static int rank(Method method) {
        Class<?>[] types = method.getParameterTypes();
        int count = types.length;
        boolean context = count > 0 && isContext(types[count - 1]);
        boolean usable;
        switch (count) {
            case 0:
            case 1:
                usable = true;
                break;
            case 2:
                usable = !isContext(types[0]) && (context || types[0] == InputStream.class
                        && types[1] == OutputStream.class);
                break;
            case 3:
                usable = types[0] == InputStream.class && types[1] == OutputStream.class && context;
                break;
            default:
                usable = false;
        }
        if (!usable) {
            System.err.println("Ignoring an overload of method " + method.getName()
                    + " because its parameters are not those of a handler: " + method);
            return -1;
        }
        return (method.isBridge() ? 0 : 8) + count + (context ? 1 : 0);
    }

    private static boolean isContext(Class<?> type) {
        return type.getName().equals(HandlerLoader.API + "Context");
    }

    private static final class ByMethod extends Handler {
        private final Object instance;
        private final Method method;
        private final HandlerLoader loader;
        private final boolean context;
        private final boolean in;
        private final boolean out;
        private final Payload payload; // null: streams
        private final int count;

        ByMethod(Object instance, Class<?> type, Method method, HandlerLoader loader) {
            this.instance = instance;
            this.method = method;
            this.loader = loader;
            Class<?>[] types = method.getParameterTypes();
            count = types.length;
            context = count > 0 && isContext(types[count - 1]);
            in = count > 0 && types[0] == InputStream.class;
            out = count > 0 && types[0] == OutputStream.class || count > 1 && types[1] == OutputStream.class;
            if (in || out) {
                payload = null;
                if (method.getReturnType() != void.class) {
                    System.err.println("Will ignore return type " + method.getReturnType() + " on byte stream handler");
                }
            } else {
                java.util.Map<TypeVariable<?>, Type> bound = Types.bindings(type);
                Type input = count > (context ? 1 : 0)
                        ? Types.resolve(method.getGenericParameterTypes()[0], bound) : null;
                payload = new Payload(input, Types.resolve(method.getGenericReturnType(), bound), loader);
            }
            try {
                method.setAccessible(true); // a public method of a class that is not
            } catch (RuntimeException e) {
                return; // then the call says what is wrong
            }
        }

        @Override
        Output invoke(Invocation invocation) throws Throwable {
            Object[] arguments = new Object[count];
            Output output = null;
            int next = 0;
            if (payload != null) {
                if (next < count && !(context && count == 1)) {
                    arguments[next++] = payload.read(invocation.event);
                }
            } else {
                output = new Output();
                if (in) {
                    arguments[next++] = new ByteArrayInputStream(invocation.event);
                }
                if (out) {
                    arguments[next++] = output;
                }
            }
            if (context) {
                arguments[next] = loader.bridge().context(invocation, loader.log);
            }
            Object result;
            try {
                result = method.invoke(instance, arguments);
            } catch (InvocationTargetException e) {
                throw e.getCause() == null ? e : e.getCause();
            }
            if (payload != null) {
                return payload.write(result);
            }
            if (!out) {
                output.write(NULL, 0, NULL.length);
            }
            return output;
        }
    }

    private static Object create(Class<?> type) {
        Constructor<?> constructor;
        try {
            constructor = type.getConstructor();
        } catch (NoSuchMethodException e) {
            boolean inner = type.getEnclosingClass() != null && !Modifier.isStatic(type.getModifiers());
            throw Fault.wrap(new Exception("Class " + type.getName() + (inner
                    ? " cannot be instantiated because it is a non-static inner class"
                    : " has no public zero-argument constructor"), inner ? null : e), false);
        }
        try {
            return constructor.newInstance();
        } catch (InvocationTargetException e) {
            throw Fault.wrap(e.getCause() == null ? e : e.getCause(), true);
        } catch (Throwable e) { // abstract, or not accessible
            throw Fault.wrap(e, false);
        }
    }
}
