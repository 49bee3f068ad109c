import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.LinkedHashMap;
import java.util.Map;

/** A function for AWS's own Java client. */
public class App implements RequestHandler<Map<String, Object>, Map<String, Object>> {
    public static class Refused extends RuntimeException {
        Refused(String message) {
            super(message);
        }
    }

    @Override
    public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
        if (event.get("fail") != null) {
            throw new Refused(event.get("fail").toString());
        }
        Map<String, Object> answer = new LinkedHashMap<>();
        answer.put("hello", event.get("name"));
        answer.put("client", "java");
        answer.put("arn", context.getInvokedFunctionArn());
        answer.put("request_id", context.getAwsRequestId());
        return answer;
    }
}
