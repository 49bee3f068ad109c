package kennel.runtime;

import java.lang.reflect.Array;
import java.lang.reflect.Constructor;
import java.lang.reflect.GenericArrayType;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Collection;
import java.util.EnumMap;
import java.util.EnumSet;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;

/**
 * A JSON tree as an object of the type that a handler wants, with the coercions of AWS's runtime: text and numbers
 * into each other, a single value as a list, a list of one as its value, an empty text or list as no object.
 */
final class JsonBinder {
    private JsonBinder() {
    }

    static Object bind(byte[] json, Type type) {
        return convert(JsonReader.parse(json), type);
    }

    static Object convert(Object value, Type type) {
        Class<?> raw = Types.raw(type);
        if (raw == Object.class || raw == java.io.Serializable.class) {
            return natural(value);
        }
        if (raw.isPrimitive()) {
            return value == null ? Array.get(Array.newInstance(raw, 1), 0) : number(value, raw);
        }
        if (raw.getName().startsWith("java.util.Optional")) {
            return Optionals.read(value, type, raw);
        }
        if (value == null) {
            return null;
        }
        if (raw == String.class || raw == CharSequence.class) {
            return text(value, raw);
        }
        if (Map.class.isAssignableFrom(raw)) {
            return map(value, type, raw);
        }
        if (Collection.class.isAssignableFrom(raw) || raw == Iterable.class) {
            return collection(value, type, raw);
        }
        if (raw.isArray()) {
            return array(value, type, raw);
        }
        if (raw == Boolean.class || raw == Character.class || Number.class.isAssignableFrom(raw)) {
            return number(value, raw);
        }
        if (raw.isEnum()) {
            return constant(value, raw);
        }
        Object special = JsonExtras.read(value, raw);
        return special != JsonExtras.NONE ? special : bean(value, type, raw);
    }

    /** A value for which no type is asked: maps and lists stay, numbers become Java's. */
    @SuppressWarnings("unchecked")
    private static Object natural(Object value) {
        if (value instanceof JsonNumber) {
            return ((JsonNumber) value).natural();
        }
        if (value instanceof Map) {
            for (Map.Entry<String, Object> entry : ((Map<String, Object>) value).entrySet()) {
                entry.setValue(natural(entry.getValue()));
            }
        } else if (value instanceof List) {
            List<Object> list = (List<Object>) value;
            for (int i = 0; i < list.size(); i++) {
                list.set(i, natural(list.get(i)));
            }
        }
        return value;
    }

    static String text(Object value, Class<?> wanted) {
        if (value instanceof List) {
            Object only = only((List<?>) value, wanted);
            return only == null ? null : text(only, wanted);
        }
        if (value instanceof Map) {
            throw mismatch(value, wanted);
        }
        return value.toString();
    }

    /** What a list stands for where no list is wanted: nothing if it is empty, else its only element. */
    private static Object only(List<?> list, Class<?> wanted) {
        if (list.size() > 1) {
            throw mismatch(list, wanted);
        }
        return list.isEmpty() ? null : list.get(0);
    }

