package kennel.runtime;

import java.lang.reflect.AccessibleObject;
import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Type;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The properties of a class: public getters, setters of any visibility and public fields, named as java.beans does
 * ({@code getURL} is {@code URL}, {@code getName} is {@code name}), in the order in which they are declared.
 */
final class Bean {
    private static final Map<Class<?>, Bean> KNOWN = new HashMap<Class<?>, Bean>();

    final boolean generic; // property types may hold type variables
    final Constructor<?> byConstructor; // takes the fields; null for classes that have setters instead
    private final Map<String, Property> properties = new LinkedHashMap<String, Property>();
    private final List<Property> readable = new ArrayList<Property>();
    private final List<Property> components = new ArrayList<Property>(); // what `byConstructor` takes, in order
    private final AwsEvents.Names names; // null for classes that are not AWS's own

    static final class Property {
        final String name;
        String jsonName;
        Type type; // of the writable side
        private Field field;
        private Method getter;
        private Method setter;

        Property(String name) {
            this.name = name;
            jsonName = name;
        }

        Object get(Object target) {
            try {
                return getter != null ? getter.invoke(target) : field.get(target);
            } catch (InvocationTargetException e) {
                throw new JsonException("the getter of " + name + " failed", e.getCause());
            } catch (IllegalAccessException e) {
                throw new JsonException("cannot read " + name, e);
            }
        }

        void set(Object target, Object value) {
            try {
                if (setter != null) {
                    setter.invoke(target, value);
                } else {
                    field.set(target, value);
                }
            } catch (InvocationTargetException e) {
                throw new JsonException("the setter of " + name + " failed", e.getCause());
            } catch (IllegalAccessException e) {
                throw new JsonException("cannot set " + name, e);
            }
        }
    }

    static Bean of(Class<?> type) {
        synchronized (KNOWN) {
            Bean bean = KNOWN.get(type);
            if (bean == null) {
                bean = new Bean(type);
                KNOWN.put(type, bean);
            }
            return bean;
        }
    }

    private Bean(Class<?> type) {
        List<Class<?>> lineage = new ArrayList<Class<?>>();
        boolean variables = false;
        for (Class<?> c = type; c != null && c != Object.class; c = c.getSuperclass()) {
            lineage.add(0, c);
            variables |= c.getTypeParameters().length > 0;
        }
        generic = variables;
        names = AwsEvents.names(type);
        boolean record = type.getSuperclass() != null && type.getSuperclass().getName().equals("java.lang.Record");
        Map<String, Property> all = new LinkedHashMap<String, Property>();
        for (Class<?> c : lineage) {
            for (Field field : c.getDeclaredFields()) {
                int modifiers = field.getModifiers();
                if (!Modifier.isStatic(modifiers) && !Modifier.isTransient(modifiers) && !field.isSynthetic()) {
                    Property property = property(all, field.getName()); // a private field counts for the order only
                    if (Modifier.isPublic(modifiers)) {
                        property.field = field;
                    }
                }
            }
        }
        Map<String, List<Method>> setters = new HashMap<String, List<Method>>();
        for (Class<?> c : lineage) {
            methods(c, all, setters, record);
        }
        for (Class<?> contract : type.getInterfaces()) {
            methods(contract, all, setters, false); // default methods
        }
        for (Property property : all.values()) {
            List<Method> candidates = setters.get(property.name);
            if (candidates != null) {
                property.setter = choose(candidates, property.getter);
                open(property.setter);
                property.type = property.setter.getGenericParameterTypes()[0];
            } else if (property.field != null) {
                property.type = property.field.getGenericType();
            }
            if (property.field != null) {
                open(property.field);
            }
            if (names != null) {
                property.jsonName = names.write(property.name);
            }
            if (property.type != null) {
                properties.put(names == null ? property.name : AwsEvents.plain(property.name), property);
            }
            if (property.getter != null || property.field != null) {
                if (property.getter != null) {
                    open(property.getter);
                }
                readable.add(property);
            }
        }
        byConstructor = record || names != null && (properties.isEmpty() || !hasDefaultConstructor(type))
                ? constructor(type, record) : null;
    }

    private static Property property(Map<String, Property> all, String name) {
        Property property = all.get(name);
        if (property == null) {
            property = new Property(name);
            all.put(name, property);
        }
        return property;
    }

