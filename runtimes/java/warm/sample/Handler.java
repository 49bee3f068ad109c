package sample;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.LinkedHashMap;
import java.util.Map;

/** From a map to a map, and what handlers like to use on the way. */
public class Handler implements RequestHandler<Map<String, Object>, Map<String, Object>> {
    @Override
    public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
        context.getLogger().log("warm " + context.getRemainingTimeInMillis());
        System.out.println("warm");
        Map<String, Object> result = new LinkedHashMap<>(event);
        result.put("text", "\u00fc");
        result.computeIfAbsent("lambda", key -> key + System.getenv("AWS_REGION"));
        return result;
    }
}
