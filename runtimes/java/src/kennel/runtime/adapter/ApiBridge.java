package kennel.runtime.adapter;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.CustomPojoSerializer;
import com.amazonaws.services.lambda.runtime.LambdaLogger;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import com.amazonaws.services.lambda.runtime.RequestStreamHandler;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.Type;
import java.util.Iterator;
import java.util.ServiceLoader;
import kennel.runtime.Bridge;
import kennel.runtime.Invocation;
import kennel.runtime.Log;

/** Calls handlers through the interfaces that the function itself was compiled against. */
public final class ApiBridge extends Bridge {
    private LambdaLogger logger;

    @Override
    public Class<?> requestHandler() {
        return RequestHandler.class;
    }

    @Override
    public Class<?> streamHandler() {
        return RequestStreamHandler.class;
    }

    @Override
    @SuppressWarnings("unchecked")
    public Object call(Object handler, Object input, Object context) {
        return ((RequestHandler<Object, Object>) handler).handleRequest(input, (Context) context);
    }

    @Override
    public void stream(Object handler, InputStream in, OutputStream out, Object context) throws IOException {
        ((RequestStreamHandler) handler).handleRequest(in, out, (Context) context);
    }

    @Override
    public Object context(Invocation invocation, Log log) {
        return new InvocationContext(invocation, (LambdaLogger) logger(log));
    }

    @Override
    public Object logger(Log log) {
        if (logger == null) {
            logger = new Logger(log);
        }
        return logger;
    }

    @Override
    public Object serializer(ClassLoader loader) {
        Iterator<CustomPojoSerializer> found = ServiceLoader.load(CustomPojoSerializer.class, loader).iterator();
        if (!found.hasNext()) {
            return null;
        }
        CustomPojoSerializer serializer = found.next();
        if (found.hasNext()) {
            throw new IllegalStateException(
                    "Too many serializers provided inside the META-INF/services folder, only one is allowed");
        }
        return serializer;
    }

    @Override
    public Object fromJson(Object serializer, InputStream json, Type type) {
        return ((CustomPojoSerializer) serializer).fromJson(json, type);
    }

    @Override
    public void toJson(Object serializer, Object value, OutputStream out, Type type) {
        ((CustomPojoSerializer) serializer).toJson(value, out, type);
    }
}
