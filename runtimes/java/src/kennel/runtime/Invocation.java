package kennel.runtime;

/** One event with what the Runtime API says about it. */
public final class Invocation {
    public String requestId;
    public long deadlineMs;
    public String functionArn;
    public String traceId;
    public String clientContext;
    public String identity;
    public String tenantId;
    byte[] event;

    String errorPath() {
        return "invocation/" + requestId + "/error";
    }
}
