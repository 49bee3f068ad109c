package shop;

import java.util.List;

/** Records, from Java 16 on. */
public class Records {
    public record Line(String name, int count) {
    }

    public record Cart(List<Line> lines, String note) {
    }

    public Cart more(Cart cart) {
        Line first = cart.lines().get(0);
        return new Cart(List.of(new Line(first.name(), first.count() + 1)), null);
    }
}
