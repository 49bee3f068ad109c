import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.core.waiters.WaiterOverrideConfiguration;
import software.amazon.awssdk.http.urlconnection.UrlConnectionHttpClient;
import software.amazon.awssdk.retries.api.BackoffStrategy;
import software.amazon.awssdk.services.lambda.LambdaAsyncClient;
import software.amazon.awssdk.services.lambda.LambdaClient;
import software.amazon.awssdk.services.lambda.model.FunctionConfiguration;
import software.amazon.awssdk.services.lambda.model.InvocationType;
import software.amazon.awssdk.services.lambda.model.InvokeRequest;
import software.amazon.awssdk.services.lambda.model.InvokeResponse;
import software.amazon.awssdk.services.lambda.model.InvokeWithResponseStreamCompleteEvent;
import software.amazon.awssdk.services.lambda.model.InvokeWithResponseStreamResponseHandler;
import software.amazon.awssdk.services.lambda.model.LogType;
import software.amazon.awssdk.services.lambda.model.PreconditionFailedException;
import software.amazon.awssdk.services.lambda.model.ResourceNotFoundException;
import software.amazon.awssdk.services.lambda.model.State;
import software.amazon.awssdk.services.lambda.waiters.LambdaWaiter;

/** A function's life through the AWS SDK for Java, version 2. */
public final class App {
  private static final String NAME = System.getenv("SDK_FUNCTION");
  private static final String ARN = "arn:aws:lambda:us-east-1:000000000000:function:" + NAME;

  private final LambdaClient client;
  private final LambdaWaiter waiter;

  private App(LambdaClient client) {
    this.client = client;
    WaiterOverrideConfiguration everySecond =
        WaiterOverrideConfiguration.builder()
            .backoffStrategyV2(BackoffStrategy.fixedDelay(Duration.ofSeconds(1)))
            .waitTimeout(Duration.ofMinutes(1))
            .maxAttempts(60)
            .build();
    this.waiter = LambdaWaiter.builder().client(client).overrideConfiguration(everySecond).build();
  }

  private static void ok(String step) {
    System.out.println("ok: " + step);
  }

  private static void same(Object got, Object wanted) {
    if (!Objects.equals(got, wanted)) {
      throw new AssertionError("got " + got + ", not " + wanted);
    }
  }

  private static void holds(String text, String part) {
    if (!text.contains(part)) {
      throw new AssertionError("no " + part + " in " + text);
    }
  }

  private static <E extends Throwable> E fails(Class<E> kind, Runnable call) {
    try {
      call.run();
    } catch (Throwable error) {
      if (kind.isInstance(error)) {
        return kind.cast(error);
      }
      throw new AssertionError("failed otherwise", error);
    }
    throw new AssertionError("no " + kind.getSimpleName());
  }

  private static SdkBytes zip(String variable) throws Exception {
    return SdkBytes.fromByteArray(Files.readAllBytes(Path.of(System.getenv(variable))));
  }

  private InvokeResponse invoke(String event, Consumer<InvokeRequest.Builder> change) {
    InvokeRequest.Builder request = InvokeRequest.builder().functionName(NAME).payload(SdkBytes.fromUtf8String(event));
    change.accept(request);
    return client.invoke(request.build());
  }

