package shop;

import com.amazonaws.services.lambda.runtime.CustomPojoSerializer;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.lang.reflect.Type;

/** A serializer that a package registers as a service; used for every type. */
public class Custom implements CustomPojoSerializer {
    @Override
    @SuppressWarnings("unchecked")
    public <T> T fromJson(InputStream input, Type type) {
        return (T) ("custom " + type.getTypeName());
    }

    @Override
    @SuppressWarnings("unchecked")
    public <T> T fromJson(String input, Type type) {
        return (T) input;
    }

    @Override
    public <T> void toJson(T value, OutputStream output, Type type) {
        try {
            output.write(("{\"by\":\"" + value + "\"}").getBytes("UTF-8"));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
