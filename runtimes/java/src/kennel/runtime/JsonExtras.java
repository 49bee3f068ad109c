package kennel.runtime;

import java.io.File;
import java.net.InetAddress;
import java.net.URI;
import java.net.URL;
import java.nio.ByteBuffer;
import java.nio.charset.Charset;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.Base64;
import java.util.Calendar;
import java.util.Currency;
import java.util.Date;
import java.util.GregorianCalendar;
import java.util.Iterator;
import java.util.Locale;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.TimeZone;
import java.util.UUID;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.regex.Pattern;
import java.util.stream.BaseStream;

/** Classes of the JDK that are values rather than beans. */
final class JsonExtras {
    /** {@link #read}'s answer for a class that is not its business. */
    static final Object NONE = new Object();

    private JsonExtras() {
    }

    private static boolean isJdk(Class<?> type) {
        return type.getClassLoader() == null;
    }

    static byte[] bytes(String base64) {
        try {
            return Base64.getMimeDecoder().decode(base64);
        } catch (IllegalArgumentException e) {
            throw new JsonException("not base64", e);
        }
    }

    /** Reads {@code value} as {@code type}; NONE if the type is none of these. */
    static Object read(Object value, Class<?> type) {
        if (!isJdk(type)) {
            return type.getName().equals(JodaTime.DATE_TIME) ? JodaTime.read(value, type) : NONE;
        }
        try {
            if (type.getName().startsWith("java.time.")) {
                return JavaTime.read(value, type);
            }
            if (Date.class.isAssignableFrom(type) || Calendar.class.isAssignableFrom(type)) {
                return date(value, type);
            }
            if (type == AtomicInteger.class) {
                return new AtomicInteger((Integer) JsonBinder.convert(value, int.class));
            }
            if (type == AtomicLong.class) {
                return new AtomicLong((Long) JsonBinder.convert(value, long.class));
            }
            if (type == AtomicBoolean.class) {
                return new AtomicBoolean((Boolean) JsonBinder.convert(value, boolean.class));
            }
            if (!(value instanceof String)) {
                return NONE;
            }
            String text = (String) value;
            if (type == ByteBuffer.class) {
                return ByteBuffer.wrap(bytes(text));
            }
            if (text.isEmpty() && type != StringBuilder.class && type != StringBuffer.class) {
                return isTextual(type) ? null : NONE;
            }
            return textual(text, type);
        } catch (JsonException e) {
            throw e;
        } catch (Exception e) {
            throw new JsonException("cannot read text as " + type.getName(), e);
        }
    }

    private static boolean isTextual(Class<?> type) {
        return type == UUID.class || type == URI.class || type == URL.class || type == File.class || type == Path.class
                || type == Locale.class || type == Currency.class || type == Pattern.class || type == TimeZone.class
                || type == Charset.class || InetAddress.class.isAssignableFrom(type);
    }

    private static Object textual(String text, Class<?> type) throws Exception {
        if (type == UUID.class) {
            return UUID.fromString(text);
        }
        if (type == URI.class) {
            return new URI(text);
        }
        if (type == URL.class) {
            return new URI(text).toURL();
        }
        if (type == File.class) {
            return new File(text);
        }
        if (type == Path.class) {
            return text.startsWith("file:") ? Paths.get(new URI(text)) : Paths.get(text);
        }
        if (type == Locale.class) {
            return Locale.forLanguageTag(text.replace('_', '-'));
        }
        if (type == Currency.class) {
            return Currency.getInstance(text);
        }
        if (type == Pattern.class) {
            return Pattern.compile(text);
        }
        if (type == TimeZone.class) {
            return TimeZone.getTimeZone(text);
        }
        if (type == Charset.class) {
            return Charset.forName(text);
        }
        if (InetAddress.class.isAssignableFrom(type)) {
            return InetAddress.getByName(text);
        }
        if (type == StringBuilder.class) {
            return new StringBuilder(text);
        }
        if (type == StringBuffer.class) {
            return new StringBuffer(text);
        }
        return NONE;
    }

    private static Object date(Object value, Class<?> type) {
        if ("".equals(value)) {
            return null;
        }
        long ms = value instanceof String ? JavaTime.epochMillis((String) value)
                : (Long) JsonBinder.convert(value, long.class);
        if (type == Date.class) {
            return new Date(ms);
        }
        if (type == Calendar.class || type == GregorianCalendar.class) {
            Calendar calendar = new GregorianCalendar(TimeZone.getTimeZone("UTC"));
            calendar.setTimeInMillis(ms);
            return calendar;
        }
        try {
            return type.getConstructor(long.class).newInstance(ms); // java.sql.Timestamp and its kin
        } catch (ReflectiveOperationException e) {
            throw new JsonException("cannot make a " + type.getName(), e);
        }
    }