  private void run() throws Exception {
    SdkBytes first = zip("SDK_ZIP_1");
    var made =
        client.createFunction(
            r ->
                r.functionName(NAME)
                    .runtime(System.getenv("SDK_RUNTIME"))
                    .role(System.getenv("SDK_ROLE"))
                    .handler("app.handler")
                    .code(c -> c.zipFile(first))
                    .timeout(10)
                    .memorySize(256)
                    .environment(e -> e.variables(Map.of("COLOUR", "red"))));
    same(List.of(made.functionArn(), made.version(), made.memorySize()), List.of(ARN, "$LATEST", 256));
    ok("create");

    waiter.waitUntilFunctionActiveV2(r -> r.functionName(NAME));
    same(client.getFunction(r -> r.functionName(NAME)).configuration().state(), State.ACTIVE);
    ok("wait-active");

    var answer = invoke("{\"name\":\"Ada\",\"id\":\"sync-1\"}", r -> r.logType(LogType.TAIL));
    same(answer.payload().asUtf8String(), "{\"hello\": \"Ada\", \"release\": 1, \"version\": \"$LATEST\"}");
    same(List.of(answer.statusCode(), answer.executedVersion()), List.of(200, "$LATEST"));
    same(answer.functionError(), null);
    String tail = new String(Base64.getDecoder().decode(answer.logResult()), StandardCharsets.UTF_8);
    holds(tail, "seen sync-1");
    holds(tail, "REPORT RequestId:");
    ok("invoke");

    answer = invoke("{\"fail\":\"refused\"}", r -> {});
    same(List.of(answer.statusCode(), answer.functionError()), List.of(200, "Unhandled"));
    holds(answer.payload().asUtf8String(), "\"errorMessage\": \"refused\", \"errorType\": \"ValueError\"");
    ok("function-error");

    var published = client.publishVersion(r -> r.functionName(NAME).description("first"));
    same(List.of(published.version(), published.codeSha256()), List.of("1", made.codeSha256()));
    waiter.waitUntilPublishedVersionActive(r -> r.functionName(NAME).qualifier("1"));
    ok("publish");

    var alias = client.createAlias(r -> r.functionName(NAME).name("live").functionVersion("1"));
    same(List.of(alias.aliasArn(), alias.functionVersion()), List.of(ARN + ":live", "1"));
    ok("alias");

    answer = invoke("{\"name\":\"Ada\"}", r -> r.qualifier("live"));
    same(answer.executedVersion(), "1");
    same(answer.payload().asUtf8String(), "{\"hello\": \"Ada\", \"release\": 1, \"version\": \"1\"}");
    ok("invoke-alias");

    answer = invoke("{\"name\":\"Ada\",\"id\":\"async-1\"}", r -> r.invocationType(InvocationType.EVENT));
    same(answer.statusCode(), 202);
    same(answer.payload() == null ? 0 : answer.payload().asByteArray().length, 0);
    ok("event");

    SdkBytes second = zip("SDK_ZIP_2");
    var updated = client.updateFunctionCode(r -> r.functionName(NAME).zipFile(second));
    same(updated.codeSha256().equals(made.codeSha256()), false);
    waiter.waitUntilFunctionUpdatedV2(r -> r.functionName(NAME));
    holds(invoke("{\"name\":\"Ada\"}", r -> {}).payload().asUtf8String(), "\"release\": 2");
    ok("update-code");

    same(client.publishVersion(r -> r.functionName(NAME).codeSha256(updated.codeSha256())).version(), "2");
    waiter.waitUntilPublishedVersionActive(r -> r.functionName(NAME).qualifier("2"));
    ok("publish-again");

    String before = alias.revisionId();
    var moved = client.updateAlias(r -> r.functionName(NAME).name("live").functionVersion("2").revisionId(before));
    same(moved.revisionId().equals(before), false);
    answer = invoke("{\"name\":\"Ada\"}", r -> r.qualifier("live"));
    same(answer.executedVersion(), "2");
    holds(answer.payload().asUtf8String(), "\"release\": 2");
    fails(
        PreconditionFailedException.class,
        () -> client.updateAlias(r -> r.functionName(NAME).name("live").functionVersion("1").revisionId(before)));
    ok("update-alias");

    var pages = client.listVersionsByFunctionPaginator(r -> r.functionName(NAME).maxItems(1));
    same(pages.versions().stream().map(FunctionConfiguration::version).toList(), List.of("$LATEST", "1", "2"));
    ok("list-versions");

    stream();
    ok("stream");

    var missing =
        fails(ResourceNotFoundException.class, () -> client.getFunction(r -> r.functionName(NAME + "-missing")));
    same(missing.statusCode(), 404);
    holds(missing.getMessage(), "Function not found: " + ARN + "-missing");
    ok("not-found");

    client.deleteAlias(r -> r.functionName(NAME).name("live"));
    client.deleteFunction(r -> r.functionName(NAME));
    fails(ResourceNotFoundException.class, () -> client.getFunction(r -> r.functionName(NAME)));
    ok("delete");
  }

  /** Event streams are the asynchronous client's alone. */
  private void stream() {
    ByteArrayOutputStream body = new ByteArrayOutputStream();
    AtomicReference<InvokeWithResponseStreamCompleteEvent> complete = new AtomicReference<>();
    var visitor =
        InvokeWithResponseStreamResponseHandler.Visitor.builder()
            .onPayloadChunk(chunk -> body.writeBytes(chunk.payload().asByteArray()))
            .onInvokeComplete(complete::set)
            .build();
    try (LambdaAsyncClient async = LambdaAsyncClient.create()) {
      async
          .invokeWithResponseStream(
              r -> r.functionName(NAME).payload(SdkBytes.fromUtf8String("{\"name\":\"Ada\"}")),
              InvokeWithResponseStreamResponseHandler.builder().subscriber(visitor).build())
          .join();
    }
    holds(body.toString(StandardCharsets.UTF_8), "\"hello\": \"Ada\"");
    same(complete.get() != null && complete.get().errorCode() == null, true);
  }

  public static void main(String[] args) throws Exception {
    try (LambdaClient client = LambdaClient.builder().httpClient(UrlConnectionHttpClient.create()).build()) {
      new App(client).run();
    }
  }
}