    /** Numbers, booleans and characters, primitive or not. */
    private static Object number(Object value, Class<?> wanted) {
        if (value instanceof List) {
            return convert(only((List<?>) value, wanted), wanted);
        }
        if (value instanceof Map) {
            throw mismatch(value, wanted);
        }
        boolean text = value instanceof String;
        String string = value.toString().trim();
        if (wanted == char.class || wanted == Character.class) {
            String exact = value.toString();
            if (text && exact.length() == 1) {
                return exact.charAt(0);
            }
            if (text && exact.isEmpty()) {
                return convert(null, wanted);
            }
            if (value instanceof JsonNumber && ((JsonNumber) value).integer) {
                return (char) integer((JsonNumber) value, 0, Character.MAX_VALUE, wanted);
            }
            throw mismatch(value, wanted);
        }
        if (text && (string.isEmpty() || string.equals("null"))) {
            return convert(null, wanted);
        }
        if (wanted == boolean.class || wanted == Boolean.class) {
            if (value instanceof Boolean) {
                return value;
            }
            if (value instanceof JsonNumber && ((JsonNumber) value).integer) {
                return ((JsonNumber) value).decimal().signum() != 0;
            }
            if (string.equals("true") || string.equals("True") || string.equals("TRUE")) {
                return true;
            }
            if (string.equals("false") || string.equals("False") || string.equals("FALSE")) {
                return false;
            }
            throw mismatch(value, wanted);
        }
        if (value instanceof Boolean) {
            throw mismatch(value, wanted);
        }
        if (wanted == double.class || wanted == Double.class || wanted == float.class || wanted == Float.class) {
            double real = real(value, string, wanted);
            if (wanted == float.class || wanted == Float.class) {
                return value instanceof JsonNumber || text && !Double.isNaN(real) && !Double.isInfinite(real)
                        ? Float.parseFloat(string) : (float) real;
            }
            return real;
        }
        JsonNumber number = value instanceof JsonNumber ? (JsonNumber) value : parse(value, string, wanted);
        if (wanted == int.class || wanted == Integer.class) {
            return (int) integer(number, Integer.MIN_VALUE, Integer.MAX_VALUE, wanted);
        }
        if (wanted == long.class || wanted == Long.class) {
            return integer(number, Long.MIN_VALUE, Long.MAX_VALUE, wanted);
        }
        if (wanted == short.class || wanted == Short.class) {
            return (short) integer(number, Short.MIN_VALUE, Short.MAX_VALUE, wanted);
        }
        if (wanted == byte.class || wanted == Byte.class) {
            return (byte) integer(number, Byte.MIN_VALUE, 255, wanted); // 128 to 255 wrap
        }
        if (wanted == BigDecimal.class) {
            return number.decimal();
        }
        if (wanted == BigInteger.class) {
            return whole(number, wanted);
        }
        if (wanted == Number.class) {
            return number.natural();
        }
        Object special = JsonExtras.read(value, wanted); // AtomicInteger and the like
        if (special == JsonExtras.NONE) {
            throw mismatch(value, wanted);
        }
        return special;
    }

    private static double real(Object value, String string, Class<?> wanted) {
        if (value instanceof Double) {
            return (Double) value; // NaN and infinities
        }
        if (string.equals("INF") || string.equals("+INF")) {
            return Double.POSITIVE_INFINITY;
        }
        if (string.equals("-INF")) {
            return Double.NEGATIVE_INFINITY;
        }
        try {
            return Double.parseDouble(string);
        } catch (NumberFormatException e) {
            throw mismatch(value, wanted);
        }
    }

    private static JsonNumber parse(Object value, String string, Class<?> wanted) {
        try {
            Object parsed = JsonReader.parse(string);
            if (parsed instanceof JsonNumber && parsed.toString().equals(string)) {
                return (JsonNumber) parsed;
            }
        } catch (JsonException e) {
            throw mismatch(value, wanted);
        }
        throw mismatch(value, wanted);
    }

    private static BigInteger whole(JsonNumber number, Class<?> wanted) {
        BigDecimal decimal = number.decimal();
        long digits = decimal.precision() - (long) decimal.scale(); // before the point
        if (digits > 1000) {
            throw mismatch(number, wanted); // 1e999999999 would take all memory
        }
        if (digits <= 0) {
            return BigInteger.ZERO; // and so would 1e-999999999
        }
        return decimal.toBigInteger();
    }

    private static long integer(JsonNumber number, long least, long most, Class<?> wanted) {
        String text = number.toString();
        long value;
        if (number.integer && text.length() <= 18) {
            value = Long.parseLong(text);
        } else {
            BigInteger whole = whole(number, wanted);
            if (whole.bitLength() > 63) {
                throw mismatch(number, wanted);
            }
            value = whole.longValue();
        }
        if (value < least || value > most) {
            throw new JsonException("number " + text + " is out of range of " + wanted.getName());
        }
        return value;
    }