    private static void methods(Class<?> type, Map<String, Property> all, Map<String, List<Method>> setters,
            boolean record) {
        for (Method method : type.getDeclaredMethods()) {
            if (Modifier.isStatic(method.getModifiers()) || method.isBridge() || method.isSynthetic()) {
                continue;
            }
            String name = method.getName();
            int parameters = method.getParameterTypes().length;
            if (parameters == 1 && name.length() > 3 && name.startsWith("set")) {
                String property = decapitalize(name.substring(3));
                property(all, property);
                List<Method> known = setters.get(property);
                if (known == null) {
                    known = new ArrayList<Method>(1);
                    setters.put(property, known);
                }
                known.add(method);
            } else if (parameters == 0 && Modifier.isPublic(method.getModifiers())) {
                Class<?> result = method.getReturnType();
                String property = null;
                if (name.length() > 3 && name.startsWith("get") && result != void.class) {
                    property = decapitalize(name.substring(3));
                } else if (name.length() > 2 && name.startsWith("is")
                        && (result == boolean.class || result == Boolean.class)) {
                    property = decapitalize(name.substring(2));
                } else if (record && all.containsKey(name)) {
                    property = name;
                }
                if (property != null) {
                    Property found = property(all, property);
                    if (found.getter == null || found.getter.getDeclaringClass() != type
                            || name.startsWith("get")) { // of getX and isX, getX
                        found.getter = method;
                    }
                }
            }
        }
    }

    /** java.beans.Introspector's rule, without the desktop module. */
    static String decapitalize(String name) {
        if (name.length() > 1 && Character.isUpperCase(name.charAt(0)) && Character.isUpperCase(name.charAt(1))) {
            return name;
        }
        return Character.toLowerCase(name.charAt(0)) + name.substring(1);
    }

    /** Of several setters the one for the getter's type, else for text, else the last declared. */
    private static Method choose(List<Method> candidates, Method getter) {
        Method best = candidates.get(candidates.size() - 1);
        for (Method candidate : candidates) {
            Class<?> type = candidate.getParameterTypes()[0];
            if (getter != null && type == getter.getReturnType()) {
                return candidate;
            }
            if (type == String.class) {
                best = candidate;
            }
        }
        return best;
    }

    static void open(AccessibleObject member) {
        try {
            member.setAccessible(true);
        } catch (RuntimeException closed) {
            return; // a module keeps it closed: then it works if it is public, or the call says so
        }
    }

    private static boolean hasDefaultConstructor(Class<?> type) {
        for (Constructor<?> constructor : type.getDeclaredConstructors()) {
            if (constructor.getParameterTypes().length == 0) {
                return true;
            }
        }
        return false;
    }

    // Records, and AWS's S3 event, whose constructors take their fields in order.

    private Constructor<?> constructor(Class<?> type, boolean record) {
        List<Field> fields = new ArrayList<Field>();
        for (Field field : type.getDeclaredFields()) {
            if (!Modifier.isStatic(field.getModifiers()) && !field.isSynthetic()) {
                fields.add(field);
            }
        }
        Class<?> owner = type;
        while (fields.isEmpty() && owner.getSuperclass() != Object.class) { // S3Event adds none to its parent's
            owner = owner.getSuperclass();
            for (Field field : owner.getDeclaredFields()) {
                if (!Modifier.isStatic(field.getModifiers()) && !field.isSynthetic()) {
                    fields.add(field);
                }
            }
        }
        Constructor<?> best = null;
        int bestExact = -1;
        for (Constructor<?> candidate : type.getDeclaredConstructors()) {
            Class<?>[] types = candidate.getParameterTypes();
            int exact = 0;
            for (int i = 0; i < types.length && types.length == fields.size(); i++) {
                exact += types[i] == fields.get(i).getType() ? 1 : 0;
            }
            if (types.length == fields.size() && exact > bestExact && (!record || exact == types.length)) {
                best = candidate;
                bestExact = exact;
            }
        }
        if (best == null || fields.isEmpty()) {
            return null;
        }
        open(best);
        Type[] types = best.getGenericParameterTypes();
        for (int i = 0; i < fields.size(); i++) {
            Property component = new Property(fields.get(i).getName());
            component.type = types.length == fields.size() ? types[i] : best.getParameterTypes()[i];
            components.add(component);
        }
        return best;
    }

    Object construct(Map<String, Object> fields) {
        Map<String, Object> plain = fields;
        if (names != null) {
            plain = new HashMap<String, Object>();
            for (Map.Entry<String, Object> entry : fields.entrySet()) {
                plain.put(AwsEvents.plain(entry.getKey()), entry.getValue());
            }
        }
        Object[] arguments = new Object[components.size()];
        for (int i = 0; i < arguments.length; i++) {
            Property component = components.get(i);
            Object value = plain.get(names == null ? component.name : AwsEvents.plain(component.name));
            arguments[i] = JsonBinder.convert(prepare(value, component), component.type);
        }
        try {
            return byConstructor.newInstance(arguments);
        } catch (InvocationTargetException e) {
            throw new JsonException("the constructor of " + byConstructor.getName() + " failed", e.getCause());
        } catch (ReflectiveOperationException e) {
            throw new JsonException("cannot make a " + byConstructor.getName(), e);
        }
    }

    /** The property that takes the JSON member of this name, or null. */
    Property writable(String jsonName) {
        return properties.get(names == null ? jsonName : AwsEvents.plain(jsonName));
    }

    List<Property> readable() {
        return readable;
    }

    boolean aws() {
        return names != null;
    }

    Object prepare(Object value, Property property) {
        return names == null ? value : AwsEvents.prepare(value, property.type);
    }
}
