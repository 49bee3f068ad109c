package shop;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;

/** Its superclass is taken out of the package after compilation. */
public class Orphan extends Gone implements RequestHandler<String, String> {
    @Override
    public String handleRequest(String event, Context context) {
        return event;
    }
}

class Gone {
}
