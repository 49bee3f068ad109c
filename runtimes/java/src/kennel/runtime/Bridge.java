package kennel.runtime;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.Type;

/**
 * The bootstrap's view of the handler API. Its one implementation is compiled against the API's interfaces and
 * defined by the loader that has the function's copy of them: no reflection and no {@code java.lang.reflect.Proxy}
 * (whose class generator takes 15 ms to warm up) stands between the bootstrap and a handler.
 */
public abstract class Bridge {
    /** The class of {@code RequestHandler}. */
    public abstract Class<?> requestHandler();

    /** The class of {@code RequestStreamHandler}. */
    public abstract Class<?> streamHandler();

    public abstract Object call(Object handler, Object input, Object context);

    public abstract void stream(Object handler, InputStream in, OutputStream out, Object context) throws IOException;

    /** A {@code Context} for one invocation. */
    public abstract Object context(Invocation invocation, Log log);

    /** The {@code LambdaLogger}. */
    public abstract Object logger(Log log);

    /** The function's own {@code CustomPojoSerializer}, or null. */
    public abstract Object serializer(ClassLoader loader);

    public abstract Object fromJson(Object serializer, InputStream json, Type type);

    public abstract void toJson(Object serializer, Object value, OutputStream out, Type type);
}
