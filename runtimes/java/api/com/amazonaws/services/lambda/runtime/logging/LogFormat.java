// Kennel's own declaration of the public handler API, defined only where a function brings no aws-lambda-java-core.
package com.amazonaws.services.lambda.runtime.logging;

public enum LogFormat {
    JSON, TEXT;

    public static LogFormat fromString(String name) {
        return "JSON".equalsIgnoreCase(name) ? JSON : TEXT;
    }
}
