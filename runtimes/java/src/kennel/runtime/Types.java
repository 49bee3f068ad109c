package kennel.runtime;

import java.lang.reflect.GenericArrayType;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;
import java.lang.reflect.WildcardType;
import java.util.Collections;
import java.util.HashMap;
import java.util.Map;

/** Generic types: what a type variable stands for, seen from a concrete class. */
final class Types {
    static final Map<TypeVariable<?>, Type> NONE = Collections.emptyMap();

    private Types() {
    }

    /** The class behind a type. */
    static Class<?> raw(Type type) {
        if (type instanceof Class) {
            return (Class<?>) type;
        }
        if (type instanceof ParameterizedType) {
            return (Class<?>) ((ParameterizedType) type).getRawType();
        }
        if (type instanceof WildcardType) {
            return raw(((WildcardType) type).getUpperBounds()[0]);
        }
        if (type instanceof TypeVariable) {
            return raw(((TypeVariable<?>) type).getBounds()[0]);
        }
        Class<?> element = raw(((GenericArrayType) type).getGenericComponentType());
        return java.lang.reflect.Array.newInstance(element, 0).getClass();
    }

    /** Replaces the type variables in {@code type}, as far as {@code bound} knows them. */
    static Type resolve(Type type, Map<TypeVariable<?>, Type> bound) {
        if (type instanceof Class || bound.isEmpty()) {
            return type;
        }
        if (type instanceof TypeVariable) {
            Type value = bound.get(type);
            return value == null ? type : value;
        }
        if (type instanceof WildcardType) {
            return resolve(((WildcardType) type).getUpperBounds()[0], bound);
        }
        if (type instanceof ParameterizedType) {
            ParameterizedType generic = (ParameterizedType) type;
            Type[] arguments = generic.getActualTypeArguments();
            Type[] resolved = new Type[arguments.length];
            for (int i = 0; i < arguments.length; i++) {
                resolved[i] = resolve(arguments[i], bound);
            }
            return new Generic((Class<?>) generic.getRawType(), resolved, generic.getOwnerType());
        }
        if (type instanceof GenericArrayType) {
            Type element = resolve(((GenericArrayType) type).getGenericComponentType(), bound);
            return element instanceof Class
                    ? java.lang.reflect.Array.newInstance((Class<?>) element, 0).getClass() : new GenericArray(element);
        }
        return type;
    }

    /** What every type variable of {@code type}, its superclasses and interfaces stands for. */
    static Map<TypeVariable<?>, Type> bindings(Type type) {
        Map<TypeVariable<?>, Type> bound = new HashMap<TypeVariable<?>, Type>();
        bind(type, bound);
        return bound;
    }

    private static void bind(Type type, Map<TypeVariable<?>, Type> bound) {
        if (type == null) {
            return;
        }
        Class<?> raw = raw(type);
        if (type instanceof ParameterizedType) {
            TypeVariable<?>[] parameters = raw.getTypeParameters();
            Type[] arguments = ((ParameterizedType) type).getActualTypeArguments();
            for (int i = 0; i < parameters.length; i++) {
                bound.put(parameters[i], resolve(arguments[i], bound));
            }
            bind(((ParameterizedType) type).getOwnerType(), bound);
        }
        if (raw == Object.class) {
            return;
        }
        bind(raw.getGenericSuperclass(), bound);
        for (Type parent : raw.getGenericInterfaces()) {
            bind(parent, bound);
        }
    }

    /** One argument of a generic ancestor, e.g. the element type of a collection; Object if nothing says. */
    static Type argument(Type type, Class<?> ancestor, int index) {
        Type found = bindings(type).get(ancestor.getTypeParameters()[index]);
        if (found == null) {
            return Object.class;
        }
        return found instanceof TypeVariable ? raw(found) : found;
    }

    private static final class Generic implements ParameterizedType {
        private final Class<?> raw;
        private final Type[] arguments;
        private final Type owner;

        Generic(Class<?> raw, Type[] arguments, Type owner) {
            this.raw = raw;
            this.arguments = arguments;
            this.owner = owner;
        }

        @Override
        public Type[] getActualTypeArguments() {
            return arguments.clone();
        }

        @Override
        public Type getRawType() {
            return raw;
        }

        @Override
        public Type getOwnerType() {
            return owner;
        }
    }

    private static final class GenericArray implements GenericArrayType {
        private final Type element;

        GenericArray(Type element) {
            this.element = element;
        }

        @Override
        public Type getGenericComponentType() {
            return element;
        }
    }
}
