package kennel.runtime;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Text to a tree of LinkedHashMap, ArrayList, String, {@link JsonNumber}, Boolean and null.
 *
 * <p>As lenient as AWS's runtime: single quotes, unquoted names, control characters in strings, a backslash before
 * any character, leading zeros and NaN are read; what follows the first value is not looked at. The last of several
 * equal names wins. Depth and the length of numbers are bounded.
 */
final class JsonReader {
    static final int MAX_DEPTH = 1000;
    private static final int MAX_NUMBER = 1000; // characters; turning digits into a number takes quadratic time

    private final String text;
    private int at;
    private int depth;

    private JsonReader(String text) {
        this.text = text;
    }

    static Object parse(byte[] utf8) {
        String text;
        try {
            text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(utf8)).toString();
        } catch (CharacterCodingException e) {
            throw new JsonException("not UTF-8", e);
        }
        return parse(text);
    }

    static Object parse(String text) {
        JsonReader reader = new JsonReader(text);
        if (text.startsWith("\uFEFF")) {
            reader.at = 1;
        }
        return reader.value();
    }

    private Object value() {
        char c = skip();
        switch (c) {
            case '{':
                return object();
            case '[':
                return array();
            case '"':
            case '\'':
                return string(c);
            case 't':
                return literal("true", Boolean.TRUE);
            case 'f':
                return literal("false", Boolean.FALSE);
            case 'n':
                return literal("null", null);
            case 'N':
                return literal("NaN", Double.NaN);
            case 'I':
                return literal("Infinity", Double.POSITIVE_INFINITY);
            default:
                return number();
        }
    }

    private Map<String, Object> object() {
        enter();
        Map<String, Object> map = new LinkedHashMap<String, Object>();
        if (skip() == '}') {
            return leave(map);
        }
        for (;;) {
            char c = skip();
            String name = c == '"' || c == '\'' ? string(c) : bareName();
            if (skip() != ':') {
                throw wrong("':'");
            }
            at++;
            map.put(name, value());
            c = skip();
            if (c == '}') {
                return leave(map);
            }
            if (c != ',') {
                throw wrong("',' or '}'");
            }
            at++;
        }
    }

    private List<Object> array() {
        enter();
        List<Object> list = new ArrayList<Object>();
        if (skip() == ']') {
            return leave(list);
        }
        for (;;) {
            list.add(value());
            char c = skip();
            if (c == ']') {
                return leave(list);
            }
            if (c != ',') {
                throw wrong("',' or ']'");
            }
            at++;
        }
    }

    private void enter() {
        at++;
        if (++depth > MAX_DEPTH) {
            throw new JsonException("nested deeper than " + MAX_DEPTH);
        }
    }

    private <T> T leave(T value) {
        at++;
        depth--;
        return value;
    }

    private String bareName() {
        int start = at;
        while (at < text.length() && (Character.isJavaIdentifierPart(text.charAt(at)) || text.charAt(at) == '-')) {
            at++;
        }
        if (at == start) {
            throw wrong("a name");
        }
        return text.substring(start, at);
    }

    private String string(char quote) {
        int start = ++at;
        StringBuilder built = null; // only where there is an escape
        for (; at < text.length(); at++) {
            char c = text.charAt(at);
            if (c == quote) {
                String rest = text.substring(start, at++);
                return built == null ? rest : built.append(rest).toString();
            }
            if (c == '\\') {
                if (built == null) {
                    built = new StringBuilder();
                }
                built.append(text, start, at++);
                built.append(escape());
                start = at + 1;
            }
        }
        throw new JsonException("a string without end");
    }

    private char escape() {
        if (at >= text.length()) {
            throw new JsonException("a string without end");
        }
        char c = text.charAt(at);
        switch (c) {
            case 'b':
                return '\b';
            case 'f':
                return '\f';
            case 'n':
                return '\n';
            case 'r':
                return '\r';
            case 't':
                return '\t';
            case 'u':
                int code = 0;
                for (int i = 1; i <= 4; i++) {
                    int digit = at + i < text.length() ? Character.digit(text.charAt(at + i), 16) : -1;
                    if (digit < 0) {
                        throw wrong("four hexadecimal digits");
                    }
                    code = code << 4 | digit;
                }
                at += 4;
                return (char) code;
            default:
                return c;
        }
    }

    private Object number() {
        int start = at;
        if (at < text.length() && text.charAt(at) == '-') {
            at++;
            if (at < text.length() && text.charAt(at) == 'I') {
                return literal("Infinity", Double.NEGATIVE_INFINITY);
            }
        }
        int digits = digits();
        boolean integer = true;
        if (digits > 0 && at < text.length() && text.charAt(at) == '.') {
            at++;
            integer = false;
            digits = digits();
        }
        if (digits > 0 && at < text.length() && (text.charAt(at) | 0x20) == 'e') {
            at++;
            integer = false;
            if (at < text.length() && (text.charAt(at) == '+' || text.charAt(at) == '-')) {
                at++;
            }
            digits = digits();
        }
        if (digits == 0 || at < text.length() && Character.isJavaIdentifierPart(text.charAt(at))) {
            throw wrong("a value");
        }
        if (at - start > MAX_NUMBER) {
            throw new JsonException("a number of more than " + MAX_NUMBER + " characters");
        }
        return new JsonNumber(text.substring(start, at), integer);
    }

    private int digits() {
        int start = at;
        while (at < text.length() && text.charAt(at) >= '0' && text.charAt(at) <= '9') {
            at++;
        }
        return at - start;
    }

    private Object literal(String word, Object value) {
        int end = at + word.length();
        if (!text.startsWith(word, at)
                || end < text.length() && Character.isJavaIdentifierPart(text.charAt(end))) {
            throw wrong("a value");
        }
        at = end;
        return value;
    }

    /** The next character that is not white space, not taken yet. */
    private char skip() {
        for (; at < text.length(); at++) {
            char c = text.charAt(at);
            if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
                return c;
            }
        }
        throw new JsonException("the text ends where more was expected");
    }

    private JsonException wrong(String expected) {
        return new JsonException("expected " + expected + " at character " + at
                + (at < text.length() ? ", not '" + text.charAt(at) + "'" : ", not the end"));
    }
}
