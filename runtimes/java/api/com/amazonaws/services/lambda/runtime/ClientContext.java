// Kennel's own declaration of the public handler API, defined only where a function brings no aws-lambda-java-core.
package com.amazonaws.services.lambda.runtime;

import java.util.Map;

public interface ClientContext {
    Client getClient();

    Map<String, String> getCustom();

    Map<String, String> getEnvironment();
}
