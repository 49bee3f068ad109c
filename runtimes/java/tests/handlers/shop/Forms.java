package shop;

import com.amazonaws.services.lambda.runtime.ClientContext;
import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.LambdaLogger;
import com.amazonaws.services.lambda.runtime.LambdaRuntime;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import com.amazonaws.services.lambda.runtime.RequestStreamHandler;
import com.amazonaws.services.lambda.runtime.logging.LogLevel;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Handlers named as {@code shop.Forms$Name}, good ones and bad ones. */
public final class Forms {
    private Forms() {
    }

    public static class OfMap implements RequestHandler<Map<String, Object>, Map<String, Object>> {
        @Override
        public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
            event.put("id", context.getAwsRequestId());
            return event;
        }
    }

    public static class OfOrder implements RequestHandler<Shapes.Order, String> {
        @Override
        public String handleRequest(Shapes.Order order, Context context) {
            return order.getName() + order.getQuantity();
        }
    }

    /** The types are named two steps away from the interface. */
    public abstract static class Base<A, B> implements RequestHandler<List<A>, B> {
        abstract B one(A item);

        @Override
        public B handleRequest(List<A> items, Context context) {
            return one(items.get(0));
        }
    }

    public abstract static class Middle<X> extends Base<X, String> {
    }

    public static class OfOrders extends Middle<Shapes.Order> {
        @Override
        String one(Shapes.Order order) {
            return "first is " + order.getName();
        }
    }

    public static class OfNothing implements RequestHandler<Object, Void> {
        @Override
        public Void handleRequest(Object event, Context context) {
            return null;
        }
    }

    public static class Throwing implements RequestHandler<String, String> {
        @Override
        public String handleRequest(String event, Context context) {
            throw new Shapes.Refused("no " + event, new IllegalStateException("the reason"));
        }
    }

    public static class Streaming implements RequestStreamHandler {
        @Override
        public void handleRequest(InputStream in, OutputStream out, Context context) throws IOException {
            int length = 0;
            while (in.read() >= 0) {
                length++;
            }
            out.write(("{\"length\": " + length + ", \"raw\": true}").getBytes("UTF-8"));
        }
    }

    public static class Asking implements RequestHandler<String, Map<String, Object>> {
        @Override
        public Map<String, Object> handleRequest(String event, Context c) {
            Map<String, Object> told = new LinkedHashMap<String, Object>();
            told.put("name", c.getFunctionName());
            told.put("version", c.getFunctionVersion());
            told.put("arn", c.getInvokedFunctionArn());
            told.put("memory", c.getMemoryLimitInMB());
            told.put("group", c.getLogGroupName());
            told.put("stream", c.getLogStreamName());
            int left = c.getRemainingTimeInMillis();
            told.put("left", left > 20000 && left <= 30000);
            told.put("tenant", c.getTenantId());
            told.put("trace", c.getXrayTraceId());
            told.put("sameLogger", c.getLogger() == LambdaRuntime.getLogger());
            if (c.getIdentity() != null) {
                told.put("identity", c.getIdentity().getIdentityId() + "/" + c.getIdentity().getIdentityPoolId());
            }
            ClientContext client = c.getClientContext();
            if (client != null) {
                told.put("app", client.getClient().getAppTitle() + client.getClient().getAppVersionCode()
                        + client.getClient().getInstallationId());
                told.put("custom", client.getCustom());
                told.put("env", client.getEnvironment());
            }
            return told;
        }
    }

    public static class Logging implements RequestHandler<String, String> {
        @Override
        public String handleRequest(String event, Context context) {
            LambdaLogger logger = context.getLogger();
            logger.log("plain \u00e4");
            logger.log("bytes".getBytes());
            logger.log("low", LogLevel.DEBUG);
            logger.log("high", LogLevel.WARN);
            logger.log("raw".getBytes(), LogLevel.ERROR);
            logger.log((String) null);
            return "logged";
        }
    }

    public static class Plain {
    }

    public static class NoDefault implements RequestHandler<String, String> {
        public NoDefault(String name) {
        }

        @Override
        public String handleRequest(String event, Context context) {
            return event;
        }
    }

    public class Inner implements RequestHandler<String, String> {
        @Override
        public String handleRequest(String event, Context context) {
            return event;
        }
    }

    public static class BadConstructor implements RequestHandler<String, String> {
        public BadConstructor() {
            throw new Shapes.Refused("not today", null);
        }

        @Override
        public String handleRequest(String event, Context context) {
            return event;
        }
    }

    public static class BadStatic implements RequestHandler<String, String> {
        static final int VALUE = Integer.parseInt("x");

        @Override
        public String handleRequest(String event, Context context) {
            return event;
        }
    }

    public static class Exiting implements RequestHandler<String, String> {
        public Exiting() {
            System.exit(7);
        }

        @Override
        public String handleRequest(String event, Context context) {
            return event;
        }
    }

    @SuppressWarnings("rawtypes")
    public static class Raw implements RequestHandler {
        @Override
        public Object handleRequest(Object event, Context context) {
            return event;
        }
    }

    public static class TakesNoDefault implements RequestHandler<Shapes.NoDefault, String> {
        @Override
        public String handleRequest(Shapes.NoDefault event, Context context) {
            return "made";
        }
    }
}
