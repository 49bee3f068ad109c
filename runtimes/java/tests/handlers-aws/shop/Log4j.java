package shop;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;

/** Logs through AWS's log4j2 appender, whose layout asks for the request id. */
public class Log4j implements RequestHandler<String, String> {
    private static final Logger LOGGER = LogManager.getLogger(Log4j.class);

    @Override
    public String handleRequest(String event, Context context) {
        LOGGER.info("saw {}", event);
        return context.getAwsRequestId();
    }
}