    private static Object constant(Object value, Class<?> wanted) {
        if (value instanceof List) {
            Object only = only((List<?>) value, wanted);
            return only == null ? null : constant(only, wanted);
        }
        Object[] constants = wanted.getEnumConstants();
        if (value instanceof JsonNumber && ((JsonNumber) value).integer) {
            long index = integer((JsonNumber) value, Long.MIN_VALUE, Long.MAX_VALUE, wanted);
            return index < 0 || index >= constants.length ? null : constants[(int) index];
        }
        if (!(value instanceof String)) {
            throw mismatch(value, wanted);
        }
        for (Object constant : constants) {
            if (((Enum<?>) constant).name().equals(((String) value).trim())) {
                return constant;
            }
        }
        return null; // AWS's runtime reads a name it does not know as null
    }

    private static Object array(Object value, Type type, Class<?> raw) {
        if (value instanceof String) {
            if (raw == byte[].class) {
                return JsonExtras.bytes((String) value);
            }
            if (raw == char[].class) {
                return ((String) value).toCharArray();
            }
            if (((String) value).isEmpty()) {
                return null;
            }
        }
        Type element = type instanceof GenericArrayType
                ? ((GenericArrayType) type).getGenericComponentType() : raw.getComponentType();
        List<?> list = list(value);
        Object array = Array.newInstance(raw.getComponentType(), list.size());
        for (int i = 0; i < list.size(); i++) {
            Array.set(array, i, convert(list.get(i), element));
        }
        return array;
    }

    private static List<?> list(Object value) {
        if (value instanceof List) {
            return (List<?>) value;
        }
        List<Object> single = new ArrayList<Object>(1);
        single.add(value);
        return single;
    }

    @SuppressWarnings({"unchecked", "rawtypes"})
    private static Object collection(Object value, Type type, Class<?> raw) {
        if (value instanceof String && ((String) value).isEmpty()) {
            return null;
        }
        List<?> list = list(value);
        Type element = element(type, raw, Iterable.class, 0);
        Collection<Object> target;
        if (raw.isAssignableFrom(ArrayList.class)) {
            target = new ArrayList<Object>(list.size());
        } else if (raw == EnumSet.class) {
            target = (Collection) EnumSet.noneOf((Class) Types.raw(element));
        } else if (raw.isAssignableFrom(HashSet.class)) {
            target = new HashSet<Object>();
        } else if (raw.isAssignableFrom(TreeSet.class)) {
            target = new TreeSet<Object>();
        } else if (raw.isAssignableFrom(LinkedList.class)) {
            target = new LinkedList<Object>();
        } else {
            target = (Collection<Object>) create(raw);
        }
        for (Object item : list) {
            target.add(convert(item, element));
        }
        return target;
    }

    private static Type element(Type type, Class<?> raw, Class<?> ancestor, int index) {
        if (type instanceof ParameterizedType && raw.getName().startsWith("java.util.")) {
            Type[] arguments = ((ParameterizedType) type).getActualTypeArguments();
            if (index < arguments.length) {
                return arguments[index]; // the common case, without a walk through all ancestors
            }
        }
        return Types.argument(type, ancestor, index);
    }

