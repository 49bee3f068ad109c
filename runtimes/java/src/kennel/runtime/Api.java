package kennel.runtime;

import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.Field;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;

/**
 * The Runtime API 2018-06-01 over one kept connection, HTTP/1.1 by hand.
 *
 * <p>The launcher has connected already and passes the descriptor: reading and writing it as a file uses classes
 * that every JVM has loaded by now, where the first {@code java.net.Socket} costs 7 to 11 ms and the first
 * Unix-domain channel 14 to 20 ms. Without the launcher, or where the JVM refuses the descriptor, a socket is made.
 */
final class Api {
    private static final String PREFIX = "/2018-06-01/runtime/";

    private final InputStream in;
    private final OutputStream out;
    private final byte[] buffer = new byte[8192];
    private int position;
    private int limit;
    private int status;
    private String[] headers = new String[32]; // name, value, name, value …; names in lower case
    private int headerCount;

    /** The connection to Kennel is gone or talks nonsense; there is nobody left to report to. */
    static final class Broken extends IOException {
        private static final long serialVersionUID = 1;

        Broken(String message, Throwable cause) {
            super(message, cause);
        }
    }

    Api(InputStream in, OutputStream out) {
        this.in = in;
        this.out = out;
    }

    /** Opens the launcher's descriptor, or a connection where there is none. */
    static Api connect() throws IOException {
        String descriptor = System.clearProperty("kennel.descriptor");
        Api connected = descriptor == null ? null : connect(descriptor);
        if (connected != null) {
            return connected;
        }
        String address = System.getenv("AWS_LAMBDA_RUNTIME_API");
        if (address == null) {
            throw new IOException("AWS_LAMBDA_RUNTIME_API is not set");
        }
        int colon = address.lastIndexOf(':');
        String host = colon < 0 ? address : address.substring(0, colon);
        int port = colon < 0 ? 80 : Integer.parseInt(address.substring(colon + 1));
        InetAddress target = host.equals("127.0.0.1")
                ? InetAddress.getByAddress(new byte[] {127, 0, 0, 1}) : InetAddress.getByName(host);
        Socket socket = new Socket(target, port);
        socket.setTcpNoDelay(true);
        return new Api(socket.getInputStream(), socket.getOutputStream());
    }

    static Api connect(String descriptor) {
        FileDescriptor fd = Descriptor.open(Integer.parseInt(descriptor));
        return fd == null ? null : new Api(new FileInputStream(fd), new FileOutputStream(fd));
    }

    /** An open descriptor as an object; in a class of its own because it alone needs {@code sun.misc.Unsafe}. */
    private static final class Descriptor {
        static FileDescriptor open(int number) {
            try {
                Field access = sun.misc.Unsafe.class.getDeclaredField("theUnsafe");
                access.setAccessible(true);
                sun.misc.Unsafe unsafe = (sun.misc.Unsafe) access.get(null);
                FileDescriptor fd = new FileDescriptor();
                unsafe.putInt(fd, unsafe.objectFieldOffset(FileDescriptor.class.getDeclaredField("fd")), number);
                return fd.valid() ? fd : null;
            } catch (Throwable refused) {
                return null; // a JVM without this door: the socket does
            }
        }
    }

    /** Waits, however long it takes, until a function wants this process; the environment that it then has, as JSON. */
    String claim() throws IOException {
        out.write(new Output().ascii("GET /kennel/claim HTTP/1.1\r\nHost: runtime\r\n\r\n").exact());
        byte[] body = read();
        if (status != 200) {
            throw new IOException("the claim was answered with status " + status);
        }
        return new String(body, StandardCharsets.UTF_8);
    }

    Invocation next() throws IOException {
        try {
            out.write(new Output().ascii("GET " + PREFIX + "invocation/next HTTP/1.1\r\nHost: runtime\r\n\r\n").exact());
            byte[] body = read();
            if (status != 200) {
                throw new IOException("next answered " + status);
            }
            Invocation invocation = new Invocation();
            invocation.event = body;
            invocation.requestId = header("lambda-runtime-aws-request-id");
            String deadline = header("lambda-runtime-deadline-ms");
            invocation.deadlineMs = deadline == null ? 0 : Long.parseLong(deadline);
            invocation.functionArn = header("lambda-runtime-invoked-function-arn");
            invocation.traceId = header("lambda-runtime-trace-id");
            invocation.clientContext = header("lambda-runtime-client-context");
            invocation.identity = header("lambda-runtime-cognito-identity");
            invocation.tenantId = header("lambda-runtime-aws-tenant-id");
            return invocation;
        } catch (IOException | RuntimeException e) {
            throw new Broken("cannot take the next invocation", e);
        }
    }

