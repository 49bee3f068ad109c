package kennel.runtime;

import java.lang.reflect.Array;
import java.util.Collection;
import java.util.Iterator;
import java.util.List;
import java.util.Map;

/**
 * Objects to JSON in UTF-8, as AWS's runtime writes them: no nulls in objects (in lists they stay), enums by name,
 * dates as milliseconds, bytes as base64, NaN as text, beans by their getters.
 */
final class JsonWriter {
    final Output out = new Output();
    private int depth;

    /** Writes a whole result. */
    void root(Object value) {
        value(value, false);
    }

    void value(Object value, boolean aws) {
        if (value == null) {
            out.ascii("null");
        } else if (value instanceof String) {
            string((String) value);
        } else if (value instanceof Number) {
            number((Number) value, aws);
        } else if (value instanceof Boolean) {
            out.ascii(value.toString());
        } else if (value instanceof Map) {
            map((Map<?, ?>) value, aws);
        } else if (value instanceof Collection) {
            iterator(((Collection<?>) value).iterator(), aws);
        } else if (value instanceof Character || value instanceof CharSequence) {
            string(value.toString());
        } else if (value instanceof Enum) {
            string(((Enum<?>) value).name());
        } else if (value.getClass().isArray()) {
            array(value, aws);
        } else if (!JsonExtras.write(this, value, aws)) {
            if (value instanceof Iterable) {
                iterator(((Iterable<?>) value).iterator(), aws);
            } else {
                bean(value);
            }
        }
    }

    private void number(Number value, boolean aws) {
        if (value instanceof Double && (((Double) value).isNaN() || ((Double) value).isInfinite())
                || value instanceof Float && (((Float) value).isNaN() || ((Float) value).isInfinite())) {
            string(value.toString());
        } else if (value.getClass().getName().startsWith("java.")) { // Integer … BigDecimal, AtomicLong, LongAdder
            out.ascii(value.toString());
        } else {
            bean(value);
        }
    }

    private void enter() {
        if (++depth > JsonReader.MAX_DEPTH) {
            throw new JsonException("nested deeper than " + JsonReader.MAX_DEPTH + ", or an object inside itself");
        }
    }

    private void map(Map<?, ?> map, boolean aws) {
        enter();
        out.write('{');
        boolean first = true;
        for (Map.Entry<?, ?> entry : map.entrySet()) {
            Object key = entry.getKey();
            if (key == null) {
                throw new JsonException("a map with a null key");
            }
            if (entry.getValue() != null) {
                first = name(first, key instanceof String ? (String) key
                        : key instanceof Enum ? ((Enum<?>) key).name() : JsonExtras.key(key));
                value(entry.getValue(), aws);
            }
        }
        out.write('}');
        depth--;
    }

    private boolean name(boolean first, String name) {
        if (!first) {
            out.write(',');
        }
        string(name);
        out.write(':');
        return false;
    }

    void iterator(Iterator<?> items, boolean aws) {
        enter();
        out.write('[');
        for (boolean first = true; items.hasNext(); first = false) {
            if (!first) {
                out.write(',');
            }
            value(items.next(), aws);
        }
        out.write(']');
        depth--;
    }

    private void array(Object array, boolean aws) {
        if (array instanceof byte[]) {
            out.write('"');
            byte[] encoded = java.util.Base64.getEncoder().encode((byte[]) array);
            out.write(encoded, 0, encoded.length);
            out.write('"');
        } else if (array instanceof char[]) {
            string(new String((char[]) array));
        } else {
            enter();
            out.write('[');
            for (int i = 0, length = Array.getLength(array); i < length; i++) {
                if (i > 0) {
                    out.write(',');
                }
                value(Array.get(array, i), aws);
            }
            out.write(']');
            depth--;
        }
    }

    private void bean(Object value) {
        enter();
        out.write('{');
        Bean bean = Bean.of(value.getClass());
        List<Bean.Property> properties = bean.readable();
        boolean first = true;
        for (int i = 0; i < properties.size(); i++) {
            Bean.Property property = properties.get(i);
            Object item = property.get(value);
            if (item == value) {
                throw new JsonException("property " + property.name + " of " + value.getClass().getName()
                        + " is the object itself");
            }
            if (item != null && !JsonExtras.isEmpty(item)) {
                first = name(first, property.jsonName);
                value(item, bean.aws());
            }
        }
        out.write('}');
        depth--;
    }

    void string(String text) {
        out.write('"');
        int length = text.length();
        for (int i = 0; i < length; i++) {
            char c = text.charAt(i);
            if (c < 0x80) {
                if (c == '"' || c == '\\') {
                    out.write('\\');
                    out.write(c);
                } else if (c >= ' ') {
                    out.write(c);
                } else {
                    control(c);
                }
            } else if (c < 0x800) {
                out.write(0xC0 | c >> 6);
                out.write(0x80 | c & 0x3F);
            } else if (Character.isHighSurrogate(c) && i + 1 < length && Character.isLowSurrogate(text.charAt(i + 1))) {
                int code = Character.toCodePoint(c, text.charAt(++i));
                out.write(0xF0 | code >> 18);
                out.write(0x80 | code >> 12 & 0x3F);
                out.write(0x80 | code >> 6 & 0x3F);
                out.write(0x80 | code & 0x3F);
            } else if (Character.isSurrogate(c)) {
                escape(c); // half a character has no UTF-8
            } else {
                out.write(0xE0 | c >> 12);
                out.write(0x80 | c >> 6 & 0x3F);
                out.write(0x80 | c & 0x3F);
            }
        }
        out.write('"');
    }

    private void control(char c) {
        int letter = "\b\t\n\f\r".indexOf(c);
        if (letter >= 0) {
            out.write('\\');
            out.write("btnfr".charAt(letter));
        } else {
            escape(c);
        }
    }

    private void escape(char c) {
        out.ascii("\\u");
        for (int shift = 12; shift >= 0; shift -= 4) {
            out.write("0123456789ABCDEF".charAt(c >> shift & 15));
        }
    }
}
