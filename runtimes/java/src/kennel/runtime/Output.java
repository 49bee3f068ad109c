package kennel.runtime;

import java.io.OutputStream;

/** A growing byte buffer that hands out its array, so that an answer is not copied once more. */
public final class Output extends OutputStream {
    byte[] bytes = new byte[512];
    int length;

    @Override
    public void write(int b) {
        room(1);
        bytes[length++] = (byte) b;
    }

    @Override
    public void write(byte[] source, int offset, int count) {
        if (offset < 0 || count < 0 || count > source.length - offset) {
            throw new IndexOutOfBoundsException();
        }
        room(count);
        System.arraycopy(source, offset, bytes, length, count);
        length += count;
    }

    /** Appends text that is known to be ASCII. */
    @SuppressWarnings("deprecation") // the byte-wise copy is right for ASCII and needs no encoder
    Output ascii(String text) {
        int count = text.length();
        room(count);
        text.getBytes(0, count, bytes, length);
        length += count;
        return this;
    }

    byte[] exact() {
        byte[] copy = new byte[length];
        System.arraycopy(bytes, 0, copy, 0, length);
        return copy;
    }

    private void room(int count) {
        int needed = length + count;
        if (needed < 0) {
            throw new OutOfMemoryError("result larger than 2 GiB");
        }
        if (needed > bytes.length) {
            byte[] larger = new byte[Math.max(needed, bytes.length + (bytes.length >> 1))];
            System.arraycopy(bytes, 0, larger, 0, length);
            bytes = larger;
        }
    }
}
