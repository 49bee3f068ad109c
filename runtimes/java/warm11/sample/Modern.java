package sample;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.function.Supplier;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * What handlers like to use. Compiled for Java 11, where lambdas and joined strings are linked as they first run: each
 * shape of them that is known by then is milliseconds less for the function.
 */
public class Modern implements RequestHandler<Map<String, Object>, Map<String, Object>> {
    @Override
    public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
        Map<String, Object> result = new HashMap<>();
        String text = String.valueOf(event.get("names"));
        int number = event.size();
        long time = System.nanoTime();
        result.put("joined", List.of("a" + event, "a" + text, "a" + text + "b", "a" + event.get("x") + "b",
                text + text, text + number, number + text, "a" + number, "a" + time, "a" + 1.5 * number,
                "a" + text + "b" + text, "a" + text + "b" + number, "a" + number + "b" + number,
                "a" + text + "b" + text + "c", "a" + text + "b" + event + "c", "a" + text + "b" + text + "c" + text));
        Supplier<String> captured = () -> text + number;
        result.put("lambda", captured.get());
        List<String> all = new ArrayList<>(List.of("b", "a"));
        all.sort((a, b) -> a.compareTo(b));
        all.forEach(one -> result.put(one, one));
        result.put("stream", all.stream().filter(one -> !one.isEmpty()).map(String::toUpperCase)
                .collect(Collectors.toList()));
        result.put("sum", all.stream().mapToInt(String::length).sum());
        result.put("text", all.stream().collect(Collectors.joining(",")));
        result.put("format", String.format("%s %d %.2f %05d", text, number, 1.5, number));
        result.put("match", Pattern.compile("(\\w+)-(\\d+)").matcher("a-1").matches());
        result.put("split", text.split(", *").length);
        result.put("time", Instant.now().toString() + LocalDate.now() + Duration.ofMillis(time / 1000000));
        result.put("id", UUID.randomUUID().toString());
        try {
            byte[] hash = MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
            result.put("hash", Base64.getEncoder().encodeToString(hash));
        } catch (NoSuchAlgorithmException e) {
            result.put("hash", e.getMessage());
        }
        return result;
    }
}
