package kennel.runtime;

import java.lang.reflect.Type;
import java.util.Date;
import java.util.Locale;

/**
 * What differs for the classes of aws-lambda-java-events: their JSON names are those of the services, which agree
 * with the properties only if case, {@code -} and {@code _} are not looked at, and their dates are seconds.
 */
final class AwsEvents {
    private static final String EVENTS = "com.amazonaws.services.lambda.runtime.events.";
    private static final String[] PACKAGES = {EVENTS, "com.amazonaws.services.dynamodbv2.model.",
        "com.amazonaws.services.kinesis.model.", "com.amazonaws.services.s3.event."};
    /** Classes whose JSON names all begin with a capital. */
    private static final String[] CAPITALS = {EVENTS + "SNSEvent", EVENTS + "ConnectEvent",
        EVENTS + "CloudFormationCustomResourceEvent", EVENTS + "SecretsManagerRotationEvent",
        EVENTS + "models.dynamodb.StreamRecord", EVENTS + "models.dynamodb.AttributeValue",
        "com.amazonaws.services.dynamodbv2.model."};
    /** Property, JSON name: in every event class. */
    private static final String[] EXCEPTIONS = {"records", "Records", "eventSourceArn", "eventSourceARN",
        "userIdentityArn", "userIdentityARN", "responseUrl", "ResponseURL", "instanceArn", "InstanceARN",
        "awsLogs", "awslogs", "codeCommit", "codecommit", "detailType", "detail-type",
        "xAmzId2", "x-amz-id-2", "xAmzRequestId", "x-amz-request-id", "SNS", "Sns"};

    private AwsEvents() {
    }

    /** How one event class names its properties in JSON. */
    static final class Names {
        private final boolean capitals;

        Names(boolean capitals) {
            this.capitals = capitals;
        }

        String write(String property) {
            for (int i = 0; i < EXCEPTIONS.length; i += 2) {
                if (EXCEPTIONS[i].equals(property)) {
                    return EXCEPTIONS[i + 1];
                }
            }
            return capitals ? Character.toUpperCase(property.charAt(0)) + property.substring(1) : property;
        }
    }

    static Names names(Class<?> type) {
        String name = type.getName();
        for (String prefix : PACKAGES) {
            if (name.startsWith(prefix)) {
                boolean capitals = false;
                for (String start : CAPITALS) {
                    capitals |= name.startsWith(start);
                }
                return new Names(capitals);
            }
        }
        return null;
    }

    /** A name without what the two sides write differently. */
    static String plain(String name) {
        StringBuilder plain = new StringBuilder(name.length());
        for (int i = 0; i < name.length(); i++) {
            char c = name.charAt(i);
            if (c != '-' && c != '_') {
                plain.append(c);
            }
        }
        return plain.toString().toLowerCase(Locale.ROOT);
    }

    /** A date in these classes is a number of seconds; everywhere else it is milliseconds. */
    static Object prepare(Object value, Type type) {
        if (type == Date.class && value instanceof JsonNumber) {
            java.math.BigDecimal ms = ((JsonNumber) value).decimal().movePointRight(3);
            if (Math.abs((long) ms.precision() - ms.scale()) > 18) {
                throw JsonBinder.mismatch(value, Date.class);
            }
            return ms.signum() == 0 ? null : new JsonNumber(Long.toString(ms.longValue()), true);
        }
        return value;
    }
}
