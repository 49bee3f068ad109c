package kennel.runtime;

import java.util.LinkedHashMap;
import java.util.Map;

/** Reads the small JSON objects of the client-context and identity headers. */
public final class CallerJson {
    private CallerJson() {
    }

    @SuppressWarnings("unchecked")
    public static Map<String, Object> object(String json) {
        Object value = JsonReader.parse(json);
        if (!(value instanceof Map)) {
            throw new JsonException("expected an object");
        }
        return (Map<String, Object>) value;
    }

    public static String text(Map<String, Object> fields, String name) {
        Object value = fields.get(name);
        return value == null ? null : value.toString();
    }

    @SuppressWarnings("unchecked")
    public static Map<String, Object> map(Map<String, Object> fields, String name) {
        Object value = fields.get(name);
        return value instanceof Map ? (Map<String, Object>) value : null;
    }

    public static Map<String, String> texts(Map<String, Object> fields, String name) {
        Map<String, Object> values = map(fields, name);
        if (values == null) {
            return null;
        }
        Map<String, String> texts = new LinkedHashMap<String, String>();
        for (String key : values.keySet()) {
            texts.put(key, text(values, key));
        }
        return texts;
    }
}
