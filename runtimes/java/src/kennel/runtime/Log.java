package kennel.runtime;

import java.io.IOException;
import java.nio.charset.StandardCharsets;

/**
 * The function's log as {@code LambdaLogger} writes it: text, or one JSON object a line with
 * {@code AWS_LAMBDA_LOG_FORMAT=JSON}; messages below {@code AWS_LAMBDA_LOG_LEVEL} are left out.
 *
 * <p>Each message ends its line: the log is a byte stream, and two messages must not become one.
 */
public final class Log {
    private static final String[] LEVELS = {"UNDEFINED", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"};

    private final boolean json;
    private final int minimum; // index into LEVELS
    private volatile Invocation current;

    private Log(boolean json, int minimum) {
        this.json = json;
        this.minimum = minimum;
    }

    static Log fromEnvironment() {
        String level = System.getenv("AWS_LAMBDA_LOG_LEVEL");
        int minimum = 0;
        for (int i = 0; level != null && i < LEVELS.length; i++) {
            if (LEVELS[i].equalsIgnoreCase(level)) {
                minimum = i;
            }
        }
        return new Log("JSON".equalsIgnoreCase(System.getenv("AWS_LAMBDA_LOG_FORMAT")), minimum);
    }

    void invocation(Invocation invocation) {
        current = invocation;
    }

    /** A failure of the function; as JSON it is left out at level FATAL, like any other error. */
    void error(String report) {
        write(report, json ? "ERROR" : "UNDEFINED");
    }

    public void write(String message, String level) {
        if (!enabled(level)) {
            return;
        }
        if (json) {
            line(object(message, level));
        } else if (level.equals("UNDEFINED")) {
            line(String.valueOf(message).getBytes(StandardCharsets.UTF_8));
        } else {
            line(("[" + level + "] " + message).getBytes(StandardCharsets.UTF_8));
        }
    }

    /** Bytes go out as they are, in either format. */
    public void write(byte[] message, String level) {
        if (enabled(level)) {
            line(message == null ? "null".getBytes(StandardCharsets.UTF_8) : message);
        }
    }

    private boolean enabled(String level) {
        for (int i = 0; i < minimum; i++) {
            if (LEVELS[i].equals(level)) {
                return i == 0; // UNDEFINED is never filtered
            }
        }
        return true;
    }

    private byte[] object(String message, String level) {
        JsonWriter json = new JsonWriter();
        json.out.ascii("{\"timestamp\":\"").ascii(Clock.utc(System.currentTimeMillis())).ascii("\"");
        if (message != null) {
            json.out.ascii(",\"message\":");
            json.string(message);
        }
        json.out.ascii(",\"level\":\"").ascii(level).ascii("\"");
        Invocation invocation = current;
        if (invocation != null) {
            json.out.ascii(",\"AWSRequestId\":");
            json.string(invocation.requestId);
            if (invocation.tenantId != null) {
                json.out.ascii(",\"tenantId\":");
                json.string(invocation.tenantId);
            }
        }
        json.out.write('}');
        return json.out.exact();
    }

    private static void line(byte[] text) {
        boolean ended = text.length > 0 && text[text.length - 1] == '\n';
        byte[] line = text;
        if (!ended) {
            line = new byte[text.length + 1];
            System.arraycopy(text, 0, line, 0, text.length);
            line[text.length] = '\n';
        }
        try {
            synchronized (System.out) {
                System.out.write(line);
                System.out.flush();
            }
        } catch (IOException closed) {
            // the function closed its own standard output
        }
    }

    /** Time of day without java.time, which costs milliseconds to load. */
    private static final class Clock {
        static String utc(long ms) {
            long days = Math.floorDiv(ms, 86400000L);
            int rest = (int) Math.floorMod(ms, 86400000L);
            // Civil date from days since 1970-01-01, by 400-year eras that begin on 1 March.
            long shifted = days + 719468;
            long era = Math.floorDiv(shifted, 146097L);
            long dayOfEra = shifted - era * 146097;
            long yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146096) / 365;
            long dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100);
            long monthFromMarch = (5 * dayOfYear + 2) / 153;
            long day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1;
            long month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9;
            long year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0);
            StringBuilder text = new StringBuilder(24);
            pad(text, year, 4).append('-');
            pad(text, month, 2).append('-');
            pad(text, day, 2).append('T');
            pad(text, rest / 3600000, 2).append(':');
            pad(text, rest / 60000 % 60, 2).append(':');
            pad(text, rest / 1000 % 60, 2).append('.');
            return pad(text, rest % 1000, 3).append('Z').toString();
        }

        private static StringBuilder pad(StringBuilder text, long number, int width) {
            String digits = Long.toString(number);
            for (int i = digits.length(); i < width; i++) {
                text.append('0');
            }
            return text.append(digits);
        }
    }
}
