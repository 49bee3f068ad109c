package shop;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.util.Date;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;

/** What the handlers take and give. */
public final class Shapes {
    private Shapes() {
    }

    public enum Colour { RED, GREEN }

    public static class Order {
        private String name;
        private int quantity;
        private String note;

        public String getName() {
            return name;
        }

        public void setName(String name) {
            this.name = name;
        }

        public int getQuantity() {
            return quantity;
        }

        public void setQuantity(int quantity) {
            this.quantity = quantity;
        }

        public String getNote() {
            return note;
        }

        public void setNote(String note) {
            this.note = note;
        }
    }

    public static class Paged<T> {
        private List<T> items;

        public List<T> getItems() {
            return items;
        }

        public void setItems(List<T> items) {
            this.items = items;
        }
    }

    public static class Page<T> extends Paged<T> {
    }

    public static class Everything {
        public boolean flag;
        public byte small;
        public short medium;
        public long large;
        public float single;
        public double twice;
        public char letter;
        public Integer boxed;
        public BigInteger big;
        public BigDecimal exact;
        public Colour colour;
        public Map<Colour, Integer> byColour;
        public EnumMap<Colour, String> inEnumMap;
        public Map<Integer, String> byNumber;
        public Set<String> set;
        public int[] array;
        public Order[] orders;
        public List<List<Integer>> nested;
        public Optional<String> maybe;
        public UUID id;
        public Date date;
        public Instant instant;
        public LocalDate day;
        public Duration span;
        public StringBuilder built;
        public Object anything;
        public static String shared = "never written";
        public transient String passing = "never written";
    }

    public static class Naming {
        private String url = "u";
        private boolean active = true;
        public String open = "o";
        private String secret = "s";
        private String written;

        public String getURL() {
            return url;
        }

        public void setURL(String url) {
            this.url = url;
        }

        public boolean isActive() {
            return active;
        }

        public void setActive(boolean active) {
            this.active = active;
        }

        public String getaName() {
            return "odd";
        }

        void setWritten(String written) {
            this.written = written;
        }

        public String getWhatWasWritten() {
            return written;
        }
    }

    public static class Loop {
        public Loop getSelf() {
            return this;
        }
    }

    public static class Pair {
        private final Pair other;

        public Pair() {
            other = new Pair(this);
        }

        private Pair(Pair other) {
            this.other = other;
        }

        public Pair getOther() {
            return other;
        }
    }

    public static class NoDefault {
        public NoDefault(String name) {
        }
    }

    public static class Refused extends RuntimeException {
        public Refused(String message, Throwable cause) {
            super(message, cause);
        }
    }
}