    /** Sends a result; returns the HTTP status, which is 413 for one over the limit. */
    int respond(String requestId, Output body) throws IOException {
        return send("invocation/" + requestId + "/response", body.bytes, body.length, null);
    }

    int post(String path, byte[] body, String errorType) throws IOException {
        return send(path, body, body.length, errorType);
    }

    private int send(String path, byte[] body, int length, String errorType) throws IOException {
        try {
            // One write for head and body: two small ones would wait for each other's acknowledgement.
            Output request = new Output();
            request.ascii("POST " + PREFIX).ascii(path)
                    .ascii(" HTTP/1.1\r\nHost: runtime\r\nContent-Type: application/json\r\nContent-Length: ")
                    .ascii(Integer.toString(length));
            if (errorType != null) {
                request.ascii("\r\nLambda-Runtime-Function-Error-Type: ").ascii(errorType);
            }
            request.ascii("\r\n\r\n");
            if (length <= 1 << 16) {
                request.write(body, 0, length);
                out.write(request.bytes, 0, request.length);
            } else { // copying megabytes costs more than the wait, and fills packets anyway
                out.write(request.bytes, 0, request.length);
                out.write(body, 0, length);
            }
            read();
            return status;
        } catch (IOException | RuntimeException e) {
            throw new Broken("cannot answer to " + path, e);
        }
    }

    /** Reads one answer: status and headers into fields, the body as result. */
    private byte[] read() throws IOException {
        String line = line();
        int space = line.indexOf(' ');
        if (!line.startsWith("HTTP/1.") || space < 0 || line.length() < space + 4) {
            throw new IOException("not an HTTP answer: " + line);
        }
        status = Integer.parseInt(line.substring(space + 1, space + 4));
        headerCount = 0;
        while (!(line = line()).isEmpty()) {
            int colon = line.indexOf(':');
            if (colon <= 0) {
                throw new IOException("not an HTTP header: " + line);
            }
            if (headerCount == headers.length) {
                String[] larger = new String[headers.length * 2];
                System.arraycopy(headers, 0, larger, 0, headerCount);
                headers = larger;
            }
            headers[headerCount++] = line.substring(0, colon).toLowerCase(java.util.Locale.ROOT);
            headers[headerCount++] = line.substring(colon + 1).trim();
        }
        String encoding = header("transfer-encoding");
        if (encoding != null && encoding.equalsIgnoreCase("chunked")) {
            return chunks();
        }
        String length = header("content-length");
        byte[] body = new byte[length == null ? 0 : Integer.parseInt(length)];
        fill(body, body.length);
        return body;
    }

    private byte[] chunks() throws IOException {
        Output body = new Output();
        for (;;) {
            String line = line();
            int end = line.indexOf(';');
            int size = Integer.parseInt((end < 0 ? line : line.substring(0, end)).trim(), 16);
            if (size == 0) {
                break;
            }
            byte[] chunk = new byte[size];
            fill(chunk, size);
            body.write(chunk, 0, size);
            line();
        }
        while (!line().isEmpty()) {
            continue; // trailers say nothing here
        }
        return body.exact();
    }

    private String header(String name) {
        for (int i = 0; i < headerCount; i += 2) {
            if (headers[i].equals(name)) {
                return headers[i + 1];
            }
        }
        return null;
    }

    private String line() throws IOException {
        Output line = null;
        for (;;) {
            for (int i = position; i < limit; i++) {
                if (buffer[i] == '\n') {
                    int start = position;
                    position = i + 1;
                    if (line == null) {
                        return text(buffer, start, i);
                    }
                    line.write(buffer, start, i - start);
                    return text(line.bytes, 0, line.length);
                }
            }
            if (line == null) {
                line = new Output();
            }
            line.write(buffer, position, limit - position);
            more();
        }
    }

    private static String text(byte[] bytes, int start, int end) {
        int last = end > start && bytes[end - 1] == '\r' ? end - 1 : end;
        return new String(bytes, start, last - start, StandardCharsets.UTF_8);
    }

    private void fill(byte[] target, int count) throws IOException {
        int done = Math.min(count, limit - position);
        System.arraycopy(buffer, position, target, 0, done);
        position += done;
        while (done < count) {
            int read = in.read(target, done, count - done);
            if (read <= 0) {
                throw new IOException("the connection ended inside an answer");
            }
            done += read;
        }
    }

    private void more() throws IOException {
        int read = in.read(buffer, 0, buffer.length);
        if (read <= 0) {
            throw new IOException("the connection ended");
        }
        position = 0;
        limit = read;
    }
}
