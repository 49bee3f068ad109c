package kennel.runtime;

import java.io.ByteArrayInputStream;
import java.lang.reflect.Type;
import java.net.URL;

/** Event and result of a handler that takes and gives objects. */
final class Payload {
    private static final String SERIALIZERS = "META-INF/services/" + HandlerLoader.API + "CustomPojoSerializer";

    private final Type input; // null: the handler takes none
    private final Type output; // null: it gives none
    private final Bridge bridge;
    private final Object serializer; // the function's own, seldom there

    Payload(Type input, Type output, HandlerLoader loader) {
        this.input = input;
        this.output = output == void.class || output == Void.class ? null : output;
        URL own = this.input == null && this.output == null ? null : loader.findResource(SERIALIZERS);
        bridge = own == null ? null : loader.bridge();
        serializer = own == null ? null : bridge.serializer(loader);
    }

    Object read(byte[] event) {
        if (input == null) {
            return null;
        }
        try {
            if (serializer != null) {
                return bridge.fromJson(serializer, new ByteArrayInputStream(event), input);
            }
            return JsonBinder.bind(event, input);
        } catch (Throwable e) {
            throw new RuntimeException("An error occurred during JSON parsing", e);
        }
    }

    Output write(Object result) {
        try {
            if (output != null && serializer != null) {
                Output bytes = new Output();
                bridge.toJson(serializer, result, bytes, output);
                return bytes;
            }
            JsonWriter json = new JsonWriter();
            if (output == null) {
                json.out.ascii("null");
            } else {
                json.root(result);
            }
            return json.out;
        } catch (Throwable e) {
            throw new RuntimeException("An error occurred during JSON serialization of response", e);
        }
    }
}
