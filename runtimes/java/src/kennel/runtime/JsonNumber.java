package kennel.runtime;

import java.math.BigDecimal;
import java.math.BigInteger;

/** A number as it was written, so that no digit is lost before the wanted type is known. */
final class JsonNumber {
    private final String text;
    final boolean integer;

    JsonNumber(String text, boolean integer) {
        this.text = text;
        this.integer = integer;
    }

    /** The value where no type is asked for: Integer, Long or BigInteger, else Double. */
    Number natural() {
        if (!integer) {
            return Double.valueOf(text);
        }
        if (text.length() <= 18) {
            long value = Long.parseLong(text);
            if (value == (int) value) {
                return (int) value;
            }
            return value;
        }
        BigInteger value = new BigInteger(text);
        if (value.bitLength() < 64) {
            return value.longValue();
        }
        return value;
    }

    BigDecimal decimal() {
        return new BigDecimal(text);
    }

    @Override
    public String toString() {
        return text;
    }
}
