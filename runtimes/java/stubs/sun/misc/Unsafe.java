package sun.misc;

import java.lang.reflect.Field;

/** Compiled against and never packed: {@code javac --release} hides this class, every JVM from 8 on has it. */
public final class Unsafe {
    private Unsafe() {
    }

    public native long objectFieldOffset(Field field);

    public native void putInt(Object target, long offset, int value);
}