    static boolean isEmpty(Object value) {
        return value.getClass() == Optional.class && !((Optional<?>) value).isPresent();
    }

    static String key(Object key) {
        if (key instanceof Date) {
            return JavaTime.text((Date) key);
        }
        return key instanceof Class ? ((Class<?>) key).getName() : key.toString();
    }

    /** Writes {@code value} if it is one of these. */
    static boolean write(JsonWriter json, Object value, boolean aws) {
        Class<?> type = value.getClass();
        if (!isJdk(type)) {
            if (type.getName().equals(JodaTime.DATE_TIME)) {
                json.string(JodaTime.text(value));
                return true;
            }
            return aws && writeBuffer(json, value);
        }
        String name = type.getName();
        if (name.startsWith("java.time.")) {
            JavaTime.write(json, value);
        } else if (value instanceof Date) {
            long ms = ((Date) value).getTime();
            json.out.ascii(aws ? Double.toString(ms / 1000.0) : Long.toString(ms));
        } else if (value instanceof Calendar) {
            json.out.ascii(Long.toString(((Calendar) value).getTimeInMillis()));
        } else if (value instanceof AtomicBoolean) {
            json.out.ascii(value.toString());
        } else if (value instanceof AtomicReference) {
            json.value(((AtomicReference<?>) value).get(), aws);
        } else if (name.startsWith("java.util.Optional")) {
            json.value(unwrap(value), aws);
        } else if (value instanceof Iterator) {
            json.iterator((Iterator<?>) value, aws);
        } else if (value instanceof BaseStream) {
            try (BaseStream<?, ?> stream = (BaseStream<?, ?>) value) {
                json.iterator(stream.iterator(), aws);
            }
        } else if (value instanceof Class) {
            json.string(((Class<?>) value).getName());
        } else if (value instanceof Locale) {
            json.string(((Locale) value).toLanguageTag());
        } else if (value instanceof TimeZone) {
            json.string(((TimeZone) value).getID());
        } else if (value instanceof InetAddress) {
            json.string(((InetAddress) value).getHostAddress());
        } else if (value instanceof Path) {
            json.string(((Path) value).toUri().toString());
        } else if (value instanceof File) {
            json.string(((File) value).getAbsolutePath());
        } else if (isTextual(type) || value instanceof Charset) {
            json.string(value.toString());
        } else {
            return writeBuffer(json, value);
        }
        return true;
    }

    private static boolean writeBuffer(JsonWriter json, Object value) {
        if (!(value instanceof ByteBuffer)) {
            return false;
        }
        ByteBuffer copy = ((ByteBuffer) value).duplicate();
        byte[] bytes = new byte[copy.remaining()];
        copy.get(bytes);
        json.value(bytes, false);
        return true;
    }

    private static Object unwrap(Object optional) {
        if (optional instanceof OptionalInt) {
            OptionalInt number = (OptionalInt) optional;
            return number.isPresent() ? number.getAsInt() : null;
        }
        if (optional instanceof OptionalLong) {
            OptionalLong number = (OptionalLong) optional;
            return number.isPresent() ? number.getAsLong() : null;
        }
        if (optional instanceof OptionalDouble) {
            OptionalDouble number = (OptionalDouble) optional;
            return number.isPresent() ? number.getAsDouble() : null;
        }
        return ((Optional<?>) optional).orElse(null);
    }

    /** The Joda-Time that AWS's older events use, in the function's own jar. */
    private static final class JodaTime {
        static final String DATE_TIME = "org.joda.time.DateTime";

        static Object read(Object value, Class<?> type) {
            try {
                if (value instanceof JsonNumber) {
                    return type.getConstructor(long.class).newInstance(JsonBinder.convert(value, long.class));
                }
                String text = JsonBinder.text(value, type);
                return text == null || text.isEmpty() ? null
                        : type.getMethod("parse", String.class).invoke(null, text);
            } catch (ReflectiveOperationException e) {
                throw new JsonException("cannot read a date", e);
            }
        }

        static String text(Object value) {
            return value.toString();
        }
    }
}
