package kennel.runtime.adapter;

import com.amazonaws.services.lambda.runtime.LambdaLogger;
import com.amazonaws.services.lambda.runtime.logging.LogLevel;
import kennel.runtime.Log;

/** The logger that handlers get. */
public final class Logger implements LambdaLogger {
    private final Log log;

    Logger(Log log) {
        this.log = log;
    }

    @Override
    public void log(String message) {
        log.write(message, "UNDEFINED");
    }

    @Override
    public void log(byte[] message) {
        log.write(message, "UNDEFINED");
    }

    @Override
    public void log(String message, LogLevel level) {
        log.write(message, level.name());
    }

    @Override
    public void log(byte[] message, LogLevel level) {
        log.write(message, level.name());
    }
}