    @SuppressWarnings({"unchecked", "rawtypes"})
    private static Object map(Object value, Type type, Class<?> raw) {
        if (value instanceof List) {
            Object only = only((List<?>) value, raw);
            return only == null ? null : map(only, type, raw);
        }
        if (value instanceof String && ((String) value).isEmpty()) {
            return null;
        }
        if (!(value instanceof Map)) {
            throw mismatch(value, raw);
        }
        Type keyType = element(type, raw, Map.class, 0);
        Type valueType = element(type, raw, Map.class, 1);
        Map<Object, Object> target;
        if (raw.isAssignableFrom(LinkedHashMap.class)) {
            target = new LinkedHashMap<Object, Object>();
        } else if (raw.isAssignableFrom(TreeMap.class)) {
            target = new TreeMap<Object, Object>();
        } else if (raw == EnumMap.class) {
            target = (Map) new EnumMap(Types.raw(keyType));
        } else if (raw == java.util.concurrent.ConcurrentMap.class) {
            target = new java.util.concurrent.ConcurrentHashMap<Object, Object>();
        } else {
            target = (Map<Object, Object>) create(raw);
        }
        for (Map.Entry<String, Object> entry : ((Map<String, Object>) value).entrySet()) {
            target.put(convert(entry.getKey(), keyType), convert(entry.getValue(), valueType));
        }
        return target;
    }

    private static Object create(Class<?> raw) {
        if (raw.isInterface() || Modifier.isAbstract(raw.getModifiers())) {
            throw new JsonException("cannot make a " + raw.getName() + ": it is abstract");
        }
        try {
            Constructor<?> constructor = raw.getDeclaredConstructor();
            Bean.open(constructor);
            return constructor.newInstance();
        } catch (NoSuchMethodException e) {
            throw new JsonException("cannot make a " + raw.getName() + ": it has no constructor without parameters", e);
        } catch (ReflectiveOperationException e) {
            throw new JsonException("cannot make a " + raw.getName(), e);
        }
    }

    @SuppressWarnings("unchecked")
    private static Object bean(Object value, Type type, Class<?> raw) {
        if (value instanceof List) {
            Object only = only((List<?>) value, raw);
            return only == null ? null : bean(only, type, raw);
        }
        if (value instanceof String && ((String) value).isEmpty()) {
            return null;
        }
        if (!(value instanceof Map)) {
            throw mismatch(value, raw);
        }
        Map<String, Object> fields = (Map<String, Object>) value;
        Bean bean = Bean.of(raw);
        if (bean.byConstructor != null) {
            return bean.construct(fields);
        }
        Object target = create(raw);
        Map<java.lang.reflect.TypeVariable<?>, Type> bound = bean.generic ? Types.bindings(type) : Types.NONE;
        for (Map.Entry<String, Object> entry : fields.entrySet()) {
            Bean.Property property = bean.writable(entry.getKey());
            if (property != null) {
                Object item;
                try {
                    item = convert(bean.prepare(entry.getValue(), property), Types.resolve(property.type, bound));
                } catch (JsonException e) {
                    throw new JsonException(raw.getName() + "." + property.name + ": " + e.getMessage(), e.getCause());
                }
                property.set(target, item);
            }
        }
        return target;
    }

    static JsonException mismatch(Object value, Class<?> wanted) {
        String kind = value instanceof Map ? "an object" : value instanceof List ? "an array"
                : value instanceof String ? "text" : value instanceof Boolean ? "a boolean" : "a number";
        return new JsonException("cannot read " + kind + " as " + wanted.getName());
    }

    /** Optional and its kin, apart so that their classes are loaded only where a handler names one. */
    private static final class Optionals {
        static Object read(Object value, Type type, Class<?> raw) {
            boolean none = value == null || "".equals(value);
            if (raw == java.util.OptionalInt.class) {
                return none ? java.util.OptionalInt.empty()
                        : java.util.OptionalInt.of((Integer) number(value, int.class));
            }
            if (raw == java.util.OptionalLong.class) {
                return none ? java.util.OptionalLong.empty()
                        : java.util.OptionalLong.of((Long) number(value, long.class));
            }
            if (raw == java.util.OptionalDouble.class) {
                return none ? java.util.OptionalDouble.empty()
                        : java.util.OptionalDouble.of((Double) number(value, double.class));
            }
            return java.util.Optional.ofNullable(value == null ? null
                    : convert(value, Types.argument(type, raw, 0)));
        }
    }
}
