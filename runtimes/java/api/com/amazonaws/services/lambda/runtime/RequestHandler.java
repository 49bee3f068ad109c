// Kennel's own declaration of the public handler API, defined only where a function brings no aws-lambda-java-core.
package com.amazonaws.services.lambda.runtime;

public interface RequestHandler<I, O> {
    O handleRequest(I input, Context context);
}
