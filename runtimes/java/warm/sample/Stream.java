package sample;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestStreamHandler;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;

/** From a stream to a stream. */
public class Stream implements RequestStreamHandler {
    @Override
    public void handleRequest(InputStream in, OutputStream out, Context context) throws IOException {
        byte[] buffer = new byte[4096];
        for (int read; (read = in.read(buffer)) > 0;) {
            out.write(buffer, 0, read);
        }
    }
}
